"""`CLUSTER=current`: how images get into the cluster of the current kube context, and what is said when they cannot."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ci.paths import ROOT


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "task-0123456789abcdef.tar"
    path.write_bytes(b"")
    return path


def context(machine, name: str) -> None:
    """A kubectl whose current context has this name."""
    machine.program("kubectl", does=f'[ "$2" != current-context ] || echo {name}')


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("kind-kind", "kind load image-archive {archive} --name kind"),
        ("kind-two-words", "kind load image-archive {archive} --name two-words"),
        ("minikube", "minikube image load {archive} --profile minikube"),
        ("minikube-second", "minikube image load {archive} --profile minikube-second"),
    ],
)
def test_kind_and_minikube_load_by_their_own_command(machine, archive, name, command):
    context(machine, name)
    machine.program("kind")
    machine.program("minikube")
    done = machine.python("ci.cluster", "load-image", archive, CLUSTER="current")
    assert done.returncode == 0, done.stderr
    assert machine.calls[-1] == command.format(archive=archive)


@pytest.mark.parametrize(("name", "program"), [("kind-kind", "kind"), ("minikube", "minikube")])
def test_the_program_that_is_missing_is_named(machine, archive, name, program):
    context(machine, name)
    done = machine.python("ci.cluster", "load-image", archive, CLUSTER="current")
    assert done.returncode == 1
    assert f"needs the program {program}" in done.stderr
    assert "IMAGE_REGISTRY=" in done.stderr


def test_another_context_is_told_what_to_set(machine, archive):
    context(machine, "arn:aws:eks:cluster/mine")
    done = machine.python("ci.cluster", "load-image", archive, CLUSTER="current")
    assert done.returncode == 1
    assert "arn:aws:eks:cluster/mine" in done.stderr
    assert "set IMAGE_REGISTRY=registry.example.com/path" in done.stderr
    assert "IMAGE_REGISTRY_TLS_VERIFY=false" in done.stderr
    assert "skopeo login" in done.stderr


def test_another_context_is_told_before_anything_is_built(machine):
    context(machine, "somewhere")
    machine.program("buildah", does="exit 1")
    machine.program("docker", does="exit 1")
    run = ("ci.run", "--images", "controller,task", "--cluster", "true")
    done = machine.python(*run, CLUSTER="current")
    assert done.returncode == 1
    assert "set CLUSTER_HOST_IP to an address of this machine that pods" in done.stderr
    done = machine.python(*run, CLUSTER="current", CLUSTER_HOST_IP="127.0.0.1")
    assert done.returncode == 1
    assert "set IMAGE_REGISTRY=registry.example.com/path" in done.stderr
    assert {call.split()[0] for call in machine.calls} == {"kubectl"}


def test_no_context_is_said(machine, archive):
    machine.program("kubectl", does="exit 1")
    done = machine.python("ci.cluster", "load-image", archive, CLUSTER="current")
    assert done.returncode == 1
    assert "there is no current kube context: set KUBECONFIG" in done.stderr


@pytest.mark.parametrize("value", ["curent", "local", "kind-kind", "1"])
@pytest.mark.parametrize(
    "words",
    [("ci.cluster", "status"), ("ci.run", "true"), ("ci.run", "--cluster", "true"), ("ci.test", "e2e")],
    ids=" ".join,
)
def test_another_value_is_refused(machine, words, value):
    done = machine.python(*words, CLUSTER=value)
    assert done.returncode != 0
    assert f"CLUSTER={value!r}" in done.stderr
    assert "`current`" in done.stderr


def test_make_refuses_another_value_before_it_installs_anything(machine):
    done = subprocess.run(
        ["make", "--no-print-directory", "packages"],
        cwd=ROOT,
        env=machine.environment({"CLUSTER": "curent"}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "CLUSTER=curent" in done.stderr
