"""The controller's own HTTP port: probes and metrics.

The absence of the ClearML server is a state to be told, not a reason to restart: neither of the probes fails by it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from clearml_k8s.errors import ConfigError

PORT = 8080


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """What the probes ask: ``late`` loops by name, with the seconds without a sign of life; ``not_ready``: why the
    process cannot do its part yet, "" once it can; ``report``: the state in words, by subject; ``status``: the whole
    state, as plain data without secrets."""

    late: Callable[[], Mapping[str, float]]
    not_ready: Callable[[], str]
    report: Callable[[], Mapping[str, str]]
    status: Callable[[], Mapping[str, Any]]


ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - the kubelet asks from outside the pod


async def serve(
    *, health: Health, registry: CollectorRegistry, port: int = PORT, host: str = ANY_ADDRESS
) -> web.AppRunner:
    """Answer /healthz, /readyz, /status and /metrics; `cleanup` of what is returned ends it.

    Raises ConfigError when the port is taken.
    """

    async def healthz(_request: web.Request) -> web.Response:
        late = [f"loop {name!r}: no sign of life for {seconds:.0f} s" for name, seconds in health.late().items()]
        return web.Response(status=500, text="\n".join(late) + "\n") if late else web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        why = health.not_ready()
        lines = [f"not ready: {why}"] if why else []
        lines += [f"{subject}: {state}" for subject, state in health.report().items()]
        return web.Response(status=503 if why else 200, text="\n".join(lines) + "\n")

    async def status(_request: web.Request) -> web.Response:
        return web.json_response(health.status())

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz)])
    app.add_routes([web.get("/status", status), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        raise ConfigError(
            f"port {port} for probes and metrics cannot be opened ({error.strerror}): "
            "set CLEARML_K8S_PORT to a free one"
        ) from error
    return runner
