"""The flags of ClearML's own glue script (`k8s_glue_example.py`) -> `Config`, for people without Helm.

Some flags work as they do there; every other one is refused with what to use instead. The pod template is a Pod
manifest as the glue takes it: its labels and annotations go to `base_pod_template`, its spec to `base_pod_spec`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from clearml_k8s.config import Config, address, strings
from clearml_k8s.config.file import ConfigProblems, config_from_document
from clearml_k8s.config.pod_template import PodTemplate, read_pod_template
from clearml_k8s.config.problems import show

DEFAULT_NAME: Final = "clearml-k8s"
NAME_MAX: Final = 52
DEFAULT_NAMESPACE: Final = "clearml"
"""The glue's own default."""

_SOURCE = "command line"
_BY_FILE = "sessions are made reachable by the key `sessions` of a config file (run --config), which the chart renders"

_GIVEN_BY: Final[Mapping[str, str]] = {
    "workerId": "CLEARML_WORKER_ID",
    "namespace": "--namespace",
    "clearml.taskCredentials.secretName": "--credentials-secret",
    "clearml.taskCredentials": "--credentials-keys",
    "clearml.configSecret.name": "--clearml-conf-secret",
    "maxPods": "--max-pods",
    "defaultContainerImage": "CLEARML_DOCKER_IMAGE (or the image in --template-yaml)",
    "task.serviceAccountName": "--template-yaml: spec.serviceAccountName",
    "basePodTemplate": "--template-yaml: metadata",
    "queues": "--queue",
}
"""Keys of the config file -> what sets them here; the first that fits counts."""

_PLACES: Final = {"labels": "metadata.labels", "annotations": "metadata.annotations", "spec": "spec"}

_LABEL = (re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"), "lower-case letters, digits and '-', at most 63")
_OBJECT = (re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"), "lower-case letters, digits, '-' and '.', at most 253")
_KEY = (re.compile(r"[-._a-zA-Z0-9]{1,253}"), "letters, digits, '-', '_' and '.', at most 253")

REFUSED: Final[Mapping[str, str]] = {
    "--ports-mode": _BY_FILE,
    "--num-of-services": _BY_FILE,
    "--base-port": _BY_FILE,
    "--base-pod-num": _BY_FILE,
    "--gateway-address": _BY_FILE,
    "--ssh-server-port": _BY_FILE,
    "--limit-pod-label": _BY_FILE,
    "--pod-clearml-conf": "put the file into a Secret (kubectl create secret generic NAME "
    "--from-file=clearml.conf=FILE) and name it with --clearml-conf-secret NAME; it is mounted, never copied",
    "--overrides-yaml": "write its content into the file of --template-yaml",
    "--pod-name-prefix": "Jobs are named clearml-id-<task id>: the name is the task's lock and cannot be changed",
    "--no-system-packages": "set CLEARML_AGENT__AGENT__PACKAGE_MANAGER__SYSTEM_SITE_PACKAGES=false in the env of the "
    "template's first container",
    "--use-owner-token": "task pods get their owners' tokens by the key `clearml.ownerToken` of a config file "
    "(run --config), which the chart renders",
    "--k8s-pending-queue-name": "the pending queue is k8s_scheduler; it can be shared with other controllers",
    "--container-bash-script": "the pod's start script is fixed; use the task's setup script, or another image",
    "--child-report-tags": "it belongs to the Enterprise glue and has no counterpart here",
    "--debug": "the log tells every step as it is",
}
"""Flags of the glue script that are not taken -> what to use instead."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """The ClearML server as found in the environment or in clearml.conf."""

    api_server: str | None
    web_server: str | None = None
    file_server: str | None = None
    verify_certificate: bool = True


@dataclass(frozen=True, kw_only=True)
class GlueFlags:
    """What was given on the command line; None: not given."""

    queues: tuple[str, ...]
    """As written: each may hold several names, separated by commas."""
    namespace: str | None = None
    template_yaml: Path | None = None
    max_pods: int | None = None
    create_queue: bool = False
    credentials_secret: str | None = None
    credentials_keys: tuple[str, str] = ("agentk8sglue_key", "agentk8sglue_secret")
    clearml_conf_secret: str | None = None
    name: str = DEFAULT_NAME
    worker_id: str | None = None
    default_image: str | None = None


def config_from_flags(flags: GlueFlags, *, server: Server) -> Config:
    """The same `Config` as from a file. Raises `ConfigProblems` with every mistake at once."""
    problems: list[str] = []
    template = PodTemplate()
    if flags.template_yaml is not None:
        try:
            template = read_pod_template(flags.template_yaml)
        except ConfigProblems as error:
            problems += error.problems
    problems += (
        problem
        for key, thing in (("labels", template.labels), ("annotations", template.annotations), ("spec", template.spec))
        for problem in strings.problems(thing, place=f"{flags.template_yaml}: {_PLACES[key]}")
    )
    names = [name.strip() for text in flags.queues for name in text.split(",") if name.strip()]
    if not names:
        problems.append("--queue: missing; name the queues to serve, as in --queue gpu --queue cpu or --queue gpu,cpu")
    if len(flags.name) > NAME_MAX or not re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", flags.name):
        problems.append(
            f"--name: found {flags.name!r}; expected lower-case letters, digits, '-' and '.', at most {NAME_MAX}, "
            "beginning and ending with a letter or digit: it is a label and part of an object's name"
        )
    if not server.api_server:
        problems.append("the ClearML server is not known: set CLEARML_API_HOST or api.api_server in clearml.conf")
    addresses = {
        address.API: server.api_server,
        address.WEB: server.web_server,
        address.FILES: server.file_server,
    }
    problems += address.address_problems(addresses, names={kind: kind.given for kind in address.KINDS})
    if flags.namespace and template.namespace and flags.namespace != template.namespace:
        problems.append(
            f"--namespace is {flags.namespace}, but metadata.namespace in {flags.template_yaml} is "
            f"{template.namespace}: write one of them, or the same in both"
        )
    namespace = flags.namespace or template.namespace or DEFAULT_NAMESPACE
    problems += _name_problems(flags, namespace=namespace)
    if not flags.credentials_secret:
        problems.append(_missing_credentials(namespace=namespace, keys=flags.credentials_keys))
    if problems:
        raise ConfigProblems(problems)

    access_key, secret_key = flags.credentials_keys
    image = flags.default_image or template.image
    document: dict[str, Any] = {
        "workerId": flags.worker_id,
        "releaseName": flags.name,
        "fullname": flags.name,
        "namespace": namespace,
        "clearml": {
            "apiServer": server.api_server,
            "webServer": server.web_server,
            "fileServer": server.file_server,
            "verifyCertificate": server.verify_certificate,
            "taskCredentials": {
                "secretName": flags.credentials_secret,
                "accessKeyKey": access_key,
                "secretKeyKey": secret_key,
            },
            "configSecret": {"name": flags.clearml_conf_secret, "key": "clearml.conf"}
            if flags.clearml_conf_secret
            else None,
        },
        "createQueues": flags.create_queue,
        "maxPods": flags.max_pods,
        **({"defaultContainerImage": image} if image else {}),
        "task": {"serviceAccountName": template.spec.get("serviceAccountName") or "default"},
        "basePodTemplate": {"labels": template.labels, "annotations": template.annotations},
        "queues": {name: {} for name in names},
    }
    try:
        config = config_from_document(document, source=_SOURCE)
    except ConfigProblems as error:
        raise ConfigProblems([_of_the_flag(problem) for problem in error.problems]) from None
    return dataclasses.replace(config, base_pod_spec=template.spec)


def _name_problems(flags: GlueFlags, *, namespace: str) -> list[str]:
    """Of what names something in the cluster."""
    whose = "--namespace" if flags.namespace else f"metadata.namespace in {flags.template_yaml}"
    given = [
        (whose, namespace, *_LABEL),
        ("--credentials-secret", flags.credentials_secret, *_OBJECT),
        ("--clearml-conf-secret", flags.clearml_conf_secret, *_OBJECT),
    ]
    problems = [
        f"{flag}: found {show(name, path=())}; expected {wanted}"
        for flag, name, pattern, wanted in given
        if name and not pattern.fullmatch(name)
    ]
    if not all(_KEY[0].fullmatch(key) for key in flags.credentials_keys):
        # Somebody may have written the credentials themselves here.
        problems.append(f"--credentials-keys: expected the names of two keys in the Secret, each of {_KEY[1]}")
    return problems


def _of_the_flag(problem: str) -> str:
    """A problem of the document, told of the flag that it came from."""
    text = problem.removeprefix(f"{_SOURCE}: ")
    for key, flag in _GIVEN_BY.items():
        if text.startswith(key) and text[len(key) : len(key) + 1] in (":", ".", "["):
            return flag + text[len(key) :]
    return problem


def _missing_credentials(*, namespace: str, keys: tuple[str, str]) -> str:
    return (
        "--credentials-secret: missing; task pods read their ClearML credentials from a Secret. Write a file "
        f"task-credentials.env with the two lines\n    {keys[0]}=<access key>\n    {keys[1]}=<secret key>\n"
        f"and make the Secret of it:\n    kubectl --namespace {namespace} create secret generic "
        "clearml-task-credentials --from-env-file=task-credentials.env\n"
        "then add --credentials-secret clearml-task-credentials"
    )
