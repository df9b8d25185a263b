"""Where the Kubernetes API is, and who we are there: the pod's service account, or a kubeconfig."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kubernetes.aio import config as kube_config
from kubernetes.aio.client.configuration import Configuration

from clearml_k8s.errors import ConfigError, trimmed

Reload = Callable[[Configuration], Awaitable[None]]

_NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """The official client's ``configuration``; ``namespace`` is the service account's or the context's; ``reload``
    reads the credentials into it again."""

    configuration: Configuration
    namespace: str
    reload: Reload


async def load(*, kubeconfig: str | None = None, context: str | None = None) -> Loaded:
    """For the pod's service account, or for a kubeconfig when one is named or no service account is.

    ConfigError says what cannot be read.
    """
    configuration = Configuration()
    if kubeconfig is None and context is None and _NAMESPACE_FILE.is_file():
        await _load_in_cluster(configuration)
        namespace = _NAMESPACE_FILE.read_text(encoding="utf-8").strip()
        reload: Reload = _load_in_cluster
    else:
        namespace = await _load_kubeconfig(configuration, kubeconfig, context)

        async def reload(configuration: Configuration) -> None:
            await _load_kubeconfig(configuration, kubeconfig, context)

    return Loaded(configuration=configuration, namespace=namespace or "default", reload=reload)


async def _load_in_cluster(configuration: Configuration) -> None:
    try:
        kube_config.load_incluster_config(client_configuration=configuration)
    except (kube_config.ConfigException, OSError) as error:
        raise ConfigError(f"the pod's service account cannot be used: {trimmed(str(error))}") from error


async def _load_kubeconfig(configuration: Configuration, kubeconfig: str | None, context: str | None) -> str:
    """Load the kubeconfig into ``configuration`` and return the context's namespace."""
    try:
        loader = await kube_config.load_kube_config(
            config_file=kubeconfig, context=context, client_configuration=configuration, persist_config=False
        )
        namespace = loader.current_context["context"].get("namespace")
    except Exception as error:  # the loader raises its own, YAML's and built-in errors
        where = kubeconfig or "the kubeconfig (KUBECONFIG or ~/.kube/config)"
        raise ConfigError(f"{where} cannot be used: {trimmed(str(error))}") from error
    return str(namespace or "default")
