"""Certificates and kubeconfigs, by openssl; made once per cluster."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path

from .layout import NODE_NAME, Layout
from .shell import run

DAYS = "3650"


@dataclass(frozen=True)
class Client:
    """A kubeconfig to make: its file name, and the user and group of its certificate."""

    name: str
    user: str
    group: str = ""


CLIENTS = (
    Client("admin", "clearml-k8s:admin", "system:masters"),
    Client("kube-controller-manager", "system:kube-controller-manager"),
    Client("kube-scheduler", "system:kube-scheduler"),
    Client("kubelet", f"system:node:{NODE_NAME}", "system:nodes"),
    Client("kube-proxy", "system:kube-proxy"),
    Client("coredns", "system:coredns"),
    Client("kwok", "clearml-k8s:kwok", "system:masters"),
)


def _key(path: Path) -> None:
    path.touch(mode=0o600)
    run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path])


def _signed(folder: Path, name: str, subject: str, extensions: list[str]) -> None:
    """A key and a certificate `name` in `folder`, signed by the CA that is there."""
    _key(folder / f"{name}.key")
    request = run(["openssl", "req", "-new", "-key", folder / f"{name}.key", "-subj", subject])
    settings = folder / f"{name}.ext"
    settings.write_text("\n".join(["basicConstraints=CA:FALSE", "keyUsage=digitalSignature", *extensions]) + "\n")
    run(
        ["openssl", "x509", "-req", "-CA", folder / "ca.crt", "-CAkey", folder / "ca.key", "-CAcreateserial",
         "-days", DAYS, "-extfile", settings, "-out", folder / f"{name}.crt"],
        given=request,
    )  # fmt: skip


def kubeconfig_text(layout: Layout, folder: Path, client: str) -> str:
    """A kubeconfig with everything inside; JSON, which is YAML too."""

    def data(file: str) -> str:
        return base64.b64encode((folder / file).read_bytes()).decode()

    name = layout.full_name
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": name,
                    "cluster": {"server": layout.api_url, "certificate-authority-data": data("ca.crt")},
                }
            ],
            "users": [
                {
                    "name": client,
                    "user": {
                        "client-certificate-data": data(f"{client}.crt"),
                        "client-key-data": data(f"{client}.key"),
                    },
                }
            ],
            "contexts": [{"name": name, "context": {"cluster": name, "user": client}}],
            "current-context": name,
        },
        indent=1,
    )


def ensure(layout: Layout) -> None:
    """Makes all keys, certificates and kubeconfigs below `state/pki`, unless they are there for these addresses."""
    folder = layout.state / "pki"
    stamp = folder / "complete"
    if stamp.exists() and stamp.read_text() == layout.node_ip:
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _key(folder / "ca.key")
    run(["openssl", "req", "-x509", "-new", "-key", folder / "ca.key", "-days", DAYS, "-subj",
         f"/CN={layout.full_name}", "-out", folder / "ca.crt"])  # fmt: skip
    names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
             "kubernetes.default.svc.cluster.local"]  # fmt: skip
    addresses = ["127.0.0.1", layout.node_ip, layout.api_service_ip]
    alternatives = ",".join([f"DNS:{n}" for n in names] + [f"IP:{a}" for a in addresses])
    server = ["extendedKeyUsage=serverAuth", f"subjectAltName={alternatives}"]
    _signed(folder, "apiserver", "/CN=kube-apiserver", server)
    _signed(folder, "kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client",
            ["extendedKeyUsage=clientAuth"])  # fmt: skip
    _key(folder / "service-account.key")
    for client in CLIENTS:
        group = f"/O={client.group}" if client.group else ""
        _signed(folder, client.name, f"{group}/CN={client.user}", ["extendedKeyUsage=clientAuth"])
        file = layout.kubeconfig if client.name == "admin" else folder / f"{client.name}.kubeconfig"
        file.touch(mode=0o600)
        file.write_text(kubeconfig_text(layout, folder, client.name))
    stamp.write_text(layout.node_ip)
