"""Endpoints: how a service method is announced, how its arguments are checked, how it is found by name and version."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from . import errors
from .settings import API_VERSION

Version = tuple[int, int]
Handler = Callable[["Call"], Any]
_Method = TypeVar("_Method", bound=Callable[..., Any])
_ATTRIBUTE = "__clearml_endpoint__"


@dataclass(frozen=True, kw_only=True)
class Identity:
    user: str
    user_name: str
    company: str
    company_name: str
    role: str
    protected: bool = False
    service_account_type: int = 0
    tenant: str = ""
    """The company that it works in, where that is not its own."""

    def claim(self) -> dict[str, Any]:
        return {
            "user": self.user,
            "company": self.company,
            "role": self.role,
            "user_name": self.user_name,
            "company_name": self.company_name,
            **({"service_account_type": self.service_account_type} if self.service_account_type else {}),
        }


@dataclass(kw_only=True)
class Call:
    """One request on its way through a service. ``batch`` holds the lines of a JSON-lines body."""

    endpoint: str
    version: Version
    data: dict[str, Any]
    batch: list[dict[str, Any]] | None = None
    identity: Identity
    remote: str = ""
    gap: Callable[[str], Awaitable[None]] | None = None

    async def step(self, name: str) -> None:
        """The gap between two database operations: other calls run here, and faults may stretch or break it."""
        if self.gap is not None:
            await self.gap(name)
        else:
            await asyncio.sleep(0)


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    name: str
    min_version: Version = (1, 0)
    authorize: bool = True
    roles: frozenset[str] | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    batch: bool = False
    enterprise: bool = False

    def check(self, data: dict[str, Any]) -> None:
        """400/12 for a missing or ill-typed field. Unknown fields are ignored, as the server does.

        A field is described by its type, with a leading ``!`` if it is required: ``str``, ``bool``, ``int``,
        ``number``, ``dict``, ``list`` or ``strings`` (a list of strings; one string stands for a list of one).
        """
        for name, kind in self.fields.items():
            required, kind = kind.startswith("!"), kind.lstrip("!")
            value = data.get(name)
            if value is None:
                if required:
                    raise errors.validation(f"Field is required: {name}", field=name)
                continue
            data[name] = _convert(name, kind, value)


def _convert(name: str, kind: str, value: Any) -> Any:
    match kind:
        case "str" if isinstance(value, str):
            return value
        case "bool" if isinstance(value, str):
            return value.lower() not in ("", "0", "false", "no")
        case "bool":
            return bool(value)
        case "int" | "number" if isinstance(value, int | float) and not isinstance(value, bool):
            return int(value) if kind == "int" else value
        case "int" | "number" if isinstance(value, str):
            try:
                return int(value) if kind == "int" else float(value)
            except ValueError:
                pass
        case "dict" if isinstance(value, dict):
            return value
        case "list" if isinstance(value, list):
            return value
        case "strings" if isinstance(value, str):
            return [value]
        case "strings" if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return value
    raise errors.validation(f"Value of field {name} must be {kind}, found {type(value).__name__}", field=name)


def endpoint(
    name: str,
    /,
    *,
    since: str = "1.0",
    authorize: bool = True,
    roles: Iterable[str] | None = None,
    batch: bool = False,
    enterprise: bool = False,
    common: Mapping[str, str] | None = None,
    **fields: str,
) -> Callable[[_Method], _Method]:
    """Announce a service method as an endpoint.

    ``since``: the first API version that has it. ``fields`` and ``common``: the arguments and their types.
    """
    major, _, minor = since.partition(".")
    spec = Endpoint(
        name=name,
        min_version=(int(major), int(minor)),
        authorize=authorize,
        roles=None if roles is None else frozenset(roles),
        fields={**(common or {}), **fields},
        batch=batch,
        enterprise=enterprise,
    )

    def announce(method: _Method) -> _Method:
        setattr(method, _ATTRIBUTE, spec)
        return method

    return announce


class Registry:
    """All endpoints of an edition, by name."""

    def __init__(self, services: Iterable[object], *, enterprise: bool) -> None:
        self._endpoints: dict[str, tuple[Endpoint, Handler]] = {}
        for service in services:
            for attribute in dir(type(service)):
                spec = getattr(getattr(type(service), attribute), _ATTRIBUTE, None)
                if isinstance(spec, Endpoint) and (enterprise or not spec.enterprise):
                    self._endpoints[spec.name] = (spec, getattr(service, attribute))

    def find(self, path: str) -> tuple[Endpoint, Handler, Version]:
        """The endpoint for ``<service>.<action>`` or ``v<version>/<service>.<action>``.

        400/0 for a path that is neither, 404/0 for an unknown name or one newer than the version asked for.
        """
        found = self._endpoints.get(path)
        if found is not None:
            return *found, API_VERSION
        prefix, slash, name = path.rpartition("/")
        version = API_VERSION
        if slash:
            version = _parse_version(prefix)
        if "." not in name.strip("."):
            raise errors.bad_request(f"Invalid request path {path}")
        found = self._endpoints.get(name)
        if found is None or found[0].min_version > version:
            raise errors.unknown_endpoint(name, ".".join(map(str, version)))
        return *found, version


def _parse_version(prefix: str) -> Version:
    numbers = prefix.removeprefix("v").split(".")
    if not prefix.startswith("v") or not all(number.isdecimal() for number in numbers) or len(numbers) > 2:
        raise errors.bad_request(f"Invalid request path: version {prefix}")
    return int(numbers[0]), int(numbers[1]) if len(numbers) == 2 else 0
