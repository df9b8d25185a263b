"""How the SSH servers of sessions (clearml-session) are reached from outside of the cluster; key `sessions`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

ServiceType = Literal["NodePort", "ClusterIP", "LoadBalancer"]

NODE_PORTS: Final = range(30000, 32768)
"""What Kubernetes gives away unless its API server is told otherwise."""

NO_ADDRESS: Final = "0.0.0.0"  # noqa: S104 - the default of ClearML's chart, which nothing is bound to
"""Means that none is configured."""


@dataclass(frozen=True, kw_only=True)
class SessionsConfig:
    """Of a cluster whose sessions are to be reached."""

    service_type: ServiceType = "NodePort"
    annotations: Mapping[str, str] = field(default_factory=dict)
    external_address: str | None = None
    """What clients connect to; None: the node's, the Service's or the load balancer's own address."""
    starting_port: int = 30000
    max_services: int = 20
    """Services at one time."""
    agent_id: str = ""
    """A label of the Services; "": none."""

    @property
    def node_ports(self) -> range:
        """The ports of nodes that sessions may have."""
        return range(self.starting_port + 1, self.starting_port + self.max_services + 1)


def read(raw: Mapping[str, Any] | None) -> SessionsConfig | None:
    """Of a checked document; None where sessions are not to be reached."""
    given = {key: value for key, value in (raw or {}).items() if value is not None}
    if not given.get("portModeEnabled"):
        return None
    address = given.get("externalIP") or NO_ADDRESS
    defaults = SessionsConfig()
    return SessionsConfig(
        service_type=given.get("svcType", defaults.service_type),
        annotations=given.get("svcAnnotations") or {},
        external_address=None if address == NO_ADDRESS else address,
        starting_port=given.get("startingPort", defaults.starting_port),
        max_services=given.get("maxServices", defaults.max_services),
        agent_id=given.get("agentID", ""),
    )


def problems(raw: Mapping[str, Any] | None) -> Iterator[str]:
    """What the schema cannot say of it, with paths."""
    found = read(raw)
    if found is None or found.service_type != "NodePort":
        return
    ports = found.node_ports
    if ports[0] not in NODE_PORTS or ports[-1] not in NODE_PORTS:
        yield (
            f"sessions.startingPort: found {found.starting_port}, which with {found.max_services} Services gives the "
            f"ports {ports[0]} to {ports[-1]}; expected ports of nodes, {NODE_PORTS[0]} to {NODE_PORTS[-1]}"
        )
