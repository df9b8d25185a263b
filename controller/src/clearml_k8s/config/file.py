"""Reads the rendered config file: YAML text -> checked document -> `Config`.

Every problem of the document is reported at once, each with its path, what was found and what is expected, so that one
look at the message is enough to repair the file. Values that may be secret (the value of an environment variable) are
never quoted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

import yaml

from clearml_k8s import errors
from clearml_k8s.config import (
    Certificates,
    ClearMLConfig,
    Config,
    ControllerImage,
    MonitoredResources,
    QueueConfig,
    QueueSettings,
    SecretKey,
    TaskCredentials,
    TaskPodConfig,
    TemplateModuleConfig,
    address,
    conditions,
    dashboard,
    kueue,
    multi_node,
    pod_commands,
    policy,
    sessions,
    start_script,
    strings,
)
from clearml_k8s.config.policy import TaskPolicy
from clearml_k8s.config.problems import find_problems

SCHEMA_FILE = "config.schema.json"


def load_config_file(path: Path) -> Config:
    """The configuration in the file `path`. Raises `ConfigProblems` with every problem found."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # a path that cannot be one, or no UTF-8
        raise ConfigProblems([f"config file {path} cannot be read: {error}"]) from error
    return parse_config(text, source=str(path))


def parse_config(text: str, *, source: str = "config", schema: Mapping[str, Any] | None = None) -> Config:
    """The configuration in the YAML text `text`; `source` names it in messages.

    `schema` is for tests; by default config.schema.json of this package is used. Raises `ConfigProblems`.
    """
    document = parse_yaml(text, source=source)
    return config_from_document(document, source=source, schema=schema)


def config_from_document(document: Any, *, source: str, schema: Mapping[str, Any] | None = None) -> Config:
    """Checks a parsed document against the schema and builds the `Config`. Raises `ConfigProblems`."""
    if not isinstance(document, Mapping):
        raise ConfigProblems([f"{source}: found {_kind(document)}; expected a mapping of settings"])
    try:
        problems = find_problems(document, schema=package_schema() if schema is None else schema)
    except RecursionError:
        raise ConfigProblems([f"{source}: a YAML alias refers to something it is part of"]) from None
    problems += _semantic_problems(document) if not problems else []
    if problems:
        raise ConfigProblems([f"{source}: {problem}" for problem in problems])
    return _build(document)


def package_schema() -> Mapping[str, Any]:
    """config.schema.json as shipped in this package."""
    text = resources.files("clearml_k8s").joinpath(SCHEMA_FILE).read_text(encoding="utf-8")
    schema: Mapping[str, Any] = json.loads(text)
    return schema


class ConfigProblems(errors.ConfigError):
    """A configuration with one or more mistakes; `problems` has one line for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


# Helm's YAML knows neither dates nor a lone `=`, and writes such text without quotes.
_NO_TYPES: Final = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value")


class _StrictLoader(yaml.CSafeLoader):
    """CSafeLoader that refuses duplicate keys and keys that are not text, and reads dates as text."""

    yaml_implicit_resolvers: dict[str, Any] = {  # noqa: RUF012 - yaml reads it from the class
        first: [(tag, expression) for tag, expression in resolvers if tag not in _NO_TYPES]
        for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[Any, yaml.Mark] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                what = f"the key {key} is not text; write it in quotes"
                raise yaml.constructor.ConstructorError(None, None, what, key_node.start_mark)
            if key in seen:
                what = f"the key {key!r} stands here twice (first in line {seen[key].line + 1})"
                raise yaml.constructor.ConstructorError(None, None, what, key_node.start_mark)
            seen[key] = key_node.start_mark
        return super().construct_mapping(node, deep=deep)


def _as_text(_: _StrictLoader, node: yaml.ScalarNode) -> str:
    return str(node.value)


# `<<` as a value is text; as a key it merges, as ever.
_StrictLoader.add_constructor("tag:yaml.org,2002:merge", _as_text)


def parse_yaml(text: str, *, source: str) -> Any:
    """One YAML document, strictly read. Raises `ConfigProblems` with the line of the mistake."""
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a subclass of the safe loader
    except yaml.MarkedYAMLError as error:
        # The mark's snippet would quote the file, and with it perhaps a secret: only the place is told.
        mark = error.problem_mark or error.context_mark
        place = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = error.problem or error.context or "cannot be read as YAML"
        raise ConfigProblems([f"{source}{place}: not valid YAML: {what}"]) from None
    except yaml.YAMLError as error:
        raise ConfigProblems([f"{source}: not valid YAML: {error}"]) from None
    except (ValueError, LookupError, TypeError, AttributeError):
        # What the parser's own constructors raise of text that does not fit its tag (`!!int x`, `0x_`).
        raise ConfigProblems([f"{source}: not valid YAML: a value does not fit its type; write it in quotes"]) from None
    except RecursionError:
        raise ConfigProblems([f"{source}: not valid YAML: nested too deeply"]) from None


def _semantic_problems(document: Mapping[str, Any]) -> list[str]:
    """What a schema cannot say."""
    problems = []
    names = [name.strip() for name in document["queues"]]
    for name in document["queues"]:
        if not name.strip():
            problems.append(f"queues: found the key {name!r}; expected a queue's name or id")
        elif name != name.strip() and names.count(name.strip()) > 1:
            problems.append(f"queues: {name!r} and {name.strip()!r} are the same queue (the server strips names)")
    addresses = {kind: document["clearml"].get(kind.key) for kind in address.KINDS}
    keys = {kind: f"clearml.{kind.key}" for kind in address.KINDS}
    problems += address.address_problems(addresses, names=keys)
    if document["clearml"].get("ownerToken") and document["clearml"].get("taskCredentials"):
        problems.append("clearml.taskCredentials: found beside ownerToken; expected one of the two: a pod logs in once")
    elif not document["clearml"].get("ownerToken") and not document["clearml"].get("taskCredentials"):
        problems.append(
            "clearml.taskCredentials: found nothing; expected the Secret that task pods log in with (or ownerToken)"
        )
    task = document.get("task") or {}
    preparation = task.get("preparationScript") or ""
    if too_long := start_script.size_problem(preparation):
        problems.append(f"task.preparationScript: {too_long}")
    own = start_script.problems(task.get("startScript") or "", preparation=preparation)
    problems += [f"task.startScript: {problem}" for problem in own]
    certificates = task.get("certificates")
    if (task.get("bootstrap") or (certificates and not certificates.get("complete"))) and not task.get(
        "controllerImage"
    ):
        problems.append(
            "task.controllerImage: found nothing; expected the image that the init container of task pods runs"
        )
    problems += strings.problems(document.get("basePodTemplate"), place="basePodTemplate")
    problems += conditions.problems(document.get("conditionalTemplates"), place="conditionalTemplates")
    for name, queue in document["queues"].items():
        given, place = queue or {}, f"queues.{name}"
        problems += strings.problems(given.get("templateOverrides"), place=f"{place}.templateOverrides")
        problems += conditions.problems(given.get("conditionalTemplates"), place=f"{place}.conditionalTemplates")
    problems += policy.problems(document.get("taskPolicy"), place="taskPolicy")
    for name, queue in document["queues"].items():
        asked = ((queue or {}).get("queueSettings") or {}).get("taskPolicy")
        problems += policy.problems(asked, place=f"queues.{name}.queueSettings.taskPolicy")
    problems += kueue.problems(document)
    problems += sessions.problems(document.get("sessions"))
    commands = document.get(pod_commands.KEY) or {}
    for key, field in pod_commands.FIELDS.items():
        found = pod_commands.problems(commands.get(key) or "", field=field)
        problems += [f"{pod_commands.KEY}.{key}: {problem}" for problem in found]
    problems += multi_node.problems(document)
    problems += dashboard.problems(
        document.get("orchestrationDashboard"), cluster_access=bool(document.get("clusterAccess"))
    )
    return problems


def _build(document: Mapping[str, Any]) -> Config:
    given = {key: value for key, value in document.items() if value is not None}
    optional: dict[str, Any] = {
        field: given[key]
        for key, field in (
            ("workerId", "worker_id"),
            ("oldWorkerId", "old_worker_id"),
            ("queuePollFrequencySeconds", "queue_poll_frequency_seconds"),
            ("createQueues", "create_queues"),
            ("maxPods", "max_pods"),
            ("defaultContainerImage", "default_container_image"),
            ("completedPodDeletionDelayMinutes", "completed_pod_deletion_delay_minutes"),
            ("failedPodDeletionDelayMinutes", "failed_pod_deletion_delay_minutes"),
            ("basePodTemplate", "base_pod_template"),
            ("patienceSeconds", "patience_seconds"),
            ("maxRunMinutes", "max_run_minutes"),
            ("maxRequeues", "max_requeues"),
            ("maxPendingPods", "max_pending_pods"),
            ("respectResourceQuotas", "respect_resource_quotas"),
            ("clusterAccess", "cluster_access"),
            ("statusReportFrequencySeconds", "status_report_seconds"),
        )
        if key in given
    }
    task = given.get("task", {})
    task_policy = policy.read(given.get("taskPolicy"), over=TaskPolicy())
    return Config(
        release_name=given["releaseName"],
        fullname=given["fullname"],
        namespace=given["namespace"],
        clearml=_clearml(given["clearml"]),
        task=TaskPodConfig(
            **_prepared(task),
            service_account_name=task.get("serviceAccountName"),
            image_pull_secrets=tuple(task.get("imagePullSecrets") or ()),
            preparation_script=task.get("preparationScript") or "",
            start_script=task.get("startScript") or "",
            skips_system_packages=bool(task.get("skipsSystemPackages")),
        ),
        monitored_resources=_monitored(given.get("monitoredResources", {})),
        queues={
            name.strip(): _queue(name.strip(), queue or {}, task_policy=task_policy, general_kueue=given.get("kueue"))
            for name, queue in given["queues"].items()
        },
        task_policy=task_policy,
        conditional_templates=conditions.read(
            given.get("conditionalTemplates"), place="agentk8sglue.conditionalTemplates"
        ),
        task_worker_id=given.get("taskWorkerId") or None,
        template_module=_template_module(given.get("templateModule")),
        pod_commands=pod_commands.read(given.get(pod_commands.KEY)),
        sessions=sessions.read(given.get("sessions")),
        multi_node=multi_node.read(given.get("multiNode")),
        dashboard=dashboard.read(given.get("orchestrationDashboard"), namespace=given["namespace"]),
        **optional,
    )


def _prepared(task: Mapping[str, Any]) -> dict[str, Any]:
    """What task pods get by an init container."""
    image, certificates = task.get("controllerImage"), task.get("certificates")
    return {
        "bootstrap": bool(task.get("bootstrap")),
        "controller_image": image
        and ControllerImage(name=image["name"], pull_policy=image.get("pullPolicy") or "IfNotPresent"),
        "certificates": certificates
        and Certificates(config_map=certificates["configMap"], complete=bool(certificates.get("complete"))),
    }


def _clearml(raw: Mapping[str, Any]) -> ClearMLConfig:
    given = {key: value for key, value in raw.items() if value is not None}
    secret = given.get("configSecret")
    return ClearMLConfig(
        api_server=given["apiServer"].rstrip("/"),
        web_server=_url(given.get("webServer")),
        file_server=_url(given.get("fileServer")),
        verify_certificate=given.get("verifyCertificate", True),
        task_credentials=None if given.get("ownerToken") else _task_credentials(given["taskCredentials"]),
        config_secret=None if secret is None else SecretKey(name=secret["name"], key=secret["key"]),
        vault_environment=given.get("vaultEnvironment", True),
    )


def _task_credentials(raw: Mapping[str, Any]) -> TaskCredentials:
    keys = {
        field: raw[key]
        for key, field in (("accessKeyKey", "access_key_key"), ("secretKeyKey", "secret_key_key"))
        if raw.get(key) is not None
    }
    return TaskCredentials(secret_name=raw["secretName"], **keys)


def _template_module(raw: Mapping[str, Any] | None) -> TemplateModuleConfig | None:
    if raw is None or not raw.get("function"):
        return None
    return TemplateModuleConfig(
        function=raw["function"], timeout_seconds=raw.get("timeoutSeconds", 10.0), path=tuple(raw.get("path") or ())
    )


def _monitored(raw: Mapping[str, Any]) -> MonitoredResources:
    fields = {
        field: raw[key]
        for key, field in (("minResourcesFieldName", "min_field"), ("maxResourcesFieldName", "max_field"))
        if raw.get(key)
    }
    return MonitoredResources(max_resources=raw.get("maxResources") or 0.0, **fields)


def _queue(
    name: str, raw: Mapping[str, Any], *, task_policy: TaskPolicy, general_kueue: Mapping[str, Any] | None
) -> QueueConfig:
    settings = raw.get("queueSettings") or {}
    return QueueConfig(
        name=name,
        template_overrides=raw.get("templateOverrides") or {},
        conditional_templates=conditions.read(
            raw.get("conditionalTemplates"), place=f"agentk8sglue.queues.{name}.conditionalTemplates"
        ),
        settings=QueueSettings(
            max_pods=settings.get("maxPods"),
            default_image=settings.get("defaultImage") or None,
            patience_seconds=settings.get("patienceSeconds") or {},
            max_run_minutes=settings.get("maxRunMinutes"),
            max_requeues=settings.get("maxRequeues") or {},
            max_gpus=settings.get("maxGpus"),
            max_cpus=settings.get("maxCpus"),
            max_pending_pods=settings.get("maxPendingPods"),
            priority=settings.get("priority") or 0,
            weight=settings.get("weight") or 1.0,
            task_policy=policy.read(settings["taskPolicy"], over=task_policy) if settings.get("taskPolicy") else None,
            worker_id_template=settings.get("customWorkerIdTemplate") or None,
            use_image_entrypoint=settings.get("useImageEntrypoint"),
            kueue=kueue.read(general_kueue, settings.get("kueue")),
            multi_node=tuple(settings.get("multiNode") or ()),
        ),
    )


def _url(url: str | None) -> str | None:
    return url.rstrip("/") if url else None


def _kind(value: Any) -> str:
    return "nothing" if value is None else "a list" if isinstance(value, list) else "plain text"
