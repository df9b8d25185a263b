"""The container of one task, by `container_rules`: which rule fits, and what it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.errors import SpecError
from clearml_k8s.hidden import is_secret, without_secrets
from clearml_k8s.spec import docker_options
from clearml_k8s.spec.container import docker_words, split_image
from clearml_k8s.spec.container_rules import ContainerRules, Rule
from clearml_k8s.spec.ignored import Ignored
from clearml_k8s.spec.search import TooLong, within
from clearml_k8s.spec.versions import Specs, canonical, overlap, requirements

MAX_TEXT: Final = 4000
"""Characters of a task's text that expressions look at. A task with a longer one fails: cut, it could slip by a rule
that forces."""

MAX_SECONDS: Final = 0.5
"""Of the processor, for all rules and one task."""

_RESOURCES: Final = ("--gpus", "--cpus", "--memory")


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """``image`` "" means the queue's, then the controller's; ``words`` are docker arguments, ``by`` names the rule that
    gave the image, else ""."""

    image: str
    words: tuple[str, ...]
    setup_script: str
    by: str = ""
    ignored: tuple[Ignored, ...] = ()


def choose(rules: ContainerRules, task: TaskView) -> Chosen:
    """What counts of the task's own container and of the rules. Raises `errors.SpecError` for a bad own one.

    The first rule that fits counts alone: where it forces, in place of all that the task says; else only for a task
    without an image. What stands in the rules and looks secret is left out, as they come from a Secret.
    """
    image, old_words = split_image(task.container.image)
    words = (*old_words, *docker_words(task.container.arguments))
    setup = task.container.setup_shell_script
    rule = fitting(rules, task)
    if rule is not None and rule.force:
        told = _replaced(rule, image=image, words=words, setup=setup)
        found = _given(rules, rule.image, rule.arguments, by=rule.name)
        return replace(found, ignored=(*told, *found.ignored))
    if image:
        return Chosen(image=image, words=words, setup_script=setup)
    by = rule.name if rule and rule.image else ""
    found = _given(rules, rule.image if rule else "", () if words else rule.arguments if rule else (), by=by, own=words)
    return Chosen(image=found.image, words=found.words, setup_script=setup, by=by, ignored=found.ignored)


def fitting(rules: ContainerRules, task: TaskView) -> Rule | None:
    """The first rule that fits; None also for a task that was not read as a whole.

    Raises `errors.SpecError` for a task on whose texts that cannot be said: nobody is to slip by a rule that forces.
    """
    document = task.document
    if document is None or not rules.rules:
        return None
    facts = _Facts(task, document)
    try:
        return within(MAX_SECONDS, lambda: next((rule for rule in rules.rules if facts.fit(rule)), None))
    except TooLong:
        at = facts.at.name if facts.at else ""
        raise SpecError(
            f"{at}: its expressions take too long on this task's texts; shorten these, or write the rule without "
            "repetitions inside of repetitions"
        ) from None


def _given(rules: ContainerRules, image: str, arguments: Sequence[str], *, by: str, own: Sequence[str] = ()) -> Chosen:
    """With the general arguments where neither the task nor the rule gives an image or arguments."""
    words = own or arguments or (() if image else rules.arguments)
    if own:
        return Chosen(image=image, words=tuple(own), setup_script="", by=by)
    kept, ignored = _takeable(words)
    return Chosen(image=image, words=kept, setup_script="", by=by, ignored=ignored)


class _Facts:
    """Of a task what rules go by; ``at``: the rule that is looked at."""

    def __init__(self, task: TaskView, document: Mapping[str, Any]) -> None:
        self.at: Rule | None = None
        script = document.get("script")
        self._script = script if isinstance(script, Mapping) else {}
        self._packages: dict[str, list[tuple[str, Specs]]] = {}
        self._texts: Mapping[str, Sequence[str]] = {
            "project": [task.project_name],
            "project_id": [task.project or ""],
            "script.repository": [_text(self._script.get("repository"))],
            "script.branch": [_text(self._script.get("branch"))],
            "script.binary": [_text(self._script.get("binary"))],
            "user_id": [task.user],
            # As it will be used: without blanks around it, and without arguments behind it.
            "container": [split_image(task.container.image)[0]],
            "tags": task.tags,
        }
        """By name in `container_rules.TERMS` what expressions are looked for in."""

    def fit(self, rule: Rule) -> bool:
        """Whether all that the rule names fits."""
        self.at = rule
        for term, expressions in rule.terms.items():
            texts = self._texts[term]
            for text in texts:
                if len(text) > MAX_TEXT:
                    what = f"one of its {term}" if term == "tags" else f"its {term}"
                    raise SpecError(
                        f"{rule.name} looks at {term}, and {what} has {len(text)} characters; at most {MAX_TEXT} are "
                        "possible"
                    )
            if not all(any(expression.search(text) for text in texts) for expression in expressions):
                return False
        return all(
            any(canonical(name) == has and overlap(specs, version) for has, version in self._required(section))
            for section, wanted in rule.packages.items()
            for name, specs in wanted.items()
        )

    def _required(self, section: str) -> list[tuple[str, Specs]]:
        if section not in self._packages:
            given = self._script.get("requirements")
            found = requirements(given.get(section)) if isinstance(given, Mapping) else ()
            self._packages[section] = list(found)
        return self._packages[section]


def _text(found: Any) -> str:
    return found if isinstance(found, str) else ""


def _replaced(rule: Rule, *, image: str, words: Sequence[str], setup: str) -> tuple[Ignored, ...]:
    why = f"{rule.name} forces its own"
    own = (("the image", image), ("the docker arguments", words), ("the setup script", setup.strip()))
    return tuple(Ignored(source="task", argument=what, why=why) for what, given in own if given)


def _takeable(words: Sequence[str]) -> tuple[tuple[str, ...], tuple[Ignored, ...]]:
    """The words without variables that look secret, and without resources: room is counted before it is known which
    rule fits."""
    places, ignored = set(), []
    found = list(docker_options.options(words))
    for number, option in enumerate(found):
        if option.name in _RESOURCES:
            argument, why = option.name, "in clearml.conf it asks for nothing: the queue's template has the resources"
        elif option.name == docker_options.ENV and option.value is not None and _looks_secret(option.value):
            name = option.value.partition("=")[0]
            argument = f"-e {name}" if name.isidentifier() else "-e (a variable)"
            why = (
                "it stands in clearml.conf and looks secret, and no Job may hold that: put it into a Secret, and name "
                "that in agentk8sglue.basePodTemplate.env"
            )
        else:
            continue
        end = found[number + 1].place if number + 1 < len(found) else len(words) + 1
        places |= set(range(option.place, end))
        ignored.append(Ignored(source="task", argument=argument, why=why))
    return tuple(word for place, word in enumerate(words, start=1) if place not in places), tuple(ignored)


def _looks_secret(setting: str) -> bool:
    name, _, value = setting.partition("=")
    return is_secret(name) or without_secrets(value) != value
