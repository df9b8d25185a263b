"""What the process reads from its environment beside the credentials; docs/operations.md lists the same."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clearml_k8s.errors import MAX_REQUEST_SECONDS, ConfigError
from clearml_k8s.flow import task_conf
from clearml_k8s.flow.graces import GRACE_SECONDS
from clearml_k8s.health import PORT
from clearml_k8s.logs import Format
from clearml_k8s.names import ENV_POD_NAME

GRACE_AT_LEAST = 2.0
PORT_AT_MOST = 65535


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Log level and form, port of the probes, length of a grace in seconds; ``pod``: of which this is the only process,
    None outside of one; ``task_conf``: the clearml.conf of task pods, None: there is none."""

    log_level: str = "INFO"
    log_format: Format = "plain"
    port: int = PORT
    grace_seconds: float = GRACE_SECONDS
    pod: str | None = None
    task_conf: Path | None = None

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
        port=_port(environ),
        grace_seconds=_grace(environ),
        pod=environ.get(ENV_POD_NAME) or None,
        task_conf=task_conf.find(environ),
    )


def _port(environ: Mapping[str, str]) -> int:
    text = environ.get("CLEARML_K8S_PORT", "").strip()
    if not text:
        return PORT
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= PORT_AT_MOST):
        raise ConfigError(f"CLEARML_K8S_PORT is {text!r}: write a number from 0 (any free port) to {PORT_AT_MOST}")
    return int(text)


def _grace(environ: Mapping[str, str]) -> float:
    text = environ.get("CLEARML_K8S_GRACE_SECONDS", "").strip()
    if not text:
        return GRACE_SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not GRACE_AT_LEAST <= seconds < math.inf:
        raise ConfigError(f"CLEARML_K8S_GRACE_SECONDS is {text!r}: write a number of at least {GRACE_AT_LEAST:g}")
    return seconds
