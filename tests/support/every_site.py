"""Where the flow calls either API, read from its code: what a list of points must have."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from clearml_k8s import flow
from clearml_k8s.clearml.token import LOGIN
from clearml_k8s.kube import resources

SOURCE = Path(flow.__file__).parent
CLEARML = ("tasks", "queues", "events", "workers", "owners")
CLIENT = {"create": "POST", "patch": "PATCH", "delete": "DELETE", "find": "GET", "get": "GET", "stream": "GET",
          "list_pages": "GET"}  # fmt: skip
READS = {"events_of": "GET events", "environment": "GET pods", "list_services": "GET services"}
"""Functions of `kube` by what they call."""

COMMAND = "a command"
"""Of the administrator's own, in a process: nobody's API, and yet it may go wrong, or the process die at it."""

_ENDPOINT = re.compile(r"^[a-z]+\.[a-z_]+$")


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    return (found for found in ast.walk(node) if isinstance(found, ast.Call))


def _is_read(call: ast.Call) -> bool:
    return any(key.arg == "read" and getattr(key.value, "value", None) is True for key in call.keywords)


class Endpoints:
    """Which endpoints each function of one module of `clearml` may call, itself or by others of the module."""

    def __init__(self, module: str) -> None:
        tree = _parsed(SOURCE.parent / "clearml" / f"{module}.py")
        constants = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant)
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }
        self._own: dict[str, set[str]] = {}
        self._others: dict[str, set[str]] = {}
        self.reads: set[str] = set()
        for function in _functions(tree):
            own: set[str] = set()
            for call in _calls(function):
                name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
                helper = call.func.id if isinstance(call.func, ast.Name) else ""
                if name == "login_with":
                    own.add(LOGIN)
                    self.reads.add(LOGIN)
                if name in ("call", "send_lines") or helper.startswith("_"):
                    texts = [constants.get(a.id) if isinstance(a, ast.Name) else getattr(a, "value", None)
                             for a in call.args]  # fmt: skip
                    found = {text for text in texts if isinstance(text, str) and _ENDPOINT.match(text)}
                    own |= found
                    if _is_read(call):
                        self.reads |= found
            self._own[function.name] = own
            self._others[function.name] = {c.func.id for c in _calls(function) if isinstance(c.func, ast.Name)}

    def of(self, function: str, seen: frozenset[str] = frozenset()) -> set[str]:
        found = set(self._own.get(function, ()))
        for other in self._others.get(function, set()) - seen:
            if other in self._own:
                found |= self.of(other, seen | {function})
        return found


def sites() -> set[str]:
    """Every call of the flow that is written in one of its functions, as points are named: site, then call."""
    endpoints = {module: Endpoints(module) for module in CLEARML}
    found: set[str] = set()
    for path in sorted(SOURCE.glob("*.py")):
        for function in _functions(_parsed(path)):
            for call in _calls(function):
                found |= {f"{path.stem}.{function.name} {name}" for name in _names(call, endpoints)}
    return found


def _names(call: ast.Call, endpoints: dict[str, Endpoints]) -> set[str]:
    if isinstance(call.func, ast.Name) and call.func.id in READS:
        return {READS[call.func.id]}
    if isinstance(call.func, ast.Subscript) and getattr(call.func.value, "attr", "") == "_shells":
        return {COMMAND}
    if not isinstance(call.func, ast.Attribute):
        return set()
    whose, what = call.func.value, call.func.attr
    if isinstance(whose, ast.Name) and whose.id in endpoints:
        return endpoints[whose.id].of(what)
    owner = getattr(whose, "attr", getattr(whose, "id", ""))
    if owner in ("_client", "client") and what in CLIENT:
        dry = any(key.arg == "dry_run" for key in call.keywords)
        resource = getattr(resources, call.args[0].id, None) if isinstance(call.args[0], ast.Name) else None
        if what == "stream":
            return {"GET pods (log)"}
        return {f"{CLIENT[what]} {resource.plural if resource else '?'}{' (dry run)' if dry else ''}"}
    later = what == "forget" and any(key.arg == "wait" for key in call.keywords)
    if owner == "_record" and what in ("add", "forget", "flush", "owe", "disown") and not later:
        return {"PATCH configmaps"}
    return set()


def writes() -> set[str]:
    """The writes among them, by call alone."""
    reads = set().union(*(Endpoints(module).reads for module in CLEARML))
    calls = {site.partition(" ")[2] for site in sites()}
    return {call for call in calls if call not in reads and not call.startswith("GET ") and "(dry run)" not in call}
