"""values-schema/: what is committed is what the sources give, and the lint of the sources finds what it should."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from chart_render import CHART, ROOT

SOURCE = ROOT / "values-schema"
BUILT = ["charts/clearml-agent/values.schema.json", "charts/clearml-agent/values.yaml"]
STATUS = "values-schema/values-status.yaml"
EVERYTHING = "charts/clearml-agent/ci/everything-values.yaml"
CONFIG = "controller/src/clearml_k8s/config.schema.json"


def run(root: Path, script: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(root / "values-schema" / script), *args],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The parts of the repository that the scripts read, to be broken."""
    shutil.copytree(SOURCE, tmp_path / "values-schema", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(CHART, tmp_path / "charts" / "clearml-agent")
    (tmp_path / CONFIG).parent.mkdir(parents=True)
    shutil.copy(ROOT / CONFIG, tmp_path / CONFIG)
    return tmp_path


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) >= 1, old
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_committed_files_are_the_built_ones() -> None:
    done = run(ROOT, "build.py", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_lint_finds_nothing() -> None:
    done = run(ROOT, "lint.py")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", [*BUILT, CONFIG])
def test_check_shows_the_difference(copy: Path, name: str) -> None:
    replace(copy / name, "\n", "\n\n")
    done = run(copy, "build.py", "--check")
    assert done.returncode == 1
    assert f"--- {name}" in done.stdout


def test_schema_is_small_and_has_no_prose() -> None:
    text = (CHART / "values.schema.json").read_text(encoding="utf-8")
    assert len(text) < 100_000, "it is stored in every release's Secret"
    for prose in ('"description":"', '"default":', '"x-kubernetes'):
        assert prose not in text


@pytest.mark.parametrize(
    ("file", "old", "new", "finding"),
    [
        ("values-schema/values.schema.yaml", "        description: Create queues that do not exist on the server.\n", "",
         "agentk8sglue.createQueues: no description"),
        ("values-schema/values.schema.yaml", "        default: https://app.clear.ml\n", "", "agentk8sglue.webServerUrlReference: no default"),
        ("values-schema/values.schema.yaml", "default: https://api.clear.ml", "default: 1",
         "agentk8sglue.apiServerUrlReference: default is not valid"),
        ("values-schema/values.schema.yaml", "limits: {nvidia.com/gpu: 1, memory: 16Gi}", "limitss: {}",
         "agentk8sglue.basePodTemplate.resources: example is not valid"),
        ("charts/clearml-agent/values.yaml", "queuePollFrequencySeconds: 5", "queuePollFrequencySeconds: 6",
         "agentk8sglue.queuePollFrequencySeconds: values.yaml has 6, the source 5"),
        ("charts/clearml-agent/values.yaml", "checkServer: true", "checkServers: true", "test.checkServer: only in the source"),
        ("charts/clearml-agent/templates/_config.tpl", ".Values.agentk8sglue.defaultContainerImage", '"python"',
         "agentk8sglue.defaultContainerImage: no template reads it"),
        ("charts/clearml-agent/templates/_config.tpl", ".Values.agentk8sglue.maxPods", ".Values.agentk8sglue.maxpods",
         "agentk8sglue.maxpods: a template reads it"),
        ("charts/clearml-agent/values.schema.json", '"test":{', '"loose":{"type":"object"},"test":{', "properties.loose: takes anything"),
        ("charts/clearml-agent/values.schema.json", '"test":{', '"loose":{"type":"array"},"test":{', "properties.loose: takes anything"),
        ("charts/clearml-agent/values.schema.json", '"additionalProperties":true', '"additionalProperties":false',
         "properties.global: listed in OPEN_OBJECTS, but is closed"),
        ("charts/clearml-agent/values.schema.json", '"$ref":"#/definitions/Affinity"', '"$ref":"#/definitions/Affinity","type":"object"',
         "beside $ref is ignored"),
        ("charts/clearml-agent/values.schema.json", '"$ref":"#/definitions/Affinity"', '"$ref":"other.json#/definitions/Affinity"',
         "leads nowhere inside the file"),
        ("charts/clearml-agent/values.schema.json", '"definitions":{', '"definitions":{"Left":{"type":"string"},',
         "definitions.Left: referred to by nothing"),
        (EVERYTHING, "  maxPods: 20\n", "", "agentk8sglue.maxPods: ci/everything-values.yaml does not set it"),
        (EVERYTHING, "queuePollFrequencySeconds: 2.5", "queuePollFrequencySeconds: 5",
         "agentk8sglue.queuePollFrequencySeconds: ci/everything-values.yaml does not set it to another value than its default"),
        (EVERYTHING, "  maxPods: 20\n", "  maxPods: 20\n  queue: gpu\n", "agentk8sglue.queue: listed in NOT_IN_EVERYTHING, but"),
        (EVERYTHING, "        runtimeClassName: nvidia-cdi\n", "",
         "agentk8sglue.queues.<name>.templateOverrides.runtimeClassName: ci/everything-values.yaml sets it in no queue"),
        (EVERYTHING, "        maxPods: 4\n", "", "agentk8sglue.queues.<name>.queueSettings.maxPods: ci/everything"),
        (STATUS, "  nameOverride: {from: OSS, works: }\n", "  nameOverride: {from: OSS, works: }\n  nameOverrides: {from: OSS, works: }\n",
         "nameOverrides: values-status.yaml says that it works, but the source does not have it"),
        (STATUS, "  nameOverride: {from: OSS", "  nameOverride: {from: hearsay", "nameOverride: from 'hearsay'; write one of OSS"),
        (STATUS, "bootstrap:\n", "bootstrap:\n  nameOverride: {from: OSS, works: }\n", "nameOverride: twice in values-status.yaml"),
        (STATUS, "an s at its end", "an s <at> its end", "leave them out"),
        ("values-schema/values.schema.yaml", '"write it without blanks"', '"write it & leave blanks out"', "leave them out"),
        ("values-schema/values.schema.yaml", '"queues names queues, too:', '"queues names <queues>, too:', "leave them out"),
        ("values-schema/lint.py", '("agentk8sglue", "queue"): ', '("agentk8sglue", "queue", "x"): ',
         "agentk8sglue.queue.x: listed in NOT_IN_EVERYTHING, but no such value exists"),
    ],
)  # fmt: skip
def test_lint_finds(copy: Path, file: str, old: str, new: str, finding: str) -> None:
    replace(copy / file, old, new)
    done = run(copy, "lint.py")
    assert done.returncode == 1
    assert finding in done.stdout


def test_every_key_of_values_yaml_has_a_comment() -> None:
    lines = (CHART / "values.yaml").read_text(encoding="utf-8").splitlines()
    inside_default = 0
    for number, line in enumerate(lines):
        stripped = line.lstrip()
        indent = len(line) - len(stripped)
        if not stripped or stripped.startswith("#"):
            inside_default = 0
            continue
        if inside_default and indent >= inside_default:
            continue
        inside_default = 0
        above = lines[number - 1].strip()
        assert above.startswith("#"), f"values.yaml:{number + 1}: {line}"
        block = number - 1
        while lines[block - 1].strip().startswith("#") and not lines[block].strip().startswith("# -- "):
            block -= 1
        if lines[block].strip().startswith("# -- "):
            inside_default = indent + 1  # what follows, further in, is this key's default
