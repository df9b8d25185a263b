"""The controller process: makes the parts, runs their loops, ends them in order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import uuid
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any, Never

from clearml_k8s import health, logs, metrics, names
from clearml_k8s.app import status
from clearml_k8s.app.connect import clearml_session, identity_of, looked
from clearml_k8s.app.gauges import StateGauges
from clearml_k8s.app.heartbeat import Heartbeats
from clearml_k8s.app.loops import Loops
from clearml_k8s.app.parts import Parts, make
from clearml_k8s.app.waiting import patiently, until
from clearml_k8s.clearml.keys import Credentials
from clearml_k8s.clearml.session import Session
from clearml_k8s.clock import Clock, SystemClock
from clearml_k8s.config import Config
from clearml_k8s.errors import ClearMLK8sError, Refused, Unanswered
from clearml_k8s.flow.task_conf import TaskConf
from clearml_k8s.hidden import without_secrets
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.lease import Lease
from clearml_k8s.logs import kv
from clearml_k8s.settings import Settings

log = logging.getLogger(__name__)

WITHDRAW_SECONDS = 5.0
FINISH_SECONDS, STOP_SECONDS = 35.0, 45.0
"""For claims under way when the process is told to stop; what is not done by then is found in the record."""


async def run(
    config: Config, *, settings: Settings, credentials: Credentials, kubeconfig: str | None, context: str | None
) -> int:
    """Serve until a signal; 0 after an orderly stop, 1 when another process leads the release."""
    redact = logs.setup(level=settings.log_level, form=settings.log_format)
    heartbeats, instruments = Heartbeats(clock=SystemClock()), metrics.create()
    clock = heartbeats.clock
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        # A client of its own: the Lease is not behind its own guard, nor in a queue with others' requests.
        keeper = await stack.enter_async_context(
            await KubeClient.connect(clock=clock, kubeconfig=kubeconfig, context=context, metrics=instruments)
        )
        lease = lease_of(config, client=keeper, pod=settings.pod)
        client = await stack.enter_async_context(
            await KubeClient.connect(
                clock=clock,
                kubeconfig=kubeconfig,
                context=context,
                metrics=instruments,
                max_request_seconds=settings.request_seconds,
                guard=lease.guard,
            )
        )
        session = await stack.enter_async_context(
            clearml_session(
                config,
                credentials=credentials,
                clock=clock,
                metrics=instruments,
                max_request_seconds=settings.request_seconds,
                learn=redact.add,
                guard=lease.guard,
            )
        )
        controller = Controller(
            config=config,
            settings=settings,
            lease=lease,
            session=session,
            client=client,
            instruments=instruments,
            redact=redact,
            heartbeats=heartbeats,
        )
        return await controller.run(stop)


def lease_of(config: Config, *, client: KubeClient, pod: str | None) -> Lease:
    """The release's Lease, wanted by this process. ``client`` without a guard; ``pod``: see `Settings`."""
    return Lease(
        client=client,
        namespace=config.namespace,
        name=names.lease_name(config.fullname),
        place=pod or f"{socket.gethostname()}-{os.getpid()}",
        alone=pod is not None,
        instance=uuid.uuid4().hex[:8],
        labels=names.own_labels(release=config.release_name),
    )


class Controller:
    """One running controller, from the first question to the last word."""

    def __init__(
        self,
        *,
        config: Config,
        settings: Settings,
        lease: Lease,
        session: Session,
        client: KubeClient,
        instruments: metrics.Metrics,
        redact: logs.Redactor,
        heartbeats: Heartbeats,
    ) -> None:
        """All take their time from ``heartbeats.clock``; ``session`` and ``client`` have the lease's guard."""
        self._lease = lease
        instruments.leader.set_function(lambda: float(lease.certain))
        self._heartbeats = heartbeats
        self._config = config
        self._settings = settings
        self._session = session
        self._client = client
        self._instruments = instruments
        self._redact = redact
        self._clock: Clock = session.clock
        self._parts: Parts | None = None
        self._loops: Loops | None = None
        self._ending = False
        self._blind = "Jobs and pods were not listed yet"
        instruments.registry.register(StateGauges(parts=lambda: self._parts, leads=lambda: lease.certain))

    async def run(self, stop: asyncio.Event) -> int:
        """Serve until ``stop``."""
        runner = await health.serve(
            health=health.Health(
                late=self._heartbeats.late, not_ready=self._not_ready, report=self._report, status=self._status
            ),
            registry=self._instruments.registry,
            port=self._settings.port,
        )
        stopping = asyncio.create_task(stop.wait())
        serving = asyncio.create_task(self._serve(stop))
        try:
            await asyncio.wait({stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
            if not serving.done():
                # The flow sees the stop itself; this bounds it.
                await asyncio.wait({serving}, timeout=STOP_SECONDS + 10)
            return serving.result() if serving.done() else 0
        finally:
            for task in (stopping, serving):
                task.cancel()
            # Nothing goes on after this, when the connections are closed.
            await asyncio.wait({stopping, serving})
            await runner.cleanup()

    async def _serve(self, stop: asyncio.Event) -> int:
        lease = self._lease
        looking = patiently("listing Jobs and pods", self._look, clock=self._clock, stop=stop)
        if not await self._heartbeats.run("start", looking):
            return 0
        if not await self._heartbeats.run("lease", lease.acquire(stop)):
            return 0
        keeping = asyncio.ensure_future(self._heartbeats.run("lease", lease.keep(stop)))
        try:
            code = await self._lead(stop, keeping)
        finally:
            keeping.cancel()
            await asyncio.wait({keeping})
        # After an order alone: what ends by an error leaves it to its next life, or to a standby after its time.
        await lease.release()
        return code

    async def _look(self) -> bool:
        try:
            await looked(self._config, client=self._client)
        except ClearMLK8sError as error:
            self._blind = f"Jobs and pods cannot be listed: {error}"
            raise
        self._blind = ""
        return True

    async def _lead(self, stop: asyncio.Event, keeping: asyncio.Future[Never]) -> int:
        """Serve until ``stop``, or until ``keeping`` or the record says that another process leads."""
        config, session, client = self._config, self._session, self._client
        identity = await self._heartbeats.run(
            "start",
            patiently(
                "reading the namespace", lambda: identity_of(config, client=client), clock=self._clock, stop=stop
            ),
        )
        if identity is None:
            return 0
        log.info(
            "controller starts",
            extra=kv(
                worker=identity.worker_id,
                controller=identity.controller,
                server=session.address,
                namespace=config.namespace,
            ),
        )
        parts = make(
            config=config,
            session=session,
            client=client,
            identity=identity,
            instance=self._lease.instance,
            holder=self._lease.holder,
            grace_seconds=self._settings.grace_seconds,
            redact=self._redact,
            metrics=self._instruments,
            leads=lambda: self._lease.certain,
            watched=self._heartbeats.run,
            stop=stop,
            conf=TaskConf(self._settings.task_conf, clock=self._clock),
        )
        self._parts = parts
        self._loops = Loops(parts=parts, sweep_seconds=self._settings.sweep_seconds, stop=stop)
        loops = [self._heartbeats.run(name, loop) for name, loop in self._loops.all().items()]
        # Shielded: the Lease is kept until all has ended.
        fenced = await until(stop, [*loops, self._heartbeats.tell(), asyncio.shield(keeping)])
        if fenced is not None:
            log.error(
                "another process serves release %r in namespace %r now: this one ends (%s)",
                config.release_name,
                config.namespace,
                fenced,
            )
            await parts.poller.drop()
            return 1
        await self._end(parts)
        return 0

    async def _end(self, parts: Parts) -> None:
        """Let the claims under way come to their end, within `STOP_SECONDS`."""
        self._ending = True
        log.info("stopping: claims under way are finished", extra=kv(claims=parts.book.active))
        await self._within(FINISH_SECONDS, parts, self._finish(parts))
        # Whatever became of the claims: what is only marked is freed.
        await self._within(STOP_SECONDS - FINISH_SECONDS, parts, self._release(parts))
        await self._within(WITHDRAW_SECONDS, parts, self._withdraw(parts))
        log.info("stopped", extra=kv(launched=parts.claims.launched))

    async def _finish(self, parts: Parts) -> None:
        await parts.poller.stop()
        await asyncio.gather(*(self._loops.unfinished if self._loops else ()), return_exceptions=True)

    async def _release(self, parts: Parts) -> None:
        await parts.claims.release()
        await parts.teller.flush()
        await parts.book.flush()

    async def _withdraw(self, parts: Parts) -> None:
        """Only whoever leads: another process reports under the same id."""
        reports = parts.reports
        steps = [reports.worker.withdraw(), *([reports.dashboard.withdraw()] if reports.dashboard else [])]
        for found in await asyncio.gather(*steps, return_exceptions=True):
            if isinstance(found, Refused | Unanswered):
                log.info("the server keeps what was reported to it until its time is over: %s", found)
            elif isinstance(found, BaseException):
                raise found

    async def _within(self, seconds: float, parts: Parts, step: Coroutine[Any, Any, None]) -> None:
        try:
            async with self._clock.timeout(seconds):
                await step
        except TimeoutError:
            log.warning("not all claims finished; the next start finds them", extra=kv(claims=parts.book.active))
        except ClearMLK8sError as error:
            log.warning("not all was written down: %s", error)

    def _state(self) -> str:
        """Of the process, in words."""
        lease = self._lease
        serving = self._loops is not None and self._loops.serving
        state = "stopping" if self._ending else "serving" if serving else "starting"
        if not lease.held and lease.leader:
            state = f"standby: {lease.leader} leads"
        elif lease.held and not lease.certain:
            state += ": nothing is sent, as the Lease cannot be renewed"
        return state

    def _not_ready(self) -> str:
        """A standby is: it does its part. Later trouble with a watch is told, and does not make it unready again."""
        if self._blind:
            return self._redact(without_secrets(self._blind))
        if not self._lease.held and self._lease.leader:
            return ""
        if self._parts is None:
            return "the Lease is not acquired yet" if not self._lease.held else "the namespace is not read yet"
        return self._redact(without_secrets(self._parts.cluster.unlisted()))

    def _status(self) -> dict[str, Any]:
        """Behind /status."""
        found: dict[str, Any] = {
            "release": self._config.release_name,
            "namespace": self._config.namespace,
            "state": self._state(),
            "leader": self._lease.leader or None,
        }
        if self._parts is not None:
            found |= status.document(parts=self._parts, server=self._session.address)
        return {key: status.hidden(value, redact=self._redact) for key, value in found.items()}

    def _report(self) -> dict[str, str]:
        server = self._session.health
        report = {
            "controller": self._state(),
            "clearml": server.state.value + (f": {server.reason}" if server.reason else ""),
        }
        if self._parts and self._parts.clash and self._parts.clash.problem:
            report["worker id"] = self._parts.clash.problem
        if self._parts:
            report |= self._parts.reports.said | queue_report(self._parts)
        return {subject: self._redact(without_secrets(text)) for subject, text in report.items()}


def queue_report(parts: Parts) -> dict[str, str]:
    """Of each queue whether tasks are taken from it, and why not; and what is not seen of the cluster."""
    report, lacking = {}, parts.reports.lacking
    if parts.cluster.quotas_forbidden:
        report["quotas"] = "not seen, as this account may not list and watch resourcequotas"
    standings = {one.queue: one for one in parts.poller.usage().standings}
    for key, queue in parts.served.states.items():
        why = parts.served.paused(key) or (standings[key].why if key in standings else "")
        state = queue.problem or (f"served; nothing is taken now: {why}" if why else "served")
        report[f"queue {key}"] = "; ".join([state, *lacking.get(key, ())])
    return report
