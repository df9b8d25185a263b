"""The controller process: makes the parts, runs their loops, ends them in order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from clearml_k8s import health, logs, metrics, names
from clearml_k8s.app.connect import clearml_session, identity_of
from clearml_k8s.backoff import Backoff
from clearml_k8s.clearml import workers
from clearml_k8s.clearml.conf import Credentials
from clearml_k8s.clearml.health import State
from clearml_k8s.clearml.session import Session
from clearml_k8s.clock import Clock, SystemClock
from clearml_k8s.config import Config
from clearml_k8s.errors import ClearMLK8sError, Fenced, Refused, Unanswered
from clearml_k8s.flow.book import ClaimBook
from clearml_k8s.flow.claim import Claims
from clearml_k8s.flow.graces import Graces
from clearml_k8s.flow.launch import Launcher
from clearml_k8s.flow.marking import Marking
from clearml_k8s.flow.poll import Poller
from clearml_k8s.flow.reads import TaskReads
from clearml_k8s.flow.reconcile import Reconciler
from clearml_k8s.flow.recover import Recovery
from clearml_k8s.flow.returning import Returning
from clearml_k8s.flow.served import ServedQueues
from clearml_k8s.flow.tell import Teller
from clearml_k8s.flow.workqueue import WorkQueue
from clearml_k8s.kube.client import KubeClient
from clearml_k8s.kube.record import ClaimRecord
from clearml_k8s.kube.resources import JOBS, PODS
from clearml_k8s.kube.slim import JobRecord, PodRecord, slim_job, slim_pod
from clearml_k8s.kube.store import Record, Store
from clearml_k8s.kube.watch import Watch
from clearml_k8s.logs import kv
from clearml_k8s.settings import Settings

log = logging.getLogger(__name__)

R = TypeVar("R", bound=Record)
T = TypeVar("T")

RECOVER_SECONDS = 1.0
REFRESH_SECONDS = 60.0
REFRESH_TROUBLED_SECONDS = 10.0
FLUSH_SECONDS = 1.0
STOP_SECONDS = 40.0
"""For claims under way when the process is told to stop; what is not done by then is found in the record."""

STALE_SECONDS = 120.0
"""A watch silent for longer says nothing about what exists."""

_HINTS = {
    State.UNAUTHORIZED: "correct clearml.agentk8sglueKey and clearml.agentk8sglueSecret, or the Secret named by "
    "clearml.existingAgentk8sglueSecret",
    State.UNREACHABLE: "check agentk8sglue.apiServerUrlReference, and that this pod can reach it; it is tried again",
    State.HALF_WAY: "the server answers with errors; nothing is taken until a probe succeeds",
}


async def run(
    config: Config, *, settings: Settings, credentials: Credentials, kubeconfig: str | None, context: str | None
) -> int:
    """Serve until a signal; 0 after an orderly stop, 1 when another instance took over."""
    redact = logs.setup(level=settings.log_level, form=settings.log_format)
    redact.add(credentials.access_key)
    redact.add(credentials.secret_key)
    clock, instruments = SystemClock(), metrics.create()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            await KubeClient.connect(
                clock=clock,
                kubeconfig=kubeconfig,
                context=context,
                metrics=instruments,
                max_request_seconds=settings.request_seconds,
            )
        )
        session = await stack.enter_async_context(
            clearml_session(
                config,
                credentials=credentials,
                clock=clock,
                metrics=instruments,
                max_request_seconds=settings.request_seconds,
            )
        )
        controller = Controller(
            config=config, settings=settings, session=session, client=client, instruments=instruments, redact=redact
        )
        return await controller.run(stop)


class Controller:
    """All parts of one running controller."""

    def __init__(
        self,
        *,
        config: Config,
        settings: Settings,
        session: Session,
        client: KubeClient,
        instruments: metrics.Metrics,
        redact: logs.Redactor,
    ) -> None:
        self._config = config
        self._settings = settings
        self._session = session
        self._client = client
        self._instruments = instruments
        self._redact = redact
        self._clock: Clock = session.clock
        self._state = "starting"
        self._served: ServedQueues | None = None

    async def run(self, stop: asyncio.Event) -> int:
        """Serve until ``stop``."""
        runner = await health.serve(
            health=health.Health(alive=lambda: True, report=self._report),
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
            if not serving.done():
                serving.cancel()
                await asyncio.wait({serving})
                return 0
            return serving.result()
        finally:
            stopping.cancel()
            await runner.cleanup()

    async def _serve(self, stop: asyncio.Event) -> int:
        config, session, client = self._config, self._session, self._client
        identity = await self._patiently(stop, "reading the namespace", lambda: identity_of(config, client=client))
        if identity is None:
            return 0
        worker_id, controller = identity.worker_id, identity.controller
        log.info(
            "controller starts",
            extra=kv(worker=worker_id, controller=controller, server=session.address, namespace=config.namespace),
        )
        session.health.use_probe(lambda: workers.probe(session, worker_id))
        teller = Teller(session=session, worker_id=worker_id, redact=self._redact)
        work: WorkQueue[str] = WorkQueue(clock=self._clock)
        jobs: Store[JobRecord] = Store(dirty=work.put)
        pods: Store[PodRecord] = Store(dirty=work.put, keep_gone=True)
        served = ServedQueues(config=config, session=session, client=client, worker_id=worker_id, controller=controller)
        self._served = served
        graces = Graces(session=session, grace_seconds=self._settings.grace_seconds)
        instance = uuid.uuid4().hex[:8]
        record = ClaimRecord(
            client=client,
            namespace=config.namespace,
            name=names.claims_name(config.fullname),
            holder=f"{socket.gethostname()}-{os.getpid()}-{instance}",
            labels={names.LABEL_NAME: names.APP_NAME, names.LABEL_INSTANCE: config.release_name},
        )
        launcher = Launcher(
            config=config,
            client=client,
            jobs=jobs,
            teller=teller,
            worker_id=worker_id,
            controller=controller,
            stopping=stop.is_set,
        )
        book = ClaimBook(session=session, record=record, graces=graces, controller=controller)
        returning = Returning(
            session=session,
            record=record,
            book=book,
            graces=graces,
            served=served,
            teller=teller,
            controller=controller,
            stopping=stop.is_set,
        )
        marking = Marking(
            session=session,
            book=book,
            returning=returning,
            jobs=jobs,
            worker_id=worker_id,
            controller=controller,
            instance=instance,
        )
        claims = Claims(
            session=session,
            record=record,
            book=book,
            marking=marking,
            returning=returning,
            launcher=launcher,
            served=served,
            teller=teller,
            controller=controller,
            stopping=stop.is_set,
        )
        selector = names.task_selector(release=config.release_name)
        watches = (
            Watch(client=client, resource=JOBS, slim=slim_job, namespace=config.namespace, label_selector=selector),
            Watch(client=client, resource=PODS, slim=slim_pod, namespace=config.namespace, label_selector=selector),
        )

        def known() -> bool:
            """What exists in the cluster is known: listed once, and the streams not silent for long."""
            now = self._clock.monotonic()
            return (
                jobs.synced.is_set()
                and pods.synced.is_set()
                and all(w.last_seen is not None and now - w.last_seen < STALE_SECONDS for w in watches)
            )

        reads = TaskReads(session=session)
        poller = Poller(
            config=config,
            session=session,
            served=served,
            claims=claims,
            book=book,
            jobs=jobs,
            pods=pods,
            may_take=known,
        )
        recovery = Recovery(
            session=session,
            claims=claims,
            book=book,
            returning=returning,
            graces=graces,
            served=served,
            jobs=jobs,
            controller=controller,
            room=poller.room,
        )
        reconciler = Reconciler(
            config=config,
            session=session,
            client=client,
            jobs=jobs,
            pods=pods,
            reads=reads,
            teller=teller,
            work=work,
            worker_id=worker_id,
            controller=controller,
            pending_queue=lambda: served.pending_queue,
        )

        async def follow(watch: Watch[R], store: Store[R]) -> None:
            async for event in watch.events():
                store.apply(event)

        async def take() -> None:
            if await self._patiently(stop, "opening the claim record", record.open) is None:
                return
            await jobs.synced.wait()
            await pods.synced.wait()
            await session.health.ready()
            self._state = "serving"
            await poller.run()

        async def recover() -> None:
            await jobs.synced.wait()
            sweep_seconds = self._settings.sweep_seconds
            last_sweep = self._clock.monotonic() - sweep_seconds + 5.0
            while True:
                await self._clock.sleep(RECOVER_SECONDS)
                if self._state != "serving" or not known():
                    continue
                await _waiting_out("recovery", recovery.step)
                if self._clock.monotonic() - last_sweep >= sweep_seconds and session.health.healthy:
                    last_sweep = self._clock.monotonic()
                    await _waiting_out("sweep", recovery.sweep)

        async def refresh() -> None:
            while True:
                await _waiting_out("queues", served.refresh)
                troubled = any(s.problem or not s.template_checked for s in served.states.values())
                await self._clock.sleep(REFRESH_TROUBLED_SECONDS if troubled else REFRESH_SECONDS)

        async def flush() -> None:
            while True:
                await self._clock.sleep(FLUSH_SECONDS)
                await _waiting_out("record", book.flush)

        loops: list[Awaitable[None]] = [
            follow(watches[0], jobs),
            follow(watches[1], pods),
            refresh(),
            take(),
            recover(),
            flush(),
            reconciler.run(),
            reconciler.follow_states(),
            teller.run(),
            self._tell_health(),
        ]
        fenced = await _until(stop, loops)
        if fenced is not None:
            log.error("another instance serves this release now; this one ends: %s", fenced)
            return 1
        self._state = "stopping"
        log.info("stopping: claims under way are finished", extra=kv(claims=book.active))
        try:
            async with self._clock.timeout(STOP_SECONDS):
                await poller.stop()
                await claims.release()
                await teller.flush()
                await book.flush()
        except TimeoutError:
            log.warning("claims not finished; the next start finds them in the record", extra=kv(claims=book.active))
        except ClearMLK8sError as error:
            log.warning("not all was written down: %s", error)
        log.info("stopped", extra=kv(launched=claims.launched))
        return 0

    async def _patiently(self, stop: asyncio.Event, what: str, step: Callable[[], Awaitable[T]]) -> T | None:
        """The step's result, however long the API is away; None when told to stop first."""
        backoff = Backoff(first=0.5, cap=30.0)
        while not stop.is_set():
            try:
                return await step()
            except (Refused, Unanswered) as error:
                wait = backoff.next()
                log.warning("%s failed, tried again: %s", what, error, extra=kv(retry_in=round(wait, 1)))
                try:
                    async with self._clock.timeout(wait):
                        await stop.wait()
                except TimeoutError:
                    continue
        return None

    async def _tell_health(self) -> None:
        """Log each change of the ClearML server's state once, with what to do."""
        told, reason = State.HEALTHY, ""
        while True:
            now = self._session.health
            if now.state is not told or (not now.healthy and now.reason[:80] != reason):
                told, reason = now.state, now.reason[:80]
                if now.healthy:
                    log.info("ClearML server is well", extra=kv(server=self._session.address))
                else:
                    log.error("ClearML server %s: %s; %s", now.state.value, now.reason, _HINTS[now.state])
            await self._clock.sleep(0.5)

    def _report(self) -> dict[str, str]:
        server = self._session.health
        report = {
            "controller": self._state,
            "clearml": server.state.value + (f": {server.reason}" if server.reason else ""),
        }
        for key, state in (self._served.states if self._served else {}).items():
            report[f"queue {key}"] = state.problem or "served"
        return report


async def _waiting_out(what: str, step: Callable[[], Awaitable[object]]) -> None:
    """Run a step; what the servers refuse or leave open is left to the next round."""
    try:
        await step()
    except (Refused, Unanswered) as error:
        log.debug("%s: next time: %s", what, error)


async def _until(stop: asyncio.Event, loops: list[Awaitable[None]]) -> Fenced | None:
    """Run the loops until ``stop``; a loop that ends unexpectedly ends the process, so that it is started anew."""
    running = [asyncio.ensure_future(loop) for loop in loops]
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({stopping, *running}, return_when=asyncio.FIRST_COMPLETED)
        for task in running:
            error = task.exception() if task.done() and not task.cancelled() else None
            if isinstance(error, Fenced):
                return error
            if error is not None:
                raise error
        return None
    finally:
        ending: list[asyncio.Future[Any]] = [stopping, *running]
        for loop in ending:
            loop.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
