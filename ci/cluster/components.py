"""The programs of a cluster: how each is started, and how it shows that it is well."""

from __future__ import annotations

import socket
import ssl
import subprocess
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .layout import NODE_NAME, Layout

# The address is on this machine: never through a proxy from the environment.
_HTTP = urllib.request.ProxyHandler({})


@dataclass(frozen=True)
class Component:
    """`healthy` returns None, or what is wrong in a few words; it may take up to `HEALTH_SECONDS`."""

    name: str
    command: tuple[str, ...]
    healthy: Callable[[], str | None]
    after: tuple[str, ...] = ()


HEALTH_SECONDS = 5.0


def http_health(url: str) -> str | None:
    """None when the URL answers 200. Certificates are not checked: several components sign their own."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    opener = urllib.request.build_opener(_HTTP, urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(url, timeout=HEALTH_SECONDS) as answer:
            return None if answer.status == 200 else f"{url} answers {answer.status}"
    except OSError as error:
        return f"{url}: {getattr(error, 'reason', None) or error}"


def containerd_health(address: Path) -> str | None:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(HEALTH_SECONDS)
            connection.connect(str(address))
        command = ["ctr", "--address", str(address), "version"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=HEALTH_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{address}: {error}"
    return None if done.returncode == 0 else done.stderr.strip()


def all_components(layout: Layout, programs: dict[str, Path]) -> list[Component]:
    """In the order of starting; a component waits for those in `after` to be well."""
    state, node = layout.state, layout.node_ip
    pki, config = state / "pki", state / "config"

    def program(name: str) -> str:
        return str(programs[name])

    def http(port: int, path: str = "/healthz", scheme: str = "http") -> Callable[[], str | None]:
        return lambda: http_health(f"{scheme}://{node}:{port}{path}")

    etcd = Component(
        "etcd",
        (
            program("etcd"),
            f"--data-dir={state / 'etcd'}",
            f"--name={NODE_NAME}",
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--initial-advertise-peer-urls=http://127.0.0.1:2380",
            f"--initial-cluster={NODE_NAME}=http://127.0.0.1:2380",
            f"--listen-metrics-urls=http://{node}:2381",
            "--quota-backend-bytes=8589934592",
            "--unsafe-no-fsync",  # a killed process loses nothing, only a power cut may
            "--log-level=warn",
        ),
        http(2381, "/health"),
    )
    apiserver = Component(
        "kube-apiserver",
        (
            program("kube-apiserver"),
            f"--advertise-address={node}",
            "--bind-address=0.0.0.0",
            "--secure-port=6443",
            "--allow-privileged=true",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            f"--audit-policy-file={config / 'audit-policy.json'}",
            f"--audit-log-path={layout.audit_log}",
            "--audit-log-maxsize=4000",
            f"--client-ca-file={pki / 'ca.crt'}",
            "--etcd-servers=http://127.0.0.1:2379",
            f"--kubelet-client-certificate={pki / 'kubelet-client.crt'}",
            f"--kubelet-client-key={pki / 'kubelet-client.key'}",
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={pki / 'service-account.key'}",
            f"--service-account-signing-key-file={pki / 'service-account.key'}",
            f"--service-cluster-ip-range={layout.service_cidr}",
            f"--tls-cert-file={pki / 'apiserver.crt'}",
            f"--tls-private-key-file={pki / 'apiserver.key'}",
        ),
        http(6443, "/readyz", "https"),
        ("etcd",),
    )
    controllers = Component(
        "kube-controller-manager",
        (
            program("kube-controller-manager"),
            f"--kubeconfig={pki / 'kube-controller-manager.kubeconfig'}",
            f"--authentication-kubeconfig={pki / 'kube-controller-manager.kubeconfig'}",
            f"--authorization-kubeconfig={pki / 'kube-controller-manager.kubeconfig'}",
            f"--bind-address={node}",
            f"--root-ca-file={pki / 'ca.crt'}",
            f"--service-account-private-key-file={pki / 'service-account.key'}",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            # The default of 20 requests/s would hold a whole cluster at about 3 Jobs/s.
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            "--concurrent-job-syncs=20",
        ),
        http(10257, scheme="https"),
        ("kube-apiserver",),
    )
    scheduler = Component(
        "kube-scheduler",
        (
            program("kube-scheduler"),
            f"--kubeconfig={pki / 'kube-scheduler.kubeconfig'}",
            f"--authentication-kubeconfig={pki / 'kube-scheduler.kubeconfig'}",
            f"--authorization-kubeconfig={pki / 'kube-scheduler.kubeconfig'}",
            f"--bind-address={node}",
            "--leader-elect=false",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
        ),
        http(10259, scheme="https"),
        ("kube-apiserver",),
    )
    containerd = Component(
        "containerd",
        ("containerd", f"--config={config / 'containerd.toml'}"),
        lambda: containerd_health(layout.containerd_socket),
    )
    kubelet = Component(
        "kubelet",
        (
            program("kubelet"),
            f"--config={config / 'kubelet.json'}",
            f"--root-dir={state / 'kubelet'}",
            f"--cert-dir={state / 'kubelet/pki'}",
            f"--kubeconfig={pki / 'kubelet.kubeconfig'}",
            f"--hostname-override={NODE_NAME}",
            f"--node-ip={node}",
        ),
        http(10248),
        ("kube-apiserver", "containerd"),
    )
    proxy = Component(
        "kube-proxy",
        (program("kube-proxy"), f"--config={config / 'kube-proxy.json'}"),
        http(10256),
        ("kube-apiserver",),
    )
    coredns = Component(
        "coredns",
        (program("coredns"), f"-conf={config / 'Corefile'}"),
        http(8181, "/ready"),
        ("kube-apiserver",),
    )
    return [etcd, containerd, apiserver, controllers, scheduler, kubelet, proxy, coredns]
