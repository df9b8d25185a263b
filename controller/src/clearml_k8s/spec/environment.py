"""The environment of a task's container, part by part."""

from __future__ import annotations

from typing import Any, Final

from clearml_k8s import errors, names
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.config import Config
from clearml_k8s.spec import prepared
from clearml_k8s.spec.container import MAX_ENV_BYTES, env_entries
from clearml_k8s.spec.ignored import Ignored
from clearml_k8s.spec.script import ENV_SETUP_SCRIPT
from clearml_k8s.spec.template import PodParts

ENV_SKIP_SYSTEM_PACKAGES: Final = "CLEARML_AGENT_SKIP_CONTAINER_APT"
ENV_NEEDS_GIT: Final = "CLEARML_K8S_NEEDS_GIT"
ENV_SITE_PACKAGES: Final = "CLEARML_AGENT__AGENT__PACKAGE_MANAGER__SYSTEM_SITE_PACKAGES"
ENV_ENVIRONMENT_SECTION: Final = "CLEARML_AGENT_ENABLE_ENV_CONFIG_SECTION"
"""Whether the agent sets the variables of its configuration's section `environment`, of which a vault is a part."""
ENV_SDK_TASK_ID: Final = "CLEARML_TASK_ID"
"""By which an image's own entrypoint, and the SDK in it, know the task; elsewhere the agent sets it."""
RESERVED_ENV: Final = names.RESERVED_ENV | {ENV_SETUP_SCRIPT, ENV_NEEDS_GIT}

CONFIG_FOLDER: Final = "/etc/clearml"
CONFIG_FILE: Final = "clearml.conf"


def identity(
    *, config: Config, task: TaskView, attempt: str, reports_as: str, token_secret: str
) -> list[dict[str, Any]]:
    """Who the pod is and whom it talks to; nobody else may set these.

    ``token_secret``: the Secret's name, where the pod gets a token of the task's owner."""
    clearml = config.clearml
    literal_values = {
        names.ENV_TASK_ID: task.id,
        names.ENV_ATTEMPT: attempt,
        names.ENV_WORKER_ID: reports_as,
        names.ENV_API_HOST: clearml.api_server,
        names.ENV_WEB_HOST: clearml.web_server,
        names.ENV_FILES_HOST: clearml.file_server,
    }
    literals = env_entries({name: value for name, value in literal_values.items() if value is not None})
    secret = clearml.task_credentials
    if secret is None:
        return [*literals, _from_secret(names.ENV_AUTH_TOKEN, secret=token_secret, key=names.TOKEN_KEY)]
    return [
        *literals,
        _from_secret(names.ENV_ACCESS_KEY, secret=secret.secret_name, key=secret.access_key_key),
        _from_secret(names.ENV_SECRET_KEY, secret=secret.secret_name, key=secret.secret_key_key),
    ]


def _from_secret(name: str, *, secret: str, key: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def defaults(config: Config) -> list[dict[str, Any]]:
    """What the agent needs in a pod; the template's or the task's own value wins."""
    clearml = config.clearml
    values = {
        names.ENV_PROPAGATE_EXITCODE: "1",
        "PYTHONUNBUFFERED": "1",
        # The image is the environment the user chose: the task's venv sees its packages, as under ClearML's own glue.
        ENV_SITE_PACKAGES: "true",
        names.ENV_VERIFY_CERT: "true" if clearml.verify_certificate else "false",
    }
    if not clearml.vault_environment:
        values[ENV_ENVIRONMENT_SECTION] = "false"
    if config.task.certificates is not None:
        values |= prepared.CERTIFICATE_ENV
    if config.task.skips_system_packages:
        values[ENV_SKIP_SYSTEM_PACKAGES] = "1"
    if clearml.config_secret is not None:
        values[names.ENV_CONFIG_FILE] = f"{CONFIG_FOLDER}/{CONFIG_FILE}"
    return [dict(entry) for entry in env_entries(values)]


def preparation(task: TaskView, setup: str, *, config: Config) -> list[dict[str, Any]]:
    """What our start script goes by; ``setup``: the task's setup script. Raises SpecError for one that no pod takes."""
    values = {names.ENV_BOOTSTRAP: prepared.BUNDLE} if config.task.bootstrap else {}
    if task.script_repository:
        values[ENV_NEEDS_GIT] = "1"
    if "\0" in setup:
        raise errors.SpecError("the task's setup script holds a zero byte")
    size = len(f"{ENV_SETUP_SCRIPT}={setup}".encode(errors="replace"))
    if size > MAX_ENV_BYTES:
        raise errors.SpecError(
            f"the task's setup script: {size} bytes; at most {MAX_ENV_BYTES} are possible: put it into the image, or "
            "have a short script download it"
        )
    if setup.strip():
        values[ENV_SETUP_SCRIPT] = setup
    return [dict(entry) for entry in env_entries(values)]


def template_env(parts: PodParts, reserved: frozenset[str]) -> tuple[list[dict[str, Any]], tuple[Ignored, ...]]:
    """Of the template, without what is the controller's own, which is told."""
    env = parts.container.get("env") or []
    refused = tuple(
        Ignored(source="template", argument=f"env {item['name']}", why="set by the controller")
        for item in env
        if item["name"] in reserved
    )
    return [item for item in env if item["name"] not in reserved], refused
