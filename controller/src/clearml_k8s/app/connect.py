"""Both servers, as the config and the environment say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from clearml_k8s import names
from clearml_k8s.clearml.keys import Credentials
from clearml_k8s.clearml.session import Session
from clearml_k8s.clock import Clock
from clearml_k8s.config import Config, worker_ids
from clearml_k8s.errors import MAX_REQUEST_SECONDS, ConfigError, KubeForbidden, KubeNotFound
from clearml_k8s.guarded import Guard, unguarded
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.resources import JOBS, NAMESPACES, PODS
from clearml_k8s.metrics import Metrics


def clearml_session(
    config: Config,
    *,
    credentials: Credentials,
    clock: Clock,
    metrics: Metrics | None = None,
    max_request_seconds: float = MAX_REQUEST_SECONDS,
    learn: Callable[[str], None] = lambda secret: None,
    guard: Guard = unguarded,
) -> Session:
    """A session with the configured server; a CA bundle of the environment counts as verification.

    ``learn`` is told every key that is used, also those that come later; ``guard``: see `Session`.
    """
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
        learn=learn,
        guard=guard,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """Who this controller is: ``worker_id`` on the server, for people; ``controller`` in marks and on Jobs."""

    worker_id: str
    controller: str


async def looked(config: Config, *, client: KubeClient) -> bool:
    """True once it could list Jobs and pods: so a process that may not is not Ready, and never leads. Errors as
    `KubeClient.request`."""
    for resource in (JOBS, PODS):
        async for _ in client.list_pages(resource, namespace=config.namespace, limit=1):
            break
    return True


async def identity_of(config: Config, *, client: KubeClient) -> Identity:
    """The identity of the release in its namespace, whatever the configured worker id.

    ConfigError when the namespace does not exist or may not be read; else errors as `KubeClient.request`.
    """
    try:
        namespace = await client.get(NAMESPACES, config.namespace)
    except KubeNotFound:
        raise ConfigError(f"namespace {config.namespace!r} does not exist: create it, or correct the name") from None
    except KubeForbidden as error:
        raise ConfigError(
            f"namespace {config.namespace!r} may not be read, so its uid, which tells whose Jobs are whose, is not "
            f"known: allow this account to get namespaces {config.namespace!r} ({error.message})"
        ) from None
    uid = str(namespace["metadata"]["uid"])
    return Identity(
        worker_id=worker_ids.controller_worker_id(
            chosen=config.worker_id,
            release=config.release_name,
            namespace_uid=uid,
            reports=config.dashboard.reports,
        ),
        controller=names.controller_id(namespace_uid=uid, release=config.release_name),
    )
