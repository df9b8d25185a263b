from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from clearml_k8s import errors
from clearml_k8s.config import (
    Certificates,
    Config,
    ControllerImage,
    QueueConfig,
    QueueSettings,
    SecretKey,
    TaskCredentials,
    TaskPodConfig,
)
from clearml_k8s.config.dashboard import CpuDiscovery, DashboardConfig, GpuDiscovery
from clearml_k8s.config.file import ConfigProblems, config_from_document, load_config_file, parse_config, parse_yaml

# The document of docs/architecture.md, "The config file".
FULL = """
workerId: null
releaseName: gpu
fullname: gpu-clearml-agent
namespace: clearml
clearml:
  apiServer: https://api.clear.ml/
  webServer: https://app.clear.ml
  fileServer: null
  verifyCertificate: true
  taskCredentials:
    secretName: gpu-clearml-agent-ac
    accessKeyKey: agentk8sglue_key
    secretKeyKey: agentk8sglue_secret
  configSecret: {name: conf, key: clearml.conf}
queuePollFrequencySeconds: 7.5
createQueues: true
maxPods: 20
defaultContainerImage: python:3.12
completedPodDeletionDelayMinutes: 30
failedPodDeletionDelayMinutes: 60
maxRunMinutes: 2.5
maxRequeues: {preempted: 3}
patienceSeconds: {imagePull: 600, quota: null}
task:
  serviceAccountName: gpu-clearml-agent-task
  imagePullSecrets: [gpu-clearml-agent-ark]
basePodTemplate:
  nodeSelector: {pool: gpu}
clusterAccess: true
statusReportFrequencySeconds: 15
taskWorkerId: "k8s:group:{task_id}"
orchestrationDashboard:
  reportType: aggregate
  reportSeconds: 60
  gpu:
    reportMax: 2
    discovery: {enabled: true, baseSelector: "a=b", nodeSelector: "c in (d,e)", gpuCountSelector: "x,y"}
  cpu:
    reportMax: 3
    discovery: {enabled: true, nodeSelector: "f"}
    reportNamespaced: true
    reportNamespaceOverride: other
queues:
  default: {}
  big:
    templateOverrides:
      resources: {limits: {nvidia.com/gpu: 4}}
    queueSettings:
      maxPods: 2
      defaultImage: "a:1"
      maxRunMinutes: 5
      maxRequeues: {evicted: 1}
      patienceSeconds: {quota: 9}
      customWorkerIdTemplate: "k8s:big:{task_id}"
"""


def document(**changes: Any) -> str:
    """FULL with dotted keys set (`clearml.apiServer=...`) or, with `...`, removed."""
    content = yaml.safe_load(FULL)
    for path, value in changes.items():
        *parents, last = path.split(".")
        target = content
        for key in parents:
            target = target[key]
        if value is ...:
            del target[last]
        else:
            target[last] = copy.deepcopy(value)
    return yaml.safe_dump(content)


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigProblems) as caught:
        parse_config(text, source="config.yaml")
    assert isinstance(caught.value, errors.ConfigError)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


@pytest.mark.parametrize(
    ("general", "own", "found"),
    [
        (None, None, None),
        ({"queueName": "", "priorityClass": ""}, None, None),
        ({"queueName": "all", "priorityClass": "low"}, None, ("all", "low")),
        ({"queueName": "all", "priorityClass": "low"}, {"priorityClass": "high"}, ("all", "high")),
        ({"queueName": "all"}, {"queueName": "own"}, ("own", None)),
        ({"queueName": "all", "priorityClass": "low"}, {"queueName": "own", "priorityClass": ""}, ("own", None)),
        ({"queueName": "all", "priorityClass": "low"}, {"queueName": ""}, None),
        (None, {"queueName": "own", "priorityClass": None}, ("own", None)),
    ],
)
def test_kueue_of_a_queue(general: Any, own: Any, found: tuple[str, str | None] | None) -> None:
    config = parse_config(document(**{"kueue": general or {}, "queues.big.queueSettings.kueue": own}))
    read = config.queues["big"].settings.kueue
    assert (read and (read.queue_name, read.priority_class)) == found
    assert config.uses_kueue is (found is not None or bool((general or {}).get("queueName")))


QUEUE_LABEL = "kueue.x-k8s.io/queue-name"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kueue": {"priorityClass": "low"}}, "kueue.priorityClass: no queue has a LocalQueue"),
        ({"queues.big.queueSettings.kueue": {"priorityClass": "low"}},
         "queues.big.queueSettings.kueue.priorityClass: the queue has no LocalQueue"),
        ({"basePodTemplate": {"labels": {QUEUE_LABEL: "a"}}}, f"basePodTemplate.labels: found {QUEUE_LABEL}; write"),
        ({"queues.big.templateOverrides": {"labels": {"kueue.x-k8s.io/priority-class": "a"}}},
         "queues.big.templateOverrides.labels: found kueue.x-k8s.io/priority-class; write kueue.queueName"),
        ({"queues.big.conditionalTemplates": [{"when": {"type": "a"}, "template": {"labels": {QUEUE_LABEL: "a"}}}]},
         f"queues.big.conditionalTemplates[0].template.labels: found {QUEUE_LABEL}"),
        ({"conditionalTemplates": [{"when": {"type": "a"}, "template": {"labels": {QUEUE_LABEL: "a"}}}]},
         f"conditionalTemplates[0].template.labels: found {QUEUE_LABEL}"),
        ({"kueue": {"queueName": "Not A Name"}}, "kueue.queueName"),
    ],
)  # fmt: skip
def test_what_kueue_cannot_use_is_refused(changes: dict[str, Any], said: str) -> None:
    (problem,) = problems(document(**changes))
    assert problem.startswith(f"config.yaml: {said}")


def test_every_key_reaches_the_dataclass(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(FULL, encoding="utf-8")
    config = load_config_file(file)
    assert isinstance(config, Config)
    assert (config.worker_id, config.release_name, config.fullname) == (None, "gpu", "gpu-clearml-agent")
    assert config.namespace == "clearml"
    assert config.clearml.api_server == "https://api.clear.ml"
    assert (config.clearml.web_server, config.clearml.file_server) == ("https://app.clear.ml", None)
    assert config.clearml.verify_certificate is True
    assert config.clearml.task_credentials == TaskCredentials(secret_name="gpu-clearml-agent-ac")
    assert config.clearml.config_secret == SecretKey(name="conf", key="clearml.conf")
    assert config.queue_poll_frequency_seconds == 7.5
    assert config.create_queues is True
    assert config.max_pods == 20
    assert config.default_container_image == "python:3.12"
    assert config.completed_pod_deletion_delay_minutes == 30
    assert (config.failed_pod_deletion_delay_minutes, config.max_run_minutes) == (60, 2.5)
    assert config.max_requeues == {"preempted": 3}
    assert config.patience_seconds == {"imagePull": 600, "quota": None}
    assert config.task == TaskPodConfig(
        service_account_name="gpu-clearml-agent-task", image_pull_secrets=("gpu-clearml-agent-ark",)
    )
    assert config.base_pod_template == {"nodeSelector": {"pool": "gpu"}}
    assert config.base_pod_spec is None
    assert list(config.queues) == ["default", "big"]
    assert config.queues["default"] == QueueConfig(name="default")
    assert config.queues["big"] == QueueConfig(
        name="big",
        template_overrides={"resources": {"limits": {"nvidia.com/gpu": 4}}},
        settings=QueueSettings(
            max_pods=2,
            default_image="a:1",
            max_run_minutes=5,
            max_requeues={"evicted": 1},
            patience_seconds={"quota": 9},
            worker_id_template="k8s:big:{task_id}",
        ),
    )
    assert (config.cluster_access, config.status_report_seconds) == (True, 15)
    assert config.task_worker_id == "k8s:group:{task_id}"
    assert config.dashboard == DashboardConfig(
        report_type="aggregate",
        report_seconds=60,
        max_gpus=2,
        gpu_discovery=GpuDiscovery(enabled=True, base_selector="a=b", node_selector="c in (d,e)", count_labels="x,y"),
        max_cpus=3,
        cpu_discovery=CpuDiscovery(enabled=True, node_selector="f"),
        cpu_namespace="other",
    )


def test_absent_keys_have_their_defaults() -> None:
    absent = ("workerId", "queuePollFrequencySeconds", "createQueues", "maxPods", "defaultContainerImage")
    absent += ("completedPodDeletionDelayMinutes", "basePodTemplate", "clearml.webServer", "clearml.verifyCertificate")
    config = parse_config(document(**dict.fromkeys(absent, ...)))
    assert (config.worker_id, config.max_pods, config.create_queues) == (None, None, False)
    assert (config.queue_poll_frequency_seconds, config.completed_pod_deletion_delay_minutes) == (5.0, 0.0)
    assert config.default_container_image is None
    assert config.clearml.verify_certificate is True


@pytest.mark.parametrize(
    "dashboard",
    [
        ...,
        {},
        {"gpu": {}, "cpu": {"reportMax": None}},
        {"reportType": "", "gpu": {"discovery": {}}},
        {"reportType": None},
    ],
)
def test_a_dashboard_of_nothing_has_its_defaults(dashboard: Any) -> None:
    config = parse_config(document(orchestrationDashboard=dashboard, taskWorkerId=..., clusterAccess=...))
    assert config.dashboard == DashboardConfig()
    assert not config.dashboard.reports
    assert (config.task_worker_id, config.cluster_access) == (None, False)


def test_the_reported_namespace_is_its_own_unless_another_is_named() -> None:
    cpu = {"reportNamespaced": True}
    assert parse_config(document(orchestrationDashboard={"cpu": cpu})).dashboard.cpu_namespace == "clearml"


def test_empty_parts_of_a_queue_are_as_good_as_none() -> None:
    config = parse_config(document(queues={"a": {"templateOverrides": None, "queueSettings": None}}))
    assert config.queues["a"] == QueueConfig(name="a")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"maxPod": 3}, "maxPod: unknown key; did you mean maxPods?"),
        ({"clearml.apiserver": "x"}, "clearml.apiserver: unknown key; did you mean apiServer?"),
        (
            {"task.zzz": 1},
            "task.zzz: unknown key; known here: bootstrap, certificates, controllerImage, imagePullSecrets, "
            "preparationScript, serviceAccountName, skipsSystemPackages, startScript",
        ),
        ({"clearml.apiServer": ...}, "clearml.apiServer: missing; expected a value"),
        ({"createQueues": "yes"}, 'createQueues: found "yes"; expected true or false'),
        ({"maxPods": 0}, "maxPods: found 0; expected at least 1"),
        (
            {"clusterAccess": False, "orchestrationDashboard": {"gpu": {"discovery": {"enabled": True}}}},
            "orchestrationDashboard.gpu.discovery.enabled: found true, but clusterAccess is false; nodes are only read "
            "with clusterAccess: true, which needs a ClusterRole to list and watch nodes",
        ),
        (
            {"clusterAccess": False, "orchestrationDashboard": {"cpu": {"discovery": {"enabled": True}}}},
            "orchestrationDashboard.cpu.discovery.enabled: found true, but clusterAccess is false; nodes are only read "
            "with clusterAccess: true, which needs a ClusterRole to list and watch nodes",
        ),
        (
            {"orchestrationDashboard": {"gpu": {"discovery": {"nodeSelector": "a b"}}}},
            "orchestrationDashboard.gpu.discovery.nodeSelector: found 'a b'; at 'b' expected one of = == != in notin < "
            "> or a comma",
        ),
        (
            {"orchestrationDashboard": {"gpu": {"discovery": {"gpuCountSelector": ""}}}},
            "orchestrationDashboard.gpu.discovery.gpuCountSelector: found ''; expected label keys separated by commas",
        ),
        ({"maxPods": "3"}, 'maxPods: found "3"; expected a whole number or null'),
        ({"releaseName": 12}, "releaseName: found 12; expected text; write it in quotes"),
        ({"queues": {}}, "queues: found a mapping; expected at least 1 entries"),
        ({"queues": ["a"]}, "queues: found a list; expected a mapping"),
        (
            {"queues": {"my queue": {"queueSettings": {"maxpods": 1}}}},
            'queues["my queue"].queueSettings.maxpods: unknown key; did you mean maxPods?',
        ),
        (
            {"basePodTemplate": {"tolerations": [{"key": "a"}, {"operatorr": "Exists"}]}},
            "basePodTemplate.tolerations[1].operatorr: unknown key; did you mean operator?",
        ),
        (
            {"basePodTemplate": {"labels": {"version": 1.5}}},
            "basePodTemplate.labels.version: found 1.5; expected text; write it in quotes",
        ),
    ],
)
def test_each_problem_has_its_path_what_was_found_and_what_is_expected(changes: dict[str, Any], expected: str) -> None:
    assert problems(document(**changes)) == (f"config.yaml: {expected}",)


@pytest.mark.parametrize(
    ("template", "advice"),
    [
        ("k8s:{taskid}:{task_id}", "write it without blanks, with the variables"),
        ("k8s:{worker_id_parts}:{task_id}", "write it without blanks, with the variables"),
        ("k8s:{x:{task_id}", "write it without blanks, with the variables"),
        ("k8s:my group:{task_id}", "write it without blanks, with the variables"),
        ("k8s:group:{task_name}", "write {task_id} or {pod_name} into it, too"),
    ],
)
def test_templates_of_worker_ids_that_cannot_be_used(template: str, advice: str) -> None:
    settings = {"queueSettings": {"customWorkerIdTemplate": template}}
    found = problems(document(taskWorkerId=template, queues={"q": settings}))
    assert [problem.split(": ")[1] for problem in found] == [
        "queues.q.queueSettings.customWorkerIdTemplate",
        "taskWorkerId",
    ]
    assert all(advice in problem for problem in found)


@pytest.mark.parametrize("name", ["task_id", "pod_name", "worker_id", "worker_id_parts[2]", "namespace", "project"])
def test_variables_of_worker_ids(name: str) -> None:
    template = f"k8s:{{{name}}}:{{task_id}}"
    assert parse_config(document(taskWorkerId=template)).task_worker_id == template


def test_all_problems_are_told_at_once() -> None:
    found = problems(document(maxPod=3, createQueues="yes", **{"clearml.apiServer": ...}))
    assert sorted(problem.split(":")[1].strip() for problem in found) == ["clearml.apiServer", "createQueues", "maxPod"]


def test_values_of_environment_variables_are_not_shown() -> None:
    (problem,) = problems(document(basePodTemplate={"env": [{"name": "PASSWORD", "value": 12345678}]}))
    assert "12345678" not in problem
    assert "basePodTemplate.env[0].value: found a value (not shown); expected text" in problem


def test_files_of_a_template_are_in_a_secret_and_not_in_the_config() -> None:
    files = {"secretName": "gpu-fm", "items": [{"key": "a", "path": "/etc/a"}]}
    config = parse_config(document(basePodTemplate={"files": files}))
    assert config.base_pod_template == {"files": files}
    mounts = [{"name": "a", "folderPath": "/etc", "fileContent": "s3cret"}]
    (problem,) = problems(document(basePodTemplate={"fileMounts": mounts}))
    assert problem.startswith("config.yaml: basePodTemplate.fileMounts: unknown key")
    assert "s3cret" not in problem


@pytest.mark.parametrize("key", ["apiServer", "webServer", "fileServer"])
@pytest.mark.parametrize(
    "url",
    [
        "https://user:s3cret@host",
        "https://s3cret@host/path",
        "https://user:s3c@ret@host",
        "HTTPS://user:s3cret@host",
        "https://user:s3/cret@host",
        "ftp://user:s3cret@host",
        "user:s3cret@host",
    ],
)
def test_no_address_of_the_server_may_hold_a_password(key: str, url: str) -> None:
    (problem,) = problems(document(**{f"clearml.{key}": url}))
    assert problem.startswith(f"config.yaml: clearml.{key}: found ")
    assert not any(part in problem for part in ("s3", "ret@"))


@pytest.mark.parametrize(
    ("key", "url", "expected"),
    [
        ("apiServer", "api.clear.ml", 'found "api.clear.ml"; expected a whole URL, such as https://api.clear.ml'),
        ("apiServer", "s3://bucket", 'found "s3://bucket"; expected a whole URL, such as https://api.clear.ml'),
        ("webServer", "app", 'found "app"; expected a whole URL, such as https://app.clear.ml'),
        ("webServer", "https://", 'found "https://"; expected a whole URL, such as https://app.clear.ml'),
        ("webServer", "http://app:port", 'found "http://app:port"; expected a whole URL, such as https://app.clear.ml'),
        ("fileServer", "bucket", 'found "bucket"; expected a whole URL, such as https://files.clear.ml or s3://bucket'),
    ],
)
def test_addresses_are_whole_urls(key: str, url: str, expected: str) -> None:
    assert problems(document(**{f"clearml.{key}": url})) == (f"config.yaml: clearml.{key}: {expected}",)


@pytest.mark.parametrize("url", ["https://files.clear.ml:8081/x", "s3://bucket/folder", "gs://b", "azure://a.b/c"])
def test_files_may_be_in_an_object_store(url: str) -> None:
    assert parse_config(document(**{"clearml.fileServer": url})).clearml.file_server == url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", "c line 3, column 1: not valid YAML: the key 'a' stands here twice (first in line 1)"),
        ("a:\n  1: x\n", "c line 2, column 3: not valid YAML: the key 1 is not text; write it in quotes"),
        ("a: [1\n", "c line 2, column 1: not valid YAML: "),
        ("a: !!python/object:os.system x\n", "c line 1, column 4: not valid YAML: could not determine a constructor"),
        ("- a\n", "c: found a list; expected a mapping of settings"),
        ("", "c: found nothing; expected a mapping of settings"),
        ("x: &a\n  b: *a\n", "c: "),
        ("x: \x01\n", "c: not valid YAML: "),
    ],
)
def test_bad_yaml_is_told_with_its_place_and_without_its_content(text: str, expected: str) -> None:
    with pytest.raises(ConfigProblems) as caught:
        parse_config(text, source="c")
    assert str(caught.value).startswith(expected)


def test_yaml_errors_do_not_quote_the_file() -> None:
    with pytest.raises(ConfigProblems) as caught:
        parse_config("password: s3cret: x\n", source="c")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("text", ["<<", "=", "2026-01-15"])
def test_text_that_is_no_text_to_other_yaml_is_taken_as_it_is(text: str) -> None:
    """Helm writes it without quotes."""
    env = {"env": [{"name": "A", "value": text}]}
    written = document(basePodTemplate=env).replace(f"'{text}'", text)
    assert f"value: {text}\n" in written
    assert parse_config(written).base_pod_template == env


def test_merge_keys_may_be_overridden() -> None:
    text = FULL.replace("default: {}", "default: &d\n    queueSettings: {maxPods: 1}\n  other:\n    <<: *d")
    assert parse_config(text).queues["other"].settings.max_pods == 1


@pytest.mark.parametrize("names", [["a ", "a"], [" "]])
def test_queue_names_that_the_server_would_strip(names: list[str]) -> None:
    (problem,) = problems(document(queues={name: {} for name in names}))
    assert problem.startswith("config.yaml: queues: ")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigError, match=r"missing\.yaml cannot be read"):
        load_config_file(tmp_path / "missing.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff\n")
    with pytest.raises(errors.ConfigError, match=r"latin\.yaml cannot be read"):
        load_config_file(tmp_path / "latin.yaml")


def test_what_task_pods_get_by_an_init_container() -> None:
    image = {"name": "registry.example.com/controller:1", "pullPolicy": "Always"}
    task = {"bootstrap": True, "controllerImage": image, "certificates": {"configMap": "gpu-certs"}}
    found = parse_config(document(task=task)).task
    assert found.bootstrap
    assert found.controller_image == ControllerImage(name=image["name"], pull_policy="Always")
    assert found.certificates == Certificates(config_map="gpu-certs", complete=False)
    nothing = parse_config(document(task=...)).task
    assert (nothing.bootstrap, nothing.controller_image, nothing.certificates) == (False, None, None)


@pytest.mark.parametrize(
    ("task", "refused"),
    [
        ({"bootstrap": True}, True),
        ({"certificates": {"configMap": "a"}}, True),
        ({"certificates": {"configMap": "a", "complete": True}}, False),
    ],
)
def test_an_init_container_needs_an_image(task: dict[str, Any], refused: bool) -> None:
    where = "task.controllerImage: found nothing; expected the image that the init container of task pods runs"
    if refused:
        assert problems(document(task=task)) == (f"config.yaml: {where}",)
    else:
        parse_config(document(task=task))


CREDENTIALS = {"secretName": "ac"}


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"ownerToken": True}, ""),
        ({"ownerToken": True, "taskCredentials": None}, ""),
        ({"taskCredentials": CREDENTIALS, "ownerToken": False}, ""),
        ({"taskCredentials": CREDENTIALS, "ownerToken": True}, "found beside ownerToken; expected one of the two"),
        ({}, "clearml.taskCredentials: found nothing; expected the Secret"),
        ({"ownerToken": False}, "clearml.taskCredentials: found nothing; expected the Secret"),
    ],
)
def test_a_pod_logs_in_in_one_way(given: dict[str, Any], problem: str) -> None:
    document = parse_yaml(FULL, source="x")
    document["clearml"] = {"apiServer": "https://api.clear.ml", **given}
    if problem:
        with pytest.raises(ConfigProblems, match=problem):
            config_from_document(document, source="x")
    else:
        found = config_from_document(document, source="x").clearml
        assert found.owner_tokens is bool(given.get("ownerToken"))
        assert found.vault_environment is True
