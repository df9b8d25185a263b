"""`CLUSTER=current`: the cluster of the current kube context (kind, minikube, a real one) in place of a local one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ci.tools import build

from .errors import ClusterError
from .shell import run

REGISTRY_HINT = (
    "set IMAGE_REGISTRY=registry.example.com/path to a registry that this machine can push to and the cluster pulls "
    "from: the images are pushed there, and pods use them by that name. Log in by `skopeo login registry.example.com`; "
    "IMAGE_REGISTRY_TLS_VERIFY=false for plain HTTP"
)


def kubectl() -> str:
    """The user's own kubectl; the pinned one where there is none."""
    return shutil.which("kubectl") or str(build.ensure(["kubectl"])["kubectl"])


class CurrentCluster:
    """Does nothing to the machine; only loads images where the kind of cluster is known."""

    def __init__(self) -> None:
        self._kubectl = kubectl()

    def context(self) -> str:
        """The current context's name; ClusterError when there is none."""
        name = run([self._kubectl, "config", "current-context"], check=False).strip()
        if not name:
            raise ClusterError("CLUSTER=current, but there is no current kube context: set KUBECONFIG, or choose one "
                               "with `kubectl config use-context`")  # fmt: skip
        return name

    def check(self) -> str:
        """Words about the cluster; ClusterError when its API server does not answer."""
        context = self.context()
        run([self._kubectl, "--request-timeout=10s", "get", "--raw", "/readyz"])
        return f"current kube context {context}: the API server answers"

    def environment(self) -> dict[str, str]:
        """KUBECONFIG as it is; no audit log, and no address of this machine as seen from pods unless given."""
        return {
            "KUBECONFIG": os.environ.get("KUBECONFIG") or str(Path.home() / ".kube/config"),
            "CLUSTER_NAME": self.context(),
            "CLUSTER_HOST_IP": os.environ.get("CLUSTER_HOST_IP", ""),
            "CLUSTER_NODE_IP": "",
            "CLUSTER_AUDIT_LOG": "",
            "CLUSTER_REGISTRY_HOSTS": "",
            "CLUSTER_STATE": "",
        }

    def require_host_address(self) -> None:
        """ClusterError when it is not said where pods reach this machine."""
        if not os.environ.get("CLUSTER_HOST_IP"):
            raise ClusterError(
                "CLUSTER=current: set CLUSTER_HOST_IP to an address of this machine that pods of the context "
                f"{self.context()} can reach; the development ClearML server listens there"
            )

    def load_command(self, archive: Path) -> list[str]:
        """kind's or minikube's own command; ClusterError, which says what to set, for another cluster."""
        context = self.context()
        if context.startswith("kind-"):
            command = ["kind", "load", "image-archive", str(archive), "--name", context.removeprefix("kind-")]
        elif context.startswith("minikube"):
            command = ["minikube", "image", "load", str(archive), "--profile", context]
        else:
            raise ClusterError(
                f"images cannot be loaded into the cluster of the context {context}, which is not of kind or minikube: "
                + REGISTRY_HINT
            )
        if shutil.which(command[0]) is None:
            raise ClusterError(
                f"the context {context} needs the program {command[0]} to load images; or {REGISTRY_HINT}"
            )
        return command

    def load_image(self, archive: Path) -> None:
        """Loads an image archive."""
        run(self.load_command(archive), limit=600)
