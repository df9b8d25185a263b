"""One manifest for each rule of what becomes of a task: the rule asserted by hand, then the whole Job as kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golden
import kubernetes_validate
import pytest
from clearml_k8s import names
from clearml_k8s.clearml.tasks import Container, view
from clearml_k8s.config import Certificates, Config, ControllerImage, QueueConfig, QueueSettings, ResolvedQueue
from clearml_k8s.config.conditions import ConditionalTemplate
from clearml_k8s.config.kueue import KueueConfig
from clearml_k8s.config.policy import TaskPolicy
from clearml_k8s.config.sessions import SessionsConfig
from clearml_k8s.flow.task_conf import read_text
from clearml_k8s.spec.container_rules import NO_RULES, ContainerRules
from clearml_k8s.spec.job import BuiltJob, build_job
from spec_support import ATTEMPT, CONTROLLER, KUBERNETES_VERSIONS, TASK_ID, WORKER_ID
from spec_support import environment as env
from spec_support import pod_spec as pod
from spec_support import task_container as container

DOCUMENT: dict[str, Any] = {
    "id": TASK_ID,
    "name": "Train it",
    "type": "training",
    "status": "queued",
    "status_changed": ATTEMPT,
    "user": "u-1",
    "project": "p-1",
    "tags": ["nightly", "gpu-large"],
    "hyperparams": {"properties": {"team": {"name": "team", "section": "properties", "value": "Vision"}}},
}
OPEN = TaskPolicy(
    shared_memory="4Gi",
    host_network=True,
    host_paths=("/mnt/data:ro",),
    volume_claims=("datasets",),
    privileged=True,
    capabilities=("SYS_PTRACE",),
    user="nonRoot",
    labels=("team",),
    max_gpus=4,
    max_cpus=8,
    max_memory="64Gi",
    node_selector=("pool",),
    priority_classes=("low",),
)
IMAGE = ControllerImage(name="registry.example.com/controller:1", pull_policy="IfNotPresent")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """``look``: of the Job what ``rule`` is about; ``left_out``: of what its user is told that it is not so."""

    name: str
    look: Callable[[BuiltJob], Any]
    rule: Any
    left_out: tuple[str, ...] = ()
    arguments: str = ""
    image: str = ""
    setup: str = ""
    properties: dict[str, str] = dataclasses.field(default_factory=dict)
    document: dict[str, Any] = dataclasses.field(default_factory=dict)
    base: dict[str, Any] = dataclasses.field(default_factory=dict)
    override: dict[str, Any] = dataclasses.field(default_factory=dict)
    conditional: tuple[ConditionalTemplate, ...] = ()
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    pods: dict[str, Any] = dataclasses.field(default_factory=dict)
    clearml: dict[str, Any] = dataclasses.field(default_factory=dict)
    whole: dict[str, Any] = dataclasses.field(default_factory=dict)
    conf: str = ""


def mounted(built: BuiltJob) -> dict[str, Any]:
    """By folder: the volume, without its name, and how it is mounted."""
    volumes = {one["name"]: one for one in pod(built)["volumes"]}
    return {
        mount["mountPath"]: {
            key: value
            for thing in (volumes[mount["name"]], mount)
            for key, value in thing.items()
            if key not in ("name", "mountPath")
        }
        for mount in container(built)["volumeMounts"]
    }


def conditional(when: dict[str, str], **template: Any) -> ConditionalTemplate:
    return ConditionalTemplate(when=when, template=template, place="conditionalTemplates[0]")


CASES = [
    Case(
        name="docker-environment",
        arguments="-e A=1 --env B='two words' --env=C=x=y -eD=4 -e A=last -e CLEARML_API_HOST=http://other",
        look=lambda job: {name: value for name, value in env(job).items() if len(name) == 1},
        rule={"A": "last", "B": "two words", "C": "x=y", "D": "4"},
        left_out=("-e CLEARML_API_HOST",),
    ),
    Case(
        name="docker-mounts",
        arguments="--shm-size 8g --tmpfs /scratch:size=1g -v datasets:/d -v /mnt/data/a:/a --mount type=volume,dst=/e "
        "-v /etc:/x",
        settings={"task_policy": OPEN},
        look=mounted,
        rule={
            "/d": {"persistentVolumeClaim": {"claimName": "datasets"}},
            "/a": {"hostPath": {"path": "/mnt/data"}, "subPath": "a", "readOnly": True},
            "/e": {"emptyDir": {}},
            "/dev/shm": {"emptyDir": {"medium": "Memory", "sizeLimit": "4Gi"}, "subPath": "2"},
            "/scratch": {"emptyDir": {"medium": "Memory", "sizeLimit": "4Gi"}, "subPath": "1"},
        },
        left_out=("-v", "-v", "folders in memory"),
    ),
    Case(
        name="docker-rights",
        arguments="--network host --privileged --cap-add SYS_PTRACE --cap-add NET_ADMIN -u 1000:100 -w /work -l team=a "
        "--add-host db:10.1.2.3 --entrypoint sh",
        settings={"task_policy": OPEN},
        look=lambda job: (
            {key: pod(job)[key] for key in ("hostNetwork", "dnsPolicy", "hostAliases")},
            {key: container(job)[key] for key in ("securityContext", "workingDir")},
            job.manifest["spec"]["template"]["metadata"]["labels"]["team"],
        ),
        rule=(
            {
                "hostNetwork": True,
                "dnsPolicy": "ClusterFirstWithHostNet",
                "hostAliases": [{"ip": "10.1.2.3", "hostnames": ["db"]}],
            },
            {
                "securityContext": {
                    "privileged": True,
                    "allowPrivilegeEscalation": True,
                    "capabilities": {"add": ["SYS_PTRACE"]},
                    "runAsUser": 1000,
                    "runAsGroup": 100,
                },
                "workingDir": "/work",
            },
            "a",
        ),
        left_out=("--cap-add", "--entrypoint"),
    ),
    Case(
        name="policy-default",
        arguments="--network host --ipc host --privileged --cap-add ALL -v /:/host -v data:/d -u 0 -l a=b --gpus 1 "
        "--cpus 1 -m 1g",
        look=lambda job: (
            {"hostNetwork", "hostIPC", "hostPID", "hostAliases", "nodeSelector"} & pod(job).keys(),
            {"securityContext", "resources"} & container(job).keys(),
            mounted(job),
        ),
        rule=(set(), set(), {"/dev/shm": {"emptyDir": {"medium": "Memory"}}}),
        left_out=("--network", "--privileged", "--cap-add", "-v", "-v", "-u", "-l", "--gpus", "--cpus", "-m", "--ipc"),
    ),
    Case(
        name="own-resources",
        arguments="--cpus 16",
        properties={"k8s-gpus": "2", "k8s-memory": "16Gi", "k8s-node-selector": "pool=a", "k8s-priority-class": "low"},
        base={"resources": {"limits": {"nvidia.com/mig-1g.5gb": 1, "cpu": 1}}, "nodeSelector": {"disk": "ssd"}},
        settings={"task_policy": OPEN},
        look=lambda job: (container(job)["resources"], pod(job)["nodeSelector"], pod(job)["priorityClassName"]),
        rule=(
            {
                "limits": {"nvidia.com/mig-1g.5gb": 2, "cpu": "8", "memory": "16Gi"},
                "requests": {"cpu": "8", "memory": "16Gi"},
            },
            {"disk": "ssd", "pool": "a"},
            "low",
        ),
        left_out=("--cpus",),
    ),
    Case(
        name="share-of-a-gpu",
        base={
            "labels": {"clearml-injector/fraction": "0.500"},
            "resources": {"limits": {"nvidia.com/gpu": 1, "clear.ml/fraction-1": "0.5"}},
        },
        look=lambda job: (container(job)["resources"], env(job)["CLEARML_AGENT_GPU_FRACTIONS"]),
        rule=({"limits": {"nvidia.com/gpu": 1}}, "0.5"),
    ),
    Case(
        name="string-templates",
        base={
            "labels": {
                "team": "${CLEARML_TASK.hyperparams.properties.team.value|lower}",
                "who": "${CLEARML_TASK.x:none}",
            },
            "annotations": {"tags": "${CLEARML_TASK.tags}", "project": "${CLEARML_PROJECT_ID|capitalize}"},
            "env": [{"name": "WHERE", "value": "${CLEARML_QUEUE_NAME}/$(HOME)/${CLEARML_TASK.name|strip(Tt)}"}],
        },
        document={"name": "Train $(it)\nt"},
        look=lambda job: (
            {key: job.manifest["spec"]["template"]["metadata"]["labels"][key] for key in ("team", "who")},
            {key: job.manifest["spec"]["template"]["metadata"]["annotations"][key] for key in ("tags", "project")},
            env(job)["WHERE"],
        ),
        rule=(
            {"team": "vision", "who": "none"},
            {"tags": "nightly,gpu-large", "project": "P-1"},
            "default/$(HOME)/rain $$(it)",
        ),
    ),
    Case(
        name="conditional-template",
        arguments="-e A=task",
        base={"nodeSelector": {"pool": "base"}, "priorityClassName": "base", "schedulerName": "base"},
        override={"nodeSelector": {"pool": "queue"}, "priorityClassName": "queue"},
        conditional=(
            conditional({"tags": "nightly"}, nodeSelector={"pool": "night"}, env=[{"name": "A", "value": "n"}]),
        ),
        look=lambda job: (
            *(pod(job)[key] for key in ("schedulerName", "priorityClassName", "nodeSelector")),
            env(job)["A"],
        ),
        rule=("base", "queue", {"pool": "night"}, "task"),
    ),
    Case(
        name="containers-by-name",
        base={
            "initContainers": [{"name": "wait", "image": "a"}, {"name": "fetch", "image": "b"}],
            "podSpec": {"containers": [{"name": "proxy", "image": "p", "args": ["1"]}, {"name": "task", "tty": True}]},
        },
        override={
            "initContainers": [{"name": "wait", "image": "c"}],
            "podSpec": {"containers": [{"name": "proxy", "image": "q"}]},
        },
        look=lambda job: (
            [(one["name"], one["image"]) for one in pod(job)["initContainers"]],
            pod(job)["containers"][1:],
            container(job)["tty"],
        ),
        rule=([("wait", "c"), ("fetch", "b")], [{"name": "proxy", "image": "q", "args": ["1"]}], True),
    ),
    Case(
        name="rule-of-clearml-conf",
        image="mine:1",
        arguments="-e MINE=1",
        setup="echo mine",
        conf='match_rules: [{image: "locked:3", arguments: "-e A=rule", force_container_rules: true, '
        'match {tags: "^nightly$"}}]',
        look=lambda job: (
            container(job)["image"],
            env(job)["A"],
            {"MINE", "CLEARML_K8S_SETUP_SCRIPT"} & env(job).keys(),
        ),
        rule=("locked:3", "rule", set()),
        left_out=("the image", "the docker arguments", "the setup script"),
    ),
    Case(
        name="bootstrap-and-certificates",
        pods={"controller_image": IMAGE, "bootstrap": True, "certificates": Certificates(config_map="certs")},
        look=lambda job: (
            [(one["image"], one["securityContext"]["runAsNonRoot"]) for one in pod(job)["initContainers"]],
            sorted(mounted(job)),
            env(job)["PIP_CERT"],
        ),
        rule=(
            [(IMAGE.name, True)],
            ["/clearml-k8s", "/clearml-k8s-work", "/etc/clearml-k8s-certificates"],
            "/etc/clearml-k8s-certificates/ca-certificates.crt",
        ),
    ),
    Case(
        name="own-scripts",
        setup="export OF_TASK=1",
        pods={
            "preparation_script": "export A=$(id)",
            "start_script": "echo {task_id} ${{HOME}}\n{extra_bash_init_cmd}",
        },
        look=lambda job: (container(job)["command"][5:], env(job)["CLEARML_K8S_SETUP_SCRIPT"]),
        rule=(["export A=$$(id)", f"echo {TASK_ID} ${{HOME}}\nexport A=$$(id)"], "export OF_TASK=1"),
    ),
    Case(
        name="entrypoint-of-the-image",
        image="triton:1",
        setup="echo never",
        settings={"use_image_entrypoint": True},
        look=lambda job: (
            {"command", "args"} & container(job).keys(),
            env(job)["CLEARML_TASK_ID"],
            "CLEARML_K8S_SETUP_SCRIPT" in env(job),
        ),
        rule=(set(), TASK_ID, False),
        left_out=("the setup script",),
    ),
    Case(
        name="owner-token",
        arguments="-e CLEARML_AUTH_TOKEN=theirs",
        clearml={"task_credentials": None},
        look=lambda job: (
            env(job)["CLEARML_AUTH_TOKEN"],
            {"CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY"} & env(job).keys(),
        ),
        rule=({"secretKeyRef": {"name": f"owner-token-{TASK_ID}-sample", "key": "token"}}, set()),
        left_out=("-e CLEARML_AUTH_TOKEN",),
    ),
    Case(
        name="kueue",
        settings={"kueue": KueueConfig(queue_name="team", priority_class="high")},
        look=lambda job: (
            job.manifest["spec"]["suspend"],
            job.manifest["metadata"]["labels"]["kueue.x-k8s.io/queue-name"],
        ),
        rule=(True, "team"),
    ),
    Case(
        name="session",
        document={"system_tags": [names.SESSION_TAG], "runtime": {names.RUNTIME_SESSION_PORT: "10023"}},
        whole={"sessions": SessionsConfig()},
        look=lambda job: job.manifest["metadata"]["annotations"]["clearml-k8s.io/session-port"],
        rule="10023",
    ),
]


def build(case: Case, config: Config) -> BuiltJob:
    properties = {
        name: {"name": name, "section": "properties", "value": text} for name, text in case.properties.items()
    }
    hyperparams = {"properties": {**DOCUMENT["hyperparams"]["properties"], **properties}}
    document = {**DOCUMENT, "hyperparams": hyperparams, **case.document}
    own = Container(image=case.image, arguments=case.arguments, setup_shell_script=case.setup)
    task = dataclasses.replace(view(document), document=document, container=own)
    config = dataclasses.replace(
        config,
        base_pod_template=case.base,
        conditional_templates=case.conditional,
        task=dataclasses.replace(config.task, **case.pods),
        clearml=dataclasses.replace(config.clearml, **case.clearml),
        **case.whole,
    )
    queue = QueueConfig(
        name="default", template_overrides=case.override, settings=dataclasses.replace(QueueSettings(), **case.settings)
    )
    rules: ContainerRules = NO_RULES
    if case.conf:
        rules = read_text(f"agent {{ default_docker {{ {case.conf} }} }}", path=Path("/etc/clearml.conf"))
    return build_job(
        config=config,
        queue=ResolvedQueue(config=queue, id="0a1b2c3d4e5f60718293a4b5c6d7e8f9", name="default"),
        task=task,
        attempt=ATTEMPT,
        worker_id=WORKER_ID,
        controller_id=CONTROLLER,
        rules=rules,
    )


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_rule_and_the_whole_manifest(case: Case, config: Config) -> None:
    built = build(case, config)
    assert case.look(built) == case.rule
    assert tuple(one.argument for one in built.ignored) == case.left_out
    for version in KUBERNETES_VERSIONS:
        kubernetes_validate.validate(built.manifest, version, strict=True)
    golden.check(case.name, built.manifest)


def test_every_file_is_of_a_test() -> None:
    others = {"plain", "template-and-override", "two-nodes", "whole-pod-spec"}
    assert set(golden.manifests()) == {case.name for case in CASES} | others
