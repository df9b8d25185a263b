"""The init container of task pods: the bundle, certificates; nobody, and no more than the task asks for."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path
from typing import Any

import pytest
from clearml_k8s import errors
from clearml_k8s.config import Certificates, Config, ControllerImage
from clearml_k8s.spec import prepared
from spec_support import Build, environment, pod_spec, task_container

IMAGE = ControllerImage(name="registry.example.com/controller:1", pull_policy="Always")
EXTRA = Certificates(config_map="gpu-certs")
WHOLE = Certificates(config_map="gpu-certs", complete=True)


def with_task(config: Config, **changes: Any) -> Config:
    return dataclasses.replace(config, task=dataclasses.replace(config.task, controller_image=IMAGE, **changes))


def mounts(container: dict[str, Any]) -> dict[str, tuple[str, str | None, bool]]:
    """By path: volume, folder of it, whether it can only be read."""
    return {m["mountPath"]: (m["name"], m.get("subPath"), m.get("readOnly", False)) for m in container["volumeMounts"]}


def test_nothing_is_added_without_need(build: Build, config: Config) -> None:
    built = build(config=with_task(config))
    assert built.manifest == build().manifest


def test_the_bundle(build: Build, config: Config) -> None:
    built = build(config=with_task(config, bootstrap=True))
    (init,) = pod_spec(built)["initContainers"]
    assert (init["image"], init["imagePullPolicy"]) == (IMAGE.name, "Always")
    assert mounts(task_container(built)) == {
        "/clearml-k8s": (prepared.VOLUME, "bundle", True),
        "/clearml-k8s-work": (prepared.VOLUME, "work", False),
    }
    assert pod_spec(built)["volumes"] == [{"name": prepared.VOLUME, "emptyDir": {}}]
    assert environment(built)["CLEARML_K8S_BOOTSTRAP"] == "/clearml-k8s"
    assert "certificates" not in init["command"][2]


@pytest.mark.parametrize("bootstrap", [True, False])
def test_extra_certificates_come_behind_the_public_ones(build: Build, config: Config, bootstrap: bool) -> None:
    built = build(config=with_task(config, certificates=EXTRA, bootstrap=bootstrap))
    (init,) = pod_spec(built)["initContainers"]
    assert mounts(init)["/certificates"] == (prepared.CERTIFICATES_VOLUME, None, True)
    assert mounts(task_container(built))[prepared.CERTIFICATES] == (prepared.VOLUME, "certificates", True)
    assert ("cp -R" in init["command"][2]) is bootstrap
    file = f"{prepared.CERTIFICATES}/ca-certificates.crt"
    env = environment(built)
    assert {name for name, value in env.items() if value == file} == {
        "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT"
    }  # fmt: skip


def test_certificates_that_are_all_need_no_init_container(build: Build, config: Config) -> None:
    built = build(config=with_task(config, certificates=WHOLE))
    assert "initContainers" not in pod_spec(built)
    assert mounts(task_container(built))[prepared.CERTIFICATES] == (prepared.CERTIFICATES_VOLUME, None, True)


def test_a_templates_own_variable_wins(build: Build, config: Config) -> None:
    own = {"env": [{"name": "PIP_CERT", "value": "/own.pem"}, {"name": "CLEARML_K8S_BOOTSTRAP", "value": "/own"}]}
    built = build(config=with_task(config, certificates=WHOLE, bootstrap=True), override=own)
    assert environment(built)["PIP_CERT"] == "/own.pem"
    assert environment(built)["CLEARML_K8S_BOOTSTRAP"] == "/clearml-k8s"
    assert [one.argument for one in built.ignored] == ["env CLEARML_K8S_BOOTSTRAP"]


def test_what_the_template_has_stays_and_comes_after(build: Build, config: Config) -> None:
    own = {
        "initContainers": [{"name": "own", "image": "busybox"}],
        "volumes": [{"name": "own", "emptyDir": {}}],
        "volumeMounts": [{"name": "own", "mountPath": "/own"}],
    }
    built = build(config=with_task(config, bootstrap=True), override=own)
    assert [one["name"] for one in pod_spec(built)["initContainers"]] == [prepared.CONTAINER, "own"]
    assert {one["name"] for one in pod_spec(built)["volumes"]} == {"own", prepared.VOLUME}
    assert "/own" in mounts(task_container(built))


def test_the_init_container_adds_nothing_to_what_the_pod_counts_for(build: Build, config: Config) -> None:
    amounts = {"cpu": "2", "memory": "4Gi", "nvidia.com/gpu": 1}
    own = {"resources": {"requests": {"cpu": "2"}, "limits": amounts}}
    (init,) = pod_spec(build(config=with_task(config, bootstrap=True), override=own))["initContainers"]
    assert init["resources"] == {"requests": {"cpu": "2"}, "limits": {"cpu": "2", "memory": "4Gi"}}
    (init,) = pod_spec(build(config=with_task(config, bootstrap=True)))["initContainers"]
    assert "resources" not in init


@pytest.mark.parametrize(("user", "named"), [(None, None), (1000, None), (0, prepared.NOBODY)])
def test_the_init_container_is_never_root(build: Build, config: Config, user: int | None, named: int | None) -> None:
    """Under a number of the pod's, of the cluster's, or of the image's."""
    own = {"podSecurityContext": {"runAsUser": user}} if user is not None else {}
    (init,) = pod_spec(build(config=with_task(config, bootstrap=True), override=own))["initContainers"]
    context = init["securityContext"]
    assert context.get("runAsUser") == named
    assert context["runAsNonRoot"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}


@pytest.mark.parametrize("folder", ["/clearml-k8s", "/clearml-k8s-work/home", prepared.CERTIFICATES])
def test_a_task_mounts_nothing_over_it(build: Build, config: Config, folder: str) -> None:
    built = build(config=with_task(config, bootstrap=True, certificates=WHOLE), arguments=f"-v {folder}")
    (ignored,) = built.ignored
    assert ignored.why == "something is mounted there already"


def test_without_an_image_there_is_no_job(build: Build, config: Config) -> None:
    without = dataclasses.replace(config, task=dataclasses.replace(config.task, bootstrap=True))
    with pytest.raises(errors.SpecError, match="controllerImage"):
        build(config=without)


@pytest.mark.parametrize("umask", ["022", "077"])
def test_its_script_really_run(build: Build, config: Config, tmp_path: Path, umask: str) -> None:
    """With folders of ours for those that the image and the volumes have."""
    (init,) = pod_spec(build(config=with_task(config, bootstrap=True, certificates=EXTRA)))["initContainers"]
    bundle, given, target = tmp_path / "image", tmp_path / "given", tmp_path / "volume"
    for folder in (bundle, given, target):
        folder.mkdir()
    (bundle / "ca-certificates.crt").write_text("public\n")
    (given / "ca-certificates.crt").write_text("extra\n")
    (bundle / "link").symlink_to("ca-certificates.crt")
    script = init["command"][2]
    for path, folder in (("/clearml-k8s", bundle), ("/prepared", target), ("/certificates/", f"{given}/")):
        script = script.replace(f" {path}", f" {folder}")
    script = script.replace(f"{target}{given}/", f"{target}/certificates/")
    for _ in range(2):  # the kubelet may run it again on the same volume
        subprocess.run(["/bin/sh", "-c", f"umask {umask}\n{script}"], check=True, timeout=30)
    assert {path.name for path in (target / "bundle").iterdir()} == {"ca-certificates.crt", "link"}
    assert (target / "certificates/ca-certificates.crt").read_text() == "public\nextra\n"
    assert (target / "bundle").stat().st_mode & 0o055 == 0o055, "another user reads it"
    assert (target / "bundle/link").readlink() == Path("ca-certificates.crt")
    assert {oct(folder.stat().st_mode)[-4:] for folder in (target / "work").iterdir()} == {"1777"}
