"""`clearml-k8s check`: everything that `run` needs, one line each, with what to change."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

from clearml_k8s.app.connect import Identity, clearml_session, identity_of
from clearml_k8s.app.parts import edits_of
from clearml_k8s.clearml import owners, queues
from clearml_k8s.clearml.keys import Credentials
from clearml_k8s.clearml.session import Session
from clearml_k8s.clock import SystemClock
from clearml_k8s.config import Config, ResolvedQueue
from clearml_k8s.errors import (
    AuthRefused,
    ClearMLK8sError,
    ConfigError,
    Forbidden,
    HookUnavailable,
    KubeNotFound,
    KubeRefused,
    SpecError,
    Unreachable,
)
from clearml_k8s.flow import clash
from clearml_k8s.flow.edits import Edits
from clearml_k8s.flow.task_conf import TaskConf
from clearml_k8s.kube import access, workload
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.node import NodeSlimmer
from clearml_k8s.kube.permissions import Feature, Permission, wanted
from clearml_k8s.kube.resources import JOBS, NODES, PODS
from clearml_k8s.kube.watch import Listed
from clearml_k8s.report.discovery import Discovery
from clearml_k8s.report.lacking import by_queue
from clearml_k8s.report.nodes import Nodes
from clearml_k8s.spec.container_rules import NO_RULES, SECTION
from clearml_k8s.spec.job import pod_of, template_probe_job
from clearml_k8s.spec.variants import Variant, variants

SECONDS = 15.0


@dataclass(kw_only=True)
class Lines:
    """The printed answer."""

    out: TextIO
    problems: int = field(default=0)

    def good(self, what: str) -> None:
        print(f"ok    {what}", file=self.out)

    def note(self, what: str) -> None:
        print(f"note  {what}", file=self.out)

    def bad(self, what: str) -> None:
        self.problems += 1
        print(f"FAIL  {what}", file=self.out)


async def check(
    config: Config,
    *,
    credentials: Credentials | None,
    kubeconfig: str | None,
    context: str | None,
    out: TextIO | None = None,
    conf_file: Path | None = None,
) -> int:
    """Print one line for each thing checked; 1 when something is wrong. ``credentials`` None: leave the server out;
    ``conf_file``: the clearml.conf of task pods."""
    lines, clock = Lines(out=out or sys.stdout), SystemClock()
    lines.good(f"configuration: {len(config.queues)} queue(s): {', '.join(config.queues)}")
    await _conf(config, TaskConf(conf_file, clock=clock), lines)
    async with AsyncExitStack() as stack:
        session = None
        if credentials is None:
            lines.note("ClearML server: not asked (--skip-server)")
        else:
            asked = await stack.enter_async_context(clearml_session(config, credentials=credentials, clock=clock))
            if await _server(asked, credentials, lines):
                session = asked
                _owner_tokens(config, session, lines)
                await _queues(config, session, lines)
        client = await stack.enter_async_context(
            await KubeClient.connect(clock=clock, kubeconfig=kubeconfig, context=context)
        )
        identity = await _cluster(config, client, lines)
        if identity is not None:
            if session is not None and config.worker_id:
                await _worker_id(session, identity, lines)
            await _permissions(config, client, lines)
            if config.uses_kueue:
                await _kueue(config, client, lines)
            if config.cluster_access:
                await _nodes(config, client, lines)
            edits = edits_of(config, worker_id=identity.worker_id, clock=client.clock)
            for queue in config.queues.values():
                resolved = ResolvedQueue(config=queue, id=queue.name, name=queue.name)
                await _template(config, client, resolved, identity, edits, lines)
    print(f"{lines.problems} problem(s) found" if lines.problems else "all well", file=lines.out)
    return 1 if lines.problems else 0


async def _conf(config: Config, conf: TaskConf, lines: Lines) -> None:
    await conf.look()
    if config.clearml.owner_tokens and config.clearml.config_secret is not None and conf.credentials:
        lines.bad(f"clearml.conf: {conf.credentials}")
    if conf.problem:
        for problem in conf.problem.splitlines():
            lines.bad(f"clearml.conf: {problem}")
    elif conf.rules != NO_RULES:
        image = conf.rules.image or "none of its own"
        lines.good(f"clearml.conf: {SECTION}: {len(conf.rules.rules)} rule(s), image {image}")


async def _server(session: Session, credentials: Credentials, lines: Lines) -> bool:
    until = session.clock.monotonic() + SECONDS
    try:
        info = await session.login(deadline=until)
        await session.call("queues.get_all", {"page": 0, "page_size": 1, "only_fields": ["id"]}, deadline=until)
    except AuthRefused as error:
        lines.bad(
            f"ClearML server {session.address} refuses the credentials ({error.message}), from {credentials.source}: "
            "correct clearml.agentk8sglueKey and clearml.agentk8sglueSecret, or the Secret named by "
            "clearml.existingAgentk8sglueSecret"
        )
    except Forbidden as error:
        lines.bad(f"ClearML server {session.address}: these credentials' role may not list queues: {error.message}")
    except Unreachable as error:
        lines.bad(f"{error}: correct agentk8sglue.apiServerUrlReference, or open the way to it")
    except ClearMLK8sError as error:
        lines.bad(f"ClearML server {session.address}: {error}; check agentk8sglue.apiServerUrlReference")
    else:
        lines.good(
            f"ClearML server {session.address}: version {info.server_version or 'unknown'}, API {info.api_version}, "
            f"feature set {info.feature_set}, role {info.role or 'unknown'}"
        )
        return True
    return False


def _owner_tokens(config: Config, session: Session, lines: Lines) -> None:
    if not config.clearml.owner_tokens or session.info is None:
        return
    if why := owners.unsuitable(session.info):
        lines.bad(f"owner tokens: {why}")
    else:
        lines.good("owner tokens: the server gives them to these credentials")


async def _queues(config: Config, session: Session, lines: Lines) -> None:
    try:
        resolution = await queues.resolve(session, config.queues, deadline=session.clock.monotonic() + SECONDS)
    except ClearMLK8sError as error:
        lines.bad(f"queues cannot be looked up: {error}")
        return
    for key in config.queues:
        if key in resolution.found:
            lines.good(f"queue {key}: found ({resolution.found[key].id})")
        elif key in resolution.ambiguous:
            ids = ", ".join(queue.id for queue in resolution.ambiguous[key])
            lines.bad(f"queue {key}: the server has several of that name: name one by its id ({ids})")
        elif config.create_queues:
            lines.note(f"queue {key}: does not exist yet, will be created")
        else:
            lines.bad(
                f"queue {key}: the server has none of that name or id: create it, correct agentk8sglue.queues, "
                "or set agentk8sglue.createQueues: true"
            )


async def _cluster(config: Config, client: KubeClient, lines: Lines) -> Identity | None:
    try:
        identity = await identity_of(config, client=client)
    except (ConfigError, ClearMLK8sError) as error:
        lines.bad(f"Kubernetes API {client.address}: {error}")
        return None
    lines.good(f"Kubernetes API {client.address}: namespace {config.namespace}, worker id {identity.worker_id}")
    return identity


async def _worker_id(session: Session, identity: Identity, lines: Lines) -> None:
    """Whether another one works under a worker id that was chosen; who has no running pod is not seen."""
    try:
        others = await clash.found(
            session,
            worker_id=identity.worker_id,
            controller=identity.controller,
            deadline=session.clock.monotonic() + SECONDS,
        )
    except ClearMLK8sError as error:
        lines.bad(f"others of worker id {identity.worker_id} cannot be looked for: {error}")
        return
    if others:
        lines.bad(clash.told(identity.worker_id, others))
    else:
        lines.good(f"worker id {identity.worker_id}: no task of another one runs under it")


async def _permissions(config: Config, client: KubeClient, lines: Lines) -> None:
    asked = [(row, verb) for row in wanted(features(config)) for verb in row.verbs]
    denied = []
    try:
        for row, verb in asked:
            answer = await access.review(
                client,
                verb=verb,
                resource=row.resource,
                namespace=_asked_namespace(row, config),
                name=row.name(fullname=config.fullname, namespace=config.namespace),
                subresource=row.subresource,
            )
            if not answer.allowed:
                denied.append(str(answer))
    except ClearMLK8sError as error:
        lines.bad(f"permissions cannot be asked for: {error}")
        return
    for text in denied:
        lines.bad(f"permission missing: this account {text}")
    if not denied:
        lines.good(f"permissions: {len(asked)} of {len(asked)}")


def features(config: Config) -> frozenset[Feature]:
    """What is on, of that which needs more rights."""
    found = {
        Feature.CLUSTER_ACCESS: config.cluster_access,
        Feature.CPU_QUOTA: config.dashboard.reads_quota,
        Feature.RESOURCE_QUOTAS: config.respect_resource_quotas,
        Feature.SESSIONS: config.sessions is not None,
        Feature.OWNER_TOKENS: config.clearml.owner_tokens,
        Feature.KUEUE: config.uses_kueue,
        Feature.MULTI_NODE: config.multi_node is not None,
    }
    return frozenset(feature for feature, on in found.items() if on)


def _asked_namespace(row: Permission, config: Config) -> str | None:
    if row.resource == NODES:
        return None
    return config.dashboard.cpu_namespace if row.when is Feature.CPU_QUOTA else config.namespace


async def _kueue(config: Config, client: KubeClient, lines: Lines) -> None:
    """Whether Kueue is there; whether it has the LocalQueues, it says on each Workload."""
    try:
        found = await workload.served(client)
    except KubeNotFound as error:
        lines.bad(error.message)
    except ClearMLK8sError as error:
        lines.bad(f"Kueue cannot be looked for: {error}")
    else:
        queues_of = {queue.name: queue.settings.kueue for queue in config.queues.values()}
        told = ", ".join(f"{name} -> {one.queue_name}" for name, one in queues_of.items() if one is not None)
        lines.good(f"Kueue: {found.api_version}; LocalQueues by queue: {told}")


async def _nodes(config: Config, client: KubeClient, lines: Lines) -> None:
    """What the nodes have, as it would be reported, and what queues ask for and no node has."""
    slim, nodes, records = NodeSlimmer(config.dashboard.label_keys), Nodes(), []
    try:
        async for page in client.list_pages(NODES, limit=100):
            records += [slim(item) for item in page["items"]]
    except ClearMLK8sError as error:
        lines.bad(f"nodes cannot be listed: {error}")
        return
    nodes.apply(Listed(items=tuple(records)))
    summary = Discovery(config=config.dashboard, nodes=nodes).summary
    lines.good(f"nodes: {summary.text}")
    if config.dashboard.discovers_gpus and not summary.gpus:
        lines.note(
            "nodes: discovery finds no GPUs: compare agentk8sglue.orchestrationDashboard.gpu.discovery with "
            "kubectl get nodes --show-labels (the GPU operator sets nvidia.com/gpu.present and nvidia.com/gpu.count)"
        )
    for key, texts in by_queue(config, largest=summary.largest).items():
        for text in texts:
            # No failure: an autoscaler may add such a node when a pod waits for it.
            lines.note(f"queue {key}: {text}; its tasks wait until one has")


async def _template(
    config: Config, client: KubeClient, queue: ResolvedQueue, identity: Identity, edits: Edits, lines: Lines
) -> None:
    for variant in variants(config=config, queue=queue.config):
        await _variant(variant, client, replace(queue, config=variant.queue), identity, edits, lines)


async def _variant(
    variant: Variant, client: KubeClient, queue: ResolvedQueue, identity: Identity, edits: Edits, lines: Lines
) -> None:
    config = variant.config
    what = f"queue {queue.name}" + (f" with {variant.condition}" if variant.condition else "")
    try:
        edited = await edits.of_sample(queue, config=config)
    except HookUnavailable as error:
        lines.bad(f"template of {what}: {error}")
        return
    except SpecError as error:
        # The module may want what only a real task has.
        lines.note(f"template of {what}: not tried: {error}")
        return
    try:
        probe = template_probe_job(
            config, queue, worker_id=identity.worker_id, controller_id=identity.controller, edited=edited
        )
        await client.create(JOBS, probe.manifest, namespace=config.namespace, dry_run=True, strict=True)
    except SpecError as error:
        lines.bad(f"template of {what}: {error}")
        return
    except KubeNotFound:
        lines.bad(f"template of {what}: namespace {config.namespace} does not exist")
        return
    except KubeRefused as error:
        lines.bad(f"template of {what}: Kubernetes refuses it ({variant.where}): {error.message}")
        return
    except ClearMLK8sError as error:
        lines.bad(f"template of {what}: not checked: {error}")
        return
    for ignored in probe.ignored:
        lines.note(f"template of {what}: {ignored}")
    lines.good(f"template of {what}: Kubernetes takes the Job")
    await _pod(config, client, what, probe.manifest, lines)


async def _pod(config: Config, client: KubeClient, what: str, job: dict[str, object], lines: Lines) -> None:
    """What only shows on the pod itself: admission, quota, Pod Security; where this account may ask."""
    try:
        may = await access.review(client, verb="create", resource=PODS, namespace=config.namespace)
        if not may.allowed:
            return
        await client.create(PODS, pod_of(job), namespace=config.namespace, dry_run=True, strict=True)
    except KubeRefused as error:
        lines.bad(f"pod of {what}: Kubernetes refuses it: {error.message}")
    except ClearMLK8sError as error:
        lines.bad(f"pod of {what}: not checked: {error}")
    else:
        lines.good(f"pod of {what}: Kubernetes takes it")
