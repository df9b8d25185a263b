"""Logs without secrets, back-off without spinning, a clock that stands still, metrics without shared state."""

import io
import json
import logging
from random import Random

import pytest
from clearml_k8s import logs, metrics
from clearml_k8s.backoff import Backoff
from clearml_k8s.clock import SystemClock
from clearml_k8s.errors import ApiRefused, ConfigError, KubeForbidden, trimmed
from manual_clock import ManualClock
from prometheus_client import generate_latest


@pytest.fixture
def root_logger():
    """The root logger, put back afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


def test_plain_lines_carry_extras_and_no_secret(root_logger):
    stream = io.StringIO()
    redact = logs.setup(stream=stream)
    redact.add("s3cr3t/with+signs")
    log = logging.getLogger("clearml_k8s.test")
    log.info("took %s", "s3cr3t/with+signs", extra=logs.kv(task="ab", queue="my queue", none=None))
    line = stream.getvalue()
    assert "INFO clearml_k8s.test took ********" in line
    assert line.rstrip().endswith('task=ab queue="my queue"')
    assert "s3cr3t" not in line


def test_json_lines_are_json_and_redacted(root_logger):
    stream = io.StringIO()
    logs.setup(form="json", stream=stream, redact=logs.Redactor(['quo"ted\\secret']))
    try:
        raise ValueError('quo"ted\\secret')
    except ValueError:
        logging.getLogger("x").exception("failed", extra=logs.kv(count=3, why='quo"ted\\secret'))
    record = json.loads(stream.getvalue())
    assert record["count"] == 3
    assert record["message"] == "failed"
    assert record["why"] == logs.REDACTED
    assert "ted" not in record["exception"].splitlines()[-1]


def test_tokens_are_hidden_without_being_known():
    redact = logs.Redactor()
    assert redact("Authorization: Bearer abcdef123") == "Authorization: Bearer ********"
    assert "eyJ" not in redact("token eyJhbGciOiJIUzI1.eyJpZGVudGl0eSI6.c2lnbmF0dXJl end")


@pytest.mark.parametrize("arguments", [{"level": "LOUD"}, {"form": "xml"}])
def test_unknown_log_settings_are_refused(arguments):
    with pytest.raises(ConfigError, match="use "):
        logs.setup(**arguments)


def test_backoff_grows_to_its_cap_and_never_spins():
    backoff = Backoff(first=0.5, cap=30, random=Random(1))
    waits = [backoff.next() for _ in range(50)]
    assert all(0.05 <= wait <= 30 for wait in waits)
    assert max(waits[:2]) <= 1.0
    assert max(waits[10:]) > 15
    backoff.reset()
    assert backoff.next() <= 0.5


async def test_system_clock():
    clock = SystemClock()
    before = clock.monotonic()
    await clock.sleep(0)
    assert clock.monotonic() >= before
    assert clock.now().utcoffset() is not None
    with pytest.raises(TimeoutError):
        async with clock.timeout(0):
            await clock.sleep(60)


async def test_manual_clock_fires_time_outs():
    clock = ManualClock(auto=True)
    with pytest.raises(TimeoutError):
        async with clock.timeout(5):
            await clock.sleep(10)
            await SystemClock().sleep(60)


def test_metrics_share_nothing():
    one, two = metrics.create(), metrics.create()
    one.called(api="clearml", endpoint="queues.get_all", outcome="answered", seconds=0.1)
    assert b'endpoint="queues.get_all"' in generate_latest(one.registry)
    assert b'endpoint="queues.get_all"' not in generate_latest(two.registry)


def test_error_texts_are_one_short_line():
    error = ApiRefused("tasks.failed", 400, 110, "Invalid\nstatus " + "x" * 900)
    assert "\n" not in str(error)
    assert len(str(error)) < 320
    assert trimmed("a  b\n c") == "a b c"


def test_quota_is_told_from_rbac():
    quota = KubeForbidden("POST jobs", 403, "Forbidden", 'pods "x" is forbidden: exceeded quota: q')
    assert quota.quota_exceeded
    assert not KubeForbidden("POST jobs", 403, "Forbidden", 'User "x" cannot create resource').quota_exceeded
