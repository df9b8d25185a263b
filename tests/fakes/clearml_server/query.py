"""The filters, paging and projections that all ``get_all`` endpoints share."""

from __future__ import annotations

import itertools
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from . import errors
from .settings import MAX_PAGE
from .store import Document

Predicate = Callable[[Document], bool]
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


def get_path(document: Document, path: str) -> Any:
    """The value at a dotted path, None where there is none."""
    value: Any = document
    for name in path.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def set_path(document: Document, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for name in parents:
        document = document.setdefault(name, {})
    document[last] = value


def parse_time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise errors.validation(f"not a time: {text}") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _pattern(field: str, pattern: Any) -> Predicate:
    if not isinstance(pattern, str):
        raise errors.validation(f"Value of field {field} must be str, found {type(pattern).__name__}", field=field)
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise errors.invalid_regex(reason=str(error), pattern=pattern) from error
    return lambda document: regex.search(get_path(document, field) or "") is not None


def _one_of(field: str, values: Any) -> Predicate:
    """A value with a leading ``-`` excludes; words such as ``__$all`` set how those that follow are joined."""
    included: set[Any] = set()
    excluded: set[Any] = set()
    need_all = negate = False
    for value in _as_list(values):
        match value:
            case "__$all" | "__$and":
                need_all = True
            case "__$any" | "__$or" | "__$op":
                need_all = False
            case "__$not":
                negate = True
                continue
            case str() if negate:
                excluded.add(value)
            case str() if value.startswith("-"):
                excluded.add(value[1:])
            case _:
                included.add(value)
        negate = False

    def matches(document: Document) -> bool:
        value = get_path(document, field)
        found = set(value) if isinstance(value, list) else {value}
        if found & excluded:
            return False
        return not included or (included <= found if need_all else bool(found & included))

    return matches


def _range(field: str, conditions: Any) -> Predicate:
    """Conditions such as ``"<2026-01-15T06:22:11.065000+00:00"`` or ``">=3"``, all of which must hold."""
    parsed: list[tuple[Callable[[Any, Any], bool], Any]] = []
    for condition in _as_list(conditions):
        text = str(condition).strip()
        symbol = next((symbol for symbol in _COMPARISONS if text.startswith(symbol)), "")
        operand = text[len(symbol) :]
        value: Any
        try:
            value = float(operand)
        except ValueError:
            value = parse_time(operand)
        parsed.append((_COMPARISONS.get(symbol, operator.eq), value))

    def matches(document: Document) -> bool:
        value = get_path(document, field)
        if value is None:
            return False
        return all(
            isinstance(value, datetime) == isinstance(operand, datetime) and compare(value, operand)
            for compare, operand in parsed
        )

    return matches


def _multi_field(condition: Any, join: Callable[[Iterable[bool]], bool]) -> Predicate:
    """``_any_`` and ``_all_``: ``{"fields": [...], "pattern": ...}`` or ``{"fields": [...], "datetime": [...]}``."""
    if not isinstance(condition, dict) or not isinstance(condition.get("fields"), list):
        raise errors.validation("a condition on several fields needs the list 'fields'")
    make = _pattern if "pattern" in condition else _range
    value = condition.get("pattern", condition.get("datetime"))
    predicates = [make(field, value) for field in condition["fields"]]
    return lambda document: join(predicate(document) for predicate in predicates)


def build(
    data: dict[str, Any], *, patterns: Sequence[str], lists: Sequence[str], ranges: Sequence[str]
) -> list[Predicate]:
    """The predicates of a ``get_all`` request, for the fields of each kind that the document has."""
    predicates: list[Predicate] = []
    for field, value in data.items():
        if value is None or value == []:
            continue
        if field in patterns:
            predicates.append(_pattern(field, value))
        elif field in lists:
            predicates.append(_one_of(field, value))
        elif field in ranges:
            predicates.append(_range(field, value))
        elif field.startswith("_any_"):
            predicates.append(_multi_field(value, any))
        elif field.startswith("_all_"):
            predicates.append(_multi_field(value, all))
    return predicates


def page_bounds(data: dict[str, Any]) -> tuple[int, int]:
    """First and last + 1: at most 500 a page, also without ``page`` and ``page_size``."""
    page, size = data.get("page") or 0, data.get("page_size")
    try:
        page, size = int(page), int(MAX_PAGE if size is None else size)
    except (TypeError, ValueError) as error:
        raise errors.validation("page and page_size must be numbers") from error
    if page < 0 or size < 1:
        raise errors.validation("page must not be negative and page_size at least 1")
    size = min(size, MAX_PAGE)
    return page * size, (page + 1) * size


def ordered(documents: list[Document], data: dict[str, Any]) -> list[Document]:
    """``order_by``: dotted field names, with a leading ``-`` for descending; documents without the field come first."""
    for field in reversed(_as_list(data.get("order_by") or [])):
        name = field.lstrip("-")
        present = [document for document in documents if get_path(document, name) is not None]
        absent = [document for document in documents if get_path(document, name) is None]
        present.sort(key=lambda document: get_path(document, name), reverse=field.startswith("-"))
        documents = present + absent if field.startswith("-") else absent + present
    return documents


def project(document: Document, only_fields: Any) -> Document:
    """Only the named fields (dotted paths allowed) and ``id``. A leading ``-`` names a field to leave out."""
    fields = [field for field in _as_list(only_fields or []) if isinstance(field, str)]
    left_out = {field[1:] for field in fields if field.startswith("-")}
    wanted = [field for field in fields if not field.startswith("-")]
    if not wanted:
        return {name: value for name, value in document.items() if name not in left_out}
    result: Document = {"id": document["id"]}
    for field in wanted:
        value = get_path(document, field)
        if value is not None:
            set_path(result, field, value)
    return result


def find(documents: Iterable[Document], data: dict[str, Any], predicates: list[Predicate]) -> list[Document]:
    """Filter, order and page; projection is left to the caller, who may join other documents first."""
    first, end = page_bounds(data)
    found = (document for document in documents if all(predicate(document) for predicate in predicates))
    if data.get("order_by"):
        return ordered(list(found), data)[first:end]
    return list(itertools.islice(found, first, end))
