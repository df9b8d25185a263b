"""kubeconform on the rendered text: the types of the oldest and the newest Kubernetes, and that no key stands twice.

What the other tests read has lost the second of two equal keys; kubeconform is strict about these. Its schemas are those of
`kubernetes-validate`, each made into one file without references to others.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from chart_render import CHART, CREDENTIALS, HELMS, KUBERNETES_VERSIONS, ci_values, documents, helm, merged
from monitoring_types import MONITORING

TEMPLATE = "{{.NormalizedKubernetesVersion}}/{{.ResourceKind}}{{.KindSuffix}}.json"


def referred(node: Any) -> set[str]:
    """Names of the definitions that a schema refers to."""
    return set(re.findall(r'"(?:/api/_definitions\.json)?#/\$defs/([^"]+)"', json.dumps(node)))


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for `-schema-location`, with all kinds that the chart can make."""
    found = importlib.util.find_spec("kubernetes_validate")
    assert found is not None and found.origin is not None
    folder = tmp_path_factory.mktemp("schemas")
    for version in KUBERNETES_VERSIONS:
        source = Path(found.origin).parent / f"kubernetes-json-schema/v{version}.0-local-strict"
        every = json.loads((source / "_definitions.json").read_text())["$defs"]
        (folder / f"v{version}.0").mkdir()
        for file in source.glob("*.json"):
            schema = json.loads(file.read_text())
            if not isinstance(schema, dict) or "kind" not in schema.get("properties", {}):
                continue
            needed, new = set[str](), referred(schema)
            while new:
                needed |= new
                new = {name for one in new for name in referred(every[one])} - needed
            whole = {**schema, "$defs": {name: every[name] for name in sorted(needed)}}
            whole.pop("$id", None)
            text = json.dumps(whole).replace('"/api/_definitions.json#', '"#')
            (folder / f"v{version}.0" / file.name).write_text(text)
        for kind, schema in MONITORING.items():
            (folder / f"v{version}.0" / f"{kind.lower()}-monitoring-v1.json").write_text(json.dumps(schema))
    return folder


def kubeconform(schemas: Path, text: str, *, version: str) -> list[dict[str, Any]]:
    """Its findings, one for each object."""
    program = shutil.which("kubeconform")
    assert program, "kubeconform is not on PATH: run this by `make test-chart`, which brings the tools"
    command = [program, "-strict", "-verbose", "-output=json", f"-kubernetes-version={version}.0"]
    done = subprocess.run(
        [*command, f"-schema-location={schemas}/{TEMPLATE}"], input=text, capture_output=True, text=True, check=False
    )
    resources: list[dict[str, Any]] = json.loads(done.stdout)["resources"]
    return resources


def rendered(path: Path) -> str:
    done = helm(HELMS[0], "template", "rel", str(CHART), "--kube-version", "1.37.0", values=path.read_text())
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
@pytest.mark.parametrize("path", ci_values(), ids=lambda path: path.stem)
def test_every_object(schemas: Path, version: str, path: Path) -> None:
    text = rendered(path)
    found = kubeconform(schemas, text, version=version)
    assert [one for one in found if one["status"] != "statusValid"] == []
    assert len(found) == len(documents(text))


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("  replicas: 1\n", "  replicas: 1\n  replicas: 1\n", 'key "replicas" already set'),
        ("  replicas: 1\n", "  replica: 1\n", "replica"),
        ("  replicas: 1\n", "  replicas: one\n", "replicas"),
    ],
)
def test_it_finds_mistakes(schemas: Path, old: str, new: str, complaint: str) -> None:
    text = rendered(CHART / "ci/default-values.yaml")
    assert old in text
    found = kubeconform(schemas, text.replace(old, new), version=KUBERNETES_VERSIONS[0])
    (wrong,) = [one for one in found if one["status"] != "statusValid"]
    assert wrong["kind"] == "Deployment"
    assert complaint in wrong["msg"]


@pytest.mark.parametrize("monitor", ["serviceMonitor", "podMonitor"])
def test_objects_for_prometheus(schemas: Path, monitor: str) -> None:
    enabled = {key: {"enabled": True} for key in (monitor, "prometheusRule", "grafanaDashboard")}
    values = json.dumps(merged(CREDENTIALS, {"metrics": enabled}))
    done = helm(HELMS[0], "template", "rel", str(CHART), "--kube-version", "1.37.0", values=values)
    assert done.returncode == 0, done.stderr
    found = kubeconform(schemas, done.stdout, version=KUBERNETES_VERSIONS[0])
    assert [one for one in found if one["status"] != "statusValid"] == []
    assert {"PrometheusRule", monitor[0].upper() + monitor[1:]} <= {one["kind"] for one in found}
