"""Values that people really write: mistakes (mistakes/) are refused with advice, all else (accepted.yaml) works."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart_render import ACCESS_KEY, CREDENTIALS, HELMS, ROOT, SECRET_KEY, at, documents, load_yaml, merged, render
from chart_verdict import Problem, Verdict, bare, verdict
from clearml_k8s.config import Config, ResolvedQueue
from clearml_k8s.config.file import config_from_document
from clearml_k8s.spec.job import template_probe_job

HERE = Path(__file__).resolve().parent
NEVER_SHOWN = ("NEVER-SHOWN", ACCESS_KEY, SECRET_KEY)
GROUPS = ("queues", "pod-templates", "credentials", "dashboard")
PUBLIC = re.compile(r"^(?:HC|AG|SV|CM) \d+$|^public file: ")


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """`advice` is in a line about each of `keys`; `by` says who finds it: the schema, or the template."""

    group: str
    name: str
    origin: str
    values: str
    keys: tuple[str, ...]
    advice: str
    by: str
    hidden: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.group}: {self.name}"


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """Values that are right; `queues` are those that the controller serves then."""

    group: str
    name: str
    values: str
    queues: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.group}: {self.name}"


def laid_over(entry: dict[str, Any]) -> str:
    """The entry's values over fake credentials as JSON, unless it is `bare`; `text` is YAML as it stands."""
    if "text" in entry:
        text: str = entry.pop("text")
        return text
    values = entry.pop("values")
    return json.dumps(values if entry.pop("bare", False) else merged(CREDENTIALS, values))


def mistakes() -> list[Mistake]:
    found = []
    for path in sorted((HERE / "mistakes").glob("*.yaml")):
        for entry in yaml.safe_load(path.read_text(encoding="utf-8")):
            keys = entry.pop("key")
            found.append(
                Mistake(
                    group=path.stem,
                    name=entry.pop("name"),
                    origin=entry.pop("from"),
                    values=laid_over(entry),
                    keys=(keys,) if isinstance(keys, str) else tuple(keys),
                    advice=bare(entry.pop("advice")),
                    by=entry.pop("by"),
                    hidden=(*NEVER_SHOWN, *entry.pop("hidden", ())),
                )
            )
            assert not entry, f"{path.name}: unknown keys {sorted(entry)}"
    return found


def accepted() -> list[Accepted]:
    return [
        Accepted(
            group=group, name=entry["name"], queues=tuple(entry.get("queues", ["default"])), values=laid_over(entry)
        )
        for group, entries in load_yaml(HERE / "accepted.yaml").items()
        for entry in entries
    ]


MISTAKES = mistakes()
ACCEPTED = accepted()


def test_there_are_enough() -> None:
    assert len(MISTAKES) >= 60
    assert len({mistake.origin for mistake in MISTAKES if PUBLIC.match(mistake.origin)}) >= 20
    assert len(ACCEPTED) >= 40
    for group in GROUPS:
        assert sum(1 for mistake in MISTAKES if mistake.group == group) >= 5, group
        assert any(case.group == group for case in ACCEPTED), group


def test_each_is_there_once() -> None:
    for cases in (MISTAKES, ACCEPTED):
        names = [str(case) for case in cases]
        assert sorted(set(names)) == sorted(names)
        assert len({case.values for case in cases}) == len(names)


def named(found: Verdict, mistake: Mistake) -> None:
    """Every key of the mistake is named with the advice, and nothing that may be secret is shown."""
    for key in mistake.keys:
        about = [problem.text for problem in found.problems if problem.key == key]
        assert any(mistake.advice in text for text in about), f"{key}: {about}\n{found.output}"
    for secret in mistake.hidden:
        assert secret not in found.output


@pytest.mark.parametrize("helm_name", HELMS)
@pytest.mark.parametrize("mistake", MISTAKES, ids=str)
def test_mistake(helm_name: str, mistake: Mistake) -> None:
    found = verdict(helm_name, "template", mistake.values)
    assert not found.passed
    assert found.rendered == "", "half of the objects is worse than none"
    named(found, mistake)
    by_template = "cannot be used:" in found.output
    assert by_template == (mistake.by == "template"), "helm lint ends with an error for what the schema refuses only"
    if mistake.by == "schema":
        linted = verdict(helm_name, "lint", mistake.values)
        assert not linted.passed
        named(linted, mistake)


@pytest.mark.parametrize("helm_name", HELMS)
@pytest.mark.parametrize("case", ACCEPTED, ids=str)
def test_accepted(helm_name: str, case: Accepted) -> None:
    values = yaml.safe_load(case.values)
    first, other = verdict(HELMS[0], "template", case.values), verdict(helm_name, "template", case.values)
    assert first.passed, first.output
    assert other.passed, other.output
    assert objects(other.rendered) == objects(first.rendered)
    linted = verdict(helm_name, "lint", case.values)
    assert linted.passed, linted.output
    document = render(HELMS[0], values).config
    config = config_from_document(document, source="the rendered config")
    assert sorted(config.queues) == sorted(case.queues)
    every_queue_has_a_job(config)


def every_queue_has_a_job(config: Config) -> None:
    for name, queue in config.queues.items():
        resolved = ResolvedQueue(config=queue, id="0" * 32, name=name)
        built = template_probe_job(config, resolved, worker_id="worker", controller_id="0" * 10)
        assert built.ignored == ()


def objects(rendered: str) -> list[Any]:
    """The objects of a render, in the order that Helm 4 and Helm 3 agree on: by kind and name."""
    return sorted(documents(rendered), key=lambda each: (each["kind"], each["metadata"]["name"]))


@pytest.mark.parametrize("helm_name", HELMS)
def test_all_problems_at_once(helm_name: str) -> None:
    names = (
        "a registry twice",
        "a pull secret switched on without credentials",
        "a blank before the name",
        "a checksum",
    )
    wanted = [mistake for mistake in MISTAKES if mistake.name in names]
    together = merged(*(json.loads(mistake.values) for mistake in wanted))
    found = verdict(helm_name, "template", json.dumps(together)).problems
    assert sorted(problem.key for problem in found) == sorted(mistake.keys[0] for mistake in wanted)
    assert len(found) == len(names)


def taken(number: int) -> dict[str, Any]:
    """A value, of those that the table of all keys takes though it refuses the key, for each such key."""
    values: dict[str, Any] = {}
    for section in load_yaml(ROOT / "values-schema" / "values-status.yaml").values():
        for key, cell in section.items():
            if accept := cell.get("accept"):
                place = key.replace("*", "q")
                values = merged(values, at(place, accept[number % len(accept)]))
    return values


@pytest.mark.parametrize("number", range(3))
def test_what_asks_for_nothing_is_taken(number: int) -> None:
    values = taken(number)
    assert values["agentk8sglue"]["basePodTemplate"], "the table has such keys at all levels"
    assert values["agentk8sglue"].keys() > {"basePodTemplate", "appsQueue", "serverTasks"}
    config = config_from_document(render(HELMS[0], merged(CREDENTIALS, values)).config, source="rendered")
    every_queue_has_a_job(config)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("  - at '/agentk8sglue/queues/a~1b': additional properties 'x', 'y' not allowed",
         [("agentk8sglue.queues.a/b.x", "not allowed"), ("agentk8sglue.queues.a/b.y", "not allowed")]),
        ("[ERROR] values.yaml: - at '': additional properties 'x' not allowed", [("x", "not allowed")]),
        ("- (root): Additional property x is not allowed", [("x", "not allowed")]),
        ("- a.0: Invalid type. Expected: array/null, given: object", [("a.0", "found object, wants array or null")]),
        ("- at '/a/0': got object, want null or array", [("a.0", "found object, wants array or null")]),
        ("- at '/a': missing property 'b'", [("a.b", "missing")]),
        ("- a: b is required", [("a.b", "missing")]),
        ("- a.b[1]: found x; write y", [("a.b.1", "found x; write y")]),
        ("- at '/a': value must be one of <nil>, '', 'say it'", [("a", "value must be one of <nil>, , say it")]),
        ("Error: nothing of a key", []),
    ],
)  # fmt: skip
def test_one_form_for_all_versions(line: str, problem: list[tuple[str, str]]) -> None:
    found = Verdict(passed=False, rendered="", output=line).problems
    assert found == [Problem(key=key, text=text) for key, text in problem]
