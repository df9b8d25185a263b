from __future__ import annotations

import io
import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from clearml_k8s import cli
from clearml_k8s.config.glue_flags import REFUSED

CONFIG = """
releaseName: gpu
fullname: gpu-clearml-agent
namespace: clearml
clearml:
  apiServer: https://api.example.com
  taskCredentials: {secretName: creds, accessKeyKey: a, secretKeyKey: b}
task: {serviceAccountName: gpu-task}
queues:
  small: {}
  big:
    templateOverrides: {nodeSelector: {pool: big}}
"""
SECRET = "s3cret-of-the-controller"

# Every flag of ClearML's `k8s_glue_example.py` (docs of clearml-agent 3.0.3), and the Enterprise one.
GLUE_FLAGS = [
    "--namespace",
    "--template-yaml",
    "--overrides-yaml",
    "--pod-clearml-conf",
    "--ports-mode",
    "--num-of-services",
    "--base-port",
    "--base-pod-num",
    "--gateway-address",
    "--ssh-server-port",
    "--max-pods",
    "--pod-name-prefix",
    "--limit-pod-label",
    "--no-system-packages",
    "--use-owner-token",
    "--create-queue",
    "--debug",
    "--k8s-pending-queue-name",
    "--container-bash-script",
    "--child-report-tags",
    "--queue",
]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "CLEARML_WORKER_ID",
        "CLEARML_DOCKER_IMAGE",
        "CLEARML_CONFIG_FILE",
        "CLEARML_WEB_HOST",
        "CLEARML_FILES_HOST",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLEARML_API_HOST", "http://clearml:8008")
    monkeypatch.setenv("CLEARML_API_ACCESS_KEY", "key-of-the-controller")
    monkeypatch.setenv("CLEARML_API_SECRET_KEY", SECRET)


@pytest.fixture
def config_file(tmp_path: Path) -> str:
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG, encoding="utf-8")
    return str(file)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any, dict[str, Any]]]:
    """Stands in for `clearml_k8s.app` and records how it is called."""
    calls: list[tuple[str, Any, dict[str, Any]]] = []

    def record(name: str, code: int) -> Any:
        def call(config: Any, **options: Any) -> int:
            calls.append((name, config, options))
            return code

        return call

    module = types.ModuleType("clearml_k8s.app")
    vars(module).update(run=record("run", 0), check=record("check", 1))
    monkeypatch.setitem(sys.modules, "clearml_k8s.app", module)
    return calls


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version"]) == 0
    assert capsys.readouterr().out.startswith("clearml-k8s ")


def test_run_and_check_hand_the_config_to_the_app(app: list[Any], config_file: str) -> None:
    assert cli.main(["run", "--config", config_file, "--kubeconfig", "k", "--context", "c"]) == 0
    assert cli.main(["check", "--config", config_file, "--skip-server"]) == 1
    (run, config, options), (check, _, check_options) = app
    assert (run, config.release_name, options) == ("run", "gpu", {"kubeconfig": "k", "context": "c"})
    assert (check, check_options) == ("check", {"skip_server": True, "kubeconfig": None, "context": None})


def test_run_takes_the_flags_of_the_glue_script(
    app: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = tmp_path / "pod.yaml"
    template.write_text("spec: {nodeSelector: {pool: gpu}}\n", encoding="utf-8")
    monkeypatch.setenv("CLEARML_WORKER_ID", "lab")
    command = ["run", "--queue", "a", "--queue", "b,c", "--namespace", "ml", "--max-pods", "4", "--create-queue"]
    command += ["--template-yaml", str(template), "--credentials-secret", "creds", "--credentials-keys", "k,s"]
    assert cli.main(command) == 0
    ((_, config, _),) = app
    assert list(config.queues) == ["a", "b", "c"]
    assert (config.namespace, config.max_pods, config.create_queues, config.worker_id) == ("ml", 4, True, "lab")
    assert config.clearml.api_server == "http://clearml:8008"
    assert config.clearml.task_credentials.secret_key_key == "s"
    assert config.base_pod_spec == {"nodeSelector": {"pool": "gpu"}}


def test_every_flag_of_the_glue_script_is_taken_or_refused_with_advice(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    known = capsys.readouterr().out
    for flag in GLUE_FLAGS:
        assert (flag in known) is not (flag in REFUSED), flag


def test_refused_flags_are_told_together_with_what_to_use(app: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "--queue", "a", "--ports-mode", "--pod-clearml-conf=x", "--base-port", "3"]) == 2
    message = capsys.readouterr().err
    for flag in ("--ports-mode", "--pod-clearml-conf", "--base-port"):
        assert f"{flag} is not taken: {REFUSED[flag]}" in message
    assert app == []


def test_a_flag_beside_a_config_file_is_refused(
    app: list[Any], config_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", "--config", config_file, "--queue", "a", "--create-queue", "--max-pods", "0"]) == 2
    assert "--queue, --max-pods, --create-queue: not together with --config" in capsys.readouterr().err
    assert app == []


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["run"], "give --config FILE, or the queues with --queue NAME"),
        (["run", "--queue", "a"], "--credentials-secret: missing"),
        (["run", "--config", "/nowhere.yaml"], "/nowhere.yaml cannot be read"),
        (["run", "--queue", "a", "--credentials-keys", "k", "--credentials-secret", "s"], "expected two keys"),
        (
            ["render", "--task-json", "/nowhere.json", "--queue", "a", "--credentials-secret", "s"],
            "cannot be read as JSON",
        ),
    ],
)
def test_wrong_use_is_one_message_and_exit_code_2(
    app: list[Any], command: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(command) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("clearml-k8s: ")
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert SECRET not in captured.err + captured.out
    assert app == []


def test_a_mistake_of_ours_is_told_without_traceback_and_without_values(
    app: list[Any], config_file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any, **__: Any) -> int:
        raise KeyError(SECRET)

    monkeypatch.setattr(sys.modules["clearml_k8s.app"], "run", broken)
    assert cli.main(["run", "--config", config_file]) == 1
    message = capsys.readouterr().err
    assert message.startswith("clearml-k8s: internal error (KeyError), please report it")
    assert "test_cli.py line" in message
    assert SECRET not in message
    assert app == []


@pytest.mark.parametrize("command", [[], ["walk"], ["run", "--quee", "a"], ["run", "--max-pods", "many"]])
def test_what_the_parser_refuses_is_exit_code_2_too(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(command)
    assert caught.value.code == 2
    assert "clearml-k8s: " in capsys.readouterr().err


def test_the_exit_codes_stand_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ([], ["run"], ["check"], ["render"]):
        with pytest.raises(SystemExit) as caught:
            cli.main([*command, "--help"])
        assert caught.value.code == 0
        text = " ".join(capsys.readouterr().out.split())
        assert "Exit codes: 0 done, 1 a problem was found, 2 wrong usage or configuration." in text


def test_render_prints_the_job_of_one_queue(config_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["render", "--config", config_file, "--queue", "big"]) == 0
    (job,) = yaml.safe_load_all(capsys.readouterr().out)
    kubernetes_validate.validate(job, "1.37", strict=True)
    assert job["spec"]["template"]["spec"]["nodeSelector"] == {"pool": "big"}
    assert job["metadata"]["annotations"]["clearml-k8s.io/queue-name"] == "big"


def test_render_prints_all_queues_by_default(config_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["render", "--config", config_file]) == 0
    jobs = list(yaml.safe_load_all(capsys.readouterr().out))
    assert [job["metadata"]["annotations"]["clearml-k8s.io/queue-name"] for job in jobs] == ["small", "big"]


def test_render_says_that_no_template_module_was_called(
    config_file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLEARML_K8S_GLUE_TEMPLATE_MODULE", "custom_code:update")
    assert cli.main(["render", "--config", config_file, "--queue", "big"]) == 0
    assert "the template module custom_code:update is not called here" in capsys.readouterr().err


def test_render_runs_no_commands_and_says_so(
    config_file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLEARML_K8S_GLUE_POD_POST_DELETE_CMD", "exit 1")
    assert cli.main(["render", "--config", config_file, "--queue", "big"]) == 0
    assert "the commands around pods (podCommands) are not run here" in capsys.readouterr().err


def test_render_explains_the_layers(config_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["render", "--config", config_file, "--queue", "big", "--explain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "# queue big"
    assert 'controller         spec.template.spec.restartPolicy: "Never"' in lines
    assert all(len(line) < 400 for line in lines)


def test_render_with_flags_shows_no_credentials(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["render", "--queue", "a,b", "--credentials-secret", "creds"]) == 0
    captured = capsys.readouterr()
    assert len(list(yaml.safe_load_all(captured.out))) == 2
    assert SECRET not in captured.out + captured.err
    assert "key-of-the-controller" not in captured.out + captured.err


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLEARML_API_ACCESS_KEY")
    monkeypatch.delenv("CLEARML_API_SECRET_KEY")


@pytest.mark.usefixtures("no_credentials")
def test_render_needs_no_credentials(config_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["render", "--queue", "a", "--credentials-secret", "creds"]) == 0
    assert cli.main(["render", "--config", config_file, "--queue", "big"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("no_credentials")
def test_check_without_the_server_needs_no_credentials(app: list[Any]) -> None:
    assert cli.main(["check", "--skip-server", "--queue", "a", "--credentials-secret", "creds"]) == 1
    assert [name for name, _, _ in app] == ["check"]


@pytest.mark.parametrize("variable", ["CLEARML_API_HOST", "CLEARML_WEB_HOST", "CLEARML_FILES_HOST"])
def test_an_address_with_a_password_is_refused_in_the_environment(
    variable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, f"https://user:{SECRET}@clearml")
    assert cli.main(["render", "--queue", "a", "--credentials-secret", "creds"]) == 2
    captured = capsys.readouterr()
    assert SECRET not in captured.out + captured.err
    assert f"{variable} (or " in captured.err


def test_an_address_with_a_password_is_refused_in_a_file_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        CONFIG.replace("clearml:\n", f"clearml:\n  webServer: https://user:{SECRET}@clearml\n"), encoding="utf-8"
    )
    assert cli.main(["render", "--config", str(file)]) == 2
    captured = capsys.readouterr()
    assert SECRET not in captured.out + captured.err
    assert "clearml.webServer: found a URL with a user name or password in it" in captured.err


@pytest.mark.parametrize(
    "wrap", [lambda task: task, lambda task: {"task": task}, lambda task: {"data": {"task": task}}]
)
def test_render_takes_a_task_as_the_server_answers_it(
    wrap: Any, config_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = {
        "id": "a" * 32,
        "name": "t",
        "status_changed": "2026-02-01T00:00:00.000000+00:00",
        "container": {"image": "ubuntu:22.04", "arguments": "-e A=1 --privileged"},
    }
    file = tmp_path / "task.json"
    file.write_text(json.dumps(wrap(task)), encoding="utf-8")
    assert cli.main(["render", "--config", config_file, "--queue", "small", "--task-json", str(file)]) == 0
    captured = capsys.readouterr()
    (job,) = yaml.safe_load_all(captured.out)
    assert job["metadata"]["name"] == "clearml-id-" + "a" * 32
    assert job["metadata"]["annotations"]["clearml-k8s.io/attempt"] == "2026-02-01T00:00:00.000000+00:00"
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == "ubuntu:22.04"
    assert captured.err.startswith("clearml-k8s: queue small: --privileged: ignored; ")


def test_render_reads_a_task_from_standard_input(
    config_file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"id": "abc"}'))
    assert cli.main(["render", "--config", config_file, "--queue", "small", "--task-json", "-"]) == 0
    assert "name: clearml-id-abc" in capsys.readouterr().out


def test_render_of_an_unknown_queue_names_the_nearest(config_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["render", "--config", config_file, "--queue", "smal"]) == 2
    assert "--queue smal: the configuration serves no such queue; did you mean small?" in capsys.readouterr().err


def test_a_task_that_cannot_become_a_job_is_exit_code_1(
    config_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "task.json"
    file.write_text('{"id": "abc", "container": {"image": "Not An Image"}}', encoding="utf-8")
    assert cli.main(["render", "--config", config_file, "--task-json", str(file)]) == 1
    assert "clearml-k8s: the task's container image: found 'Not'" in capsys.readouterr().err


def test_the_module_runs_as_a_program_and_survives_a_closed_pipe(config_file: str) -> None:
    command = f"{sys.executable} -m clearml_k8s.cli render --config {config_file} | head -n 1"
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PYTHONPATH": str(Path(cli.__file__).parents[2]), "PATH": "/usr/bin:/bin"},
    )
    assert (done.stdout, done.stderr) == ("apiVersion: batch/v1\n", "")


def test_render_goes_by_conditions_and_by_clearml_conf(
    config_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    conf, task = tmp_path / "mounted.conf", tmp_path / "task.json"
    conf.write_text('agent.default_docker.match_rules: [{image: "rule:1", match.tags: "^gpu$"}]')
    monkeypatch.setenv("CLEARML_K8S_TASK_CONF", str(conf))
    monkeypatch.setenv("CLEARML_K8S_GLUE_COND_CUST_TEMPLATE", 'type="training"|{spec.priorityClassName: high}')
    task.write_text(json.dumps({"id": "a" * 32, "type": "training", "tags": ["gpu"], "project": "p"}))
    command = ["render", "--config", config_file, "--queue", "small", "--task-json", str(task)]
    assert cli.main(command) == 0
    spec = yaml.safe_load(capsys.readouterr().out)["spec"]["template"]["spec"]
    assert (spec["priorityClassName"], spec["containers"][0]["image"]) == ("high", "rule:1")
    assert cli.main([*command, "--explain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "# queue small, CLEARML_K8S_GLUE_COND_CUST_TEMPLATE holds"
    assert 'conditional        spec.template.spec.priorityClassName: "high"' in lines


def test_render_of_a_rule_that_names_the_project(
    config_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    conf, task = tmp_path / "mounted.conf", tmp_path / "task.json"
    conf.write_text('agent.default_docker.match_rules: [{image: "rule:1", match.project: "^vision/"}]')
    monkeypatch.setenv("CLEARML_K8S_TASK_CONF", str(conf))
    command = ["render", "--config", config_file, "--queue", "small", "--task-json", str(task)]
    task.write_text(json.dumps({"id": "ab", "project": {"id": "p", "name": "vision/one"}}))
    assert cli.main(command) == 0
    found = capsys.readouterr()
    assert "image: rule:1" in found.out
    assert "project" not in found.err
    task.write_text(json.dumps({"id": "ab", "project": "p"}))
    assert cli.main(command) == 0
    assert "the name of the task's project, by which a rule" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("K8S_GLUE_MAX_PODS", "3", "K8S_GLUE_MAX_PODS is not taken: write agentk8sglue.maxPods; without Helm"),
        ("CLEARML_K8S_GLUE_COND_CUST_TEMPLATE", "CANARY|{", "_GLUE_COND_CUST_TEMPLATE: expected <task field>"),
        ("CLEARML_K8S_TASK_CONF", "/nowhere/clearml.conf", "/nowhere/clearml.conf cannot be read (FileNotFoundError)"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_the_environment_is_wrong_usage(
    config_file: str,
    variable: str,
    value: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(variable, value)
    assert cli.main(["render", "--config", config_file]) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert "CANARY" not in shown
