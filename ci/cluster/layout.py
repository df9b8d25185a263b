"""Every name, address and path of one cluster; a pure function of its name and its slot.

A cluster lives in a network namespace of its own, so its ports, its iptables rules and its pods' interfaces cannot
meet those of the machine or of another cluster. One veth pair joins the two sides:

    host side  10.X.255.1   servers on the machine are reached by pods at this address
    node side  10.X.255.2   the API server, the kubelet, CoreDNS
    pods       10.X.0.0/20, Services 10.X.128.0/20; the host has routes to both

where X is 210 + slot. `run` (machine-wide, sockets and mounts) and `state` (in the cache) are the only folders.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

RUN = Path("/run/clearml-k8s")
SLOTS = 40
FIRST_OCTET = 210
NODE_NAME = "node-1"


@dataclass(frozen=True)
class Layout:
    """Names, addresses and paths of the cluster `name` in `slot` (0 to SLOTS - 1), with its state below `cache`."""

    name: str
    slot: int
    cache: Path

    @property
    def state(self) -> Path:
        return self.cache / "clusters" / self.name

    @property
    def run(self) -> Path:
        return RUN / self.name

    @property
    def prefix(self) -> str:
        return f"10.{FIRST_OCTET + self.slot}"

    @property
    def network(self) -> str:
        return f"{self.prefix}.0.0/16"

    @property
    def pod_cidr(self) -> str:
        return f"{self.prefix}.0.0/20"

    @property
    def service_cidr(self) -> str:
        return f"{self.prefix}.128.0/20"

    @property
    def kwok_cidr(self) -> str:
        return f"{self.prefix}.64.0/18"

    @property
    def api_service_ip(self) -> str:
        return f"{self.prefix}.128.1"

    @property
    def host_ip(self) -> str:
        return f"{self.prefix}.255.1"

    @property
    def node_ip(self) -> str:
        return f"{self.prefix}.255.2"

    @property
    def host_device(self) -> str:
        return f"ck8s{self.slot}"

    @property
    def node_device(self) -> str:
        return f"ck8s{self.slot}n"

    @property
    def netns(self) -> Path:
        return self.run / "netns"

    @property
    def full_name(self) -> str:
        """Name of the cgroup and of the CNI network, and the comment of iptables rules."""
        return f"clearml-k8s-{self.name}"

    @property
    def api_url(self) -> str:
        return f"https://{self.node_ip}:6443"

    @property
    def containerd_socket(self) -> Path:
        return self.run / "containerd.sock"

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        return self.state / "logs" / "audit.log"

    @property
    def registry_hosts(self) -> Path:
        """Folder of containerd's per-registry settings (hosts.toml)."""
        return self.state / "containerd" / "certs.d"

    def log(self, component: str) -> Path:
        return self.state / "logs" / f"{component}.log"
