"""What the process reads from its environment beside the credentials; docs/operations.md lists the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from clearml_k8s.errors import MAX_REQUEST_SECONDS, ConfigError
from clearml_k8s.flow.graces import GRACE_SECONDS
from clearml_k8s.health import PORT
from clearml_k8s.logs import Format

GRACE_AT_LEAST = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Log level and form, port of the probes, length of a grace in seconds."""

    log_level: str = "INFO"
    log_format: Format = "plain"
    port: int = PORT
    grace_seconds: float = GRACE_SECONDS

    @property
    def request_seconds(self) -> float:
        """The longest that one request may last: a grace must be longer than any, with as much again to spare."""
        return min(MAX_REQUEST_SECONDS, self.grace_seconds / 2)

    @property
    def sweep_seconds(self) -> float:
        """Between two sweeps: what they look for is at least a grace old."""
        return 1.5 * self.grace_seconds


def load(environ: Mapping[str, str]) -> Settings:
    """The settings; ConfigError names the variable, what was found and what it takes."""
    text = environ.get("CLEARML_K8S_LOG_FORMAT") or "plain"
    if text not in ("plain", "json"):
        raise ConfigError(f"CLEARML_K8S_LOG_FORMAT is {text!r}: write plain or json")
    form: Format = "json" if text == "json" else "plain"
    return Settings(
        log_level=environ.get("CLEARML_K8S_LOG_LEVEL") or "INFO",
        log_format=form,
        port=int(_number(environ, "CLEARML_K8S_PORT", default=PORT, least=0)),
        grace_seconds=_number(environ, "CLEARML_K8S_GRACE_SECONDS", default=GRACE_SECONDS, least=GRACE_AT_LEAST),
    )


def _number(environ: Mapping[str, str], name: str, *, default: float, least: float) -> float:
    text = environ.get(name, "").strip()
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not number >= least:
        raise ConfigError(f"{name} is {text!r}: write a number of at least {least:g}")
    return number
