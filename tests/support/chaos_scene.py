"""What a chaos test stands on: both servers, two namespaces, and in them controllers and the agents of their pods."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos_agent import Agents, ClearML, Start
from chaos_controller import GRACE_SECONDS, ControllerProcess, config
from chaos_counts import Counts, count, settled, stored
from chaos_kube import Access, AuditLog, JobCreated, Kube, plain_kubeconfig
from chaos_proxy import Proxy
from clearml_server.process import DevServer


async def quick(task: str) -> None:
    """The work of a task, simulated: long enough that the places are full, and soon free."""
    del task
    await asyncio.sleep(0.5)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The fixture `scene`; ``audit`` tells of both namespaces."""

    kube: Kube
    access: Access
    kubeconfig: Path
    namespaces: tuple[str, str]
    audit: AuditLog
    server: DevServer
    folder: Path

    def controller(
        self,
        release: str,
        *,
        limits: Mapping[str, int | None],
        namespace: str | None = None,
        clearml: Proxy | None = None,
        kube: Proxy | None = None,
        delete_after: str = "0s",
        pod: str = "",
        grace_seconds: float = GRACE_SECONDS,
        variables: Mapping[str, str] | None = None,
        **document: Any,
    ) -> ControllerProcess:
        """Not started. ``limits``: maxPods by queue, and in all (""); ``document``: further keys of its config.

        ``clearml``, ``kube``: proxies before the servers. ``namespace``: the first unless given. ``pod``: the name of
        its pod, where a release has two. ``grace_seconds``: short, so that doubts end soon, and requests are cut off
        after half of it. ``variables``: further ones of its environment.
        """
        kubeconfig = self.kubeconfig
        if kube is not None:
            kubeconfig = self.folder / f"{release}-kubeconfig"
            kubeconfig.write_text(plain_kubeconfig(kube.url))
        known = config(
            release=release,
            namespace=namespace or self.namespaces[0],
            api_server=clearml.url if clearml is not None else self.server.url,
            queues={name: limit for name, limit in limits.items() if name},
            max_pods=limits.get(""),
            delete_after=delete_after,
        )
        return ControllerProcess(
            document={**known, **document},
            folder=self.folder,
            kubeconfig=kubeconfig,
            access_key=self.server.access_key,
            secret_key=self.server.secret_key,
            grace_seconds=grace_seconds,
            pod=pod,
            variables=variables,
        )

    @asynccontextmanager
    async def agents(self, *, work: Callable[[str], Awaitable[None]] = quick) -> AsyncIterator[list[Agents]]:
        """Those of both namespaces; their calls to the ClearML server carry the client's name "agent"."""
        async with AsyncExitStack() as stack:
            clearml = await stack.enter_async_context(ClearML(self.server, name="agent"))
            made = [
                Agents(kube=self.kube, clearml=clearml, namespace=namespace, work=work) for namespace in self.namespaces
            ]
            for one in made:
                await stack.enter_async_context(one)
            yield made

    async def settled(
        self,
        tasks: Sequence[str],
        *,
        releases: Mapping[str, str],
        agents: Sequence[Agents],
        aborted: Collection[str] = (),
        limit: float = 120,
    ) -> None:
        """See `chaos_counts.settled`; ``releases``: release -> namespace."""
        await settled(
            server=self.server,
            tasks=tasks,
            kube=self.kube,
            releases=releases,
            agents=agents,
            aborted=aborted,
            limit=limit,
        )

    def jobs(self, agents: Sequence[Agents]) -> list[JobCreated]:
        """Every Job that was stored."""
        return stored(self.audit.jobs(), agents)

    def count(
        self,
        tasks: Sequence[str],
        *,
        agents: Sequence[Agents],
        others: Sequence[Start] = (),
        aborted: Collection[str] = (),
    ) -> Counts:
        """Everything, now."""
        return count(server=self.server, tasks=tasks, audit=self.audit, agents=agents, others=others, aborted=aborted)
