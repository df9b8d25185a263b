"""HOCON, the language of clearml.conf, by the parser that clearml-agent brings with it."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from clearml_k8s.errors import ConfigError

_PACKAGE: Final = "_clearml_k8s_hocon"


def parse(text: str, *, source: str, folder: Path | None = None) -> dict[str, Any]:
    """The text as plain dictionaries; ``folder``: where what it includes is looked for.

    Raises ConfigError, which names ``source`` and the line, never the content.
    """
    parser = _parser()
    # The parser logs what it includes and cannot find; that is its own matter, not ours.
    logging.getLogger(f"{_PACKAGE}.external.pyhocon").setLevel(logging.ERROR)
    try:
        tree = parser.ConfigFactory.parse_string(text, **({"basedir": str(folder)} if folder else {}))
        plain = tree.as_plain_ordered_dict()
    except Exception as error:  # the parser raises pyparsing's, its own and built-in errors
        line = getattr(error, "lineno", None)
        where = f", line {line}" if isinstance(line, int) else ""
        # The parser's own text quotes the line, which may hold a secret.
        raise ConfigError(f"{source}{where} is not valid HOCON ({type(error).__name__})") from None
    if not isinstance(plain, dict):
        raise ConfigError(f"{source} is not a HOCON object")
    return plain


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
    return importlib.import_module(f"{_PACKAGE}.external.pyhocon")
