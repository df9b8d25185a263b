"""Whatever stands in the environment and in clearml.conf: credentials that can be sent, or a message without them."""

from clearml_k8s.clearml import conf
from clearml_k8s.clearml.keys import Credentials, Keys
from clearml_k8s.clock import SystemClock
from clearml_k8s.errors import ConfigError
from hostile import BOUNDED, texts
from hypothesis import example, given, settings
from hypothesis import strategies as st

NAMES = (
    "CLEARML_API_ACCESS_KEY",
    "CLEARML_API_SECRET_KEY",
    "CLEARML_API_HOST",
    "CLEARML_API_HOST_VERIFY_CERT",
    "CLEARML_CONFIG_FILE",
    "REQUESTS_CA_BUNDLE",
)


def usable(load):
    """What it loads is credentials that a login can be made of, or a ConfigError."""
    try:
        found = load()
    except ConfigError as error:
        return str(error)
    assert isinstance(found, Credentials)
    assert Keys(found, clock=SystemClock(), learn=lambda secret: None).basic.isascii()
    return ""


@BOUNDED
@given(environ=st.dictionaries(st.sampled_from(NAMES), texts().filter(lambda text: "\0" not in text)))
@example(environ={"CLEARML_API_ACCESS_KEY": "\udcff", "CLEARML_API_SECRET_KEY": "CANARY-7d1f"})
@example(environ={"CLEARML_API_ACCESS_KEY": "a", "CLEARML_API_SECRET_KEY": "CANARY-7d1f\udcff"})
@example(environ={"CLEARML_CONFIG_FILE": "x" * 5000})
@example(environ={"REQUESTS_CA_BUNDLE": "x" * 5000, "CLEARML_API_ACCESS_KEY": "a", "CLEARML_API_SECRET_KEY": "b"})
@example(environ={"CLEARML_API_HOST_VERIFY_CERT": "x" * 5000})
def test_any_environment(environ, tmp_path_factory):
    home = tmp_path_factory.getbasetemp()
    assert "CANARY-7d1f" not in usable(lambda: conf.load(environ=environ, home=home))


@settings(BOUNDED, max_examples=30)
@given(text=st.text("api{}[]:=\n \"'$.#,+", max_size=25) | texts(max_size=20))
@example(text="api " + "{" * 2000)
@example(text='api { credentials { access_key: "a", secret_key: "CANARY-7d1f" ')
@example(text='api { credentials { access_key: ["a"], secret_key: "CANARY-7d1f" } }')
@example(text='api { credentials: "CANARY-7d1f" }')
@example(text="api { verify_certificate: " + "x" * 5000 + " }")
def test_any_clearml_conf(text, tmp_path_factory):
    home = tmp_path_factory.getbasetemp()
    (home / "clearml.conf").write_text(text, encoding="utf-8", errors="replace")
    try:
        assert "CANARY-7d1f" not in usable(lambda: conf.load(environ={}, home=home))
    finally:
        (home / "clearml.conf").unlink()
