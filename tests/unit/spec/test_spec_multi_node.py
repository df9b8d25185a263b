"""Tasks on several nodes: what a queue or a task asks for, on the Job that is built."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from clearml_k8s import errors
from clearml_k8s.config import Config, QueueConfig, QueueSettings
from clearml_k8s.config.multi_node import MultiNodeConfig
from clearml_k8s.config.policy import TaskPolicy
from clearml_k8s.spec.script import gather
from spec_support import TASK_ID, Build

JobOf = Callable[..., dict[str, Any]]
INDEX = {"valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}}}
SAME = {"matchLabels": {"clearml-task-id": TASK_ID}}
APART = {"labelSelector": SAME, "topologyKey": "kubernetes.io/hostname"}


@pytest.fixture
def job(build: Build, config: Config) -> JobOf:
    """The Job, where tasks may run on several nodes; ``told`` holds what is said of what is left out."""

    def made(
        request: str = "",
        *,
        queue: Sequence[int] = (),
        gpus: int | str | None = None,
        override: Mapping[str, Any] | None = None,
        policy: TaskPolicy | None = None,
        entrypoint: bool | None = None,
        on: bool = True,
        arguments: str = "",
        told: list[str] | None = None,
        **properties: str,
    ) -> dict[str, Any]:
        resources = {} if gpus is None else {"resources": {"limits": {"nvidia.com/gpu": gpus}}}
        built = build(
            config=dataclasses.replace(config, multi_node=MultiNodeConfig() if on else None),
            queue=QueueConfig(
                name="default",
                template_overrides={**resources, **(override or {})},
                settings=QueueSettings(multi_node=tuple(queue), task_policy=policy, use_image_entrypoint=entrypoint),
            ),
            properties={**properties, **({"multi_node_request": request} if request else {})},
            arguments=arguments,
        )
        if told is not None:
            told += [str(one) for one in built.ignored]
        return built.manifest

    return made


def pod(job: Mapping[str, Any]) -> Any:
    return job["spec"]["template"]["spec"]


def gpus(job: Mapping[str, Any]) -> Any:
    return (pod(job)["containers"][0].get("resources") or {}).get("limits", {}).get("nvidia.com/gpu")


def env(job: Mapping[str, Any]) -> dict[str, Any]:
    return {entry.pop("name"): entry.get("value", entry) for entry in map(dict, pod(job)["containers"][0]["env"])}


@pytest.mark.parametrize(
    ("asked", "layout", "pods", "each", "world"),
    [
        ("[2, 6]", "", 6, 2, 12),
        ("[2, 6]", "gpus_per_node_count", 6, 2, 12),
        ("[2,2,4]", "gpus_per_node_list", 4, 2, 8),
        ("[4, 2]", "gpus_per_node_list", 3, 2, 6),
        ("[8]", "gpus_per_node_list", 1, 8, 8),
        ("[3, 5]", "gpus_per_node_list", 8, 1, 8),
        ("[1, 1]", "", 1, 1, 1),
        ("[0, 2]", "", 2, None, 2),
        ("[0, 0, 0]", "gpus_per_node_list", 3, None, 3),
        (" [ 1 , 512 ] ", "", 512, 1, 512),
    ],
)
def test_what_a_task_asks_for(job: JobOf, asked: str, layout: str, pods: int, each: int | None, world: int) -> None:
    found = job(asked, **({"multi_node_request_layout": layout} if layout else {}), gpus=7)
    spec = found["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", pods, pods)
    assert spec["backoffLimit"] == 0, "one rank lost ends all"
    assert gpus(found) == each
    assert env(found)["WORLD_SIZE"] == str(world)
    assert env(found)["CLEARML_K8S_PODS"] == str(pods)


@pytest.mark.parametrize(
    ("queue", "limit", "pods"), [((4, 2), 2, 3), ((4, 2), "2", 3), ((2, 2, 4), 2, 4), ((8,), 8, 1), ((0, 0), None, 2)]
)
def test_what_a_queue_asks_for(job: JobOf, queue: Sequence[int], limit: int | str | None, pods: int) -> None:
    found = job(queue=queue, gpus=limit)
    assert found["spec"]["parallelism"] == pods
    assert gpus(found) == limit


def test_the_tasks_own_request_goes_first(job: JobOf) -> None:
    found = job("[1, 5]", queue=(4, 2), gpus=2)
    assert (found["spec"]["parallelism"], gpus(found)) == (5, 1)


def test_the_environment(job: JobOf) -> None:
    found = job("[2, 3]")
    seen = env(found)
    assert seen["NODE_RANK"] == INDEX
    assert seen["RANK"] == INDEX, "by which clearml-agent and the SDK know that they are not to speak for the task"
    assert seen["MASTER_ADDR"] == f"clearml-id-{TASK_ID}-0.nodes-{TASK_ID}.clearml.svc"
    assert seen["MASTER_PORT"] == "29500"
    assert seen["CLEARML_MULTI_NODE_SINGLE_TASK"] == "1"
    assert pod(found)["subdomain"] == f"nodes-{TASK_ID}"
    assert "hostname" not in pod(found), "the Job controller's to make"


def test_names_fit_into_dns_labels(job: JobOf) -> None:
    found = job("[1, 512]")
    assert len(f"{found['metadata']['name']}-511") <= 63
    assert len(pod(found)["subdomain"]) <= 63


def test_what_the_ranks_know_each_other_by_is_nobody_elses(job: JobOf) -> None:
    told: list[str] = []
    found = job(
        "[1, 2]",
        arguments="-e RANK=7 -e NODE_RANK=7 -e MASTER_PORT=12345 -e CLEARML_MULTI_NODE_SINGLE_TASK=-1 -e WORLD_SIZE=16",
        override={"env": [{"name": "MASTER_ADDR", "value": "elsewhere"}]},
        told=told,
    )
    seen = env(found)
    assert (seen["RANK"], seen["NODE_RANK"]) == (INDEX, INDEX)
    assert seen["MASTER_ADDR"].startswith("clearml-id-")
    assert (seen["MASTER_PORT"], seen["CLEARML_MULTI_NODE_SINGLE_TASK"], seen["WORLD_SIZE"]) == ("12345", "-1", "16")
    assert len([line for line in told if "set by the controller" in line]) == 3


def test_a_task_in_one_pod_sets_them_as_it_likes(job: JobOf) -> None:
    found = job(arguments="-e RANK=7 -e MASTER_ADDR=elsewhere")
    assert (env(found)["RANK"], env(found)["MASTER_ADDR"]) == ("7", "elsewhere")
    assert "completionMode" not in found["spec"]
    assert "subdomain" not in pod(found)
    assert gather() not in pod(found)["containers"][0]["command"]


def test_the_pods_wait_for_each_other(job: JobOf) -> None:
    from clearml_k8s.spec.expansion import literal

    command = pod(job("[1, 2]"))["containers"][0]["command"]
    assert command[5:] == ["", "", literal(gather())]


# ---- where its pods go ---------------------------------------------------------------------------------------


def test_by_default_each_node_of_the_list_is_one_of_the_cluster(job: JobOf) -> None:
    found = pod(job("[2, 3]"))
    assert found["affinity"]["podAntiAffinity"] == {"requiredDuringSchedulingIgnoredDuringExecution": [APART]}
    assert "topologySpreadConstraints" not in found


def test_pods_that_make_up_a_larger_node_may_share_one(job: JobOf) -> None:
    found = pod(job("[2, 2, 4]", multi_node_request_layout="gpus_per_node_list"))
    assert "affinity" not in found
    assert found["topologySpreadConstraints"] == [
        {
            "maxSkew": 2,
            "minDomains": 1_000_000,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": SAME,
        }
    ]


@pytest.mark.parametrize("nodes", [2, 3, 4, 9])
def test_no_node_gets_more_pods_than_the_largest_of_the_list(job: JobOf, nodes: int) -> None:
    """Whichever node the scheduler likes best, by what its filter of topologySpreadConstraints lets through."""
    found = job("[4, 4, 2]", multi_node_request_layout="gpus_per_node_list")
    (spread,) = pod(found)["topologySpreadConstraints"]

    def reached(placed: tuple[int, ...], left: int) -> int:
        # The fewest count as none where there are fewer nodes than minDomains.
        fewest = min(placed) if nodes >= spread["minDomains"] else 0
        free = {count: node for node, count in enumerate(placed) if count + 1 - fewest <= spread["maxSkew"]}
        further = [tuple(c + (n == node) for n, c in enumerate(placed)) for node in free.values()] if left else []
        return max([max(placed), *(reached(tuple(sorted(one)), left - 1) for one in further)])

    assert reached((0,) * nodes, found["spec"]["parallelism"]) == 2


@pytest.mark.parametrize("request_", ["[2, 3]", "[1, 1]"])
def test_logical_pods_and_a_single_one_go_anywhere(job: JobOf, request_: str) -> None:
    found = pod(job(request_, **({"multi_node_type": "logical"} if request_ == "[2, 3]" else {})))
    assert "affinity" not in found
    assert "topologySpreadConstraints" not in found


def test_the_type_counts_for_a_queues_request_too(job: JobOf) -> None:
    assert "affinity" in pod(job(queue=(2, 2), gpus=2))
    assert "affinity" not in pod(job(queue=(2, 2), gpus=2, multi_node_type="logical"))


def test_the_templates_own_affinity_stays(job: JobOf) -> None:
    own = {"labelSelector": {"matchLabels": {"a": "b"}}, "topologyKey": "zone"}
    affinity = {
        "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []},
        "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [own]},
    }
    found = pod(job("[2, 3]", override={"affinity": affinity}))["affinity"]
    assert found["nodeAffinity"] == affinity["nodeAffinity"]
    assert found["podAntiAffinity"] == {"requiredDuringSchedulingIgnoredDuringExecution": [own, APART]}


@pytest.mark.parametrize(
    ("template", "policy"),
    [
        ({"hostNetwork": True}, "ClusterFirstWithHostNet"),
        ({"hostNetwork": True, "dnsPolicy": "ClusterFirst"}, "ClusterFirstWithHostNet"),
        ({"hostNetwork": True, "dnsPolicy": "Default"}, "Default"),
        ({}, None),
    ],
)
def test_on_the_nodes_network_they_find_each_other_too(
    job: JobOf, template: Mapping[str, Any], policy: str | None
) -> None:
    assert pod(job("[1, 2]", override=template)).get("dnsPolicy") == policy


def test_a_hosts_name_with_its_domain_would_be_too_long(job: JobOf) -> None:
    template = {"podSpec": {"setHostnameAsFQDN": True, "hostname": "mine"}}
    found = pod(job("[1, 2]", override=template))
    assert not {"setHostnameAsFQDN", "hostname"} & found.keys()
    assert pod(job(override=template))["setHostnameAsFQDN"] is True


# ---- what makes no sense ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "properties", "said"),
    [
        ("two", {}, "found 'two'; expected a JSON list of whole numbers, as in [2, 6]"),
        ("2", {}, "expected a JSON list"),
        ('["2", 3]', {}, "expected a JSON list"),
        ("[2.0, 3]", {}, "expected a JSON list"),
        ("[true, 3]", {}, "expected a JSON list"),
        ("[" * 100_000, {}, "expected a JSON list"),
        ("[2]", {}, "expected the GPUs of a node and the number of nodes, as in [2, 6], or"),
        ("[2, 2, 4]", {}, "multi_node_request_layout=gpus_per_node_list"),
        ("[2, 0]", {}, "expected the GPUs of a node and the number of nodes"),
        ("[]", {"multi_node_request_layout": "gpus_per_node_list"}, "write whole numbers"),
        ("[-1, 2]", {}, "write GPUs of a node as numbers from 0 to 1024"),
        (
            "[2, 0]",
            {"multi_node_request_layout": "gpus_per_node_list"},
            "a node without GPUs cannot stand beside others",
        ),
        ("[1, 513]", {}, "that makes 513 pods of 1 GPUs; 512 are the most"),
        ("[1, 99999999999]", {}, "512 are the most"),
        ("[2, 3]", {"multi_node_request_layout": "x"}, "expected gpus_per_node_count or gpus_per_node_list"),
        (
            "[2, 3]",
            {"multi_node_type": "virtual"},
            "the task's property multi_node_type: found 'virtual'; expected phys",
        ),
    ],
)
def test_a_request_that_makes_no_sense(job: JobOf, asked: str, properties: Mapping[str, str], said: str) -> None:
    with pytest.raises(errors.SpecError) as problem:
        job(asked, **properties)
    assert said in str(problem.value)
    assert len(str(problem.value)) < 400


def test_a_template_whose_gpus_do_not_fit(job: JobOf) -> None:
    with pytest.raises(errors.SpecError) as problem:
        job(queue=(4, 2), gpus=4)
    assert str(problem.value) == (
        "queueSettings.multiNode of the queue: that makes 3 pods of 2 GPUs (the greatest common divisor), and the "
        "template's limit is 4: write its templateOverrides.resources.limits with nvidia.com/gpu: 2"
    )


@pytest.mark.parametrize(("gpus_", "allowed"), [(4, True), (5, False)])
def test_the_policys_gpus_are_those_of_one_pod(job: JobOf, gpus_: int, allowed: bool) -> None:
    policy = TaskPolicy(max_gpus=4)
    if allowed:
        assert gpus(job(f"[{gpus_}, 3]", policy=policy)) == gpus_
        return
    with pytest.raises(errors.SpecError, match=r"up to 4 \(taskPolicy.maxGpus\)"):
        job(f"[{gpus_}, 3]", policy=policy)


def test_gpus_that_a_task_asks_for_beside_its_request(job: JobOf) -> None:
    told: list[str] = []
    policy = TaskPolicy(max_gpus=8)
    assert gpus(job("[2, 3]", policy=policy, **{"k8s-gpus": "4"}, told=told)) == 2
    assert gpus(job(queue=(2, 2), gpus=2, policy=policy, arguments="--gpus 4", told=told)) == 2
    why = "4 GPUs: ignored; each pod of a task on several nodes has 2 here: change multi_node_request"
    assert told.count(why) == 2


def test_with_the_images_entrypoint_nobody_would_wait(job: JobOf) -> None:
    with pytest.raises(errors.SpecError, match="useImageEntrypoint"):
        job("[1, 2]", entrypoint=True)


def test_where_it_is_off_the_user_is_told(job: JobOf) -> None:
    told: list[str] = []
    found = job("[2, 3]", on=False, told=told)
    assert "completionMode" not in found["spec"]
    assert told == [
        "the property multi_node_request: ignored; tasks run in one pod here; the administrator can set "
        "agentk8sglue.multiNode.enabled"
    ]
