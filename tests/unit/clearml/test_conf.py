"""Credentials from the environment, a named file, or the home directory."""

import subprocess
import sys
import textwrap

import pytest
from clearml_k8s.clearml import conf
from clearml_k8s.errors import ConfigError

FILE = """
# as `clearml-agent init` writes it
api {
    api_server: https://api.example.com
    web_server: "https://app.example.com"
    files_server: https://files.example.com
    verify_certificate: false
    credentials {
        "access_key" = "FILEKEY"
        "secret_key" = "file+secret/=="
    }
}
agent { default_docker: { image: "python:3.11" } }
"""
KEYS = {"CLEARML_API_ACCESS_KEY": "ENVKEY", "CLEARML_API_SECRET_KEY": "env-secret"}


@pytest.fixture
def home(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    return home


def test_dev_null_means_no_file_as_for_the_sdk(home):
    (home / "clearml.conf").write_text(FILE)
    environ = {**KEYS, "CLEARML_CONFIG_FILE": "/dev/null"}
    assert conf.load(environ=environ, home=home).access_key == "ENVKEY"
    assert conf.load_hosts(environ=environ, home=home) == conf.Hosts()


def test_the_environment_comes_first(home):
    (home / "clearml.conf").write_text(FILE)
    found = conf.load(environ=KEYS, home=home)
    assert (found.access_key, found.secret_key) == ("ENVKEY", "env-secret")
    assert found.source.startswith("environment")
    hosts = conf.load_hosts(environ={"CLEARML_API_HOST": "http://localhost:8008"}, home=home)
    assert hosts.api_server == "http://localhost:8008"
    assert hosts.web_server == "https://app.example.com"


def test_the_named_file_comes_before_the_home(home, tmp_path):
    (home / "clearml.conf").write_text(FILE.replace("FILEKEY", "HOMEKEY"))
    named = tmp_path / "other.conf"
    named.write_text(FILE)
    found = conf.load(environ={"CLEARML_CONFIG_FILE": str(named)}, home=home)
    assert (found.access_key, found.secret_key) == ("FILEKEY", "file+secret/==")
    assert found.verify_certificate is False
    hosts = conf.load_hosts(environ={"CLEARML_CONFIG_FILE": str(named)}, home=home)
    assert (hosts.file_server, hosts.verify_certificate) == ("https://files.example.com", False)
    assert str(named) in found.source


def test_the_home_is_last(home):
    (home / "clearml.conf").write_text(FILE)
    assert conf.load(environ={}, home=home).access_key == "FILEKEY"
    assert conf.load(environ={"CLEARML_CONFIG_FILE": "~/clearml.conf"}, home=home).access_key == "FILEKEY"


def test_the_repr_hides_the_secret(home):
    found = conf.load(environ=KEYS, home=home)
    assert "env-secret" not in repr(found)
    assert "ENVKEY" in repr(found)


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        ({}, "no clearml.conf was found"),
        ({"CLEARML_API_ACCESS_KEY": "x"}, "CLEARML_API_SECRET_KEY is not set"),
        ({"CLEARML_API_SECRET_KEY": "x"}, "CLEARML_API_ACCESS_KEY is not set"),
        ({"CLEARML_CONFIG_FILE": "/nowhere/clearml.conf"}, "CLEARML_CONFIG_FILE names '/nowhere/clearml.conf'"),
        ({**KEYS, "CLEARML_API_HOST_VERIFY_CERT": "maybe"}, "CLEARML_API_HOST_VERIFY_CERT is 'maybe'"),
    ],
)
def test_what_is_missing_is_named(environ, text, home):
    with pytest.raises(ConfigError, match=text):
        conf.load(environ=environ, home=home)


def test_a_file_without_credentials_is_named(home):
    (home / "clearml.conf").write_text("api { api_server: http://x }")
    with pytest.raises(ConfigError, match="looked at: the environment, api.credentials in .*clearml.conf"):
        conf.load(environ={}, home=home)


def test_where_the_server_is_needs_no_credentials(home):
    (home / "clearml.conf").write_text("api { api_server: http://x }")
    assert conf.load_hosts(environ={}, home=home) == conf.Hosts(api_server="http://x")


def test_a_broken_file_is_named_and_its_content_is_not(home):
    (home / "clearml.conf").write_text('api { credentials { secret_key: "top-secret" ]')
    with pytest.raises(ConfigError, match="is not valid HOCON") as caught:
        conf.load(environ={}, home=home)
    assert "top-secret" not in str(caught.value)


def test_substitution_from_the_environment(home, monkeypatch):
    monkeypatch.setenv("MY_SECRET", "from-env")
    (home / "clearml.conf").write_text('api { credentials { access_key: "A", secret_key: ${MY_SECRET} } }')
    assert conf.load(environ={}, home=home).secret_key == "from-env"


def test_non_ascii_files(home):
    (home / "clearml.conf").write_text(FILE + '\nagent.note: "größe"\n', encoding="utf-8")
    assert conf.load(environ={}, home=home).access_key == "FILEKEY"


def test_reading_prints_nothing_and_leaves_the_process_as_it_was(home):
    (home / "clearml.conf").write_text(FILE)
    code = textwrap.dedent(
        f"""
        import logging, pathlib, sys
        from clearml_k8s.clearml import conf
        before = logging.getLogger("urllib3").level
        conf.load(environ={{}}, home=pathlib.Path({str(home)!r}))
        assert "clearml_agent" not in sys.modules
        assert logging.getLogger("urllib3").level == before
        """
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("verify", "expected"), [({}, "bundle"), ({"CLEARML_API_HOST_VERIFY_CERT": "1"}, "bundle"),
                             ({"CLEARML_API_HOST_VERIFY_CERT": "0"}, False)]
)  # fmt: skip
def test_a_ca_bundle_of_the_environment_is_used_unless_verification_is_off(tmp_path, verify, expected):
    bundle = tmp_path / "ca.pem"
    bundle.write_text("")
    found = conf.load(environ={**KEYS, **verify, "REQUESTS_CA_BUNDLE": str(bundle)}, home=tmp_path)
    assert found.verify_certificate == (str(bundle) if expected == "bundle" else expected)


def test_a_ca_bundle_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigError, match="REQUESTS_CA_BUNDLE names '/none/ca.pem', which is no file"):
        conf.load(environ={**KEYS, "REQUESTS_CA_BUNDLE": "/none/ca.pem"}, home=tmp_path)
