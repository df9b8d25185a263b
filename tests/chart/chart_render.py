"""Renders the chart with the real Helm, once for each set of values, and checks every object it gives."""

from __future__ import annotations

import base64
import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate  # type: ignore[import-untyped]
import yaml
from monitoring_types import MONITORING

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "clearml-agent"
HELMS = ("helm4", "helm3", "helm314")
KUBERNETES_VERSIONS = ("1.29", "1.37")
RELEASE = "rel"
NAMESPACE = "tasks"
FULLNAME = "rel-clearml-agent"
HELM_TIMEOUT_SECONDS = 120

ACCESS_KEY = "fake-access-key"
SECRET_KEY = "fake-secret-key"
CREDENTIALS: dict[str, Any] = {"clearml": {"agentk8sglueKey": ACCESS_KEY, "agentk8sglueSecret": SECRET_KEY}}

Object = dict[str, Any]


class Refused(Exception):
    """Helm did not render; the text is what the user sees."""


@functools.cache
def helm_path(name: str) -> str:
    """The program: from the environment (HELM4, ...), else the one that ci/tools built. A missing one is an error."""
    path = os.environ.get(name.upper())
    if not path:
        build = ROOT / "ci" / "tools" / "build.py"
        done = subprocess.run([sys.executable, str(build), "--path", name], capture_output=True, text=True, check=False)
        path = done.stdout.strip()
        if done.returncode != 0 or not path:
            raise RuntimeError(f"{name}: set {name.upper()} or build it with ci/tools/build.py; {done.stderr.strip()}")
    if not os.access(path, os.X_OK):
        raise RuntimeError(f"{name}: {path} is no program that can be run")
    return path


@dataclass(frozen=True)
class Rendered:
    """The objects of one render."""

    objects: tuple[Object, ...]

    def names(self) -> set[tuple[str, str]]:
        return {(found["kind"], found["metadata"]["name"]) for found in self.objects}

    def one(self, kind: str, name: str | None = None) -> Object:
        found = [o for o in self.objects if o["kind"] == kind and name in (None, o["metadata"]["name"])]
        assert len(found) == 1, f"{kind} {name}: found {[o['metadata']['name'] for o in found]}"
        return found[0]

    def secret(self, name: str) -> dict[str, str]:
        """Decoded data of a Secret."""
        data = self.one("Secret", name)["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    @property
    def deployment(self) -> Object:
        return self.one("Deployment")

    @property
    def pod(self) -> Object:
        """The controller's pod template."""
        template: Object = self.deployment["spec"]["template"]
        return template

    @property
    def spec(self) -> Object:
        spec: Object = self.pod["spec"]
        return spec

    @property
    def container(self) -> Object:
        assert len(self.spec["containers"]) == 1
        container: Object = self.spec["containers"][0]
        return container

    @property
    def test_pod(self) -> Object:
        return self.one("Pod")

    @property
    def config(self) -> dict[str, Any]:
        (data,) = [o["data"] for o in self.objects if o["kind"] == "ConfigMap" and "config.yaml" in o["data"]]
        assert set(data) == {"config.yaml"}
        (config,) = documents(data["config.yaml"])
        return config


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Values laid over each other as Helm does it: maps merge, all else replaces."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            if isinstance(value, Mapping) and isinstance(result.get(key), dict):
                result[key] = merged(result[key], value)
            else:
                result[key] = merged(value) if isinstance(value, Mapping) else value
    return result


def at(path: str, value: Any) -> dict[str, Any]:
    """`at("a.b", 1)` is `{"a": {"b": 1}}`."""
    document: Any = value
    for name in reversed(path.split(".")):
        document = {name: document}
    result: dict[str, Any] = document
    return result


def helm(name: str, *args: str, values: str | None = None) -> subprocess.CompletedProcess[str]:
    """One call of Helm, with values (JSON or YAML text) from standard input."""
    command = [helm_path(name), *args, *(["-f", "-"] if values is not None else [])]
    env = {key: value for key, value in os.environ.items() if not key.startswith(("HELM_", "KUBE"))}
    return subprocess.run(
        command, input=values, capture_output=True, text=True, check=False, timeout=HELM_TIMEOUT_SECONDS, env=env
    )


def documents(text: str) -> list[Object]:
    """All that are not empty, read by libyaml: what Helm renders takes the reader in Python as long as Helm."""
    return [found for found in yaml.load_all(text, Loader=yaml.CSafeLoader) if found]


@functools.cache
def _render(name: str, values: str, release: str, namespace: str) -> tuple[Object, ...] | str:
    done = helm(
        name, "template", release, str(CHART), "--namespace", namespace, "--kube-version", "1.37.0", values=values
    )
    if done.returncode != 0:
        return done.stderr
    return tuple(documents(done.stdout))


@functools.cache
def _validate(text: str) -> None:
    if (kind := json.loads(text)["kind"]) in MONITORING:
        jsonschema.validate(json.loads(text), MONITORING[kind])
        return
    for version in KUBERNETES_VERSIONS:
        kubernetes_validate.validate(json.loads(text), version, strict=True)


def render(name: str, values: Mapping[str, Any], *, release: str = RELEASE, namespace: str = NAMESPACE) -> Rendered:
    """Renders with fake credentials below the given values, unless these name an existing Secret.

    Raises Refused with Helm's message. Every object is checked strictly against the Kubernetes types.
    """
    result = _render(name, json.dumps(values), release, namespace)
    if isinstance(result, str):
        raise Refused(result)
    for found in result:
        _validate(json.dumps(found))
    return Rendered(objects=result)


def strings(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(path, text) of every key and value of a document."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield f"{path}.{key}", str(key)
            yield from strings(value, f"{path}.{key}")
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from strings(value, f"{path}[{index}]")
    else:
        yield path, str(node)


def ci_values() -> list[Path]:
    return sorted((CHART / "ci").glob("*-values.yaml"))


def load_yaml(path: Path) -> dict[str, Any]:
    (loaded,) = documents(path.read_text(encoding="utf-8"))
    return loaded
