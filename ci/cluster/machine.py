"""What a cluster leaves on the machine outside its own folders: mounts, kernel settings, links, CNI results."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

from ci.locks import locked

from . import cgroups, files, slots
from .errors import ClusterError
from .layout import RUN, Layout
from .processes import boot_id
from .shell import run

PROGRAMS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "mount": "mount",
    "conntrack": "conntrack",
    "openssl": "openssl",
}
# The kubelet sets these as it likes (protectKernelDefaults: false); we switch forwarding on.
SETTINGS = (
    "net/ipv4/ip_forward",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
KUBELET_FOLDER = Path("/var/lib/kubelet")  # its device plugin sockets are there, whatever its root folder
MEMORY = RUN / "machine.json"


def preflight() -> None:
    """Raises ClusterError that names everything which this machine lacks."""
    wrong: list[str] = []
    if os.geteuid() != 0:
        wrong.append("not root: the cluster makes network devices, mounts and cgroups; run as root (sudo)")
    missing = {package: program for program, package in PROGRAMS.items() if shutil.which(program) is None}
    if missing:
        wrong.append(f"not installed: {', '.join(sorted(missing))}; run ci/tools/apt.sh (Debian)")
    if not any(Path(folder, "ptp").exists() for folder in files.CNI_FOLDERS):
        wrong.append("no CNI plugins: install containernetworking-plugins; run ci/tools/apt.sh (Debian)")
    if not cgroups.is_v2() and not (cgroups.MOUNT / "memory").is_dir():
        wrong.append(f"no cgroups with a memory controller below {cgroups.MOUNT}")
    if "overlay" not in Path("/proc/filesystems").read_text():
        run(["modprobe", "overlay"], check=False)
        if "overlay" not in Path("/proc/filesystems").read_text():
            wrong.append("the kernel has no overlay file system")
    if not wrong and "Bad" in run(["iptables", "-w", "10", "-t", "nat", "-S", "POSTROUTING"], check=False):
        wrong.append("iptables does not work")
    if wrong:
        raise ClusterError(
            "this machine cannot run the local cluster:\n  - "
            + "\n  - ".join(wrong)
            + "\nor use another cluster: CLUSTER=current takes the current kube context"
        )


def remember() -> None:
    """Notes the kernel settings and folders as they are before the first cluster of this boot."""
    with locked(RUN / "machine.lock", "the machine's settings"):
        if MEMORY.exists() and json.loads(MEMORY.read_text())["boot"] == boot_id():
            return
        values = {}
        for name in SETTINGS:
            file = Path("/proc/sys") / name
            if file.exists():
                values[name] = file.read_text().strip()
        MEMORY.write_text(
            json.dumps({"boot": boot_id(), "settings": values, "kubelet_folder": KUBELET_FOLDER.exists()})
        )


def restore() -> None:
    """Puts the settings back when no cluster is left."""
    with locked(RUN / "machine.lock", "the machine's settings"):
        if slots.holders() or not MEMORY.exists():
            return
        memory = json.loads(MEMORY.read_text())
        if memory["boot"] == boot_id():
            for name, value in memory["settings"].items():
                file = Path("/proc/sys") / name
                if file.read_text().strip() != value:
                    file.write_text(value)
        if not memory["kubelet_folder"]:
            shutil.rmtree(KUBELET_FOLDER, ignore_errors=True)
        MEMORY.unlink()


def mounts_below(*folders: Path) -> list[Path]:
    """Mount points at or below the folders, the last mounted first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = Path(line.split()[4].encode().decode("unicode_escape"))
        if any(point.is_relative_to(folder) for folder in folders):
            found.append(point)
    return found[::-1]


def unmount_below(*folders: Path) -> None:
    """Unmounts all below the folders; raises ClusterError when something stays."""
    for _ in range(3):
        for point in mounts_below(*folders):
            run(["umount", str(point)], check=False)
        for point in mounts_below(*folders):
            run(["umount", "--lazy", str(point)], check=False)
        if not mounts_below(*folders):
            return
    left = mounts_below(*folders)
    if left:
        raise ClusterError("these mounts could not be taken down:\n  " + "\n  ".join(map(str, left)))


def remove_traces(layout: Layout) -> None:
    """Removes what the kubelet, containerd and the CNI library keep outside the folders we gave them."""
    links = Path("/var/log/containers")
    for link in links.glob("*.log") if links.is_dir() else []:
        if link.is_symlink() and link.readlink().is_relative_to(layout.state):
            link.unlink()
    results = Path("/var/lib/cni/results")
    for result in list(results.glob(f"{layout.full_name}-*")):
        # NETWORK-CONTAINER-INTERFACE; another cluster's name may begin with this one's.
        found = re.fullmatch(rf"{re.escape(layout.full_name)}-([0-9a-f]{{64}})-\w+", result.name)
        if found:
            result.unlink(missing_ok=True)
            (results / f"cni-loopback-{found.group(1)}-lo").unlink(missing_ok=True)
    tasks = layout.run / "containerd/io.containerd.runtime.v2.task"
    for address in tasks.glob("*/*/address") if tasks.is_dir() else []:
        socket = Path(address.read_text().removeprefix("unix://"))
        if socket.is_relative_to("/run/containerd/s"):
            socket.unlink(missing_ok=True)
