"""HOCON, the language of clearml.conf, by the parser that clearml-agent brings with it."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from clearml_k8s.errors import ConfigError

_PACKAGE: Final = "_clearml_k8s_hocon"


class Unresolved:
    """Stands for a value with a substitution (`${NAME}`), which is not filled in."""


def parse(text: str, *, source: str, folder: Path | None = None) -> dict[str, Any]:
    """The text as plain dictionaries; ``folder``: where what it includes is looked for.

    Raises ConfigError, which names ``source`` and the line, never the content.
    """
    with _told(source):
        plain = _factory().parse_string(text, **_basedir(folder)).as_plain_ordered_dict()
    if not isinstance(plain, dict):
        raise ConfigError(f"{source} is not a HOCON object")
    return plain


def part(text: str, *path: str, source: str, folder: Path | None = None) -> Any:
    """What stands at the path, None if nothing does; substitutions anywhere in the text are left alone, as they may be
    meant for another environment. Raises as `parse`."""
    (found,) = parts(text, path, source=source, folder=folder)
    return found


def parts(text: str, *paths: Sequence[str], source: str, folder: Path | None = None) -> list[Any]:
    """As `part`, of several paths, in their order; the text is parsed once, which takes a second for 20 kB."""
    with _told(source):
        whole = _factory().parse_string(text, resolve=False, **_basedir(folder))
        return [_plain(_at(whole, path)) for path in paths]


def _at(found: Any, path: Sequence[str]) -> Any:
    for key in path:
        found = found.get(key, None) if isinstance(found, dict) else Unresolved() if _odd(found) else None
    return found


def _plain(found: Any) -> Any:
    if isinstance(found, dict):
        return {str(key).strip('"'): _plain(value) for key, value in found.items()}
    if isinstance(found, list):
        return [_plain(value) for value in found]
    return Unresolved() if _odd(found) else found


def _odd(found: Any) -> bool:
    """The parser's own objects for what is not resolved."""
    return found is not None and not isinstance(found, dict | list | str | int | float | bool)


@contextlib.contextmanager
def _told(source: str) -> Iterator[None]:
    try:
        yield
    except ConfigError:
        raise
    except _UrlIncluded:
        raise ConfigError(f"{source} includes a URL, which is not asked for: write what stands there") from None
    except Exception as error:  # the parser raises pyparsing's, its own and built-in errors
        line = getattr(error, "lineno", None)
        where = f", line {line}" if isinstance(line, int) else ""
        # The parser's own text quotes the line, which may hold a secret.
        raise ConfigError(f"{source}{where} is not valid HOCON ({type(error).__name__})") from None


def _basedir(folder: Path | None) -> dict[str, str]:
    return {"basedir": str(folder)} if folder else {}


def _factory() -> Any:
    # The parser logs what it includes and cannot find; that is its own matter, not ours.
    logging.getLogger(f"{_PACKAGE}.external.pyhocon").setLevel(logging.ERROR)
    return _parser().ConfigFactory


def _parser() -> ModuleType:
    """clearml_agent's HOCON parser, imported under a name of its own.

    ``import clearml_agent`` would load its API client, which changes urllib3's loggers and limits for the process and
    costs 0.4 s. The parser's files need nothing of that.
    """
    loaded = sys.modules.get(f"{_PACKAGE}.external.pyhocon")
    if loaded is not None:
        return loaded
    spec = importlib.util.find_spec("clearml_agent")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("clearml.conf cannot be read: the Python package clearml-agent is not installed")
    package = ModuleType(_PACKAGE)
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules[_PACKAGE] = package
    parser = importlib.import_module(f"{_PACKAGE}.external.pyhocon")
    # The parser would ask for it while all else waits, without a limit, and go on without what does not come.
    parser.ConfigFactory.parse_URL = _no_url
    return parser


def _no_url(*_: object, **__: object) -> None:
    raise _UrlIncluded


class _UrlIncluded(Exception):
    """The text has `include url(...)`."""
