"""Two releases with one worker id (`workerIdOverride`) on one queue: each task once, as with any two."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import AsyncExitStack

import pytest
from chaos_counts import check, shown
from chaos_scene import Scene

TASKS = 80


async def test_two_controllers_of_one_worker_id(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    scene.server.create_queue("alpha")
    tasks = scene.server.bulk_tasks(TASKS, queue="alpha")
    releases = {f"same-{number}": namespace for number, namespace in enumerate(scene.namespaces)}
    limits = {"alpha": None, "": 8}
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        agents = await stack.enter_async_context(scene.agents())
        for release, namespace in releases.items():
            await stack.enter_async_context(
                scene.controller(release, namespace=namespace, limits=limits, workerId="one-for-both")
            )
        await scene.settled(tasks, releases=releases, agents=agents)
    counts = scene.count(tasks, agents=agents)
    of_each = Counter(job.namespace for job in scene.jobs(agents))
    with capsys.disabled():
        launched = [of_each[namespace] for namespace in scene.namespaces]
        facts = {"launched by": str(launched), "time": f"{time.monotonic() - began:.0f} s"}
        print(shown("TWO CONTROLLERS OF ONE WORKER ID", facts, counts))
    check(counts, limits={"": 16})
    assert counts.jobs == TASKS
    assert set(of_each) == set(scene.namespaces)
