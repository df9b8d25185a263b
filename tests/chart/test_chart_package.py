"""The chart as a package: what is in it, and that it can be a subchart."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path

import yaml
from chart_render import CHART, CREDENTIALS, documents, helm, merged, render

from tests.bench import chart as bench


def packaged(helm_name: str, folder: Path) -> Path:
    done = helm(helm_name, "package", str(CHART), "--destination", str(folder))
    assert done.returncode == 0, done.stderr
    return folder / "clearml-agent-6.0.0.tgz"


def test_package_holds_what_is_needed_and_no_more(helm_name: str, tmp_path: Path) -> None:
    with tarfile.open(packaged(helm_name, tmp_path)) as archive:
        names = {Path(member.name).relative_to("clearml-agent").as_posix() for member in archive.getmembers()}
    assert {"Chart.yaml", "values.yaml", "values.schema.json", "README.md", "templates/NOTES.txt"} <= names
    assert {name for name in names if not name.startswith("templates/") and "/" in name} == {
        "files/alerts.yaml",
        "files/glue-variables.yaml",
        "files/dashboards/clearml-agent.json",
    }, "ci/ is not packaged"


def test_package_is_small(helm_name: str, tmp_path: Path) -> None:
    """Helm keeps it in a Secret of each revision, which holds 1 MiB."""
    assert packaged(helm_name, tmp_path).stat().st_size < 80_000


def test_helpers_carry_the_charts_name() -> None:
    defined = [
        name
        for file in (CHART / "templates").rglob("*")
        if file.is_file()
        for name in re.findall(r'\{\{-?\s*define\s+"([^"]+)"', file.read_text(encoding="utf-8"))
    ]
    assert len(defined) == len(set(defined)) > 20
    assert [name for name in defined if not name.startswith("clearml-agent.")] == []


def test_as_a_subchart(helm_name: str, tmp_path: Path) -> None:
    """With an alias, and with `global` values that the parent and its other charts have for themselves."""
    parent = tmp_path / "parent"
    parent.mkdir()
    dependency = {"name": "clearml-agent", "version": "6.0.0", "alias": "gpu-agent", "repository": f"file://{CHART}"}
    chart = {"apiVersion": "v2", "name": "parent", "version": "1.0.0", "dependencies": [dependency]}
    (parent / "Chart.yaml").write_text(yaml.safe_dump(chart), encoding="utf-8")
    built = helm(helm_name, "dependency", "update", str(parent))
    assert built.returncode == 0, built.stderr
    common = {"imageRegistry": "registry.local", "domain": "example.com", "storage": {"class": "fast"}, "tags": ["a"]}
    values = {"global": common, "gpu-agent": CREDENTIALS}
    linted = helm(helm_name, "lint", str(parent), values=json.dumps(values))
    assert linted.returncode == 0, linted.stdout + linted.stderr
    done = helm(helm_name, "template", "rel", str(parent), "--kube-version", "1.37.0", values=json.dumps(values))
    assert done.returncode == 0, done.stderr
    objects = documents(done.stdout)
    deployment = next(found for found in objects if found["kind"] == "Deployment")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "registry.local/clearml-k8s/controller:6.0.0"
    refused = helm(
        helm_name, "template", "rel", str(parent), "--kube-version", "1.37.0",
        values=json.dumps({"gpu-agent": {**CREDENTIALS, "bogus": 1}}),
    )  # fmt: skip
    assert refused.returncode != 0 and "bogus" in refused.stderr


def test_two_aliases_in_one_release(helm_name: str, tmp_path: Path) -> None:
    """No object, and no task pod of the one, is taken for the other's."""
    parent = tmp_path / "parent"
    parent.mkdir()
    dependencies = [
        {"name": "clearml-agent", "version": "6.0.0", "alias": alias, "repository": f"file://{CHART}"}
        for alias in ("gpu", "cpu")
    ]
    chart = {"apiVersion": "v2", "name": "parent", "version": "1.0.0", "dependencies": dependencies}
    (parent / "Chart.yaml").write_text(yaml.safe_dump(chart), encoding="utf-8")
    built = helm(helm_name, "dependency", "update", str(parent))
    assert built.returncode == 0, built.stderr
    policies = merged(CREDENTIALS, {"networkPolicy": {"tasks": {"enabled": True}}})
    values = json.dumps({"gpu": policies, "cpu": policies})
    done = helm(helm_name, "template", "rel", str(parent), "--kube-version", "1.37.0", values=values)
    assert done.returncode == 0, done.stderr
    objects = documents(done.stdout)
    names = [(found["kind"], found["metadata"]["name"]) for found in objects]
    assert len(names) == len(set(names))
    configs = [yaml.safe_load(o["data"]["config.yaml"]) for o in objects if o["kind"] == "ConfigMap"]
    instances = {config["releaseName"] for config in configs}
    assert len(configs) == len(instances) == 2
    selected = {
        o["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/instance"]
        for o in objects
        if o["kind"] == "NetworkPolicy"
    }
    assert selected == instances


def test_what_the_bench_renders(helm_name: str) -> None:
    """`make bench` is no part of the tests; that its values fit the chart is."""
    config = render(helm_name, bench.values(3)).config
    assert [queue["queueSettings"]["maxPods"] for queue in config["queues"].values()] == [4, 4, 4]
