"""Both servers, as the config and the environment say."""

from __future__ import annotations

from clearml_k8s import names
from clearml_k8s.clearml.conf import Credentials
from clearml_k8s.clearml.session import Session
from clearml_k8s.clock import Clock
from clearml_k8s.config import Config
from clearml_k8s.errors import MAX_REQUEST_SECONDS, ConfigError, KubeForbidden, KubeNotFound
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.resources import NAMESPACES
from clearml_k8s.metrics import Metrics


def clearml_session(
    config: Config,
    *,
    credentials: Credentials,
    clock: Clock,
    metrics: Metrics | None = None,
    max_request_seconds: float = MAX_REQUEST_SECONDS,
) -> Session:
    """A session with the configured server; a CA bundle of the environment counts as verification."""
    verify: bool | str = config.clearml.verify_certificate
    if verify and isinstance(credentials.verify_certificate, str):
        verify = credentials.verify_certificate
    return Session(
        api_server=config.clearml.api_server,
        credentials=credentials,
        clock=clock,
        verify_certificate=verify,
        metrics=metrics,
        max_request_seconds=max_request_seconds,
    )


async def worker_id_of(config: Config, *, client: KubeClient) -> str:
    """The configured worker id, or the one made of the release and the namespace's uid.

    ConfigError when the namespace does not exist or may not be read; else errors as `KubeClient.request`.
    """
    if config.worker_id:
        return config.worker_id
    try:
        namespace = await client.get(NAMESPACES, config.namespace)
    except KubeNotFound:
        raise ConfigError(f"namespace {config.namespace!r} does not exist: create it, or correct the name") from None
    except KubeForbidden as error:
        raise ConfigError(
            f"namespace {config.namespace!r} may not be read, so there is no uid for the worker id: allow get on it, "
            f"or set agentk8sglue.workerIdOverride ({error.message})"
        ) from None
    return names.default_worker_id(release=config.release_name, namespace_uid=namespace["metadata"]["uid"])
