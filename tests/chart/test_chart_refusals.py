"""Values that cannot work are refused with the key, what was found and what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from chart_render import CREDENTIALS, Refused, Rendered, at, merged
from chart_render import render as render_values

Render = Callable[..., Rendered]
SECRET = "NEVER-SHOWN"

#: id -> (values over the credentials, texts of the refusal)
REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no secret key": (
        {"clearml": {"agentk8sglueSecret": None}},
        ["clearml.agentk8sglueSecret: found nothing, but clearml.agentk8sglueKey is set; set both"],
    ),
    "no access key": (
        {"clearml": {"agentk8sglueKey": "", "agentk8sglueSecret": SECRET}},
        ["clearml.agentk8sglueKey: found nothing, but clearml.agentk8sglueSecret is set; set both"],
    ),
    "existing secret and keys": (
        {"clearml": {"existingAgentk8sglueSecret": "mine", "agentk8sglueSecret": SECRET}},
        ['clearml.existingAgentk8sglueSecret: found "mine", and', "keep either"],
    ),
    "existing secret and only the secret key": (
        {"clearml": {"existingAgentk8sglueSecret": "mine", "agentk8sglueKey": None}},
        ['clearml.existingAgentk8sglueSecret: found "mine", and'],
    ),
    "placeholders of the documentation": (
        {
            "clearml": {"agentk8sglueKey": "<ACCESS_KEY>", "agentk8sglueSecret": "<SECRET_KEY>"},
            "imageCredentials": {"password": "<CLEARML_DOCKERHUB_TOKEN>"},
            "agentk8sglue": {
                "apiServerUrlReference": "<CLEARML_API_SERVER_REFERENCE>",
                "queues": {"q": {"templateOverrides": {"env": [{"name": "A", "value": "<YOUR VALUE>"}]}}},
            },
        },
        [
            "clearml.agentk8sglueKey: found the placeholder <ACCESS_KEY>; write your own value",
            "clearml.agentk8sglueSecret: found the placeholder <SECRET_KEY>",
            "imageCredentials.password: found the placeholder <CLEARML_DOCKERHUB_TOKEN>",
            "agentk8sglue.apiServerUrlReference: found the placeholder <CLEARML_API_SERVER_REFERENCE>",
            "agentk8sglue.queues.q.templateOverrides.env[0].value: found the placeholder <YOUR VALUE>",
        ],
    ),
    "placeholder as a queue's name": (at("agentk8sglue.queues", {"<QUEUE>": {}}), ["the placeholder <QUEUE> as a queue's name"]),
    "placeholders of ClearML's own chart": (
        {"clearml": {"agentk8sglueKey": "ACCESSKEY", "agentk8sglueSecret": "SECRETKEY"}},
        ["clearml.agentk8sglueKey: found ACCESSKEY", "clearml.agentk8sglueSecret: found SECRETKEY"],
    ),
    "two sources of clearml.conf": (
        {"clearml": {"existingClearmlConfigSecret": "mine", "clearmlConfig": SECRET}},
        ['clearml.existingClearmlConfigSecret: found "mine", and clearml.clearmlConfig is set, too'],
    ),
    "pull secret without credentials": (
        at("imageCredentials.enabled", True),
        ["imageCredentials.enabled: found true, but no credentials; set imageCredentials.password"],
    ),
    "two pull secrets": (
        {"imageCredentials": {"existingSecret": "mine", "password": SECRET}},
        ['imageCredentials.existingSecret: found "mine", and imageCredentials.password is set, too'],
    ),
    "queue and queues": (
        {"agentk8sglue": {"queue": "gpu,cpu", "queues": {"a": {}}}},
        ['agentk8sglue.queue: found "gpu,cpu", and agentk8sglue.queues names queues, too', "for example gpu: {}"],
    ),
    "empty queue name": (at("agentk8sglue.queue", "a,,b"), ['agentk8sglue.queue: found "a,,b", with an empty name']),
    "queue name with blanks around": (at("agentk8sglue.queues", {" a": {}}), ['the queue name " a"']),
    "image of ClearML's chart": (
        at("agentk8sglue.image", {"repository": "clearml/clearml-enterprise-agent-k8s-base", "tag": "1.31-3.0.3-469"}),
        ["agentk8sglue.image.repository: found", "leave agentk8sglue.image.repository and agentk8sglue.image.tag out"],
    ),
    "registry twice": (
        at("agentk8sglue.image", {"registry": "quay.io", "repository": "docker.io/a/b"}),
        ['agentk8sglue.image.registry: found "quay.io"', "name the registry once"],
    ),
    "tag in the repository": (
        at("agentk8sglue.image.repository", "a/b:1.0"),
        ['agentk8sglue.image.repository: found "a/b:1.0", with a tag', "agentk8sglue.image.tag"],
    ),
    "URL without scheme": (
        at("agentk8sglue.apiServerUrlReference", "api.clear.ml"),
        ['agentk8sglue.apiServerUrlReference: found "api.clear.ml"; write a whole URL, such as https://api.clear.ml'],
    ),
    "empty URL": (at("agentk8sglue.apiServerUrlReference", ""), ['agentk8sglue.apiServerUrlReference: found ""']),
    "placeholder inside a URL": (
        at("agentk8sglue.fileServerUrlReference", "https://files.<your-domain>"),
        ['agentk8sglue.fileServerUrlReference: found "https://files.<your-domain>"'],
    ),
    "API server in an object store": (at("agentk8sglue.apiServerUrlReference", "s3://b"), ["agentk8sglue.apiServerUrlReference"]),
    "credentials in a URL": (
        at("agentk8sglue.webServerUrlReference", f"https://user:{SECRET}@clearml.local"),
        ["agentk8sglue.webServerUrlReference: found a URL with a user name or password in it; leave the part up to @ out"],
    ),
    "a password with a slash in a URL": (
        at("agentk8sglue.fileServerUrlReference", f"https://user:{SECRET}/x@clearml.local"),
        ["agentk8sglue.fileServerUrlReference: found a URL with a user name or password in it"],
    ),
    "credentials in a URL without scheme": (
        at("agentk8sglue.apiServerUrlReference", f"user:{SECRET}@clearml.local"),
        ["agentk8sglue.apiServerUrlReference: found a URL with a user name or password in it"],
    ),
    "credentials by environment": (
        at("agentk8sglue.extraEnvs", [{"name": "A", "value": "a"}, {"name": "CLEARML_API_SECRET_KEY", "value": SECRET}]),
        ["agentk8sglue.extraEnvs[1]: found CLEARML_API_SECRET_KEY", "clearml.existingAgentk8sglueSecret"],
    ),
    "folder of credentials by environment": (
        at("agentk8sglue.extraEnvs", [{"name": "CLEARML_K8S_CREDENTIALS_DIR", "value": "/x"}]),
        ["agentk8sglue.extraEnvs[0]: found CLEARML_K8S_CREDENTIALS_DIR", "clearml.existingAgentk8sglueSecret"],
    ),
    "volume of the chart": (
        at("agentk8sglue.volumes", [{"name": "clearml-k8s-tmp", "emptyDir": {}}]),
        ["agentk8sglue.volumes[0]: found the name clearml-k8s-tmp"],
    ),
    "mount of the chart": (
        at("agentk8sglue.volumeMounts", [{"name": "a", "mountPath": "/etc/clearml-k8s/"}]),
        ["agentk8sglue.volumeMounts[0]: found the mountPath /etc/clearml-k8s/"],
    ),
    "volume twice": (
        {"agentk8sglue": {"volumes": [{"name": "a", "emptyDir": {}}], "extraVolumes": [{"name": "b"}, {"name": "a", "emptyDir": {}}]}},
        ["agentk8sglue.extraVolumes[1]: found the name a, which agentk8sglue.volumes[0] has, too", "name each volume once"],
    ),
    "mounts at one path": (
        {"agentk8sglue": {"volumes": [{"name": "a"}], "volumeMounts": [{"name": "a", "mountPath": "/x/f"}],
                          "extraVolumeMounts": [{"name": "a", "mountPath": "/x/f/"}],
                          "fileMounts": [{"name": "f", "folderPath": "/x", "fileContent": SECRET}]}},
        ["agentk8sglue.extraVolumeMounts[0]: found the mountPath /x/f, which agentk8sglue.volumeMounts[0] has, too",
         "agentk8sglue.fileMounts[0]: found the path /x/f, which agentk8sglue.extraVolumeMounts[0] has, too"],
    ),
    "file among the chart's": (
        at("agentk8sglue.fileMounts", [{"name": "a.yaml", "folderPath": "/etc/clearml-k8s", "fileContent": SECRET}]),
        ["agentk8sglue.fileMounts[0]: found the path /etc/clearml-k8s/a.yaml"],
    ),
    "files of tasks at one path": (
        {"agentk8sglue": {"basePodTemplate": {"fileMounts": [{"name": "f", "folderPath": "/x/", "fileContent": SECRET},
                                                             {"name": "f", "folderPath": "/x", "fileContent": SECRET}]},
                          "queues": {"a": {"templateOverrides": {"fileMounts": [{"name": "f", "folderPath": "/x", "fileContent": "b"}]}}}}},
        ["agentk8sglue.basePodTemplate.fileMounts[1]: found the path /x/f, which agentk8sglue.basePodTemplate.fileMounts[0] has"],
    ),
    "file beside the clearml.conf of tasks": (
        {"clearml": {"clearmlConfig": "a: 1"},
         "agentk8sglue": {"queues": {"a": {"templateOverrides": {
             "fileMounts": [{"name": "more.conf", "folderPath": "/etc/clearml", "fileContent": SECRET}]}}}}},
        ["agentk8sglue.queues.a.templateOverrides.fileMounts[0]: found the path /etc/clearml/more.conf"],
    ),
    "rules of a policy that is off": (
        at("networkPolicy.tasks.egress", [{}]),
        ["networkPolicy.tasks.egress: found rules, but networkPolicy.tasks.enabled is false; set it to true"],
    ),
    "extra objects that are none": (
        {"extraObjects": [
            "kind: A\n---\nkind: B\n",
            f"text: a: {SECRET}",
            "- a list",
            f"kind: Secret\nstringData: {{a: {SECRET}}}\n",
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Values.nameOverride }}"}},
        ]},
        ["extraObjects[0]: found several objects in one text; make an entry of each",
         "extraObjects[1]: found no object in YAML",
         "extraObjects[2]: found no object in YAML",
         "extraObjects[3]: found an object without apiVersion, kind or metadata.name",
         "extraObjects[4]: found an object without apiVersion, kind or metadata.name"],
    ),
    "init container twice": (
        at("agentk8sglue.extraInitContainers", [{"name": "a"}, {"name": "a"}, {"name": "controller"}]),
        ["agentk8sglue.extraInitContainers[1]: found the name a, which agentk8sglue.extraInitContainers[0] has, too",
         "agentk8sglue.extraInitContainers[2]: found the name controller, which the controller has, too"],
    ),
    "mount over the credentials": (
        at("agentk8sglue.volumeMounts", [{"name": "a", "mountPath": "/etc/clearml-k8s-credentials"}]),
        ["agentk8sglue.volumeMounts[0]: found the mountPath /etc/clearml-k8s-credentials"],
    ),
    "annotations of an account that is not ours": (
        {"agentk8sglue": {"serviceExistingAccountName": "mine", "serviceAccountAnnotations": {"a": "b"}}},
        ["agentk8sglue.serviceAccountAnnotations: found annotations", '"mine"'],
    ),
    "checksum": (at("agentk8sglue.annotations", {"checksum/config": "x"}), ["agentk8sglue.annotations: found checksum/config"]),
    "label of the selector": (
        at("agentk8sglue.labels", {"app.kubernetes.io/instance": "x"}),
        ["agentk8sglue.labels: found app.kubernetes.io/instance; this label belongs to the chart"],
    ),
    "labels of the controller's records": (
        {"agentk8sglue": {"basePodTemplate": {"labels": {"clearml-task-id": "x"}},
                          "queues": {"a": {"templateOverrides": {"labels": {"clearml-k8s.io/attempt": "x"}}}}}},
        ["agentk8sglue.basePodTemplate.labels: found clearml-task-id",
         "agentk8sglue.queues.a.templateOverrides.labels: found clearml-k8s.io/attempt"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(render: Render, case: str) -> None:
    values, texts = REFUSED[case]
    with pytest.raises(Refused) as refusal:
        render(values)
    text = str(refusal.value)
    for wanted in texts:
        assert wanted in text
    assert SECRET not in text
    assert text.count("\n- ") == len([wanted for wanted in texts if ": found" in wanted] or texts)


def test_all_problems_at_once(helm_name: str) -> None:
    values: dict[str, Any] = CREDENTIALS
    for case in ("two pull secrets", "queue and queues", "tag in the repository", "checksum"):
        values = merged(values, REFUSED[case][0])
    with pytest.raises(Refused) as refusal:
        render_values(helm_name, values)
    assert str(refusal.value).count("\n- ") == 4


@pytest.mark.parametrize("key", ["team", "app.kubernetes.io/version2", "example.com/clearml-k8s.io"])
def test_other_labels_are_allowed(render: Render, key: str) -> None:
    assert render(at("agentk8sglue.labels", {key: "x"})).pod["metadata"]["labels"][key] == "x"
