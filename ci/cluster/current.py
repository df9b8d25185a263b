"""`CLUSTER=current`: the cluster of the current kube context (kind, minikube, a real one) in place of a local one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .errors import ClusterError
from .shell import run


class CurrentCluster:
    """Does nothing to the machine; only loads images where the kind of cluster is known."""

    def __init__(self, kubectl: str) -> None:
        self._kubectl = kubectl

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

    def load_image(self, archive: Path) -> None:
        """Loads an image archive by kind's or minikube's own command."""
        context = self.context()
        for prefix, command in (
            ("kind-", ["kind", "load", "image-archive", str(archive), "--name", context.removeprefix("kind-")]),
            ("minikube", ["minikube", "image", "load", str(archive), "--profile", context]),
        ):
            if context.startswith(prefix):
                if shutil.which(command[0]) is None:
                    raise ClusterError(f"the context {context} needs the program {command[0]} to load images")
                run(command, limit=600)
                return
        raise ClusterError(
            f"cannot load images into the cluster of the context {context}: push {archive} to a registry that it "
            "reads, for example with `skopeo copy oci-archive:ARCHIVE docker://REGISTRY/NAME`"
        )
