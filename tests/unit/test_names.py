"""Names are what users select by and what the API server accepts."""

import re

import pytest
from clearml_k8s import names
from clearml_k8s.errors import ConfigError
from hypothesis import example, given
from hypothesis import strategies as st

# What the API server accepts as a label value (apimachinery's validation).
LABEL = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")


@given(st.text(max_size=200))
@example("a" * 62 + "-b")
@example("a" * 62 + "éb")
@example("Größe")
@example("İstanbul")
@example("---")
@example("queue\n")
def test_label_value_is_always_valid(text):
    value = names.label_value(text)
    assert LABEL.fullmatch(value)
    assert len(value) <= 63
    assert value.isascii()
    assert value == value.lower()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("default", "default"),
        ("My Queue", "my-queue"),
        ("gpu_a100.big", "gpu-a100-big"),
        ("  __x__  ", "x"),
        ("a--b", "a-b"),
        ("3f2a5c0d1e4b4c8f9a7d6e5f4c3b2a10", "3f2a5c0d1e4b4c8f9a7d6e5f4c3b2a10"),
        ("日本", ""),
    ],
)
def test_label_value_is_written_as_the_glue_writes_it(text, value):
    assert names.label_value(text) == value


def test_label_value_does_not_end_badly_where_it_is_cut():
    assert names.label_value("a" * 62 + "-" + "b" * 10) == "a" * 62


def test_job_name():
    task = "0123456789abcdef0123456789abcdef"
    assert names.job_name(task) == f"clearml-id-{task}"
    assert len(names.job_name("a" * 52)) == 63


@pytest.mark.parametrize("bad", ["", "A", "a" * 53, "-a", "a-", "a_b", "a/b", "a\n", "é", "../x", " a"])
def test_job_name_refuses_what_kubernetes_would(bad):
    with pytest.raises(ConfigError, match="cannot name a Job"):
        names.job_name(bad)


def test_task_id_of_reads_the_label_first_and_the_glues_names():
    assert names.task_id_of(name="x", labels={"clearml-task-id": "ab"}) == "ab"
    assert names.task_id_of(name="clearml-id-ab12", labels={}) == "ab12"
    assert names.task_id_of(name="clearml-id-ab12-x7k2p", labels={}) == "ab12"
    assert names.task_id_of(name="other", labels={}) is None


def test_controller_identity():
    controller = names.controller_id(namespace_uid="0a1b2c3d-1111", release="gpu")
    # printf 0a1b2c3d-1111/gpu | sha256sum
    assert controller == "23274f5d10"
    assert controller != names.controller_id(namespace_uid="0a1b2c3d-1112", release="gpu")
    assert controller != names.controller_id(namespace_uid="0a1b2c3d-1111", release="cpu")
    assert names.mark_key(controller) == f"k8s-claim-{controller}"


def test_legacy_agent_label_is_the_glues():
    # printf clearml-agent | md5sum
    assert names.legacy_agent_label("clearml-agent") == "agent-5c12cafb"
    assert names.legacy_agent_label("") == "agent"


def test_default_worker_id_takes_eight_hex_digits():
    uid = "0a1b2c3d-1111-2222-3333-444455556666"
    assert names.default_worker_id(release="gpu", namespace_uid=uid) == "clearml-agent-gpu-0a1b2c3d"


def test_reserved_environment_keeps_identity_and_credentials():
    assert {"CLEARML_API_HOST", "CLEARML_API_SECRET_KEY", "CLEARML_WORKER_ID", "CLEARML_K8S_TASK_ID"} <= (
        names.RESERVED_ENV
    )
    assert "CLEARML_API_HOST_VERIFY_CERT" not in names.RESERVED_ENV


def test_shown_quotes_and_cuts():
    assert names.shown("a\nb") == repr("a\nb")
    assert len(names.shown("x" * 500)) <= 82
