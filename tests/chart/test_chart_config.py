"""What the chart renders is what the controller's own schema accepts; the documented example works as it stands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml
from chart_job import job_of
from chart_render import CHART, FULLNAME, KUBERNETES_VERSIONS, ROOT, Rendered, ci_values, helm, load_yaml, strings
from clearml_k8s.config import MonitoredResources
from clearml_k8s.config.file import config_from_document

Render = Callable[..., Rendered]

SCHEMA: dict[str, Any] = json.loads(
    (ROOT / "controller" / "src" / "clearml_k8s" / "config.schema.json").read_text(encoding="utf-8")
)

#: "clearml-agent-values.override.yaml" of the page "Kubernetes" in ClearML's documentation, word for word.
DOCUMENTED = """\
imageCredentials:
  password: "<CLEARML_DOCKERHUB_TOKEN>"
clearml:
  agentk8sglueKey: "<ACCESS_KEY>"
  agentk8sglueSecret: "<SECRET_KEY>"
agentk8sglue:
  apiServerUrlReference: "<CLEARML_API_SERVER_REFERENCE>"
  fileServerUrlReference: "<CLEARML_FILE_SERVER_REFERENCE>"
  webServerUrlReference: "<CLEARML_WEB_SERVER_REFERENCE>"
  createQueues: true
  queues:
    exampleQueue:
      templateOverrides: {}
      queueSettings: {}
"""
FILLED_IN = {
    "<CLEARML_DOCKERHUB_TOKEN>": "fake-dockerhub-token-for-ci",
    "<ACCESS_KEY>": "fake-access-key-for-ci",
    "<SECRET_KEY>": "fake-secret-key-for-ci",
    "<CLEARML_API_SERVER_REFERENCE>": "https://api.clearml.example.com",
    "<CLEARML_FILE_SERVER_REFERENCE>": "https://files.clearml.example.com",
    "<CLEARML_WEB_SERVER_REFERENCE>": "https://app.clearml.example.com",
}


def problems(config: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in jsonschema.Draft7Validator(SCHEMA).iter_errors(config)]


def filled_in() -> dict[str, Any]:
    text = DOCUMENTED
    for placeholder, value in FILLED_IN.items():
        text = text.replace(placeholder, value)
    values: dict[str, Any] = yaml.safe_load(text)
    return values


def ids(path: Path) -> str:
    return path.name


def test_there_are_examples() -> None:
    assert {path.name for path in ci_values()} >= {
        "default-values.yaml", "enterprise-example-values.yaml", "everything-values.yaml", "queues-values.yaml"
    }  # fmt: skip


@pytest.mark.parametrize("path", ci_values(), ids=ids)
def test_config_of_every_example(render_bare: Render, path: Path) -> None:
    assert problems(render_bare(load_yaml(path)).config) == []


@pytest.mark.parametrize("path", ci_values(), ids=ids)
def test_jobs_of_every_example(render_bare: Render, path: Path) -> None:
    rendered = render_bare(load_yaml(path))
    for queue in rendered.config["queues"]:
        for version in KUBERNETES_VERSIONS:
            kubernetes_validate.validate(job_of(rendered, queue), version, strict=True)


@pytest.mark.parametrize("path", ci_values(), ids=ids)
def test_examples_lint_strictly(helm_name: str, path: Path) -> None:
    done = helm(helm_name, "lint", str(CHART), "--strict", values=path.read_text(encoding="utf-8"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Fail:" not in done.stderr and "funcMap fail" not in done.stderr


@pytest.mark.parametrize("path", ci_values(), ids=ids)
def test_examples_need_no_server_and_hold_no_credentials(path: Path) -> None:
    values = load_yaml(path)
    assert values["test"] == {"checkServer": False}, "chart-testing runs `helm test` where no ClearML server answers"
    for where, text in strings({key: values.get(key, {}) for key in ("clearml", "imageCredentials")}):
        if ".existing" in where:
            continue  # the name of a Secret
        if where.endswith(("Key", "Secret", "password")) and not text.endswith(("Key", "Secret", "password")):
            assert text.startswith("fake-"), where


def test_example_is_the_documented_one() -> None:
    found = load_yaml(CHART / "ci" / "enterprise-example-values.yaml")
    assert found.pop("test") == {"checkServer": False}
    assert found == filled_in()


def test_documented_example_as_it_stands(render_bare: Render) -> None:
    rendered = render_bare(filled_in())
    assert problems(rendered.config) == []
    assert rendered.config["queues"] == {"exampleQueue": {"templateOverrides": {}, "queueSettings": {}}}
    assert rendered.config["createQueues"] is True
    assert rendered.config["clearml"]["apiServer"] == "https://api.clearml.example.com"
    auths = json.loads(rendered.secret(f"{FULLNAME}-ark")[".dockerconfigjson"])["auths"]
    assert auths["docker.io"]["username"] == "allegroaienterprise"
    assert auths["docker.io"]["password"] == "fake-dockerhub-token-for-ci"
    assert rendered.config["task"]["imagePullSecrets"] == [f"{FULLNAME}-ark"]
    assert rendered.spec["imagePullSecrets"] == [{"name": f"{FULLNAME}-ark"}]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("maxPod", 1),
        ("clearml.apiserver", "https://x"),
        ("clearml.apiServer", ""),
        ("clearml.taskCredentials.key", "x"),
        ("clearml.configSecret", {"name": "x"}),
        ("task.imagePullSecrets", [{"name": "x"}]),
        ("basePodTemplate.tolerations", [{"operatorr": "Exists"}]),
        ("queues", {}),
        ("queues.default", None),
        ("queues.default.queueSettings.maxPods", 0),
        ("queues.default.queueSettings.maxGpus", 0),
        ("queues.default.queueSettings.weight", 0),
        ("monitoredResources.maxResources", -1),
        ("monitoredResources.minResourcesFieldName", "a||b"),
        ("fullname", "x" * 53),
        ("workerId", "a b"),
    ],
)
def test_config_schema_is_closed(render: Render, path: str, value: Any) -> None:
    config = render().config
    assert problems(config) == []
    place = config
    *above, last = path.split(".")
    for name in above:
        place = place[name]
    place[last] = value
    assert problems(config) != []


@pytest.mark.parametrize("path", ["releaseName", "fullname", "namespace", "clearml", "queues"])
def test_config_schema_requires(render: Render, path: str) -> None:
    config = render().config
    del config[path]
    assert problems(config) != []


def test_limits_and_order_reach_the_controller(render: Render) -> None:
    settings = {"maxGpus": 1.5, "maxCpus": 32, "maxPendingPods": 3, "priority": -5, "weight": 0.5}
    monitored = {"maxResources": 3, "minResourcesFieldName": "metadata|labels|a", "maxResourcesFieldName": ""}
    values = {"monitoredResources": monitored, "maxPendingPods": 50, "respectResourceQuotas": False}
    rendered = render({"agentk8sglue": {**values, "queues": {"gpu": {"queueSettings": settings}}}})
    config = config_from_document(rendered.config, source="the chart's config")
    assert config.monitored_resources == MonitoredResources(max_resources=3, min_field="metadata|labels|a")
    assert (config.max_pending_pods, config.respect_resource_quotas) == (50, False)
    found = config.queues["gpu"].settings
    assert (found.max_gpus, found.max_cpus, found.max_pending_pods) == (1.5, 32, 3)
    assert (found.priority, found.weight) == (-5, 0.5)
