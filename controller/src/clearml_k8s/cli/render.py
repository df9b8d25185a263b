"""`clearml-k8s render`: the Job that would be made, as YAML."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TextIO

import yaml

from clearml_k8s import names
from clearml_k8s.clearml.tasks import TaskView, view
from clearml_k8s.config import Config, QueueConfig, ResolvedQueue, strings, worker_ids
from clearml_k8s.config.file import ConfigProblems
from clearml_k8s.config.problems import nearest
from clearml_k8s.flow.task_conf import read_file
from clearml_k8s.spec.container_rules import NO_RULES
from clearml_k8s.spec.explain import Field, Layer, explain
from clearml_k8s.spec.fill import names_project
from clearml_k8s.spec.job import SAMPLE_ATTEMPT, SAMPLE_TASK_ID, build_job
from clearml_k8s.spec.variants import chosen

SAMPLE_NAMESPACE_UID: Final = "00000000-0000-0000-0000-000000000000"


MOST_SHOWN: Final = 60
"""Characters of a value that `--explain` shows."""

_NO_PROJECT: Final = (
    "the name of the task's project, by which a rule of clearml.conf or a template goes, is not known here; write it "
    'into the task, as in "project": {"id": "...", "name": "a/b"}'
)


def render(
    config: Config,
    *,
    queues: Sequence[str],
    task_file: str | None,
    out: TextIO,
    log: TextIO,
    with_layers: bool = False,
    conf_file: Path | None = None,
) -> int:
    """Prints one Job per queue of `queues` (all if empty) to `out`, and what is left out to `log`.

    ``with_layers``: in place of each Job its fields, and which layer has set each.
    ``conf_file``: the clearml.conf of task pods.
    No server is asked: a queue given by name has its name for its id, and the namespace's uid in the controller's id
    and the default worker id is zeros. Raises `errors.ConfigError` for an unknown queue or an unreadable task,
    `errors.SpecError` as `build_job`.
    """
    rules = NO_RULES if conf_file is None else read_file(conf_file)
    task = _read_task(task_file) if task_file else _sample_task()
    worker_id = worker_ids.controller_worker_id(
        chosen=config.worker_id,
        release=config.release_name,
        namespace_uid=SAMPLE_NAMESPACE_UID,
        reports=config.dashboard.reports,
    )
    if config.template_module is not None:
        function = config.template_module.function
        print(f"clearml-k8s: the template module {function} is not called here, and may change these Jobs", file=log)
    if config.pod_commands:
        print("clearml-k8s: the commands around pods (podCommands) are not run here", file=log)
    jobs = []
    for queue in _select(config, queues):
        arguments: dict[str, Any] = {
            "config": config,
            "queue": ResolvedQueue(config=queue, id=queue.name, name=queue.name),
            "task": task,
            "attempt": task.status_changed or SAMPLE_ATTEMPT,
            "worker_id": worker_id,
            "rules": rules,
            "controller_id": names.controller_id(namespace_uid=SAMPLE_NAMESPACE_UID, release=config.release_name),
        }
        if task_file and not task.project_name and names_project(config=config, queue=arguments["queue"], rules=rules):
            print(f"clearml-k8s: queue {queue.name}: {_NO_PROJECT}", file=log)
        built = build_job(**arguments)
        jobs.append(built.manifest)
        if with_layers:
            condition = chosen(config=config, queue=queue, task=task)
            holds = f", {condition.place} holds" if condition else ""
            print(f"# queue {queue.name}{holds}", *_layers(explain(**arguments)), sep="\n", file=out)
        for item in built.ignored:
            print(f"clearml-k8s: queue {queue.name}: {item}", file=log)
    if not with_layers:
        yaml.dump_all(jobs, out, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
    return 0


def _layers(fields: Sequence[Field]) -> Iterator[str]:
    width = max(len(layer.value) for layer in Layer)
    for field in fields:
        text = json.dumps(field.value, ensure_ascii=False)
        shown = text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + "..."
        yield f"{field.layer.value:<{width}}  {field.path}: {shown}"


def _select(config: Config, queues: Sequence[str]) -> list[QueueConfig]:
    if not queues:
        return list(config.queues.values())
    selected = [name.strip() for text in queues for name in text.split(",") if name.strip()]
    problems = []
    for name in selected:
        if name not in config.queues:
            near = nearest(name, config.queues)
            advice = f"did you mean {near}?" if near else f"served are: {', '.join(config.queues)}"
            problems.append(f"--queue {name}: the configuration serves no such queue; {advice}")
    if problems:
        raise ConfigProblems(problems)
    return [config.queues[name] for name in selected]


def _sample_task() -> TaskView:
    return TaskView(
        id=SAMPLE_TASK_ID, name="sample task", status="queued", status_changed=SAMPLE_ATTEMPT, project=strings.SAMPLE
    )


def _read_task(file: str) -> TaskView:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        document: Any = json.loads(text)
    except (OSError, ValueError) as error:
        raise ConfigProblems([f"--task-json: {file} cannot be read as JSON: {error}"]) from None
    # As answered ({"data": {"task": ...}}), its data, or the task alone.
    for key in ("data", "task"):
        if isinstance(document, Mapping) and isinstance(document.get(key), Mapping):
            document = document[key]
    if not isinstance(document, Mapping) or not isinstance(document.get("id"), str):
        raise ConfigProblems([f"--task-json: {file} holds no task: expected an object with the task's id"])
    project = document.get("project")
    name = project.get("name") if isinstance(project, Mapping) else None
    return replace(view(document), document=document, project_name=name if isinstance(name, str) else "")


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as they are, and every list in full."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
