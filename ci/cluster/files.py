"""The configuration files of all components; pure functions of the layout."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any

from .layout import NODE_NAME, Layout

PAUSE_IMAGE = "localhost/clearml-k8s/pause:own"
WRITES = ["create", "update", "patch", "delete", "deletecollection"]


def render(layout: Layout, *, pause_image: str, nameservers: list[str]) -> dict[str, str]:
    """Contents by path below `state`."""
    return {
        "config/audit-policy.json": _json(audit_policy()),
        "config/kubelet.json": _json(_kubelet(layout)),
        "config/kube-proxy.json": _json(_kube_proxy(layout)),
        "config/containerd.toml": _containerd(layout, pause_image=pause_image),
        "config/Corefile": _corefile(layout, nameservers),
        "config/bootstrap.json": _json(_bootstrap()),
        "cni/10-pods.conflist": _json(_cni(layout)),
        # A registry at this address is spoken to in plain HTTP; containerd 1.6 does not heed `server` alone.
        f"containerd/certs.d/{layout.host_ip}:5000/hosts.toml": f'[host."http://{layout.host_ip}:5000"]\n',
    }


def _json(value: Any) -> str:
    return json.dumps(value, indent=1) + "\n"


def audit_policy() -> dict[str, Any]:
    """What the audit log holds: every answered write of what the project cares about, Jobs with their bodies,
    pods with their ends."""
    batch = [{"group": "batch", "resources": ["jobs"]}]
    ends = [{"group": "", "resources": ["pods/status"]}]
    core = [{"group": "", "resources": ["pods", "configmaps", "secrets", "events", "services", "pods/binding"]}]
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived", "ResponseStarted"],
        "omitManagedFields": True,
        "rules": [
            {"level": "None", "resources": core, "namespaces": ["kube-system"]},
            {"level": "RequestResponse", "verbs": ["create"], "resources": batch},
            {"level": "Request", "verbs": ["delete", "deletecollection"], "resources": batch},
            {"level": "Request", "verbs": ["patch", "update"], "resources": ends},
            {"level": "Metadata", "verbs": WRITES, "resources": batch + core},
            {
                "level": "Metadata",
                "verbs": WRITES,
                "resources": [{"group": "coordination.k8s.io"}],
                "namespaces": ["default"],
            },
            {"level": "None"},
        ],
    }


def _kubelet(layout: Layout) -> dict[str, Any]:
    state = layout.state
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": layout.node_ip,
        "healthzBindAddress": layout.node_ip,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(state / "pki/ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.full_name}",
        "clusterDNS": [layout.node_ip],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": f"unix://{layout.containerd_socket}",
        "eventRecordQPS": 0,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "failCgroupV1": False,
        "failSwapOn": False,
        "imageGCHighThresholdPercent": 100,  # images come from archives, not from a registry: keep them
        "kubeAPIBurst": 200,
        "kubeAPIQPS": 100,
        "maxPods": 500,
        "nodeStatusUpdateFrequency": "5s",
        "oomScoreAdj": 0,  # a lower one needs CAP_SYS_RESOURCE
        "podLogsDir": str(state / "pod-logs"),
        "registryPullQPS": 0,
        "resolvConf": "",
        "serializeImagePulls": False,
        "volumePluginDir": str(state / "kubelet/volume-plugins"),
    }


def _kube_proxy(layout: Layout) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "bindAddress": layout.node_ip,
        "clientConnection": {"kubeconfig": str(layout.state / "pki/kube-proxy.kubeconfig")},
        "clusterCIDR": layout.pod_cidr,
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "healthzBindAddress": f"{layout.node_ip}:10256",
        "hostnameOverride": NODE_NAME,
        "metricsBindAddress": f"{layout.node_ip}:10249",
        "mode": "iptables",
        "oomScoreAdj": 0,
    }


def _containerd(layout: Layout, *, pause_image: str) -> str:
    q = json.dumps  # a JSON string is a TOML string
    skipped = ["aufs", "btrfs", "devmapper", "zfs"]
    disabled = [f"io.containerd.snapshotter.v1.{name}" for name in skipped] + ["io.containerd.internal.v1.opt"]
    return f"""version = 2
root = {q(str(layout.state / "containerd/root"))}
state = {q(str(layout.run / "containerd"))}
disabled_plugins = {q(disabled)}

[grpc]
  address = {q(str(layout.containerd_socket))}

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = {q(pause_image)}
  # Without CAP_SYS_RESOURCE runc ends with "can't get final child's PID from pipe: EOF" unless this is set.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  max_concurrent_downloads = 8

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = {q(_cni_programs())}
  conf_dir = {q(str(layout.state / "cni"))}

[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = {q(str(layout.registry_hosts))}

[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"
  default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false
"""


CNI_FOLDERS = ("/usr/lib/cni", "/opt/cni/bin")


def _cni_programs() -> str:
    for folder in CNI_FOLDERS:
        if Path(folder, "ptp").exists():
            return folder
    return CNI_FOLDERS[0]


def _cni(layout: Layout) -> dict[str, Any]:
    """Pods hang on point-to-point links: without a bridge, Service answers between pods never bypass conntrack."""
    return {
        "cniVersion": "0.4.0",
        "name": layout.full_name,
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(layout.run / "cni"),
                    "ranges": [[{"subnet": layout.pod_cidr}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
        ],
    }


def nameservers(text: str) -> list[str]:
    """Servers of a resolv.conf that can be reached from another network namespace."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                address = ipaddress.ip_address(words[1])
            except ValueError:
                continue
            if address.version == 4 and not address.is_loopback:
                found.append(str(address))
    return found


def machine_nameservers() -> list[str]:
    """The machine's own, or those behind systemd-resolved's stub."""
    for file in (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")):
        if file.exists() and (found := nameservers(file.read_text())):
            return found[:3]
    return []


def _corefile(layout: Layout, servers: list[str]) -> str:
    forward = f"    forward . {' '.join(servers)}\n" if servers else ""
    return f""".:53 {{
    bind {layout.node_ip}
    errors
    reload 5s
    health {layout.node_ip}:8080
    ready {layout.node_ip}:8181
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {layout.state / "pki/coredns.kubeconfig"}
        ttl 5
        fallthrough in-addr.arpa
    }}
    hosts /etc/hosts {{
        fallthrough
    }}
{forward}    cache 5
}}
"""


def _bootstrap() -> dict[str, Any]:
    """Objects that every cluster of this kind has: what CoreDNS may read."""
    rules = [
        {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    rbac = "rbac.authorization.k8s.io"
    return {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "ClusterRole",
                "metadata": {"name": "system:coredns"},
                "rules": rules,
            },
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": "system:coredns"},
                "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "system:coredns"},
                "subjects": [{"apiGroup": rbac, "kind": "User", "name": "system:coredns"}],
            },
        ],
    }
