"""What is kept of a ResourceQuota."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from clearml_k8s.errors import KubeUnanswered
from clearml_k8s.kube.quantity import quantity
from clearml_k8s.wire import got


@dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """Which pods a quota is for: ``operator`` is In, NotIn, Exists or DoesNotExist, ``values`` for the first two."""

    name: str
    operator: str = "Exists"
    values: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class QuotaRecord:
    """A ResourceQuota: by resource as it names them (`pods`, `requests.cpu`) what it allows and what is used."""

    uid: str
    name: str
    resource_version: str
    hard: Mapping[str, Decimal]
    used: Mapping[str, Decimal]
    scopes: tuple[Scope, ...] = ()
    task: None = None


def slim_quota(quota: object) -> QuotaRecord:
    """The record of a ResourceQuota. Raises KubeUnanswered for one without uid or name."""
    if not isinstance(quota, Mapping):
        raise KubeUnanswered("ResourceQuota", got(quota, expected="an object"))
    meta, spec, status = (_map(quota, key) for key in ("metadata", "spec", "status"))
    for key in ("uid", "name"):
        if not isinstance(meta.get(key), str) or not meta[key]:
            raise KubeUnanswered("ResourceQuota", f"metadata.{key}: {got(meta.get(key), expected='text')}")
    return QuotaRecord(
        uid=meta["uid"],
        name=meta["name"],
        resource_version=str(meta.get("resourceVersion") or ""),
        # The status is what is enforced; it follows the spec after a moment.
        hard=_amounts(status, "hard") or _amounts(spec, "hard"),
        used=_amounts(status, "used"),
        scopes=(
            *(Scope(name=name) for name in _list(spec, "scopes") if isinstance(name, str)),
            *(
                _scope(one)
                for one in _list(_map(spec, "scopeSelector"), "matchExpressions")
                if isinstance(one, Mapping)
            ),
        ),
    )


def _scope(expression: Mapping[str, Any]) -> Scope:
    return Scope(
        name=str(expression.get("scopeName") or ""),
        operator=str(expression.get("operator") or ""),
        values=tuple(value for value in _list(expression, "values") if isinstance(value, str)),
    )


def _amounts(source: Mapping[str, Any], key: str) -> dict[str, Decimal]:
    found = {name: quantity(value) for name, value in _map(source, key).items()}
    return {name: amount for name, amount in found.items() if amount is not None}


def _map(source: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = source.get(key)
    return found if isinstance(found, Mapping) else {}


def _list(source: Mapping[str, Any], key: str) -> list[Any]:
    found = source.get(key)
    return found if isinstance(found, list) else []
