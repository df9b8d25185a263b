"""The environment's settings, and the HTTP port for probes and metrics."""

from __future__ import annotations

import aiohttp
import pytest
from clearml_k8s import health, metrics, settings
from clearml_k8s.errors import ConfigError
from clearml_k8s.flow.graces import GRACE_SECONDS


def test_the_defaults() -> None:
    assert settings.load({}) == settings.Settings()
    assert settings.load({"CLEARML_K8S_PORT": "", "CLEARML_K8S_GRACE_SECONDS": " "}) == settings.Settings()
    assert settings.Settings().grace_seconds == GRACE_SECONDS == 40.0


def test_everything_set() -> None:
    found = settings.load(
        {
            "CLEARML_K8S_LOG_LEVEL": "DEBUG",
            "CLEARML_K8S_LOG_FORMAT": "json",
            "CLEARML_K8S_PORT": "0",
            "CLEARML_K8S_GRACE_SECONDS": "2.5",
        }
    )
    assert found == settings.Settings(log_level="DEBUG", log_format="json", port=0, grace_seconds=2.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("CLEARML_K8S_PORT", value) for value in ("http", "-1", "65536", "1e3", "80.5", "inf", "\u0663")),
        *(("CLEARML_K8S_GRACE_SECONDS", value) for value in ("soon", "1.9", "-3", "nan", "inf")),
        ("CLEARML_K8S_LOG_FORMAT", "xml"),
    ],
)
def test_what_is_wrong_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings.load({name: value})
    assert name in str(caught.value)
    assert repr(value) in str(caught.value)
    assert "write" in str(caught.value)


async def get(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}{path}") as reply:
        return reply.status, await reply.text()


async def test_probes_and_metrics() -> None:
    late: dict[str, float] = {}
    not_ready = ""
    instruments = metrics.create()
    instruments.leader.set(1)
    runner = await health.serve(
        health=health.Health(
            late=lambda: late,
            not_ready=lambda: not_ready,
            report=lambda: {"clearml": "unreachable: no route", "queue a": "served"},
            status=lambda: {"state": "serving", "queues": []},
        ),
        registry=instruments.registry,
        port=0,
        host="127.0.0.1",
    )
    try:
        port = runner.addresses[0][1]
        assert await get(port, "/healthz") == (200, "ok\n")
        # The absence of the ClearML server is told, and is no reason to be restarted or taken out.
        assert await get(port, "/readyz") == (200, "clearml: unreachable: no route\nqueue a: served\n")
        not_ready = "the Jobs of the namespace are not listed yet"
        assert await get(port, "/readyz") == (
            503,
            f"not ready: {not_ready}\nclearml: unreachable: no route\nqueue a: served\n",
        )
        assert await get(port, "/status") == (200, '{"state": "serving", "queues": []}')
        code, text = await get(port, "/metrics")
        assert code == 200
        assert "clearml_k8s_leader 1.0" in text
        assert (await get(port, "/other"))[0] == 404
        late = {"take": 130.4, "record": 121.0}
        assert await get(port, "/healthz") == (
            500,
            "loop 'take': no sign of life for 130 s\nloop 'record': no sign of life for 121 s\n",
        )
        with pytest.raises(ConfigError, match="CLEARML_K8S_PORT"):
            await health.serve(
                health=health.Health(late=dict, not_ready=str, report=dict, status=dict),
                registry=instruments.registry,
                port=port,
                host="127.0.0.1",
            )
    finally:
        await runner.cleanup()
