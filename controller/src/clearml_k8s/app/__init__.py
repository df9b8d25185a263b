"""Wiring: the commands `run` and `check`."""

from __future__ import annotations

import asyncio
import os

from clearml_k8s import settings
from clearml_k8s.app import checks, process
from clearml_k8s.clearml import conf
from clearml_k8s.config import Config
from clearml_k8s.flow import task_conf


def run(config: Config, *, kubeconfig: str | None, context: str | None) -> int:
    """Serve the queues until SIGTERM or SIGINT; the exit code."""
    return asyncio.run(
        process.run(
            config,
            settings=settings.load(os.environ),
            credentials=conf.load(environ=os.environ),
            kubeconfig=kubeconfig,
            context=context,
        )
    )


def check(config: Config, *, skip_server: bool, kubeconfig: str | None, context: str | None) -> int:
    """Check everything that `run` needs, one line each; the exit code is 1 when something is wrong."""
    credentials = None if skip_server else conf.load(environ=os.environ)
    conf_file = task_conf.find(os.environ)
    return asyncio.run(
        checks.check(config, credentials=credentials, kubeconfig=kubeconfig, context=context, conf_file=conf_file)
    )
