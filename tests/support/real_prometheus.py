"""Debian's Prometheus as a process of a test's own, scraping what the test says."""

from __future__ import annotations

import asyncio
import math
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from chaos_controller import free_port


class Prometheus:
    """A running one; ``url`` is that of its HTTP API."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url = url
        self._http = http

    async def get(self, path: str, **params: str) -> Any:
        """The ``data`` of an answer; AssertionError with Prometheus' own words for any but success."""
        async with self._http.get(f"{self.url}/api/v1/{path}", params=params) as reply:
            answer = await reply.json()
        assert answer["status"] == "success", f"{path} {params}: {answer.get('error')}"
        return answer["data"]

    async def value(self, expression: str) -> float | None:
        """The only value of the expression now; None when there is none."""
        found = (await self.get("query", query=expression))["result"]
        assert len(found) <= 1, f"{expression}: {found}"
        return float(found[0]["value"][1]) if found else None

    async def seen(self, expression: str, *, since: float, until: float) -> int:
        """How many numbers the expression had in that time, one each five seconds; NaN is none."""
        found = await self.get("query_range", query=expression, start=str(since), end=str(until), step="5")
        return sum(1 for series in found["result"] for _, value in series["values"] if not math.isnan(float(value)))

    async def firing(self) -> set[tuple[str, str]]:
        """Name and queue ("" without one) of the alerts that fire."""
        found = (await self.get("alerts"))["alerts"]
        return {(a["labels"]["alertname"], a["labels"].get("queue", "")) for a in found if a["state"] == "firing"}


@asynccontextmanager
async def prometheus(
    folder: Path, *, targets: Mapping[str, Sequence[str]], labels: Mapping[str, str], rules: Path
) -> AsyncIterator[Prometheus]:
    """``targets``: addresses by job, each with ``labels``. Scrapes and evaluates every second."""
    program = shutil.which("prometheus")
    assert program, "prometheus is missing: ci/tools/apt.sh tests"
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": list(addresses), "labels": dict(labels)}]}
            for job, addresses in targets.items()
        ],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    port = free_port()
    with (folder / "prometheus.log").open("ab") as sink:
        process = await asyncio.create_subprocess_exec(
            program,
            f"--config.file={folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={folder / 'prometheus-data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
        )
    try:
        async with aiohttp.ClientSession() as http:
            url = f"http://127.0.0.1:{port}"
            async with asyncio.timeout(60):
                while not await _ready(http, url):
                    assert process.returncode is None, (folder / "prometheus.log").read_text()
                    await asyncio.sleep(0.2)
            yield Prometheus(url, http)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _ready(http: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with http.get(f"{url}/-/ready") as reply:
            return reply.status == 200
    except aiohttp.ClientError:
        return False
