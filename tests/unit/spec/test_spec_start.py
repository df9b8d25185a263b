"""The pod's start script, really run by dash, bash and busybox, against a real server, with a stand-in agent."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import lend
import pytest
from clearml_k8s.spec.script import (
    AGENT_VERSION,
    EXIT_CANNOT_TELL,
    EXIT_NOT_OURS,
    EXIT_STOPPED_EARLY,
    EXIT_UNPREPARED,
    start_check,
    start_command,
    start_script,
)
from spec_clearml_login import TOKEN, login_server
from spec_pod import FAKE_AGENT, LIMIT, Pod, unused_port, wait_for_line
from spec_support import ATTEMPT, TASK_ID, Build, environment, kubernetes_expansion, task_container


def test_the_agent_runs_in_the_scripts_own_process_and_gets_sigterm(pod: Pod) -> None:
    process = pod.popen(AGENT_WAITS="1")
    wait_for_line(process, "agent is running")
    agent = pod.agent()
    assert agent is not None
    assert agent["pid"] == process.pid
    assert agent["argv"] == ["execute", "--full-monitoring", "--require-queue", "--id", TASK_ID]
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=LIMIT)
    assert process.returncode == 0
    assert pod.record.with_suffix(".term").exists()


def test_the_check_asks_for_this_task_only(pod: Pod) -> None:
    code, _ = pod.run()
    assert code == 0
    assert pod.server.calls == [
        ("/auth.login", {}),
        (
            "/tasks.get_all",
            {"id": [TASK_ID], "only_fields": ["id", "status", "status_changed"], "search_hidden": True},
        ),
    ]


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (
            {"status": "queued", "status_changed": "2026-01-15T07:00:00.000000+00:00"},
            "was enqueued anew at 2026-01-15T07",
        ),
        ({"status": "stopped", "status_changed": ATTEMPT}, "is stopped, not queued any more"),
        ({"status": "in_progress", "status_changed": ATTEMPT}, "is in_progress, not queued any more"),
        (None, "does not exist any more"),
    ],
)
def test_a_task_that_is_not_this_pods_any_more_is_left_alone(pod: Pod, task: dict[str, str] | None, said: str) -> None:
    pod.server.task = {"id": TASK_ID, **task} if task else None
    code, output = pod.run()
    assert code == EXIT_NOT_OURS
    assert said in output
    assert output.rstrip().endswith("nothing is started")
    assert pod.agent() is None


def test_a_server_that_fails_at_first_is_asked_again(pod: Pod) -> None:
    pod.server.failures = [503, 500]
    code, output = pod.run()
    assert code == 0
    assert "cannot be reached (OSError: auth.login: HTTP 503); trying again for up to" in output
    assert pod.agent() is not None


def test_a_server_that_stays_away_ends_in_doubt(pod: Pod) -> None:
    code, output = pod.run(CLEARML_API_HOST=f"http://localhost:{unused_port()}", CLEARML_K8S_START_CHECK_SECONDS="1")
    assert code == EXIT_CANNOT_TELL
    assert "could not be reached for" in output
    assert pod.agent() is None


def test_wrong_credentials_end_at_once(pod: Pod) -> None:
    code, output = pod.run(CLEARML_API_SECRET_KEY="wrong")
    assert code == EXIT_CANNOT_TELL
    assert "auth.login: HTTP 401, subcode 22: Unauthorized (invalid credentials)" in output
    assert len(pod.server.calls) == 1


@pytest.mark.parametrize("token", [TOKEN, "another"])
def test_the_owners_token_stands_in_for_the_keys(pod: Pod, token: str) -> None:
    """It is not asked for another one: the agent does that, for itself."""
    for name in ("CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY"):
        del pod.env[name]
    pod.server.failures = [] if token == TOKEN else [401]
    code, output = pod.run(CLEARML_AUTH_TOKEN=token)
    assert [path for path, _ in pod.server.calls] == ["/tasks.get_all"]
    agent = pod.agent()
    if token == TOKEN:
        assert code == 0
        assert agent is not None
    else:
        assert (code, agent) == (EXIT_CANNOT_TELL, None)
        assert "tasks.get_all: HTTP 401" in output
        assert token not in output


def test_missing_settings_are_named(pod: Pod) -> None:
    code, output = pod.run(CLEARML_API_SECRET_KEY="", CLEARML_K8S_ATTEMPT="")
    assert code == EXIT_CANNOT_TELL
    assert "the environment lacks CLEARML_API_SECRET_KEY, CLEARML_K8S_ATTEMPT" in output


def test_credentials_do_not_follow_a_redirect(pod: Pod) -> None:
    with login_server() as elsewhere:
        pod.server.redirect_to = elsewhere.url + "/auth.login"
        code, output = pod.run()
        assert elsewhere.calls == []
    assert code == EXIT_CANNOT_TELL
    assert "answers with a redirect" in output


def test_sigterm_before_the_start_ends_the_pod(pod: Pod) -> None:
    process = pod.popen(CLEARML_API_HOST=f"http://localhost:{unused_port()}")
    wait_for_line(process, "cannot be reached")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == EXIT_STOPPED_EARLY
    assert "told to stop before the task was started" in output


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of localhost and its key, in one file."""
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", file, "-out", f"{file}.crt"),
        ],
        check=True,
        capture_output=True,
    )
    with file.open("a") as both:
        both.write(Path(f"{file}.crt").read_text())
    return file


@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        ({}, EXIT_CANNOT_TELL, "the certificate of the ClearML server is not trusted"),
        ({"CLEARML_API_HOST_VERIFY_CERT": "false"}, 0, "agent is running"),
        ({"REQUESTS_CA_BUNDLE": "CERTIFICATE"}, 0, "agent is running"),
        ({"SSL_CERT_FILE": "CERTIFICATE"}, 0, "agent is running"),
        ({"REQUESTS_CA_BUNDLE": "/missing.pem"}, EXIT_CANNOT_TELL, "names /missing.pem, which does not exist"),
    ],
)
def test_tls(pod: Pod, certificate: Path, settings: dict[str, str], code: int, said: str) -> None:
    with login_server(certificate=certificate) as server:
        server.task = pod.server.task
        settings = {name: value.replace("CERTIFICATE", f"{certificate}.crt") for name, value in settings.items()}
        found, output = pod.run(CLEARML_API_HOST=server.url, **settings)
    assert (found, said in output) == (code, True), output


def test_a_broken_bundle_of_certificates_is_named(pod: Pod, certificate: Path) -> None:
    broken = pod.folder / "broken.pem"
    lines = Path(f"{certificate}.crt").read_text().splitlines()
    broken.write_text("\n".join([*lines, *lines[:2], *lines[3:]]) + "\n")
    code, output = pod.run(REQUESTS_CA_BUNDLE=str(broken), CLEARML_API_HOST="https://localhost:1")
    assert code == EXIT_CANNOT_TELL
    assert f"REQUESTS_CA_BUNDLE names {broken}, which cannot be read as certificates" in output


def test_the_password_of_a_proxy_is_not_shown(pod: Pod) -> None:
    """Python's own error for one slash too few repeats all of it."""
    proxy = "http:/user:NEVER-SHOWN@proxy.example.com:3128"
    env = {"CLEARML_API_HOST": "http://api.example.com", "http_proxy": proxy, "CLEARML_K8S_START_CHECK_SECONDS": "1"}
    code, output = pod.run(**env)
    assert code == EXIT_CANNOT_TELL
    assert "NEVER" not in output
    assert "the address of the ClearML server, or of a proxy in the environment, is no URL" in output


def test_an_image_without_python_is_told_so(pod: Pod) -> None:
    code, output = pod.run(PATH=str(folder_with(pod.folder / "bin", "env", "id", "dirname")))
    assert code == EXIT_UNPREPARED
    assert "the image has no Python 3.6 or newer" in output
    assert pod.server.calls == []


def test_local_python_is_used_and_a_wrong_one_is_named(pod: Pod) -> None:
    only = folder_with(pod.folder / "bin", "env", "id")
    assert pod.run(PATH=str(only), LOCAL_PYTHON=sys.executable)[0] == 0
    code, output = pod.run(LOCAL_PYTHON="/opt/nothing")
    assert code == EXIT_UNPREPARED
    assert "LOCAL_PYTHON names /opt/nothing, which is no Python 3.6 or newer" in output


def test_the_python_that_has_the_agent_is_preferred(pod: Pod) -> None:
    path = folder_with(pod.folder / "bin", "env", "id")
    executable(path / "python3", f'#!/bin/sh\nunset PYTHONPATH\nexec {bare_python(pod.folder)} "$@"\n')
    (path / "python3.11").symlink_to(sys.executable)
    code, output = pod.run(PATH=str(path))
    assert code == 0, output
    assert pod.agent() is not None


def test_the_setup_script_runs_in_the_same_shell_and_leaves_the_environment(pod: Pod) -> None:
    script = 'cd /\nexport EXPORTED="a\'b $HOME"\nset -eux\ntrue\n'
    code, output = pod.run(CLEARML_K8S_SETUP_SCRIPT=script, HOME="/home/x", PATH=pod.env["PATH"])
    assert code == 0, output
    agent = pod.agent()
    assert agent is not None
    assert agent["env"] == {"EXPORTED": "a'b /home/x", "CLEARML_K8S_SETUP_SCRIPT": None}


@pytest.mark.parametrize("script", ["exit 7", "exit 0", "if", "set -e\nfalse"])
def test_a_setup_script_that_ends_the_shell_is_named(pod: Pod, script: str) -> None:
    code, output = pod.run(CLEARML_K8S_SETUP_SCRIPT=script)
    if script == "if" and pod.shell[0].endswith("bash"):
        assert code == 0  # bash tells the syntax error and goes on
        return
    assert (code == 0) is (script == "exit 0")
    assert f"ended with exit code {code} while running the task's setup script" in output
    assert pod.agent() is None


@pytest.fixture(scope="session")
def python_with_pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with pip and without the agent."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=True, symlinks=True)
    return folder / "bin"


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder with the stand-in for the agent as a wheel."""
    folder, info = tmp_path / "wheels", f"clearml_agent-{AGENT_VERSION}.dist-info"
    folder.mkdir()
    with zipfile.ZipFile(folder / f"clearml_agent-{AGENT_VERSION}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("clearml_agent/__init__.py", "")
        wheel.writestr("clearml_agent/__main__.py", FAKE_AGENT)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: clearml-agent\nVersion: {AGENT_VERSION}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return folder


def test_an_image_without_the_agent_gets_it_by_pip(pod: Pod, python_with_pip: Path, wheels: Path) -> None:
    pip = {
        "PATH": f"{python_with_pip}:/usr/bin:/bin",
        "PYTHONPATH": "",
        "PIP_NO_INDEX": "1",
        "PIP_CONFIG_FILE": os.devnull,
    }
    target = {"PIP_TARGET": str(pod.folder / "target"), "PYTHONPATH": str(pod.folder / "target")}
    local = {"LOCAL_PYTHON": str(python_with_pip / "python3")}

    code, output = pod.run(**pip, **local)
    assert code == EXIT_UNPREPARED
    assert f"pip could not install clearml-agent=={AGENT_VERSION} (see above): if the package index is not" in output

    code, output = pod.run(**pip, **local, CLEARML_AGENT_NO_UPDATE="1")
    assert code == EXIT_UNPREPARED
    assert "CLEARML_AGENT_NO_UPDATE forbids to install it" in output

    assert pod.agent() is None
    code, output = pod.run(**{**pip, **local, **target}, PIP_FIND_LINKS=str(wheels))
    assert code == 0, output
    assert f"installing clearml-agent=={AGENT_VERSION} with pip" in output
    assert pod.agent() is not None


def test_missing_system_packages_are_installed_once_asked_for(pod: Pod) -> None:
    path = folder_with(pod.folder / "bin", "env", "id", "ln")
    executable(
        path / "apt-get",
        f'#!/bin/sh\necho "apt-get $*"\ncase "$*" in *python3*) ln -s {sys.executable} {path}/python3;; esac\n',
    )
    env = {"PATH": str(path), "CLEARML_AGENT_SKIP_CONTAINER_APT": "", "CLEARML_K8S_NEEDS_GIT": "1"}
    executable(path / "id", "#!/bin/sh\necho 0\n")
    code, output = pod.run(**env)
    assert code == 0, output
    assert "apt-get -qq install -y --no-install-recommends git python3 python3-pip" in output

    executable(path / "git", "#!/bin/sh\n")
    assert "apt-get" not in pod.run(**env)[1]


REFUSES = """
import sys
version = str
def _ensurepip_is_disabled_in_debian_for_system():
    sys.exit(1)
"""


@pytest.mark.parametrize(
    ("pip", "installed"), [("none", "python3-pip"), ("refused", "python3-pip"), ("ensured", ""), ("given", "")]
)
def test_a_python_without_pip_gets_the_distributions(pod: Pod, python_with_pip: Path, pip: str, installed: str) -> None:
    """Debian's: neither pip nor ensurepip, or one that does not work there, until python3-pip is there."""
    path = folder_with(pod.folder / "bin", "env", "id", "ln", "rm")
    executable(path / "id", "#!/bin/sh\necho 0\n")
    brings = f"rm {path}/python3; ln -s {sys.executable} {path}/python3"
    executable(path / "apt-get", f'#!/bin/sh\necho "apt-get $*"\ncase "$*" in *pip*) {brings} ;; esac\n')
    hides = {"none": "*ensurepip*|*-m?pip*", "refused": "*-m?pip*", "ensured": "*-m?pip*", "given": "nothing"}[pip]
    stand_in = pod.folder / pip
    stand_in.mkdir()
    if pip == "refused":
        (stand_in / "ensurepip.py").write_text(REFUSES)
    bare = (
        f'#!/bin/sh\ncase "$*" in {hides}) exit 1 ;; esac\nPYTHONPATH={stand_in} exec {python_with_pip}/python3 "$@"\n'
    )
    executable(path / "python3", bare)
    env = {
        "PATH": str(path),
        "CLEARML_AGENT_SKIP_CONTAINER_APT": "",
        "PIP_NO_INDEX": "1",
        "PIP_CONFIG_FILE": os.devnull,
    }
    code, output = pod.run(**env)
    found = re.findall("apt-get -qq install -y --no-install-recommends (.*)", output)
    assert found == ([installed] if installed else []), output
    assert (code == 0) is bool(installed), output
    if pip == "none":
        executable(path / "python3", bare)
        code, output = pod.run(**env, LOCAL_PYTHON=str(path / "python3"))
        assert (code, "apt-get" in output) == (EXIT_UNPREPARED, False), "it would not be that Python's"


def test_no_system_package_is_installed_when_switched_off_or_not_root(pod: Pod) -> None:
    path = folder_with(pod.folder / "bin", "env")
    executable(path / "apt-get", '#!/bin/sh\necho "apt-get $*"\n')
    executable(path / "id", "#!/bin/sh\necho 1000\n")
    own_id = pod.shell[-1] == "ash"  # of busybox, whatever PATH says
    for skip in ("1",) if own_id else ("1", ""):
        code, output = pod.run(PATH=str(path), CLEARML_AGENT_SKIP_CONTAINER_APT=skip)
        assert code == EXIT_UNPREPARED
        assert "apt-get" not in output


def test_the_built_jobs_command_runs_as_the_kubelet_would_run_it(pod: Pod, build: Build) -> None:
    """Command and environment of a real manifest, after Kubernetes' expansion; the setup script survives unchanged."""
    setup = "printf '%s' 'x $(A) $$ \"q\" \\n' > written\nif [[ -n x ]]; then export EXPORTED=bash; fi\n"
    container = task_container(build(setup_shell_script=setup, arguments="-e A=expanded"))
    values = {
        name: value for name, value in environment(build(setup_shell_script=setup)).items() if isinstance(value, str)
    }
    values["A"] = "expanded"
    env = {name: kubernetes_expansion(value, values) for name, value in values.items()}
    command = [kubernetes_expansion(word, env) for word in container["command"]]
    done = subprocess.run(
        command,
        env={**env, **pod.env},
        cwd=pod.folder,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (pod.folder / "written").read_text() == 'x $(A) $$ "q" \\n'
    agent = pod.agent()
    assert agent is not None
    assert agent["env"]["EXPORTED"] == "bash"


# ---- the administrator's scripts -------------------------------------------------------------------------------------

OWN = """\
{extra_bash_init_cmd}
{extra_docker_bash_script}
echo "own script of {task_id} with $LOCAL_PYTHON and ${{EXPORTED}}"
$LOCAL_PYTHON -m clearml_agent execute {default_execution_agent_args} --id {task_id}
"""


def further(*, preparation: str = "", own: str = "") -> tuple[str, ...]:
    """As the kubelet hands it over."""
    return tuple(
        kubernetes_expansion(word, {}) for word in start_command(preparation=preparation, own=own, task_id=TASK_ID)[5:]
    )


def test_the_preparation_runs_first_and_what_it_exports_reaches_the_task(pod: Pod) -> None:
    pod.further = further(preparation="export EXPORTED=first\necho 'it prepares'; set -e")
    code, output = pod.run(CLEARML_K8S_SETUP_SCRIPT='export EXPORTED="$EXPORTED and second"')
    assert code == 0
    assert "clearml-k8s: running agentk8sglue.customBashScript\nit prepares\n" in output
    agent = pod.agent()
    assert agent is not None
    assert agent["env"]["EXPORTED"] == "first and second"


#: What a script of others may define, and call "return" in the middle of.
MEDDLING = """
for name in say fail stop ended run is_python has_agent has_pip find_python check_task install_agent; do
    eval "$name() { exit 9; }"
done
check=x own=x stage=x python=x child=x code=x missing=x requirement=x
set -eu
return 0
exit 9
"""


def test_names_and_options_of_other_peoples_scripts_change_nothing_of_ours(pod: Pod) -> None:
    pod.further = further(preparation=MEDDLING)
    code, output = pod.run(CLEARML_K8S_SETUP_SCRIPT=MEDDLING)
    assert code == 0, output
    agent = pod.agent()
    assert agent is not None
    assert agent["argv"][0] == "execute"


def test_no_setup_script_takes_the_check_away(pod: Pod) -> None:
    pod.server.task = None
    _, output = pod.run(CLEARML_K8S_SETUP_SCRIPT="ck8s_check=")
    assert pod.agent() is None, output


def test_a_preparation_that_ends_the_shell_is_named(pod: Pod) -> None:
    pod.further = further(preparation="exit 3")
    code, output = pod.run()
    assert code == 3
    assert "ended with exit code 3 while running agentk8sglue.customBashScript" in output


# ---- agent.extra_docker_shell_script ---------------------------------------------------------------------------------


def with_conf(pod: Pod, text: str) -> None:
    """The pod has this clearml.conf, and the parser that the real agent brings with it."""
    real = importlib.util.find_spec("clearml_agent")
    assert real is not None
    assert real.submodule_search_locations
    package = pod.folder / "modules" / "clearml_agent"
    for part in ("external", "_vendor"):
        (package / part).symlink_to(Path(real.submodule_search_locations[0]) / part)
    file = pod.folder / "clearml.conf"
    file.write_text(text)
    pod.env["CLEARML_CONFIG_FILE"] = str(file)


COMMENTED = """agent {
  # none: extra_docker_shell_script
  extra_docker_shell_script: "export EXPORTED=extra; echo it is extra"
}"""


@pytest.mark.parametrize(
    "conf", ['agent.extra_docker_shell_script: ["export EXPORTED=extra", "echo it is extra"]', COMMENTED]
)
def test_the_extra_script_runs_before_the_tasks_own(pod: Pod, conf: str) -> None:
    with_conf(pod, conf)
    code, output = pod.run(CLEARML_K8S_SETUP_SCRIPT='export EXPORTED="$EXPORTED and second"')
    assert code == 0, output
    assert "clearml-k8s: running agent.extra_docker_shell_script of clearml.conf\nit is extra\n" in output
    agent = pod.agent()
    assert agent is not None
    assert agent["env"]["EXPORTED"] == "extra and second"


@pytest.mark.parametrize(
    "conf",
    ["agent { }", "agent {\n  # extra_docker_shell_script: [exit 3]\n}", "agent.extra_docker_shell_script: []", ""],
)
def test_a_conf_without_an_extra_script_runs_none(pod: Pod, conf: str) -> None:
    with_conf(pod, conf)
    code, output = pod.run()
    assert code == 0
    assert "running agent.extra" not in output
    assert pod.agent() is not None


def test_a_conf_that_cannot_be_read_for_its_script_is_told_and_not_shown(pod: Pod) -> None:
    with_conf(pod, "agent.extra_docker_shell_script: [CANARY-4711")
    code, output = pod.run()
    assert code == EXIT_UNPREPARED
    assert "agent.extra_docker_shell_script cannot be read: clearml.conf is no valid HOCON" in output
    assert "CANARY" not in output
    assert pod.agent() is None


def test_an_extra_script_that_ends_the_shell_is_named(pod: Pod) -> None:
    with_conf(pod, "agent.extra_docker_shell_script: [exit 3]")
    code, output = pod.run()
    assert code == 3
    assert "ended with exit code 3 while running agent.extra_docker_shell_script of clearml.conf" in output


def test_an_own_script_gets_the_extra_one_where_it_has_the_placeholder(pod: Pod) -> None:
    with_conf(pod, 'agent.extra_docker_shell_script: ["export EXPORTED=extra"]')
    pod.further = further(own=OWN)
    code, output = pod.run(CLEARML_K8S_SETUP_SCRIPT='export EXPORTED="$EXPORTED and second"')
    assert code == 0, output
    assert "and extra and second" in output


def test_an_own_script_runs_with_its_placeholders_filled(pod: Pod) -> None:
    pod.further = further(preparation="export EXPORTED=first", own=OWN)
    code, output = pod.run(CLEARML_K8S_SETUP_SCRIPT='export EXPORTED="$EXPORTED and second"; echo "$0 $# {braces}"')
    assert code == 0
    assert f"own script of {TASK_ID} with " in output
    assert "and first and second" in output
    assert "{braces}" in output
    agent = pod.agent()
    assert agent is not None
    assert agent["argv"] == ["execute", "--full-monitoring", "--require-queue", "--id", TASK_ID]


def test_an_own_script_is_not_run_for_a_task_that_is_not_this_pods(pod: Pod) -> None:
    pod.further = further(own=OWN)
    pod.server.task = None
    code, output = pod.run()
    assert code == EXIT_NOT_OURS
    assert "own script" not in output
    assert pod.agent() is None


def test_an_own_scripts_exit_code_is_the_pods(pod: Pod) -> None:
    pod.further = further(own="exit 7\n# clearml_agent execute")
    assert pod.run()[0] == 7


def test_all_that_an_own_script_started_is_told_to_end(pod: Pod) -> None:
    pod.further = further(own=OWN + "echo 'goes on'; exit 5")
    with pod.popen(AGENT_WAITS="1") as process:
        wait_for_line(process, "agent is running")
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=LIMIT)
        finally:
            process.kill()
    assert process.returncode > 0
    assert pod.record.with_suffix(".term").exists()


def test_an_own_script_needs_python_for_the_check(pod: Pod) -> None:
    pod.further = further(own=OWN)
    code, output = pod.run(PATH=str(pod.folder))
    assert code == EXIT_UNPREPARED
    assert "to ask the ClearML server whether the task is still to run" in output


# ---- bootstrap -------------------------------------------------------------------------------------------------------

PYTHON_BINARY = "CLEARML_AGENT__AGENT__PYTHON_BINARY"
PIP_VERSION = "CLEARML_AGENT__AGENT__PACKAGE_MANAGER__PIP_VERSION"


@dataclass(frozen=True)
class Bundle:
    """A stand-in for what the init container brings; `image` is the one folder of programs that the image has."""

    folder: Path
    image: Path
    pod: Pod
    bare: Path
    """A Python without packages."""

    @property
    def agent(self) -> Path:
        return self.folder / "agent/bin/python"

    @property
    def work(self) -> Path:
        return Path(f"{self.folder}-work")

    def run(self, **env: str) -> tuple[int, str, dict[str, str] | None]:
        """Exit code, output, and the environment that the stand-in for the agent saw."""
        settings = {
            "PATH": str(self.image),
            "PYTHONPATH": "",
            "CLEARML_K8S_BOOTSTRAP": str(self.folder),
            "CLEARML_AGENT_SKIP_CONTAINER_APT": "",
        }
        code, output = self.pod.run(**{**settings, **env})
        agent = self.pod.agent()
        return code, output, agent["environ"] if agent else None

    def gives(self, name: str, *, agent: bool = False, environments: bool = True) -> Path:
        """The image has this Python, with clearml-agent or without, which can make virtual environments or not."""
        modules = f"PYTHONPATH={self.pod.env['PYTHONPATH']}" if agent else "PYTHONPATH="
        fails = "" if environments else 'case "$*" in *ensurepip*|*virtualenv*) exit 1 ;; esac\n'
        path = self.image / name
        executable(path, f'#!/bin/sh\n{fails}{modules} exec {self.bare} "$@"\n')
        return path


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bare_python(tmp_path_factory.mktemp("python"))


@pytest.fixture
def bundle(pod: Pod, bare: Path) -> Bundle:
    folder = pod.folder / "bundle"
    for part in ("agent/bin", "python/bin", "git/bin", "wheels"):
        (folder / part).mkdir(parents=True)
    for part in ("home", "tmp", "bin"):
        (pod.folder / "bundle-work" / part).mkdir(parents=True)
    modules = pod.env["PYTHONPATH"]
    executable(folder / "agent/bin/python", f'#!/bin/sh\nPYTHONPATH={modules} exec {bare} "$@"\n')
    executable(folder / "python/bin/python3", f'#!/bin/sh\nPYTHONPATH= exec {bare} "$@"\n')
    executable(folder / "git/bin/git", "#!/bin/sh\necho git of the bundle\n")
    (folder / "wheels/pip-versions").write_text('[" @ file:///x.whl"]\n')
    folder_with(folder / "git/tools", "mktemp", "rm")
    (folder / "ca-certificates.crt").touch()
    shutil.copyfile(Path(lend.__file__), folder / "lend.py")
    image = folder_with(pod.folder / "bin", "env", "id")
    executable(image / "apt-get", '#!/bin/sh\necho "apt-get $*"\n')
    return Bundle(folder, image, pod, bare)


def test_bootstrap_in_an_image_without_python_and_git(bundle: Bundle) -> None:
    code, output, seen = bundle.run(
        CLEARML_K8S_NEEDS_GIT="1", CLEARML_K8S_SETUP_SCRIPT="git; python3 -c 'print(4 + 4)'"
    )
    assert code == 0, output
    assert "git of the bundle\n8\n" in output
    assert "apt-get" not in output
    assert "installing" not in output
    assert seen is not None
    assert seen[PYTHON_BINARY] == str(bundle.folder / "python/bin/python3")
    assert seen[PIP_VERSION] == '[" @ file:///x.whl"]'
    assert seen["SSL_CERT_FILE"]
    assert str(bundle.folder / "python/bin") in seen["PATH"].split(":")


def test_bootstrap_leaves_the_task_the_python_of_its_image(bundle: Bundle) -> None:
    python = bundle.gives("python3")
    executable(bundle.image / "git", "#!/bin/sh\n")
    code, output, seen = bundle.run()
    assert code == 0, output
    assert seen is not None
    assert seen[PYTHON_BINARY] == str(python)
    assert seen["PATH"] == str(bundle.image)


def test_bootstrap_is_not_used_where_the_image_has_the_agent(bundle: Bundle) -> None:
    bundle.gives("python3", agent=True)
    bundle.agent.unlink()
    code, output, seen = bundle.run()
    assert code == 0, output
    assert seen is not None
    assert PYTHON_BINARY not in seen
    assert PIP_VERSION not in seen


def test_bootstrap_lends_virtualenv_to_a_python_that_makes_no_environments(bundle: Bundle) -> None:
    python = bundle.gives("python3", environments=False)
    other = bundle.gives("python3.9", environments=False)
    code, output, seen = bundle.run()
    assert code == 0, output
    assert seen is not None
    assert seen[PYTHON_BINARY] == str(bundle.work / "bin/python3")
    assert seen["PATH"].split(":")[0] == str(bundle.work / "bin")
    for name, real in (("python3", python), ("python3.9", other)):
        executable(bundle.agent, '#!/bin/sh\necho "made by the bundle: $*"\n')
        program = str(bundle.work / "bin" / name)
        made = subprocess.run([program, "-m", "virtualenv", "a b"], capture_output=True, text=True, check=True)
        assert made.stdout.startswith(f"made by the bundle: -m virtualenv --no-download --python {real} a b")
        itself = subprocess.run([program, "-c", "print('itself')"], capture_output=True, text=True, check=True)
        assert itself.stdout == "itself\n"


def test_bootstrap_with_a_python_that_is_not_on_path(bundle: Bundle) -> None:
    elsewhere = bundle.pod.folder / "elsewhere"
    elsewhere.mkdir()
    python = bundle.gives("python3", environments=False).rename(elsewhere / "mine")
    code, output, seen = bundle.run(LOCAL_PYTHON=str(python))
    assert code == 0, output
    assert seen is not None
    assert str(python) in Path(seen[PYTHON_BINARY]).read_text()


def test_a_python_that_the_setup_script_brings_is_the_tasks(bundle: Bundle) -> None:
    hidden = bundle.pod.folder / "later"
    hidden.mkdir()
    bundle.gives("python3").rename(hidden / "python3")
    code, output, seen = bundle.run(CLEARML_K8S_SETUP_SCRIPT=f'export PATH="{hidden}:$PATH"')
    assert code == 0, output
    assert seen is not None
    assert seen[PYTHON_BINARY] == str(hidden / "python3")


@pytest.mark.parametrize("bootstrap", [True, False])
def test_local_python_may_be_what_the_setup_script_brings(bundle: Bundle, bootstrap: bool) -> None:
    python = bundle.gives("mine", agent=True).rename(bundle.pod.folder / "mine")
    later = bundle.pod.folder / "later"
    env = {} if bootstrap else {"CLEARML_K8S_BOOTSTRAP": "", "CLEARML_AGENT_SKIP_CONTAINER_APT": "1"}
    brings = f"{shutil.which('ln')} -s {python} {later}"
    code, output, seen = bundle.run(LOCAL_PYTHON=str(later), CLEARML_K8S_SETUP_SCRIPT=brings, **env)
    assert code == 0, output
    assert seen is not None


def test_bootstrap_keeps_what_the_template_says(bundle: Bundle, certificate: Path) -> None:
    own = f"{certificate}.crt"
    code, output, seen = bundle.run(**{PYTHON_BINARY: "/own", PIP_VERSION: "<30", "SSL_CERT_FILE": own})
    assert code == 0, output
    assert seen is not None
    assert (seen[PYTHON_BINARY], seen[PIP_VERSION], seen["SSL_CERT_FILE"]) == ("/own", "<30", own)


def test_bootstrap_gives_a_home_to_users_without_one(bundle: Bundle) -> None:
    _, _, seen = bundle.run(HOME="/nowhere", TMPDIR="/nowhere")
    assert seen is not None
    assert (seen["HOME"], seen["TMPDIR"]) == (str(bundle.work / "home"), str(bundle.work / "tmp"))
    own = str(bundle.pod.folder)
    _, _, seen = bundle.run(HOME=own, TMPDIR=own)
    assert seen is not None
    assert (seen["HOME"], seen["TMPDIR"]) == (own, own)


def test_bootstrap_gives_a_home_to_root_where_nothing_can_be_written(bundle: Bundle) -> None:
    """Of any folder the shell's own test says yes to root; /proc takes nobody's files, as a read-only root."""
    _, _, seen = bundle.run(HOME="/proc", TMPDIR="/proc")
    assert seen is not None
    assert (seen["HOME"], seen["TMPDIR"]) == (str(bundle.work / "home"), str(bundle.work / "tmp"))


def test_looking_at_a_home_leaves_nothing_in_it(bundle: Bundle) -> None:
    home = bundle.pod.folder / "home"
    home.mkdir()
    _, _, seen = bundle.run(HOME=str(home), TMPDIR=str(home))
    assert seen is not None
    assert seen["HOME"] == str(home)
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("python", [True, False])
def test_the_extra_script_is_read_by_the_bundles_agent(bundle: Bundle, python: bool) -> None:
    with_conf(bundle.pod, 'agent.extra_docker_shell_script: ["export EXPORTED=extra", "echo it is extra"]')
    if python:
        bundle.gives("python3")
    code, output, seen = bundle.run()
    assert code == 0, output
    assert "it is extra" in output
    assert "installing" not in output
    assert seen is not None
    assert seen["EXPORTED"] == "extra"


def test_an_own_script_gets_the_extra_one_by_the_bundles_agent(bundle: Bundle) -> None:
    with_conf(bundle.pod, 'agent.extra_docker_shell_script: ["export EXPORTED=extra"]')
    bundle.pod.further = further(own=OWN)
    code, output, _ = bundle.run()
    assert code == 0, output
    assert "and extra" in output


def test_an_agent_of_the_bundle_that_does_not_start_is_told(bundle: Bundle) -> None:
    executable(bundle.agent, "#!/bin/sh\nexit 1\n")
    code, output, seen = bundle.run()
    assert (code, seen) == (EXIT_UNPREPARED, None)
    assert "the clearml-agent that bootstrap has brought does not start in this image" in output


def test_an_own_script_gets_the_bundles_agent(bundle: Bundle) -> None:
    python = bundle.gives("python3")
    bundle.pod.further = further(own=OWN)
    code, output, seen = bundle.run()
    assert code == 0, output
    assert f"own script of {TASK_ID} with {bundle.agent}" in output
    assert seen is not None
    assert seen[PYTHON_BINARY] == str(python)


def test_without_scripts_the_command_is_that_of_ever() -> None:
    assert start_command(preparation=" \n", own="  ") == start_command()


def test_the_texts_are_constant_and_valid() -> None:
    assert len(start_command()) == 5
    assert sum(map(len, start_command())) < 20_000
    compile(start_check(), "start_check", "exec")
    assert "@AGENT_VERSION@" not in start_script()
    assert "set -x" not in start_script().replace("set +eux", "")


def folder_with(folder: Path, *programs: str) -> Path:
    """A folder for PATH that holds these programs of the machine and no other."""
    folder.mkdir(exist_ok=True)
    for name in programs:
        program = shutil.which(name)
        assert program, name
        (folder / name).symlink_to(program)
    return folder


def executable(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.write_text(textwrap.dedent(text))
    path.chmod(0o755)


def bare_python(folder: Path) -> Path:
    """A Python without the agent and without pip."""
    venv.create(folder / "bare", with_pip=False, symlinks=True)
    return folder / "bare" / "bin" / "python3"
