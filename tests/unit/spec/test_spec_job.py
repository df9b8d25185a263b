from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path
from typing import Any

import golden
import kubernetes_validate
import pytest
from clearml_k8s import errors, names
from clearml_k8s.clearml.tasks import Container, TaskView
from clearml_k8s.config import ClearMLConfig, Config, QueueConfig, QueueSettings, ResolvedQueue, SecretKey
from clearml_k8s.config.multi_node import MultiNodeConfig
from clearml_k8s.spec.environment import ENV_ENVIRONMENT_SECTION
from clearml_k8s.spec.job import build_job, pod_of, template_probe_job
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spec_support import ATTEMPT, KUBERNETES_VERSIONS, TASK_ID, WORKER_ID, Build, environment, pod_spec, task_container

BASE: dict[str, Any] = {
    "labels": {"team": "research"},
    "annotations": {"example.com/a": "b"},
    "env": [
        {"name": "PIP_INDEX_URL", "value": "https://index.example.com/simple"},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "extra", "key": "token"}}},
    ],
    "resources": {"limits": {"nvidia.com/gpu": 1}},
    "nodeSelector": {"pool": "gpu"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
    "volumes": [{"name": "data", "emptyDir": {}}],
    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    "extraVolumes": [{"name": "shm", "emptyDir": {"medium": "Memory"}}],
    "extraVolumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],
    "podSecurityContext": {"fsGroup": 1000},
    "containerSecurityContext": {"allowPrivilegeEscalation": False},
    "terminationGracePeriodSeconds": 60,
    "priorityClassName": "",
    "imagePullPolicy": "Always",
}
OVERRIDE: dict[str, Any] = {
    "labels": {"team": "vision"},
    "resources": {"limits": {"nvidia.com/gpu": 2}},
    "extraVolumes": [{"name": "scratch", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
    "runtimeClassName": "nvidia",
    "serviceAccountName": "vision",
}


def test_golden_plain(build: Build) -> None:
    golden.check("plain", build().manifest)


def test_golden_template_and_override(build: Build, config: Config) -> None:
    clearml = dataclasses.replace(
        config.clearml, config_secret=SecretKey(name="conf", key="clearml.conf"), verify_certificate=False
    )
    config = dataclasses.replace(config, base_pod_template=BASE, clearml=clearml)
    task = TaskView(
        id=TASK_ID,
        name="train ü",
        parent="ffff0000",
        script_repository="https://git.example.com/a.git",
        container=Container(
            image="nvidia/cuda:12.4.1-runtime-ubuntu22.04",
            arguments="--shm-size 8g -e PIP_INDEX_URL=https://other.example.com/simple -e 'GREETING=hello $(NAME)'",
            setup_shell_script="apt-get update\necho $$ $(id)\n",
        ),
    )
    built = build(config=config, override=OVERRIDE, task=task)
    golden.check("template-and-override", built.manifest)


def files(secret: str, **paths: str) -> dict[str, Any]:
    return {"files": {"secretName": secret, "items": [{"key": key, "path": path} for key, path in paths.items()]}}


def test_files_of_the_template(build: Build) -> None:
    """Each alone and read-only, behind the template's own mounts; a queue's replace those of all."""
    base = {**BASE, **files("all-fm", a="/etc/a", b="/opt/b")}
    built = build(base=base)
    assert pod_spec(built)["volumes"][-1] == {"name": "clearml-k8s-files", "secret": {"secretName": "all-fm"}}
    assert task_container(built)["volumeMounts"][2:] == [
        {"name": "clearml-k8s-files", "mountPath": "/etc/a", "subPath": "a", "readOnly": True},
        {"name": "clearml-k8s-files", "mountPath": "/opt/b", "subPath": "b", "readOnly": True},
    ]
    built = build(base=base, override=files("one-fm", c="/c"))
    assert [volume["name"] for volume in pod_spec(built)["volumes"]] == ["data", "shm", "clearml-k8s-files"]
    assert pod_spec(built)["volumes"][-1]["secret"] == {"secretName": "one-fm"}
    assert [mount["mountPath"] for mount in task_container(built)["volumeMounts"]] == ["/data", "/dev/shm", "/c"]
    assert "volumes" not in pod_spec(build())


def test_golden_two_nodes(build: Build, config: Config) -> None:
    built = build(
        config=dataclasses.replace(config, multi_node=MultiNodeConfig()),
        queue=QueueConfig(
            name="default",
            template_overrides={"resources": {"limits": {"nvidia.com/gpu": 4}}},
            settings=QueueSettings(multi_node=(4, 4)),
        ),
    )
    golden.check("two-nodes", built.manifest)


def test_init_containers_of_a_whole_pod_spec_are_merged_by_name(build: Build, config: Config) -> None:
    spec = {"containers": [{}], "initContainers": [{"name": "a", "image": "a"}, {"name": "b", "image": "b"}]}
    override = {"initContainers": [{"name": "b", "image": "c"}]}
    built = build(config=dataclasses.replace(config, base_pod_spec=spec), override=override)
    assert [(one["name"], one["image"]) for one in pod_spec(built)["initContainers"]] == [("a", "a"), ("b", "c")]
    assert spec["initContainers"][1]["image"] == "b"


def test_golden_whole_pod_spec(build: Build, config: Config) -> None:
    """As `--template-yaml` gives it."""
    spec = {
        "serviceAccountName": "mine",
        "restartPolicy": "OnFailure",
        "hostNetwork": True,
        "imagePullSecrets": [{"name": "gpu-clearml-agent-ark"}, {"name": "more"}],
        "volumes": [{"name": "data", "emptyDir": {}}],
        "containers": [
            {
                "name": "anything",
                "image": "ubuntu:18.04",
                "command": ["sleep"],
                "env": [{"name": "A", "value": "1"}, {"name": "CLEARML_API_HOST", "value": "http://other"}],
                "envFrom": [{"configMapRef": {"name": "settings"}}],
                "ports": [{"containerPort": 10022}],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            },
            {"name": "sidecar", "image": "busybox"},
        ],
    }
    before = json.dumps(spec)
    built = build(config=dataclasses.replace(config, base_pod_spec=spec), override={"nodeSelector": {"a": "b"}})
    assert json.dumps(spec) == before
    golden.check("whole-pod-spec", built.manifest)
    assert [str(item) for item in built.ignored] == [
        "spec.restartPolicy: ignored; task pods are never restarted (Never); the controller decides about a new "
        "attempt",
        "spec.containers[0].command: ignored; the controller starts clearml-agent; use the task's setup script for "
        "preparations",
        "env CLEARML_API_HOST: ignored; set by the controller",
    ]
    assert {item.source for item in built.ignored} == {"template"}


def test_fields_without_a_key_of_their_own_are_passed_through(build: Build) -> None:
    further = {
        "hostUsers": False,
        "overhead": None,
        "containers": [
            {"name": "proxy", "image": "envoy", "ports": [{"containerPort": 1}]},
            {"name": "task", "envFrom": [{"secretRef": {"name": "s"}}], "tty": False},
        ],
    }
    before = json.dumps(further)
    plain = build(base={"runtimeClassName": "nvidia"}).manifest["spec"]["template"]["spec"]
    spec = build(base={"runtimeClassName": "nvidia", "podSpec": further}).manifest["spec"]["template"]["spec"]
    assert json.dumps(further) == before
    task = {**plain["containers"][0], "envFrom": [{"secretRef": {"name": "s"}}], "tty": False}
    assert spec == {**plain, "hostUsers": False, "containers": [task, further["containers"][0]]}


def test_what_the_controller_decides_is_not_passed_through(build: Build) -> None:
    further = {"restartPolicy": "Always", "containers": [{"name": "task", "command": ["sleep"]}]}
    built = build(base={"podSpec": further})
    assert built.manifest == build().manifest
    assert [item.argument for item in built.ignored] == ["spec.restartPolicy", "spec.containers[0].command"]


def test_the_same_arguments_give_the_same_manifest(build: Build) -> None:
    first, second = build(base=BASE), build(base=BASE)
    assert json.dumps(first.manifest) == json.dumps(second.manifest)
    first.manifest["spec"]["template"]["spec"]["tolerations"][0]["key"] = "changed"
    assert BASE["tolerations"][0]["key"] == "nvidia.com/gpu"


def test_credentials_come_by_reference_only(build: Build) -> None:
    env = environment(build(arguments="-e CLEARML_API_SECRET_KEY=s3cret -e CLEARML_AUTH_TOKEN=s3cret"))
    reference = {"secretKeyRef": {"name": "gpu-clearml-agent-ac", "key": "agentk8sglue_secret"}}
    assert env["CLEARML_API_SECRET_KEY"] == reference
    assert "CLEARML_AUTH_TOKEN" not in env
    assert "s3cret" not in json.dumps(build(arguments="-e CLEARML_API_SECRET_KEY=s3cret").manifest)


OWNERS = ClearMLConfig(api_server="https://api.example.com")


def test_a_token_of_the_tasks_owner_in_place_of_the_keys(build: Build, config: Config) -> None:
    arguments = "-e CLEARML_API_SECRET_KEY=s -e CLEARML_AUTH_TOKEN=s"
    built = build(config=dataclasses.replace(config, clearml=OWNERS), arguments=arguments)
    env = environment(built)
    assert not {"CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY"} & env.keys()
    secret = f"owner-token-{TASK_ID}-sample"
    assert env["CLEARML_AUTH_TOKEN"] == {"secretKeyRef": {"name": secret, "key": "token"}}
    assert built.manifest["metadata"]["annotations"]["clearml-k8s.io/token-secret"] == secret
    assert [item.argument for item in built.ignored] == ["-e CLEARML_API_SECRET_KEY", "-e CLEARML_AUTH_TOKEN"]


def test_variables_of_vaults_can_be_switched_off(build: Build, config: Config) -> None:
    """By the agent's own variable."""
    agent = importlib.util.find_spec("clearml_agent")
    assert agent is not None
    assert agent.submodule_search_locations is not None
    defined = Path(agent.submodule_search_locations[0], "backend_api/session/defs.py").read_text()
    assert f"EnvEntry('{ENV_ENVIRONMENT_SECTION}', type=bool)" in defined
    assert ENV_ENVIRONMENT_SECTION not in environment(build())
    without = dataclasses.replace(config, clearml=dataclasses.replace(config.clearml, vault_environment=False))
    assert environment(build(config=without))[ENV_ENVIRONMENT_SECTION] == "false"


@pytest.mark.parametrize("name", sorted(names.RESERVED_ENV))
def test_nobody_but_the_controller_sets_reserved_names(build: Build, name: str) -> None:
    plain = environment(build())
    built = build(base={"env": [{"name": name, "value": "theirs"}]}, arguments=f"-e {name}=theirs")
    assert environment(built).get(name) == plain.get(name)
    assert [(item.source, item.argument) for item in built.ignored] == [
        ("template", f"env {name}"),
        ("task", f"-e {name}"),
    ]


def test_a_users_own_value_wins_over_a_default(build: Build) -> None:
    base = {"env": [{"name": "PYTHONUNBUFFERED", "value": "0"}, {"name": "A", "value": "template"}]}
    built = build(base=base, arguments="-e A=task -e CLEARML_AGENT_PROPAGATE_EXITCODE=0")
    env = environment(built)
    assert (env["PYTHONUNBUFFERED"], env["A"], env["CLEARML_AGENT_PROPAGATE_EXITCODE"]) == ("0", "task", "0")
    listed = [entry["name"] for entry in task_container(built)["env"]]
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize(
    ("task_image", "queue_image", "expected"),
    [("a:1", "b:1", "a:1"), ("", "b:1", "b:1"), ("", None, "python:3.11"), ("a:1 -e X=1", None, "a:1")],
)
def test_the_image_is_the_tasks_else_the_queues_else_the_default(
    build: Build, task_image: str, queue_image: str | None, expected: str
) -> None:
    queue = QueueConfig(name="q", settings=QueueSettings(default_image=queue_image))
    assert task_container(build(queue=queue, image=task_image))["image"] == expected


def test_arguments_in_the_image_field_count_and_the_arguments_field_wins(build: Build) -> None:
    env = environment(build(image="a:1 -e X=old -e Y=old", arguments="-e X=new"))
    assert (env["X"], env["Y"]) == ("new", "old")


@pytest.mark.parametrize(
    ("queue_image", "default", "setting"),
    [(None, "A B", "defaultContainerImage"), ("A B", "a", "queueSettings.defaultImage of queue q")],
)
def test_a_bad_default_image_names_the_setting(
    build: Build, config: Config, queue_image: str | None, default: str, setting: str
) -> None:
    queue = QueueConfig(name="q", settings=QueueSettings(default_image=queue_image))
    with pytest.raises(errors.SpecError, match=f"^{setting}: found 'A B'"):
        build(config=dataclasses.replace(config, default_container_image=default), queue=queue)


def test_an_unknown_template_key_is_an_error(build: Build) -> None:
    with pytest.raises(errors.SpecError, match="queue default: the key nodeSelectr is not known; known keys: "):
        build(override={"nodeSelectr": {"a": "b"}})


@pytest.mark.parametrize("task_id", ["", "UPPER", "a" * 53, "a/b", "-a"])
def test_an_id_that_cannot_name_a_job_is_an_error(build: Build, task_id: str) -> None:
    with pytest.raises(errors.SpecError, match="cannot name a Job"):
        build(task=TaskView(id=task_id))


def test_users_labels_reach_job_and_pod_but_never_replace_ours(build: Build) -> None:
    labels = {"example.com/cost": "research", "app.kubernetes.io/name": "mine", "clearml-task-id": "mine"}
    built = build(base={"labels": labels, "annotations": {"clearml-k8s.io/attempt": "mine", "x": "y"}})
    for metadata in (built.manifest["metadata"], built.manifest["spec"]["template"]["metadata"]):
        assert metadata["labels"]["example.com/cost"] == "research"
        assert metadata["labels"]["app.kubernetes.io/name"] == "clearml-agent"
        assert metadata["labels"]["clearml-task-id"] == TASK_ID
        assert metadata["annotations"]["clearml-k8s.io/attempt"] == ATTEMPT
        assert metadata["annotations"]["x"] == "y"
    assert [item.argument for item in built.ignored] == [
        "label app.kubernetes.io/name",
        "label clearml-task-id",
        "annotation clearml-k8s.io/attempt",
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(queue=st.text(min_size=1, max_size=80), task=st.text(max_size=300))
def test_any_queue_and_task_name_gives_valid_metadata(build: Build, queue: str, task: str) -> None:
    built = build(queue=QueueConfig(name=queue), task=TaskView(id=TASK_ID, name=task), validate=False)
    value = built.manifest["metadata"]["labels"]["clearml-agent-queue-name"]
    assert len(value) <= 63
    assert value == "" or (value.isascii() and value[0].isalnum() and value[-1].isalnum())
    assert built.manifest["metadata"]["annotations"]["clearml-k8s.io/queue-name"] == queue
    json.dumps(built.manifest, ensure_ascii=False).encode()


def test_the_mounted_configuration_stands_beside_the_users_volumes(build: Build, config: Config) -> None:
    clearml = dataclasses.replace(config.clearml, config_secret=SecretKey(name="conf", key="my.conf"))
    built = build(config=dataclasses.replace(config, clearml=clearml, base_pod_template=BASE))
    assert [volume["name"] for volume in pod_spec(built)["volumes"]] == ["data", "shm", "clearml-k8s-config"]
    assert environment(built)["CLEARML_CONFIG_FILE"] == "/etc/clearml/clearml.conf"


def test_the_backstop_outlives_the_deletion_delay(build: Build, config: Config) -> None:
    built = build(config=dataclasses.replace(config, completed_pod_deletion_delay_minutes=2880.0))
    assert built.manifest["spec"]["ttlSecondsAfterFinished"] > 2880 * 60


@pytest.mark.parametrize(
    ("container", "message"),
    [
        ({"setup_shell_script": "x" * 140_000}, "the task's setup script: 1400.. bytes"),
        ({"arguments": " ".join(f"-e A{n}={'x' * 100_000}" for n in range(10))}, "container arguments: 1.* characters"),
        ({"setup_shell_script": "a\0b"}, "zero byte"),
        ({"setup_shell_script": "\ud800"}, "not valid Unicode"),
    ],
)
def test_what_does_not_fit_is_told_before_it_is_sent(build: Build, container: dict[str, str], message: str) -> None:
    with pytest.raises(errors.SpecError, match=message):
        build(**container)


def test_a_job_that_etcd_would_not_take_is_told_before_it_is_sent(build: Build) -> None:
    with pytest.raises(errors.SpecError, match=r"the Job is 1\d{6} bytes large"):
        build(base={"annotations": {"a": "x" * 600_000}})


def test_the_probe_has_a_name_of_its_own_and_the_queues_template(config: Config) -> None:
    config = dataclasses.replace(config, base_pod_template=BASE)
    probes = [
        template_probe_job(
            config,
            ResolvedQueue(config=QueueConfig(name=name, template_overrides=OVERRIDE), id=name, name=name),
            worker_id="w",
            controller_id="c",
        ).manifest
        for name in ("a", "b")
    ]
    probe_names = {probe["metadata"]["name"] for probe in probes}
    assert len(probe_names) == 2
    assert all(name.startswith("clearml-k8s-probe-") for name in probe_names)
    assert probes[0]["spec"]["template"]["spec"]["runtimeClassName"] == "nvidia"
    for version in KUBERNETES_VERSIONS:
        kubernetes_validate.validate(probes[0], version, strict=True)
        kubernetes_validate.validate(pod_of(probes[0]), version, strict=True)
    assert pod_of(probes[0])["metadata"]["name"] == probes[0]["metadata"]["name"]


def test_the_pod_security_of_every_task(build: Build) -> None:
    spec = pod_spec(build())
    assert spec["restartPolicy"] == "Never"
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["serviceAccountName"] == "gpu-clearml-agent-task"


def test_build_job_takes_keywords_only(config: Config) -> None:
    queue = ResolvedQueue(config=config.queues["default"], id="q", name="default")
    with pytest.raises(TypeError):
        build_job(config, queue, TaskView(id=TASK_ID), ATTEMPT, WORKER_ID, "c")  # type: ignore[misc]


# ---- worker ids -----------------------------------------------------------------------------------------------------

OVERRIDDEN = "k8s:{queue}:{project}-{task_name}-{task_id}"


def reports_as(built: Any) -> tuple[str, str | None]:
    """What the pod is told, and what its Job remembers beside the default."""
    for metadata in (built.manifest["metadata"], built.manifest["spec"]["template"]["metadata"]):
        assert metadata["annotations"]["clearml-k8s.io/worker-id"] == WORKER_ID
    own = built.manifest["metadata"]["annotations"].get("clearml-k8s.io/reports-as")
    return environment(built)["CLEARML_WORKER_ID"], own


def test_the_worker_id_of_a_task(build: Build, config: Config) -> None:
    assert reports_as(build()) == (f"{WORKER_ID}:{TASK_ID}", None)
    config = dataclasses.replace(config, task_worker_id="k8s:my-group:{task_id}")
    made = f"k8s:my-group:{TASK_ID}"
    assert reports_as(build(config=config)) == (made, made)


def test_the_worker_id_of_a_queues_task_comes_first(build: Build, config: Config) -> None:
    queue = QueueConfig(name="Big GPUs", settings=QueueSettings(worker_id_template=OVERRIDDEN))
    config = dataclasses.replace(config, task_worker_id="k8s:my-group:{task_id}")
    task = TaskView(id=TASK_ID, name="train: it", project="p1", project_name="a/b")
    made = f"k8s:Big-GPUs:a/b-train-it-{TASK_ID}"
    assert reports_as(build(config=config, queue=queue, task=task)) == (made, made)
    task = TaskView(id=TASK_ID, name="train: it", project="p1")
    assert reports_as(build(config=config, queue=queue, task=task))[0] == f"k8s:Big-GPUs:p1-train-it-{TASK_ID}"


def test_a_worker_id_that_cannot_be_made_is_the_templates_fault(build: Build, config: Config) -> None:
    config = dataclasses.replace(config, task_worker_id="{worker_id_parts[9]}:{task_id}")
    with pytest.raises(errors.SpecError, match="there is no part 9 of the controller's worker id"):
        build(config=config)


# ---- string templates -----------------------------------------------------------------------------------------------


ENTRYPOINT = QueueConfig(name="nim", settings=QueueSettings(use_image_entrypoint=True))


def test_the_images_own_entrypoint_gets_no_command_and_the_tasks_id(build: Build, config: Config) -> None:
    config = dataclasses.replace(config, task=dataclasses.replace(config.task, preparation_script="export A=1"))
    built = build(queue=ENTRYPOINT, config=config, arguments="-e A=B -e CLEARML_TASK_ID=other")
    container = task_container(built)
    assert "command" not in container
    assert "args" not in container
    env = environment(built)
    assert env["CLEARML_TASK_ID"] == env[names.ENV_TASK_ID] == TASK_ID
    assert env[names.ENV_ATTEMPT] == ATTEMPT
    assert env["A"] == "B"
    assert [str(item) for item in built.ignored] == ["-e CLEARML_TASK_ID: ignored; set by the controller"]


def test_an_entrypoint_of_the_image_runs_no_setup_script_and_its_user_is_told(build: Build) -> None:
    built = build(queue=ENTRYPOINT, setup_shell_script="pip install secret-name")
    assert "CLEARML_K8S_SETUP_SCRIPT" not in environment(built)
    (ignored,) = built.ignored
    assert ignored.source == "task"
    assert str(ignored).startswith("the setup script: ignored; the queue's tasks start with their image's entrypoint")
    assert "secret-name" not in str(ignored)


def test_an_entrypoints_task_id_is_not_the_templates(build: Build) -> None:
    built = build(queue=ENTRYPOINT, base={"env": [{"name": "CLEARML_TASK_ID", "value": "other"}]})
    assert environment(built)["CLEARML_TASK_ID"] == TASK_ID
    assert [item.argument for item in built.ignored] == ["env CLEARML_TASK_ID"]


@pytest.mark.parametrize(
    ("general", "own", "entrypoint"),
    [(False, None, False), (True, None, True), (True, False, False), (False, True, True)],
)
def test_a_queue_decides_about_the_entrypoint_else_the_environment(
    build: Build, config: Config, general: bool, own: bool | None, entrypoint: bool
) -> None:
    queue = QueueConfig(name="q", settings=QueueSettings(use_image_entrypoint=own))
    built = build(queue=queue, config=dataclasses.replace(config, use_image_entrypoint=general))
    assert ("command" not in task_container(built)) is entrypoint
    assert ("CLEARML_TASK_ID" in environment(built)) is entrypoint


def test_string_templates_are_filled_in_everywhere(build: Build) -> None:
    base = {
        "labels": {"team": "${CLEARML_TASK.hyperparams.properties.team.value:none}"},
        "annotations": {"queue": "${CLEARML_QUEUE_NAME} (${CLEARML_QUEUE_ID})"},
        "nodeSelector": {"pool": "${CLEARML_QUEUE_NAME}"},
        "env": [{"name": "A", "value": "${CLEARML_TASK.name|raw} $(B)"}],
        "initContainers": [{"name": "i", "image": "busybox:${CLEARML_TASK.type:1}", "args": ["${CLEARML_PROJECT_ID}"]}],
        "extraVolumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "data-${CLEARML_PROJECT_NAME|lower}"}}],
        "podSpec": {"containers": [{"name": "side", "image": "a", "command": ["${CLEARML_WORKER_ID}"]}]},
    }
    document = {"name": "n $(PATH)", "hyperparams": {"properties": {"team": {"value": "vision"}}}}
    task = TaskView(id=TASK_ID, name="n", status_changed=ATTEMPT, project="p1", project_name="PROJ", document=document)
    built = build(base=base, task=task)
    pod = built.manifest["spec"]["template"]
    assert pod["metadata"]["labels"]["team"] == built.manifest["metadata"]["labels"]["team"] == "vision"
    assert pod["metadata"]["annotations"]["queue"] == "default (0a1b2c3d4e5f60718293a4b5c6d7e8f9)"
    assert pod["spec"]["nodeSelector"] == {"pool": "default"}
    assert environment(built)["A"] == "n $$(PATH) $(B)"
    assert pod["spec"]["initContainers"][0]["image"] == "busybox:1"
    assert pod["spec"]["initContainers"][0]["args"] == ["p1"]
    assert pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] == "data-proj"
    assert pod["spec"]["containers"][1]["command"] == [WORKER_ID]


def test_a_string_template_without_a_value_fails_the_task_with_the_way_out(build: Build) -> None:
    task = TaskView(id=TASK_ID, status_changed=ATTEMPT, document={})
    with pytest.raises(errors.SpecError, match=r"queue default: .*there is no such value; give a default"):
        build(base={"labels": {"a": "${CLEARML_TASK.a}"}}, task=task)


def test_what_a_task_asks_for_is_no_template(build: Build) -> None:
    built = build(arguments="-e 'A=${CLEARML_QUEUE_NAME}'")
    assert environment(built)["A"] == "${CLEARML_QUEUE_NAME}"
