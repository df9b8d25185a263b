"""The cluster's network namespace, the veth pair to the machine, routes and the machine's forwarding rules."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from .errors import ClusterError
from .layout import Layout
from .shell import run


def inside(layout: Layout, *command: str) -> list[str]:
    """The command as run in the cluster's network namespace; nsenter execs, so the process id stays."""
    return ["nsenter", f"--net={layout.netns}", *command]


def is_namespace(path: Path) -> bool:
    """True when a network namespace is mounted at `path`."""
    return any(
        line.split(" - ")[0].split()[4] == str(path) and line.split(" - ")[1].startswith("nsfs")
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
    )


def _rules(layout: Layout) -> list[list[str]]:
    """Table, chain and rule: pods reach this machine and what it reaches, whatever other rules it has."""
    comment = ["-m", "comment", "--comment", layout.full_name]
    masquerade = ["-s", layout.network, "!", "-d", layout.network, *comment, "-j", "MASQUERADE"]
    return [
        ["nat", "POSTROUTING", *masquerade],
        ["filter", "INPUT", "-i", layout.host_device, *comment, "-j", "ACCEPT"],
        ["filter", "FORWARD", "-i", layout.host_device, *comment, "-j", "ACCEPT"],
        ["filter", "FORWARD", "-o", layout.host_device, *comment, "-j", "ACCEPT"],
    ]


def _devices() -> set[str]:
    return {str(link["ifname"]) for link in json.loads(run(["ip", "-json", "link", "show"]))}


def ensure(layout: Layout) -> None:
    """Makes what is missing; leaves alone what is there."""
    layout.run.mkdir(parents=True, exist_ok=True)
    if not is_namespace(layout.netns):
        layout.netns.touch()
        run(["unshare", f"--net={layout.netns}", "true"])
        if layout.host_device in _devices():  # its other end went with the old namespace
            run(["ip", "link", "delete", layout.host_device], check=False)
    if layout.host_device not in _devices():
        run(["ip", "link", "add", layout.host_device, "type", "veth", "peer", "name", layout.node_device,
             "netns", str(layout.netns)])  # fmt: skip
    run(["ip", "address", "replace", f"{layout.host_ip}/30", "dev", layout.host_device])
    run(["ip", "link", "set", layout.host_device, "up"])
    script = "\n".join(
        [
            "set -e",
            "ip link set lo up",
            f"ip address replace {layout.node_ip}/30 dev {layout.node_device}",
            f"ip link set {layout.node_device} up",
            f"ip route replace default via {layout.host_ip}",
            "echo 1 > /proc/sys/net/ipv4/ip_forward",
        ]
    )
    run(inside(layout, "sh", "-c", script))
    for destination in (layout.pod_cidr, layout.service_cidr):
        run(["ip", "route", "replace", destination, "via", layout.node_ip, "dev", layout.host_device])
    for table, chain, *rule in _rules(layout):
        listed = run(["iptables", "-w", "10", "-t", table, "-S", chain])
        wanted = {layout.full_name} if table == "nat" else {layout.full_name, rule[0]}
        if not any(wanted <= set(shlex.split(line)) for line in listed.splitlines()):
            run(["iptables", "-w", "10", "-t", table, "-I", chain, *rule])
    forwarding = Path("/proc/sys/net/ipv4/ip_forward")
    if forwarding.read_text().strip() != "1":
        try:
            forwarding.write_text("1")
        except OSError as error:
            raise ClusterError(f"cannot switch IP forwarding on: {error.strerror}") from error


def remove_rules(full_name: str) -> None:
    """Deletes every rule of the machine that carries the cluster's comment."""
    for table, chain in (("nat", "POSTROUTING"), ("filter", "INPUT"), ("filter", "FORWARD")):
        for line in run(["iptables", "-w", "10", "-t", table, "-S", chain], check=False).splitlines():
            words = shlex.split(line)
            if full_name in words and words[0] == "-A":
                run(["iptables", "-w", "10", "-t", table, "-D", *words[1:]], check=False)


def remove(layout: Layout) -> None:
    """Takes down rules, device (routes go with it) and namespace; all processes in it must have ended."""
    remove_rules(layout.full_name)
    if layout.host_device in _devices():
        run(["ip", "link", "delete", layout.host_device], check=False)
    if is_namespace(layout.netns):
        run(["umount", str(layout.netns)])
