"""Every value works: given, it shows where it should; left out, it does not. Keys of pod templates: test_chart_pod_templates."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from chart_job import job_of, mounted_files
from chart_render import CHART, CREDENTIALS, FULLNAME, Rendered, at, load_yaml, merged
from chart_render import render as render_values

Render = Callable[..., Rendered]
Look = Callable[[Rendered], Any]

TOLERATION = {"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}
AFFINITY = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
    {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]}}}  # fmt: skip
DIGEST = "sha256:" + "0123456789abcdef" * 4


DASHBOARD = "orchestrationDashboard"
ACCESS = at("agentk8sglue.serviceAccountClusterAccess", True)
NAMESPACED = merged(ACCESS, at(f"agentk8sglue.{DASHBOARD}.cpu.reportNamespaced", True))
LINUX_GPU = "kubernetes.io/os=linux,nvidia.com/gpu.present=true"
#: Key, where it is in the config if not there, value, default, what it needs beside it.
DASHBOARD_KEYS: list[tuple[str, str | None, Any, Any, dict[str, Any]]] = [
    ("reportType", None, "global", "disabled", {}),
    ("reportSeconds", None, 60, 600, {}),
    ("reportMaxGpu", "gpu.reportMax", 4, 0, {}),
    ("discovery", "gpu.discovery",
     {"enabled": True, "baseSelector": "a", "nodeSelector": "b=c", "gpuCountSelector": "d"},
     {"enabled": False, "baseSelector": LINUX_GPU, "nodeSelector": "", "gpuCountSelector": "nvidia.com/gpu.count"}, ACCESS),
    ("gpu.reportMax", None, 2, 0, {}),
    ("gpu.discovery.enabled", None, True, False, ACCESS),
    ("gpu.discovery.baseSelector", None, "a=b", LINUX_GPU, {}),
    ("gpu.discovery.nodeSelector", None, "a in (b,c)", "", {}),
    ("gpu.discovery.gpuCountSelector", None, "a,b", "nvidia.com/gpu.count", {}),
    ("cpu.reportMax", None, 8, 0, {}),
    ("cpu.discovery.enabled", None, True, False, ACCESS),
    ("cpu.discovery.nodeSelector", None, "pool=cpu", "", {}),
    ("cpu.reportNamespaced", None, True, False, {}),
    ("cpu.reportNamespaceOverride", None, "other", None, NAMESPACED),
]  # fmt: skip


PEM = "-----BEGIN CERTIFICATE-----\nMIEDYWJj\n-----END CERTIFICATE-----\n"
EXTRA = at("customCertificates.extraCerts", [{"alias": "a", "pem": PEM}])


def job_pod(rendered: Rendered) -> dict[str, Any]:
    """The pod of a task, as the controller makes it of the rendered config."""
    return dict(job_of(rendered)["spec"]["template"]["spec"])


def trusted(rendered: Rendered) -> tuple[str, list[str]] | None:
    """What the controller is given to trust, and the init containers that join it with the public ones; None: nothing.
    Of both pods, if they agree, and where all that names it names what is there."""
    found = {found["metadata"]["name"]: found for found in rendered.objects if found["kind"] == "ConfigMap"}
    given = found.get(f"{FULLNAME}-certs")
    seen = []
    for spec in (rendered.spec, rendered.test_pod["spec"]):
        mounts = {m["mountPath"]: m["name"] for m in spec["containers"][0]["volumeMounts"]}
        env = {entry["name"]: entry.get("value") for entry in spec["containers"][0]["env"]}
        volume = mounts.get("/etc/clearml-k8s-certificates")
        assert (volume is None) == (given is None)
        for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
            assert env.get(name) == (given and "/etc/clearml-k8s-certificates/ca-certificates.crt")
        init = spec.get("initContainers", [])
        written = [m["name"] for one in init for m in one["volumeMounts"] if not m.get("readOnly")]
        assert given is None or volume == (written[0] if init else "clearml-k8s-certificates")
        seen.append([one["name"] for one in init])
    assert seen[0] == seen[1]
    return None if given is None else (given["data"]["ca-certificates.crt"], seen[0])


SESSIONS: list[tuple[str, Any, Any]] = [
    ("portModeEnabled", True, False),
    ("svcAnnotations", {"a/b": "c"}, {}),
    ("svcType", "LoadBalancer", "NodePort"),
    ("externalIP", "192.0.2.7", "0.0.0.0"),
    ("startingPort", 31000, 30000),
    ("maxServices", 5, 20),
    ("agentID", "one", ""),
]


TASK_PODS = {
    "app.kubernetes.io/instance": "rel",
    "app.kubernetes.io/component": "task",
    "app.kubernetes.io/managed-by": "clearml-agent",
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """`look` gives `given` when the key has `value`, and `absent` when it is left out; both beside the values `base`."""

    key: str
    value: Any
    look: Look
    given: Any
    absent: Any
    base: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.key}={json.dumps(self.value)[:40]}"


def config(path: str) -> Look:
    def look(rendered: Rendered) -> Any:
        found: Any = rendered.config
        for name in path.split("."):
            found = found[name]
        return found

    return look


def patience(rendered: Rendered) -> Any:
    """Three of the twelve."""
    seconds = rendered.config["patienceSeconds"]
    return [seconds[key] for key in ("imagePull", "unschedulable", "containerConfig")]


def both_pods(key: str) -> Look:
    """The same field of the controller's pod and of the test pod, once if they agree."""

    def look(rendered: Rendered) -> Any:
        first, second = rendered.spec.get(key), rendered.test_pod["spec"].get(key)
        assert first == second
        return first

    return look


def both_containers(key: str) -> Look:
    def look(rendered: Rendered) -> Any:
        first, second = rendered.container.get(key), rendered.test_pod["spec"]["containers"][0].get(key)
        assert first == second
        return first

    return look


def extra(look: Look, *, name: str) -> Look:
    """The elements of a list that have this name."""
    return lambda rendered: [item for item in look(rendered) if item["name"] == name]


def pull_secret(rendered: Rendered) -> Any:
    data = rendered.secret(f"{FULLNAME}-ark")[".dockerconfigjson"]
    return json.loads(data)["auths"]


def pull_secrets(rendered: Rendered) -> list[str]:
    """Names of the pull secrets, the same for the controller, the test and the task pods."""
    names = [item["name"] for item in both_pods("imagePullSecrets")(rendered) or []]
    assert names == rendered.config["task"]["imagePullSecrets"]
    return names


def credentials_secret(rendered: Rendered) -> Any:
    names = {volume["secret"]["secretName"] for volume in both_pods("volumes")(rendered) if "secret" in volume}
    assert names == {rendered.config["clearml"]["taskCredentials"]["secretName"]}
    own = ("Secret", f"{FULLNAME}-ac") in rendered.names()
    return names.pop(), own


def task_credentials(rendered: Rendered) -> Any:
    """The Secret that task pods name, and what the chart put into it; the controller's is another one."""
    name = rendered.config["clearml"]["taskCredentials"]["secretName"]
    own = ("Secret", f"{FULLNAME}-task-ac") in rendered.names()
    return name, rendered.secret(f"{FULLNAME}-task-ac") if own else None


def conf(rendered: Rendered) -> Any:
    own = ("Secret", f"{FULLNAME}-conf") in rendered.names()
    return rendered.config["clearml"]["configSecret"], rendered.secret(f"{FULLNAME}-conf") if own else None


def pod_metadata(kind: str, key: str) -> Look:
    def look(rendered: Rendered) -> Any:
        first = rendered.deployment["metadata"].get(kind, {}).get(key)
        assert first == rendered.pod["metadata"].get(kind, {}).get(key)
        assert key not in rendered.deployment["spec"]["selector"]["matchLabels"]
        return first

    return look


def controller_account(rendered: Rendered) -> Any:
    names = {rendered.spec["serviceAccountName"], rendered.test_pod["spec"]["serviceAccountName"]}
    names |= {subject["name"] for subject in rendered.one("RoleBinding")["subjects"]}
    assert len(names) == 1
    return names.pop(), sorted(name for kind, name in rendered.names() if kind == "ServiceAccount")


def files(rendered: Rendered) -> Any:
    """What both pods mount; the chart's Secret holds just that."""
    found = mounted_files(rendered, rendered.spec)
    assert found == mounted_files(rendered, rendered.test_pod["spec"])
    own = ("Secret", f"{FULLNAME}-afm") in rendered.names()
    assert len(rendered.secret(f"{FULLNAME}-afm") if own else {}) == len(found)
    return found


def bindings(kind: str) -> Look:
    """Roles that bindings of this kind give to the controller's account, without the chart's own; and their kind."""

    def look(rendered: Rendered) -> Any:
        found = [o for o in rendered.objects if o["kind"] == kind and o["roleRef"]["name"] != f"{FULLNAME}-controller"]
        for binding in found:
            assert binding["subjects"] == [
                {"kind": "ServiceAccount", "name": rendered.spec["serviceAccountName"], "namespace": "tasks"}
            ]
            assert binding["roleRef"]["kind"] == kind.removesuffix("Binding")
        return [binding["roleRef"]["name"] for binding in found]

    return look


def spec(kind: str, name: str) -> Look:
    """The spec of an object, or None if there is none."""
    return lambda r: r.one(kind, name)["spec"] if (kind, name) in r.names() else None


def policy(component: str, ingress: list[Any], egress: list[Any] | None = None) -> dict[str, Any]:
    name = (
        {"app.kubernetes.io/name": "clearml-agent"}
        if component == "controller"
        else {"app.kubernetes.io/managed-by": "clearml-agent"}
    )
    labels = {**name, "app.kubernetes.io/instance": "rel", "app.kubernetes.io/component": component}
    out = {} if egress is None else {"egress": egress}
    return {
        "podSelector": {"matchLabels": labels},
        "policyTypes": ["Ingress", "Egress"][: 1 + len(out)],
        "ingress": ingress,
        **out,
    }


def extra_objects(rendered: Rendered) -> Any:
    return [found for found in rendered.objects if found["metadata"]["name"].startswith("extra")]


def image(rendered: Rendered) -> Any:
    return both_containers("image")(rendered)


def controllers_conf(rendered: Rendered) -> Any:
    """The Secret, and the file it becomes, of the clearml.conf that the controller reads; of the test pod, too."""
    found: list[Any] = []
    for spec in (rendered.spec, rendered.test_pod["spec"]):
        (container,) = spec["containers"]
        env = {entry["name"]: entry.get("value") for entry in container["env"]}
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        secrets = {volume["name"]: volume.get("secret") for volume in spec["volumes"]}
        mount, secret = mounts.get("clearml-k8s-conf"), secrets.get("clearml-k8s-conf")
        if mount is None or secret is None:
            assert (mount, secret, env.get("CLEARML_K8S_TASK_CONF")) == (None, None, None)
            found.append(None)
            continue
        (item,) = secret["items"]
        assert (mount["readOnly"], secret["optional"], item["key"]) == (True, True, "clearml.conf")
        path = f"{mount['mountPath']}/{item['path']}"
        assert env["CLEARML_K8S_TASK_CONF"] == path
        found.append((secret["secretName"], path))
    return found


def of_workloads(rendered: Rendered) -> list[str]:
    """What the controller may do with Kueue's Workloads."""
    rules = [rule for rule in rendered.one("Role")["rules"] if "kueue.x-k8s.io" in rule["apiGroups"]]
    assert all(rule["resources"] == ["workloads"] for rule in rules)
    return [verb for rule in rules for verb in rule["verbs"]]


def suspended(rendered: Rendered) -> tuple[bool | None, str | None]:
    """Whether a task's Job waits for Kueue, and in which LocalQueue."""
    job = job_of(rendered)
    return job["spec"].get("suspend"), job["metadata"]["labels"].get("kueue.x-k8s.io/queue-name")


def empty(*names: str) -> dict[str, Any]:
    return {name: {"templateOverrides": {}, "queueSettings": {}} for name in names}


PASSWORD = {"imageCredentials": {"password": "p"}}
OWN_ACCOUNTS = [f"{FULLNAME}-controller", f"{FULLNAME}-task"]
GHCR = "ghcr.io/clearml-k8s/controller"

SELECTOR = {
    "app.kubernetes.io/name": "clearml-agent",
    "app.kubernetes.io/instance": "rel",
    "app.kubernetes.io/component": "controller",
}
SPREAD = {
    "maxSkew": 1,
    "topologyKey": "zone",
    "whenUnsatisfiable": "ScheduleAnyway",
    "labelSelector": {"matchLabels": {"a": "b"}},
}
RULE = {"ports": [{"port": 9}]}
HTTP = {"ports": [{"port": 8080, "protocol": "TCP"}]}
DNS = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
EXTRA_TEXT = """---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: extra-text
  labels:
    {{- include "clearml-agent.matchLabels" (dict "context" $ "component" "mine") | nindent 4 }}
"""

MONITORED = {
    "serviceMonitor": "ServiceMonitor",
    "podMonitor": "PodMonitor",
    "prometheusRule": "PrometheusRule",
    "grafanaDashboard": "ConfigMap",
}


def of_metrics(kind: str) -> Look:
    """The labels that are not the chart's, and the annotations, of an object for Prometheus or Grafana; None: it is not made."""

    def look(rendered: Rendered) -> Any:
        suffix = "-dashboard" if kind == "ConfigMap" else "-metrics"
        for found in rendered.objects:
            meta = found["metadata"]
            if (found["kind"], meta["name"]) == (kind, FULLNAME + suffix):
                own = {
                    key: value
                    for key, value in meta["labels"].items()
                    if not key.startswith(("app.kubernetes.io/", "helm.sh/"))
                }
                return own, meta.get("annotations")
        return None

    return look


OWN_SCRIPT = (
    "{extra_docker_bash_script}\npython3 -m clearml_agent execute {default_execution_agent_args} --id {task_id}"
)
POLICY: list[tuple[str, Any, Any]] = [
    ("sharedMemory", "16Gi", ""),
    ("hostIPC", True, False),
    ("hostNetwork", True, False),
    ("hostPaths", ["/mnt/data"], []),
    ("volumeClaims", ["data"], []),
    ("privileged", True, False),
    ("capabilities", ["SYS_PTRACE"], []),
    ("user", "nonRoot", "template"),
    ("labels", ["team", "example.com/*", "*"], []),
    ("maxGpus", 4, 0),
    ("maxCpus", 1.5, 0),
    ("maxMemory", "64Gi", ""),
    ("nodeSelector", ["pool=a100", "zone"], []),
    ("priorityClasses", ["low"], []),
]
"""Keys of `taskPolicy`: a value, and the default."""

CASES = [
    Case(key="nameOverride", value="glue", look=lambda r: r.deployment["metadata"]["name"],
         given="rel-glue-controller", absent="rel-clearml-agent-controller"),
    Case(key="nameOverride", value="glue", look=lambda r: r.pod["metadata"]["labels"]["app.kubernetes.io/name"],
         given="glue", absent="clearml-agent"),
    Case(key="fullnameOverride", value="agent", look=lambda r: (r.deployment["metadata"]["name"], r.config["fullname"]),
         given=("agent-controller", "agent"), absent=(f"{FULLNAME}-controller", FULLNAME)),
    Case(key="global.imageRegistry", value="registry.local/mirror", look=image,
         given="registry.local/mirror/clearml-k8s/controller:6.0.0", absent=f"{GHCR}:6.0.0"),

    Case(key="imageCredentials.enabled", value=False, base=PASSWORD, look=pull_secrets, given=[], absent=[f"{FULLNAME}-ark"]),
    Case(key="imageCredentials.enabled", value=True, base=PASSWORD, look=pull_secrets,
         given=[f"{FULLNAME}-ark"], absent=[f"{FULLNAME}-ark"]),
    Case(key="imageCredentials.enabled", value=False, base={"imageCredentials": {"existingSecret": "mine"}},
         look=pull_secrets, given=[], absent=["mine"]),
    Case(key="imageCredentials.existingSecret", value="mine",
         look=lambda r: (pull_secrets(r), ("Secret", f"{FULLNAME}-ark") in r.names()), given=(["mine"], False), absent=([], False)),
    Case(key="imageCredentials.registry", value="registry.local:5000", base=PASSWORD, look=lambda r: list(pull_secret(r)),
         given=["registry.local:5000"], absent=["docker.io"]),
    Case(key="imageCredentials.username", value="robot", base=PASSWORD,
         look=lambda r: [entry["username"] for entry in pull_secret(r).values()], given=["robot"], absent=["allegroaienterprise"]),
    Case(key="imageCredentials.password", value='a"b\\c', base={"imageCredentials": {"username": "u"}},
         look=lambda r: (pull_secrets(r), pull_secret(r) if pull_secrets(r) else None),
         given=([f"{FULLNAME}-ark"], {"docker.io": {"username": "u", "password": 'a"b\\c', "auth": "dTphImJcYw=="}}),
         absent=([], None)),
    Case(key="imageCredentials.email", value="a@example.com", base=PASSWORD,
         look=lambda r: pull_secret(r)["docker.io"].get("email"), given="a@example.com", absent=None),
    Case(key="imageCredentials.extraImagePullSecrets", value=[{"name": "nvcr"}, {"name": "other"}], look=pull_secrets,
         given=["nvcr", "other"], absent=[]),
    Case(key="imageCredentials.extraImagePullSecrets", value=[{"name": "nvcr"}], base=PASSWORD, look=pull_secrets,
         given=[f"{FULLNAME}-ark", "nvcr"], absent=[f"{FULLNAME}-ark"]),

    Case(key="clearml.agentk8sglueKey", value="0123", look=lambda r: r.secret(f"{FULLNAME}-ac")["agentk8sglue_key"],
         given="0123", absent="fake-access-key"),
    Case(key="clearml.agentk8sglueSecret", value="ünï", look=lambda r: r.secret(f"{FULLNAME}-ac")["agentk8sglue_secret"],
         given="ünï", absent="fake-secret-key"),
    Case(key="clearml.existingClearmlConfigSecret", value="my-conf", look=conf,
         given=({"name": "my-conf", "key": "clearml.conf"}, None), absent=(None, None)),
    Case(key="clearml.existingClearmlConfigSecret", value="my-conf", look=controllers_conf,
         given=[("my-conf", "/etc/clearml-k8s-conf/clearml.conf")] * 2, absent=[None, None]),
    Case(key="clearml.clearmlConfig", value="agent.default_docker.image: a", look=controllers_conf,
         given=[(f"{FULLNAME}-conf", "/etc/clearml-k8s-conf/clearml.conf")] * 2, absent=[None, None]),
    Case(key="clearml.clearmlConfig", value='sdk {\n  a: "b"\n}\n', look=conf,
         given=({"name": f"{FULLNAME}-conf", "key": "clearml.conf"}, {"clearml.conf": 'sdk {\n  a: "b"\n}\n'}),
         absent=(None, None)),

    Case(key="agentk8sglue.image.registry", value="quay.io", base={"global": {"imageRegistry": "registry.local"}}, look=image,
         given="quay.io/clearml-k8s/controller:6.0.0", absent="registry.local/clearml-k8s/controller:6.0.0"),
    Case(key="agentk8sglue.image.repository", value="team/controller", look=image,
         given="ghcr.io/team/controller:6.0.0", absent=f"{GHCR}:6.0.0"),
    Case(key="agentk8sglue.image.repository", value="localhost:5000/controller", look=image,
         given="localhost:5000/controller:6.0.0", absent=f"{GHCR}:6.0.0"),
    Case(key="agentk8sglue.image.repository", value="registry.local/a/controller", look=image,
         base={"global": {"imageRegistry": "other.local"}},
         given="registry.local/a/controller:6.0.0", absent="other.local/clearml-k8s/controller:6.0.0"),
    Case(key="agentk8sglue.image.repository", value="localhost/controller", look=image,
         given="localhost/controller:6.0.0", absent=f"{GHCR}:6.0.0"),
    Case(key="agentk8sglue.image.tag", value="1.30", look=image, given=f"{GHCR}:1.30", absent=f"{GHCR}:6.0.0"),
    Case(key="agentk8sglue.image.digest", value=DIGEST, look=image, given=f"{GHCR}@{DIGEST}", absent=f"{GHCR}:6.0.0"),
    Case(key="agentk8sglue.image.pullPolicy", value="Always", look=both_containers("imagePullPolicy"),
         given="Always", absent="IfNotPresent"),
    Case(key="agentk8sglue.replicaCount", value=2, look=lambda r: r.deployment["spec"]["replicas"], given=2, absent=1),
    Case(key="agentk8sglue.resources", value={"limits": {"memory": "1Gi"}}, look=both_containers("resources"),
         given={"limits": {"memory": "1Gi"}, "requests": {"cpu": "50m", "memory": "128Mi"}},
         absent={"requests": {"cpu": "50m", "memory": "128Mi"}}),
    Case(key="agentk8sglue.labels", value={"team": "ml"}, look=pod_metadata("labels", "team"), given="ml", absent=None),
    Case(key="agentk8sglue.annotations", value={"note": "x"}, look=pod_metadata("annotations", "note"), given="x", absent=None),
    Case(key="agentk8sglue.podSecurityContext", value={"runAsUser": 1000}, look=lambda r: both_pods("securityContext")(r)["runAsUser"],
         given=1000, absent=65532),
    Case(key="agentk8sglue.containerSecurityContext", value={"runAsUser": 1000},
         look=lambda r: both_containers("securityContext")(r).get("runAsUser"), given=1000, absent=None),
    Case(key="agentk8sglue.nodeSelector", value={"pool": "infra"}, look=both_pods("nodeSelector"), given={"pool": "infra"}, absent=None),
    Case(key="agentk8sglue.tolerations", value=[TOLERATION], look=both_pods("tolerations"), given=[TOLERATION], absent=None),
    Case(key="agentk8sglue.affinity", value=AFFINITY, look=both_pods("affinity"), given=AFFINITY, absent=None),
    Case(key="agentk8sglue.priorityClassName", value="high", look=both_pods("priorityClassName"), given="high", absent=None),
    Case(key="agentk8sglue.extraEnvs", value=[{"name": "HTTPS_PROXY", "value": "http://p:1"}],
         look=extra(both_containers("env"), name="HTTPS_PROXY"), given=[{"name": "HTTPS_PROXY", "value": "http://p:1"}], absent=[]),
    Case(key="agentk8sglue.volumes", value=[{"name": "ca", "configMap": {"name": "ca"}}], look=extra(both_pods("volumes"), name="ca"),
         given=[{"name": "ca", "configMap": {"name": "ca"}}], absent=[]),
    Case(key="agentk8sglue.volumeMounts", value=[{"name": "ca", "mountPath": "/ca"}], base=at("agentk8sglue.volumes", [{"name": "ca"}]),
         look=extra(both_containers("volumeMounts"), name="ca"), given=[{"name": "ca", "mountPath": "/ca"}], absent=[]),
    Case(key="agentk8sglue.extraInitContainers", value=[{"name": "wait", "image": "busybox", "command": ["true"]}],
         look=both_pods("initContainers"), given=[{"name": "wait", "image": "busybox", "command": ["true"]}], absent=None),
    Case(key="agentk8sglue.extraVolumes", value=[{"name": "ca", "configMap": {"name": "ca"}}],
         base=at("agentk8sglue.volumes", [{"name": "first", "emptyDir": {}}]),
         look=lambda r: [item["name"] for item in both_pods("volumes")(r) if not item["name"].startswith("clearml-k8s-")],
         given=["first", "ca"], absent=["first"]),
    Case(key="agentk8sglue.extraVolumeMounts", value=[{"name": "ca", "mountPath": "/ca"}],
         base={"agentk8sglue": {"extraVolumes": [{"name": "ca"}], "volumeMounts": [{"name": "ca", "mountPath": "/first"}]}},
         look=lambda r: [item["mountPath"] for item in both_containers("volumeMounts")(r) if item["name"] == "ca"],
         given=["/first", "/ca"], absent=["/first"]),
    Case(key="agentk8sglue.fileMounts", look=files, absent={},
         value=[{"name": "a b.py", "folderPath": "/opt/x/", "fileContent": "one\n"},
                {"name": "a-b.py", "folderPath": "/opt//x", "fileContent": ""},
                {"name": "a b.py", "folderPath": "/", "fileContent": "ü{{ 1 }}"}],
         given={"/opt/x/a b.py": "one\n", "/opt/x/a-b.py": "", "/a b.py": "ü{{ 1 }}"}),
    Case(key="agentk8sglue.additionalRoleBindings", value=["pvc", "system:a:B"], look=bindings("RoleBinding"),
         given=["pvc", "system:a:B"], absent=[]),
    Case(key="agentk8sglue.additionalRoleBindings", value=["pvc"], base=at("agentk8sglue.serviceExistingAccountName", "mine"),
         look=bindings("RoleBinding"), given=["pvc"], absent=[]),
    Case(key="agentk8sglue.additionalClusterRoleBindings", value=["pvc", "system:openshift:scc:privileged"],
         look=bindings("ClusterRoleBinding"), given=["pvc", "system:openshift:scc:privileged"], absent=[]),
    Case(key="agentk8sglue.serviceAccountAnnotations", value={"eks.amazonaws.com/role-arn": "arn:x"},
         look=lambda r: r.one("ServiceAccount", f"{FULLNAME}-controller")["metadata"].get("annotations"),
         given={"eks.amazonaws.com/role-arn": "arn:x"}, absent=None),
    Case(key="agentk8sglue.serviceExistingAccountName", value="mine", look=controller_account,
         given=("mine", [f"{FULLNAME}-task"]), absent=(f"{FULLNAME}-controller", OWN_ACCOUNTS)),
    Case(key="agentk8sglue.clearmlcheckCertificate", value=False, look=config("clearml.verifyCertificate"), given=False, absent=True),
    Case(key="agentk8sglue.apiServerUrlReference", value="http://10.0.0.1:8008/", look=config("clearml.apiServer"),
         given="http://10.0.0.1:8008", absent="https://api.clear.ml"),
    Case(key="agentk8sglue.fileServerUrlReference", value="s3://bucket/models", look=config("clearml.fileServer"),
         given="s3://bucket/models", absent="https://files.clear.ml"),
    Case(key="agentk8sglue.fileServerUrlReference", value=None, look=config("clearml.fileServer"),
         given=None, absent="https://files.clear.ml"),
    Case(key="agentk8sglue.fileServerUrlReference", value="", look=config("clearml.fileServer"),
         given=None, absent="https://files.clear.ml"),
    Case(key="agentk8sglue.webServerUrlReference", value="https://clearml.example.com/app", look=config("clearml.webServer"),
         given="https://clearml.example.com/app", absent="https://app.clear.ml"),
    Case(key="agentk8sglue.webServerUrlReference", value=None, look=config("clearml.webServer"),
         given=None, absent="https://app.clear.ml"),
    Case(key="agentk8sglue.defaultContainerImage", value="ubuntu:24.04", look=config("defaultContainerImage"),
         given="ubuntu:24.04", absent=None),
    Case(key="agentk8sglue.queue", value="gpu", look=config("queues"), given=empty("gpu"), absent=empty("default")),
    Case(key="agentk8sglue.queue", value="cpu, Big Jobs,cpu", look=config("queues"), given=empty("cpu", "Big Jobs"), absent=empty("default")),
    Case(key="agentk8sglue.queue", value="1", look=config("queues"), given=empty("1"), absent=empty("default")),
    Case(key="agentk8sglue.queue", value="", look=config("queues"), given=empty("default"), absent=empty("default")),
    Case(key="agentk8sglue.queues", value={"gpu": {}, "true": {}, "5f0c2a": {"templateOverrides": None}}, look=config("queues"),
         given=empty("gpu", "true", "5f0c2a"), absent=empty("default")),
    Case(key="agentk8sglue.queues", value={"gpu": {"queueSettings": {"maxPods": 4, "defaultImage": "python:3.12"}}},
         look=config("queues"), absent=empty("default"),
         given={"gpu": {"templateOverrides": {}, "queueSettings": {"maxPods": 4, "defaultImage": "python:3.12"}}}),
    Case(key="agentk8sglue.queues", value={"gpu": {"queueSettings": {"maxPods": None, "defaultImage": ""}}},
         look=config("queues"), given=empty("gpu"), absent=empty("default")),
    Case(key="agentk8sglue.queues", value={"nim": {"queueSettings": {"useImageEntrypoint": True}}, "cpu": {"queueSettings": {"useImageEntrypoint": False}}},
         look=lambda rendered: {name: queue["queueSettings"] for name, queue in rendered.config["queues"].items()},
         given={"nim": {"useImageEntrypoint": True}, "cpu": {"useImageEntrypoint": False}}, absent={"default": {}}),
    Case(key="agentk8sglue.queues", value={"default": {"queueSettings": {"useImageEntrypoint": True}}},
         look=lambda rendered: "command" in job_of(rendered)["spec"]["template"]["spec"]["containers"][0], given=False, absent=True),
    Case(key="agentk8sglue.conditionalTemplates", look=config("conditionalTemplates"), absent=[],
         value=[{"when": {"a.b": "c"}, "template": {"priorityClassName": "high", "labels": {}, "nodeName": None}}],
         given=[{"when": {"a.b": "c"}, "template": {"priorityClassName": "high"}}]),
    Case(key="agentk8sglue.queues", value={"gpu": {"conditionalTemplates": [{"when": {"type": "x"}, "template": {"hostNetwork": False}}]}},
         look=config("queues"), absent=empty("default"),
         given={"gpu": {"templateOverrides": {}, "queueSettings": {},
                        "conditionalTemplates": [{"when": {"type": "x"}, "template": {"hostNetwork": False}}]}}),
    Case(key="agentk8sglue.createQueues", value=True, look=config("createQueues"), given=True, absent=False),
    Case(key="agentk8sglue.createQueueIfNotExists", value=True, look=config("createQueues"), given=True, absent=False),
    Case(key="agentk8sglue.maxPods", value=2000000, look=config("maxPods"), given=2000000, absent=None),
    Case(key="agentk8sglue.maxPendingPods", value=7, look=config("maxPendingPods"), given=7, absent=None),
    Case(key="agentk8sglue.templateModule.function", value="custom_code:update", look=config("templateModule.function"),
         given="custom_code:update", absent=""),
    Case(key="agentk8sglue.templateModule.timeoutSeconds", value=2.5, look=config("templateModule.timeoutSeconds"),
         given=2.5, absent=10),
    Case(key="agentk8sglue.fileMounts", value=[{"name": "custom_code.py", "folderPath": "/root", "fileContent": "x = 1"}],
         base={"agentk8sglue": {"templateModule": {"function": "custom_code:update"}}}, look=config("templateModule.path"),
         given=["/root"], absent=[]),
    Case(key="agentk8sglue.extraEnvs", value=[{"name": "CLEARML_K8S_GLUE_TEMPLATE_MODULE", "value": "a.b:c"}],
         look=config("templateModule.function"), given="a.b:c", absent=""),
    *(
        Case(key=f"agentk8sglue.podCommands.{key}", value="echo {pod_name}", look=config(f"podCommands.{key}"),
             given="echo {pod_name}", absent="")
        for key in ("preApply", "postApply", "postDelete")
    ),
    Case(key="agentk8sglue.podCommands.timeoutSeconds", value=2.5, look=config("podCommands.timeoutSeconds"),
         given=2.5, absent=30),
    Case(key="agentk8sglue.customBashScript", value="export A=1", look=config("task.preparationScript"), given="export A=1", absent=""),
    Case(key="agentk8sglue.containerCustomBashScript", value=OWN_SCRIPT, look=config("task.startScript"), given=OWN_SCRIPT, absent=""),
    Case(key="agentk8sglue.containerCustomBashScript", value=OWN_SCRIPT, absent=5, given=7,
         look=lambda rendered: len(job_of(rendered)["spec"]["template"]["spec"]["containers"][0]["command"])),
    Case(key="bootstrap.enabled", value=True, look=config("task.bootstrap"), given=True, absent=False),
    Case(key="bootstrap.enabled", value=True, look=config("task.controllerImage"), absent=None,
         given={"name": "ghcr.io/clearml-k8s/controller:6.0.0", "pullPolicy": "IfNotPresent"}),
    Case(key="bootstrap.enabled", value=True, given=["clearml-k8s-prepare"], absent=[],
         look=lambda rendered: [one["name"] for one in job_pod(rendered).get("initContainers", [])]),
    Case(key="customCertificates.overrideCaCertificatesCrt", value=PEM, look=trusted, given=(PEM, []), absent=None),
    Case(key="customCertificates.extraCerts", value=[{"alias": "a", "pem": PEM}, {"alias": "b", "pem": PEM}], look=trusted,
         given=(f"# a\n{PEM}# b\n{PEM}", ["clearml-k8s-certificates"]), absent=None),
    Case(key="customCertificates.propagateToTasks", value=True, look=config("task.certificates"), base=EXTRA,
         given={"configMap": f"{FULLNAME}-certs", "complete": False}, absent=None),
    Case(key="customCertificates.propagateToTasks", value=True, look=config("task.controllerImage.name"), base=merged(EXTRA, at("bootstrap.enabled", True)),
         given="ghcr.io/clearml-k8s/controller:6.0.0", absent="ghcr.io/clearml-k8s/controller:6.0.0"),
    Case(key="customCertificates.propagateToTasks", value=True, base=EXTRA, absent=None,
         given="/etc/clearml-k8s-certificates/ca-certificates.crt",
         look=lambda rendered: {entry["name"]: entry.get("value") for entry in job_pod(rendered)["containers"][0]["env"]}.get("GIT_SSL_CAINFO")),
    Case(key="agentk8sglue.airGappedSupport", value=True, look=config("task.skipsSystemPackages"), given=True, absent=False),
    Case(key="agentk8sglue.airGappedSupport", value=True, absent=None, given="1",
         look=lambda rendered: {entry["name"]: entry.get("value") for entry in
                                job_of(rendered)["spec"]["template"]["spec"]["containers"][0]["env"]}.get("CLEARML_AGENT_SKIP_CONTAINER_APT")),
    *(Case(key=f"agentk8sglue.taskPolicy.{key}", value=value, look=config(f"taskPolicy.{key}"), given=value, absent=absent)
      for key, value, absent in POLICY),
    Case(key="agentk8sglue.queues", look=config("queues"), absent=empty("default"),
         value={"gpu": {"queueSettings": {"taskPolicy": {"user": "any", "hostPaths": ["/data"], "privileged": None}}}},
         given={"gpu": {"templateOverrides": {}, "queueSettings": {"taskPolicy": {"user": "any", "hostPaths": ["/data"],
                                                                                  "privileged": None}}}}),
    *(Case(key=f"sessions.{key}", value=value, look=config(f"sessions.{key}"), given=value, absent=absent)
      for key, value, absent in SESSIONS),
    Case(key="sessions.portModeEnabled", value=True, given=["get", "list", "create"], absent=[],
         look=lambda rendered: [verb for rule in rendered.one("Role")["rules"] if "services" in rule["resources"] for verb in rule["verbs"]]),
    Case(key="agentk8sglue.kueue.queueName", value="team", look=config("kueue.queueName"), given="team", absent=""),
    Case(key="agentk8sglue.kueue.queueName", value="team", given=["list", "watch"], absent=[], look=of_workloads),
    Case(key="agentk8sglue.kueue.queueName", value="team", given=(True, "team"), absent=(None, None), look=suspended),
    Case(key="agentk8sglue.kueue.priorityClass", value="high", base=at("agentk8sglue.kueue.queueName", "team"),
         look=lambda rendered: job_of(rendered)["metadata"]["labels"].get("kueue.x-k8s.io/priority-class"), given="high", absent=None),
    Case(key="agentk8sglue.queues", value={"a": {"queueSettings": {"kueue": {"queueName": "own", "priorityClass": None}}}, "b": {}},
         look=lambda rendered: rendered.config["queues"]["a"]["queueSettings"]["kueue"] if "a" in rendered.config["queues"] else {},
         given={"queueName": "own", "priorityClass": None}, absent={}),
    *(Case(key=f"agentk8sglue.multiNode.{key}", value=value, look=config(f"multiNode.{key}"), given=value, absent=absent)
      for key, value, absent in (("enabled", True, False), ("startTimeoutMinutes", 0.5, 30), ("maxGiveBacks", 0, 3))),
    Case(key="agentk8sglue.multiNode.enabled", value=True, given=["get", "list", "create"], absent=[],
         look=lambda rendered: [verb for rule in rendered.one("Role")["rules"] if "services" in rule["resources"] for verb in rule["verbs"]]),
    Case(key="agentk8sglue.multiNode.enabled", value=True, base=at("networkPolicy.tasks.enabled", True), absent=[],
         given=[{"from": [{"podSelector": {"matchLabels": TASK_PODS}}]}],
         look=lambda rendered: rendered.one("NetworkPolicy")["spec"]["ingress"]),
    Case(key="agentk8sglue.multiNode.enabled", value=True, absent=1, given=2,
         base=merged(at("networkPolicy.tasks.enabled", True), at("networkPolicy.tasks.egress", [{"ports": [{"port": 443}]}])),
         look=lambda rendered: len(rendered.one("NetworkPolicy")["spec"]["egress"]) - 1),
    Case(key="agentk8sglue.queues", look=config("queues"), absent=empty("default"), base=at("agentk8sglue.multiNode.enabled", True),
         value={"big": {"templateOverrides": {"resources": {"limits": {"nvidia.com/gpu": 2}}}, "queueSettings": {"multiNode": [4, 2]}}},
         given={"big": {"templateOverrides": {"resources": {"limits": {"nvidia.com/gpu": 2}}}, "queueSettings": {"multiNode": [4, 2]}}}),
    Case(key="agentk8sglue.respectResourceQuotas", value=False, look=config("respectResourceQuotas"), given=False, absent=True),
    Case(key="agentk8sglue.monitoredResources.maxResources", value=2.5, look=config("monitoredResources.maxResources"), given=2.5, absent=0),
    Case(key="agentk8sglue.monitoredResources.minResourcesFieldName", value="metadata|labels|least",
         look=config("monitoredResources.minResourcesFieldName"), given="metadata|labels|least", absent="resources|limits|nvidia.com/gpu"),
    Case(key="agentk8sglue.monitoredResources.maxResourcesFieldName", value="metadata|labels|most",
         look=config("monitoredResources.maxResourcesFieldName"), given="metadata|labels|most", absent="resources|limits|nvidia.com/gpu"),
    Case(key="agentk8sglue.queuePollFrequencySeconds", value=0.5, look=config("queuePollFrequencySeconds"), given=0.5, absent=5),
    Case(key="agentk8sglue.completedPodDeletionDelayMinutes", value=1.5, look=config("completedPodDeletionDelayMinutes"),
         given=1.5, absent=0),
    Case(key="agentk8sglue.failedPodDeletionDelayMinutes", value=60, look=config("failedPodDeletionDelayMinutes"), given=60,
         absent=None),
    Case(key="agentk8sglue.maxRunMinutes", value=0.5, look=config("maxRunMinutes"), given=0.5, absent=None),
    Case(key="agentk8sglue.maxRequeues", value={"preempted": 3}, look=config("maxRequeues"),
         given={"preempted": 3, "evicted": 0, "nodeLost": 0}, absent={"preempted": 0, "evicted": 0, "nodeLost": 0}),
    Case(key="agentk8sglue.queues", look=config("queues"), absent=empty("default"),
         value={"spot": {"queueSettings": {"maxRunMinutes": 60, "maxRequeues": {"preempted": 20, "evicted": None}}}},
         given={"spot": {"templateOverrides": {}, "queueSettings": {"maxRunMinutes": 60,
                                                                    "maxRequeues": {"preempted": 20, "evicted": None}}}}),
    Case(key="agentk8sglue.patienceSeconds", value={"imagePull": 7.5, "unschedulable": 0}, look=patience, given=[7.5, 0, 60],
         absent=[300, None, 60]),
    Case(key="agentk8sglue.patienceSeconds", value={"imagePull": None, "containerConfig": None}, look=patience,
         given=[None, None, None], absent=[300, None, 60]),
    Case(key="agentk8sglue.queues", value={"gpu": {"queueSettings": {"patienceSeconds": {"quota": 60, "volume": None}}}},
         look=config("queues"), absent=empty("default"),
         given={"gpu": {"templateOverrides": {}, "queueSettings": {"patienceSeconds": {"quota": 60, "volume": None}}}}),
    Case(key="agentk8sglue.workerIdOverride", value="k8s:team:gpu", look=config("workerId"), given="k8s:team:gpu", absent=None),
    Case(key="agentk8sglue.workerIdOverride", value="", look=config("workerId"), given=None, absent=None),
    Case(key="agentk8sglue.taskWorkerIdOverride", value="k8s:g:{task_id}", look=config("taskWorkerId"), given="k8s:g:{task_id}",
         absent=None),
    Case(key="agentk8sglue.taskWorkerIdOverride", value="", look=config("taskWorkerId"), given=None, absent=None),
    Case(key="agentk8sglue.queues", look=config("queues"), absent=empty("default"),
         value={"a": {"queueSettings": {"customWorkerIdTemplate": "k8s:A:{task_id}"}}},
         given={"a": {"templateOverrides": {}, "queueSettings": {"customWorkerIdTemplate": "k8s:A:{task_id}"}}}),
    Case(key="agentk8sglue.statusReportFrequencySeconds", value=5, look=config("statusReportFrequencySeconds"), given=5, absent=30),
    Case(key="agentk8sglue.serviceAccountClusterAccess", value=True, look=config("clusterAccess"), given=True, absent=False),
    Case(key="agentk8sglue.dashboardReportMaxGpu", value=8, look=config(f"{DASHBOARD}.gpu.reportMax"), given=8, absent=0),
    *(Case(key=f"agentk8sglue.{DASHBOARD}.{key}", value=value, look=config(f"{DASHBOARD}.{into or key}"), given=value,
           absent=absent, base=base) for key, into, value, absent, base in DASHBOARD_KEYS),
    Case(key=f"agentk8sglue.{DASHBOARD}.reportType", value="", look=config(f"{DASHBOARD}.reportType"), given="disabled",
         absent="disabled"),
    Case(key="agentk8sglue.topologySpreadConstraints", value=[SPREAD], look=both_pods("topologySpreadConstraints"), given=[SPREAD], absent=None),
    Case(key="networkPolicy.controller.enabled", value=True, look=spec("NetworkPolicy", f"{FULLNAME}-controller"),
         given=policy("controller", [HTTP]), absent=None),
    Case(key="networkPolicy.controller.ingress", value=[RULE], base=at("networkPolicy.controller.enabled", True),
         look=spec("NetworkPolicy", f"{FULLNAME}-controller"),
         given=policy("controller", [HTTP, RULE]), absent=policy("controller", [HTTP])),
    Case(key="networkPolicy.controller.egress", value=[RULE], base=at("networkPolicy.controller.enabled", True),
         look=spec("NetworkPolicy", f"{FULLNAME}-controller"),
         given=policy("controller", [HTTP], [DNS, RULE]), absent=policy("controller", [HTTP])),
    Case(key="networkPolicy.tasks.enabled", value=True, look=spec("NetworkPolicy", f"{FULLNAME}-task"), given=policy("task", []), absent=None),
    Case(key="networkPolicy.tasks.ingress", value=[RULE], base=at("networkPolicy.tasks.enabled", True),
         look=spec("NetworkPolicy", f"{FULLNAME}-task"), given=policy("task", [RULE]), absent=policy("task", [])),
    Case(key="networkPolicy.tasks.egress", value=[RULE], base=at("networkPolicy.tasks.enabled", True),
         look=spec("NetworkPolicy", f"{FULLNAME}-task"), given=policy("task", [], [DNS, RULE]), absent=policy("task", [])),
    Case(key="podDisruptionBudget.enabled", value=True, look=lambda r: [o["spec"] for o in r.objects if o["kind"] == "PodDisruptionBudget"],
         given=[{"maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow", "selector": {"matchLabels": SELECTOR}}], absent=[]),
    Case(key="podDisruptionBudget.tasks.enabled", value=True, look=spec("PodDisruptionBudget", f"{FULLNAME}-task"), absent=None,
         given={"minAvailable": 2147483647, "unhealthyPodEvictionPolicy": "AlwaysAllow",
                "selector": policy("task", [])["podSelector"]}),
    Case(key="podDisruptionBudget.maxUnavailable", value=0, base=at("podDisruptionBudget.enabled", True),
         look=lambda r: spec("PodDisruptionBudget", f"{FULLNAME}-controller")(r)["maxUnavailable"], given=0, absent=1),
    Case(key="metrics.interval", value="1m", base=at("metrics.podMonitor.enabled", True), given="1m", absent="30s",
         look=lambda r: r.one("PodMonitor")["spec"]["podMetricsEndpoints"][0]["interval"]),
    *(Case(key=f"metrics.{key}.enabled", value=True, look=of_metrics(kind), absent=None,
           given=({"grafana_dashboard": "1"} if key == "grafanaDashboard" else {}, None)) for key, kind in MONITORED.items()),
    *(Case(key=f"metrics.{key}.labels", value={"prometheus": "one"}, base=at(f"metrics.{key}.enabled", True), look=of_metrics(kind),
           given=({"prometheus": "one"}, None), absent=({}, None)) for key, kind in MONITORED.items() if key != "grafanaDashboard"),
    Case(key="metrics.grafanaDashboard.labels", value={"grafana_dashboard": "2", "more": "x"}, base=at("metrics.grafanaDashboard.enabled", True),
         look=of_metrics("ConfigMap"), given=({"grafana_dashboard": "2", "more": "x"}, None), absent=({"grafana_dashboard": "1"}, None)),
    Case(key="metrics.grafanaDashboard.annotations", value={"grafana_folder": "ClearML"}, base=at("metrics.grafanaDashboard.enabled", True),
         look=of_metrics("ConfigMap"), given=({"grafana_dashboard": "1"}, {"grafana_folder": "ClearML"}), absent=({"grafana_dashboard": "1"}, None)),
    Case(key="extraObjects", look=extra_objects, absent=[],
         value=[{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "extra-{{ .Release.Name }}"}},
                EXTRA_TEXT, "{{ if false }}\nkind: none\n{{ end }}"],
         given=[{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "extra-rel"}},
                {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "extra-text", "labels": {**SELECTOR, "app.kubernetes.io/component": "mine"}}}]),
    Case(key="clearml.taskCredentials", value={"existingSecret": "tasks"}, look=task_credentials, given=("tasks", None),
         absent=(f"{FULLNAME}-ac", None)),
    Case(key="clearml.taskCredentials", value={"accessKey": "k", "secretKey": "s"}, look=task_credentials,
         given=(f"{FULLNAME}-task-ac", {"agentk8sglue_key": "k", "agentk8sglue_secret": "s"}),
         absent=(f"{FULLNAME}-ac", None)),
    Case(key="agentk8sglue.useOwnerToken", value=True, look=lambda r: (r.config["clearml"].get("taskCredentials"), r.config["clearml"]["ownerToken"]),
         given=(None, True),
         absent=({"secretName": f"{FULLNAME}-ac", "accessKeyKey": "agentk8sglue_key", "secretKeyKey": "agentk8sglue_secret"}, False)),
    Case(key="agentk8sglue.useOwnerToken", value=True, given=["create"], absent=[],
         look=lambda rendered: [verb for rule in rendered.one("Role")["rules"] if "secrets" in rule["resources"] for verb in rule["verbs"]]),
    Case(key="agentk8sglue.applyVaultEnvVars", value=False, look=config("clearml.vaultEnvironment"), given=False, absent=True),
    Case(key="test.checkServer", value=False, look=lambda r: r.test_pod["spec"]["containers"][0]["args"],
         given=["check", "--config", "/etc/clearml-k8s/config.yaml", "--skip-server"],
         absent=["check", "--config", "/etc/clearml-k8s/config.yaml"]),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_value(helm_name: str, case: Case) -> None:
    base = merged(CREDENTIALS, case.base)
    assert case.look(render_values(helm_name, base)) == case.absent
    assert case.look(render_values(helm_name, merged(base, at(case.key, case.value)))) == case.given


@pytest.mark.parametrize("key", ["team", "app.kubernetes.io/version2", "example.com/clearml-k8s.io"])
def test_labels_that_are_like_reserved_ones_are_allowed(render: Render, key: str) -> None:
    assert render(at("agentk8sglue.labels", {key: "x"})).pod["metadata"]["labels"][key] == "x"


@pytest.mark.parametrize("existing", ["", "mine"])
def test_credentials_come_from_the_named_secret(render_bare: Render, existing: str) -> None:
    values = {"clearml": {"existingAgentk8sglueSecret": existing}} if existing else CREDENTIALS
    rendered = render_bare(values)
    assert credentials_secret(rendered) == ((existing or f"{FULLNAME}-ac"), not existing)


def test_every_value_is_in_the_table() -> None:
    def paths(node: Any, prefix: str) -> set[str]:
        if isinstance(node, dict) and node and prefix not in tested:
            return {path for key, child in node.items() for path in paths(child, f"{prefix}.{key}".lstrip("."))}
        return {prefix}

    tested = {case.key for case in CASES}
    elsewhere = {"clearml.existingAgentk8sglueSecret"}
    keys = {
        key
        for key in paths(load_yaml(CHART / "values.yaml"), "")
        if not key.startswith("agentk8sglue.basePodTemplate.")
    }
    assert keys - tested - elsewhere == set()


def test_tasks_that_trust_nothing_else_need_no_init_container(render: Render) -> None:
    rendered = render({"customCertificates": {"overrideCaCertificatesCrt": PEM, "propagateToTasks": True}})
    assert rendered.config["task"]["certificates"] == {"configMap": f"{FULLNAME}-certs", "complete": True}
    assert "initContainers" not in job_pod(rendered)


def test_other_certificates_are_another_pod_of_the_controller(render: Render) -> None:
    """A file that is read at start."""
    first, second = (render(at("customCertificates.extraCerts", [{"alias": a, "pem": PEM}])) for a in "ab")
    assert first.pod["metadata"]["annotations"] != second.pod["metadata"]["annotations"]


def test_null_takes_a_default_away(render: Render) -> None:
    rendered = render(
        {"agentk8sglue": {"podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}}}
    )
    assert rendered.spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


@pytest.mark.parametrize(
    "section",
    [
        "resources",
        "labels",
        "tolerations",
        "affinity",
        "extraEnvs",
        "volumes",
        "fileMounts",
        "queues",
        "basePodTemplate",
    ],
)
def test_null_instead_of_a_list_or_map_means_none(render: Render, section: str) -> None:
    assert render({"agentk8sglue": {section: None}}).config == render().config


def test_as_a_subchart_with_values_of_its_parent(render: Render) -> None:
    rendered = render({"global": {"imageRegistry": "registry.local", "storageClass": "fast", "nested": {"any": [1]}}})
    assert image(rendered) == "registry.local/clearml-k8s/controller:6.0.0"
