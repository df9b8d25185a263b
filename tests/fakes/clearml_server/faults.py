"""Fault injection: rules that are matched against every call."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from typing import Any

from .errors import ApiError

KINDS = {
    "delay": "wait before doing it",
    "error_before": "answer an error and do nothing",
    "error_after_commit": "do it, then answer an error",
    "drop_before": "close the connection and do nothing",
    "drop_reply": "do it, then close the connection without an answer",
    "late": "do it only after `seconds`, unanswered: the connection is closed at once, or with `hang` after landing",
    "unauthorized": "answer 401/30 and do nothing",
    "http": "answer as a proxy would: `status`, `body`, `headers`; do nothing",
    "step_delay": "wait `seconds` in the gap `step` between two database operations",
    "step_error": "fail with an error in the gap `step`, as if the database went away there",
}
_WITH_SECONDS = ("delay", "late", "step_delay")
_BEFORE = ("error_before", "drop_before", "unauthorized", "http")
_AFTER = ("error_after_commit", "drop_reply")


class BadRule(ValueError):
    """The text names the field of the rule, what was found, what is expected."""


@dataclass(kw_only=True)
class Rule:
    """See the README for the fields. ``seen``: calls that matched; ``hits``: calls it was applied to."""

    id: int
    kind: str
    endpoint: str = ""
    task: str | None = None
    queue: str | None = None
    worker: str | None = None
    client: str | None = None
    seconds: float = 0.0
    step: str | None = None
    status: int = 500
    subcode: int = 100
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False
    nth: int = 1
    every: int = 1
    count: int | None = None
    probability: float = 1.0
    seed: int = 0
    seen: int = 0
    hits: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        try:
            self._endpoint = re.compile(self.endpoint)
            self._client = re.compile(self.client) if self.client is not None else None
        except re.error as error:
            raise BadRule(f"endpoint and client must be regular expressions: {error}") from error

    def applies(self, facts: Facts) -> bool:
        if not self._endpoint.search(facts.endpoint):
            return False
        if self.task is not None and self.task != facts.task:
            return False
        if self.queue is not None and self.queue != facts.queue:
            return False
        if self.worker is not None and self.worker != facts.worker:
            return False
        if self._client is not None and not self._client.search(facts.client or ""):
            return False
        self.seen += 1
        if self.seen < self.nth or (self.seen - self.nth) % self.every:
            return False
        if self.count is not None and self.hits >= self.count:
            return False
        if self.probability < 1.0 and self._random.random() >= self.probability:
            return False
        self.hits += 1
        return True

    def error(self) -> ApiError:
        if self.kind == "unauthorized":
            return ApiError(401, 30, "Invalid token", reason="fault injection")
        return ApiError(self.status, self.subcode, "General data error", reason="fault injection")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What rules can see of a call."""

    endpoint: str
    task: str | None
    queue: str | None
    worker: str | None
    client: str | None


@dataclass(kw_only=True)
class Plan:
    """What is to happen to one call. ``before`` and ``late`` exclude what comes after them."""

    delay: float = 0.0
    before: Rule | None = None
    late: Rule | None = None
    after: Rule | None = None
    steps: dict[str, list[Rule]] = field(default_factory=dict)
    kinds: list[str] = field(default_factory=list)


class Faults:
    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self._next = 1

    def add(self, spec: Any) -> Rule:
        if not isinstance(spec, dict):
            raise BadRule(f"a rule must be an object, found {type(spec).__name__}")
        allowed = {name for name in Rule.__dataclass_fields__ if name not in ("id", "seen", "hits")}
        unknown = sorted(set(spec) - allowed)
        if unknown:
            raise BadRule(f"unknown field {unknown[0]}; known: {', '.join(sorted(allowed))}")
        if spec.get("kind") not in KINDS:
            raise BadRule(f"kind: found {spec.get('kind')!r}, expected one of {', '.join(KINDS)}")
        if spec["kind"] in _WITH_SECONDS and not isinstance(spec.get("seconds"), int | float):
            raise BadRule(f"seconds: {spec['kind']} needs a number of seconds")
        if spec["kind"].startswith("step_") and not isinstance(spec.get("step"), str):
            raise BadRule(f"step: {spec['kind']} needs the name of a gap")
        rule = Rule(id=self._next, **spec)
        self._next += 1
        self.rules.append(rule)
        return rule

    def clear(self, rule_id: int | None = None) -> int:
        """All rules, or one. How many there were."""
        before = len(self.rules)
        self.rules = [] if rule_id is None else [rule for rule in self.rules if rule.id != rule_id]
        return before - len(self.rules)

    def plan(self, facts: Facts) -> Plan | None:
        """None when nothing is to happen, which is the usual case."""
        plan: Plan | None = None
        for rule in self.rules:
            if not rule.applies(facts):
                continue
            plan = plan or Plan()
            plan.kinds.append(rule.kind)
            if rule.kind == "delay":
                plan.delay += rule.seconds
            elif rule.kind == "late":
                plan.late = plan.late or rule
            elif rule.kind in _BEFORE:
                plan.before = plan.before or rule
            elif rule.kind in _AFTER:
                plan.after = plan.after or rule
            else:
                plan.steps.setdefault(str(rule.step), []).append(rule)
        return plan
