"""`agent.default_docker` of clearml.conf: the container of tasks that name none, and rules by which it is chosen."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from clearml_k8s.config.file import ConfigProblems
from clearml_k8s.config.problems import nearest
from clearml_k8s.errors import SpecError
from clearml_k8s.hocon import Unresolved
from clearml_k8s.spec.container import check_image, docker_words
from clearml_k8s.spec.versions import Specs, read_specs

SECTION: Final = "agent.default_docker"

TERMS: Final = (
    "project",
    "project_id",
    "script.repository",
    "script.branch",
    "script.binary",
    "user_id",
    "container",
    "tags",
)
"""What of a task a rule may match, by regular expressions."""

PACKAGES: Final = ("pip", "conda")
"""Sections of `script.requirements`."""

_RULE_KEYS: Final = ("image", "arguments", "match", "force_container_rules", "update_back_task", "setup_shell_script")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Of all that it names each has to fit: ``terms`` by one of `TERMS`, every expression of it; ``packages`` by
    section and name. ``number``: its place in `match_rules`, from 0. ``force``: it replaces what the task says, too."""

    number: int
    image: str = ""
    arguments: tuple[str, ...] = ()
    force: bool = False
    terms: Mapping[str, tuple[re.Pattern[str], ...]] = field(default_factory=dict)
    packages: Mapping[str, Mapping[str, Specs]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{SECTION}.match_rules[{self.number}] of clearml.conf"


@dataclass(frozen=True, kw_only=True)
class ContainerRules:
    """``image`` and ``arguments`` are those of tasks that have no image, and that no rule gives one."""

    image: str = ""
    arguments: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()

    @property
    def needs_task(self) -> bool:
        """Whether more of a task is needed than is read of every task."""
        return bool(self.rules)

    @property
    def needs_project(self) -> bool:
        """Whether the name of its project is."""
        return any("project" in rule.terms for rule in self.rules)


NO_RULES: Final = ContainerRules()


def read_rules(section: Any) -> ContainerRules:
    """``section``: what stands at `SECTION`. Raises `ConfigProblems`: each names the place, and none shows what stands
    there, as it comes from a Secret."""
    problems: list[str] = []
    found = _mapping(section, SECTION, problems)
    image, arguments = _container(found, SECTION, problems)
    rules = []
    given = found.get("match_rules")
    if given is not None and not isinstance(given, list):
        problems.append(f"{SECTION}.match_rules: {_unfit(given, 'a list')}")
        given = None
    for number, entry in enumerate(given or ()):
        rule = _rule(number, entry, problems)
        if rule is not None:
            rules.append(rule)
    if problems:
        raise ConfigProblems(problems)
    return ContainerRules(image=image, arguments=arguments, rules=tuple(rules))


def _rule(number: int, entry: Any, problems: list[str]) -> Rule | None:
    place = f"{SECTION}.match_rules[{number}]"
    given = _mapping(entry, place, problems)
    problems += _unknown(given, _RULE_KEYS, place)
    if given.get("setup_shell_script"):
        problems.append(
            f"{place}.setup_shell_script: not possible here: no Job may hold a text of a Secret, and the pod, which "
            "may read it, cannot tell which rule its controller went by: write agent.extra_docker_shell_script for all "
            "tasks; for some, let agentk8sglue.customBashScript run a variable that a conditional template sets"
        )
    image, arguments = _container(given, place, problems)
    force = given.get("force_container_rules") or False
    if not isinstance(force, bool):
        problems.append(f"{place}.force_container_rules: {_unfit(force, 'true or false')}")
    match = _mapping(given.get("match"), f"{place}.match", problems)
    terms = dict(_terms(match, f"{place}.match", problems))
    packages = _packages(match, f"{place}.match", problems)
    if not match:
        return None  # as the agent: a rule without `match` is none; one of which all terms are empty fits every task
    return Rule(number=number, image=image, arguments=arguments, force=bool(force), terms=terms, packages=packages)


def _container(given: Mapping[str, Any], place: str, problems: list[str]) -> tuple[str, tuple[str, ...]]:
    image, arguments = given.get("image") or "", given.get("arguments") or ""
    words: list[str] = []
    if not isinstance(image, str):
        problems.append(f"{place}.image: {_unfit(image, 'text')}")
    elif image:
        try:
            image = check_image(image, setting="x")
        except SpecError:
            problems.append(
                f"{place}.image: expected an image reference such as python:3.11, in small letters, no blanks"
            )
    if isinstance(arguments, list) and all(isinstance(word, str | int | float) for word in arguments):
        words = [str(word) for word in arguments]
    elif isinstance(arguments, str):
        try:
            words = docker_words(arguments)
        except SpecError:
            problems.append(f"{place}.arguments: quotes do not match, or it is too long")
    else:
        problems.append(f"{place}.arguments: {_unfit(arguments, 'text, or a list of texts')}")
    return (image if isinstance(image, str) else ""), tuple(words)


def _terms(
    match: Mapping[str, Any], place: str, problems: list[str]
) -> Iterator[tuple[str, tuple[re.Pattern[str], ...]]]:
    plain = {"script", *(term for term in TERMS if "." not in term)}
    problems += _unknown(match, tuple(sorted(plain)), place)
    script = _mapping(match.get("script"), f"{place}.script", problems)
    problems += _unknown(script, ("binary", "branch", "repository", "requirements"), f"{place}.script")
    for term in TERMS:
        holder, key = (script, term.partition(".")[2]) if "." in term else (match, term)
        given = holder.get(key)
        if not given:
            continue
        expressions = []
        for one in given if isinstance(given, list) else [given]:
            if not isinstance(one, str):
                problems.append(f"{place}.{term}: {_unfit(one, 'a regular expression, or a list of them')}")
                continue
            try:
                expressions.append(re.compile(one))
            except (re.error, RecursionError, OverflowError):
                problems.append(f"{place}.{term}: not a regular expression")
        if expressions:
            yield term, tuple(expressions)


def _packages(match: Mapping[str, Any], place: str, problems: list[str]) -> dict[str, Mapping[str, Specs]]:
    script = match.get("script")
    given = script.get("requirements") if isinstance(script, Mapping) else None
    place = f"{place}.script.requirements"
    sections = _mapping(given, place, problems)
    problems += _unknown(sections, PACKAGES, place)
    found: dict[str, Mapping[str, Specs]] = {}
    for section in PACKAGES:
        wanted = _mapping(sections.get(section), f"{place}.{section}", problems)
        specs = {}
        for name, text in wanted.items():
            read = read_specs(text if isinstance(text, str) else "?") if text not in (None, "") else ()
            if read is None:
                problems.append(f"{place}.{section}.{name}: expected versions such as >=1.6,<2 or ~=1.6, in quotes")
            else:
                specs[name] = read
        if specs:
            found[section] = specs
    return found


def _mapping(given: Any, place: str, problems: list[str]) -> Mapping[str, Any]:
    if given is None or isinstance(given, Mapping):
        return given or {}
    problems.append(f"{place}: {_unfit(given, 'an object')}")
    return {}


def _unknown(given: Mapping[str, Any], known: tuple[str, ...], place: str) -> Iterator[str]:
    for key in given:
        if key not in known:
            near = nearest(key, known)
            advice = f"did you mean {near}?" if near else f"known here: {', '.join(known)}"
            yield f"{place}: a key that is not known here; {advice}"


def _unfit(given: Any, expected: str) -> str:
    if isinstance(given, Unresolved):
        return f"found a substitution (${{...}}), which is not filled in for the controller; expected {expected}"
    return f"expected {expected}"
