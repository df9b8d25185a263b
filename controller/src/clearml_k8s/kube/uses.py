"""What a pod takes of what is limited, read from the pod itself, or from the template that it will be made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from clearml_k8s import names
from clearml_k8s.config.gpus import FRACTION_LABEL, is_gpu, is_share
from clearml_k8s.kube.quantity import quantity

NONE: Final = Decimal(0)
MOST_SHARED: Final = 1000
JOBS_COUNT: Final = "count/jobs.batch"

Path = tuple[str, ...]
Amounts = tuple[tuple[str, Decimal], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """Of a pod, what the scopes of quotas go by. ``best_effort``: it asks for neither CPU nor memory."""

    priority_class: str = ""
    terminating: bool = False
    best_effort: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Uses:
    """Amounts of one pod: ``monitored`` by `monitoredResources`, ``gpus`` and ``cpus`` as the scheduler counts them.

    ``unreadable``: the monitored field that holds what is no amount, so that ``monitored`` is not known; else "".
    ``demand``: by resource as quotas name it, and ``kind``: what scopes of quotas go by; read with `Measure.demands`.
    """

    monitored: Decimal = NONE
    gpus: Decimal = NONE
    cpus: Decimal = NONE
    unreadable: str = ""
    demand: Amounts = ()
    kind: Kind | None = None

    def most(self, other: Uses) -> Uses:
        """Of each amount the larger one."""
        if other == self:
            return self
        return Uses(
            monitored=max(self.monitored, other.monitored),
            gpus=max(self.gpus, other.gpus),
            cpus=max(self.cpus, other.cpus),
            unreadable=self.unreadable or other.unreadable,
            demand=_larger(self.demand, other.demand),
            kind=other.kind or self.kind,
        )


NOTHING: Final = Uses()


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """Reads what may be limited; ``fields``: paths of which the largest amount counts as ``monitored``; ``demands``:
    pods of one queue differ, so what each takes of quotas is read as well."""

    fields: tuple[Path, ...] = ()
    demands: bool = False
    _shared: dict[Uses, Uses] = field(default_factory=dict, compare=False, repr=False)

    def __call__(self, pod: object) -> Uses:
        """``pod``: a Pod, or a pod template: a map with ``metadata`` and ``spec``. One object for all that use the
        same, as nearly all pods of a queue do."""
        if not isinstance(pod, Mapping):
            return NOTHING
        if len(self._shared) > MOST_SHARED:
            self._shared.clear()
        found = self._read(pod)
        return self._shared.setdefault(found, found)

    def _read(self, pod: Mapping[str, Any]) -> Uses:
        amount, unreadable = NONE, ""
        for path in self.fields:
            for value in _values(pod, path):
                if quantity(value) is None:
                    # The value itself is not told: a path may lead anywhere.
                    unreadable = "|".join(path)
            amount = max(amount, sum((quantity(value) or NONE for value in _values(pod, path)), NONE))
        asked = requests(pod)
        return Uses(
            monitored=amount,
            gpus=_gpus(pod, asked),
            cpus=asked.get("cpu", NONE),
            unreadable=unreadable,
            demand=tuple(demand(pod).items()) if self.demands else (),
            kind=kind_of(pod) if self.demands else None,
        )


def _gpus(pod: Mapping[str, Any], asked: Mapping[str, Decimal]) -> Decimal:
    """What the controller says of shares; else its resources, of which ClearML's injector may give a part. Where it
    gives the pod a GPU of its own the resources name none."""
    metadata = _map(pod, "metadata")
    share = quantity(_map(metadata, "annotations").get(names.ANNOTATION_GPUS))
    if share is not None:
        return share
    whole = sum((found for name, found in asked.items() if is_gpu(name)), NONE)
    fraction = quantity(_map(metadata, "labels").get(FRACTION_LABEL)) or NONE
    return whole * min(fraction, Decimal(1)) if whole and fraction else whole or fraction


def field_path(text: str) -> Path:
    """Of ``resources|limits|nvidia.com/gpu``: below `metadata` and `spec` from the pod on, else from its containers.
    Shares of GPUs are kept out of pods: all of them together stand in an annotation."""
    path = tuple(part.strip() for part in text.split("|"))
    return ("metadata", "annotations", names.ANNOTATION_GPUS) if is_share(path[-1]) else path


def requests(pod: Mapping[str, Any]) -> dict[str, Decimal]:
    """By resource: what the pod's containers ask for, as scheduler and quota count it. No request: its limit."""
    return _effective(pod, lambda resources: {**_map(resources, "limits"), **_map(resources, "requests")})


def limits(pod: Mapping[str, Any]) -> dict[str, Decimal]:
    """By resource: the sum of its containers' limits."""
    return _effective(pod, lambda resources: _map(resources, "limits"))


def demand(pod: Mapping[str, Any]) -> dict[str, Decimal]:
    """By resource, as a quota names them: what one pod takes; its Job under `JOBS_COUNT`."""
    one = Decimal(1)
    asked, most = requests(pod), limits(pod)
    return {
        **asked,
        **{f"requests.{name}": amount for name, amount in asked.items()},
        **{f"limits.{name}": amount for name, amount in most.items()},
        "pods": one,
        "count/pods": one,
        JOBS_COUNT: one,
    }


def kind_of(pod: Mapping[str, Any]) -> Kind:
    """Of a Pod, or a pod template."""
    spec = _map(pod, "spec")
    return Kind(
        priority_class=str(spec.get("priorityClassName") or ""),
        terminating=spec.get("activeDeadlineSeconds") is not None,
        best_effort=not {"cpu", "memory"} & requests(pod).keys(),
    )


def _larger(
    one: Iterable[tuple[str, Decimal]], other: Iterable[tuple[str, Decimal]]
) -> tuple[tuple[str, Decimal], ...]:
    found = dict(one)
    for name, amount in other:
        found[name] = max(amount, found.get(name, NONE))
    return tuple(found.items())


def _effective(pod: Mapping[str, Any], of: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> dict[str, Decimal]:
    """Containers run together, init containers one after the other before them, unless they are sidecars."""
    spec = _map(pod, "spec")
    init = list(_items(spec, "initContainers"))
    beside = [one for one in init if one.get("restartPolicy") == "Always"]
    together: dict[str, Decimal] = {}
    for container in (*_items(spec, "containers"), *beside):
        for name, amount in _amounts(of(_map(container, "resources"))):
            together[name] = together.get(name, NONE) + amount
    for container in init:
        for name, amount in _amounts(of(_map(container, "resources"))):
            together[name] = max(together.get(name, NONE), amount)
    return together


def _amounts(resources: Mapping[str, Any]) -> Iterable[tuple[str, Decimal]]:
    return ((str(name), quantity(value) or NONE) for name, value in resources.items())


def _values(pod: Mapping[str, Any], path: Path) -> list[Any]:
    """What stands at the path; not where nothing does. Relative to the containers: of each of them."""
    roots = [pod] if path[0] in ("metadata", "spec") else list(_items(_map(pod, "spec"), "containers"))
    return [found for root in roots if (found := _at(root, path)) is not None]


def _at(thing: Any, path: Path) -> Any:
    for part in path:
        if isinstance(thing, Mapping):
            thing = thing.get(part)
        elif isinstance(thing, list) and part.isdecimal() and int(part) < len(thing):
            thing = thing[int(part)]
        else:
            return None
    return thing


def _items(source: Mapping[str, Any], key: str) -> Iterable[Mapping[str, Any]]:
    found = source.get(key)
    return (item for item in found if isinstance(item, Mapping)) if isinstance(found, list) else ()


def _map(source: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = source.get(key)
    return found if isinstance(found, Mapping) else {}
