"""One task -> one Kubernetes Job."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from clearml_k8s import errors, names
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.config import Config, ResolvedQueue, SecretKey, strings, worker_ids
from clearml_k8s.spec import environment, gpu_shares, kueue, multi_node, own_resources, prepared, session_port
from clearml_k8s.spec.asks import lay_over
from clearml_k8s.spec.container import check_image, env_entries
from clearml_k8s.spec.container_match import Chosen, choose
from clearml_k8s.spec.container_rules import NO_RULES, ContainerRules
from clearml_k8s.spec.edited import as_pod, of_pod
from clearml_k8s.spec.environment import CONFIG_FILE, CONFIG_FOLDER, ENV_SDK_TASK_ID, RESERVED_ENV
from clearml_k8s.spec.fill import encodable, fill
from clearml_k8s.spec.ignored import Ignored
from clearml_k8s.spec.merge import merge_env
from clearml_k8s.spec.script import start_command
from clearml_k8s.spec.template import PodParts, pod_parts
from clearml_k8s.spec.variants import chosen

FALLBACK_IMAGE: Final = "python:3.11"
"""Of tasks for which nobody names one."""

CONFIG_VOLUME: Final = "clearml-k8s-config"

TTL_SECONDS: Final = 24 * 3600
"""Backstop for Jobs that no controller removes."""

MAX_MANIFEST_BYTES: Final = 1_000_000
"""etcd takes 1.5 MiB by default, and the API server adds managedFields."""

SAMPLE_NONCE: Final = "sample"
"""For Jobs that are never made."""

_TASK_NAME_LIMIT: Final = 256
_KEPT_BY_AUTOSCALERS: Final = {
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}


@dataclass(frozen=True, kw_only=True)
class BuiltJob:
    """A Job's manifest and what it leaves out."""

    manifest: dict[str, Any]
    ignored: tuple[Ignored, ...] = ()


def build_job(
    *,
    config: Config,
    queue: ResolvedQueue,
    task: TaskView,
    attempt: str,
    worker_id: str,
    controller_id: str,
    taken: str = "",
    edited: Mapping[str, Any] | None = None,
    rules: ContainerRules = NO_RULES,
    nonce: str = SAMPLE_NONCE,
) -> BuiltJob:
    """The Job that runs `task` in the attempt `attempt` (its `status_changed` at the enqueue).

    `taken`: when it was taken out of its queue (ISO 8601), for people; "" when that is not known. `edited`: what a
    template module has made of `pod_template`. `rules`: those of clearml.conf for its container. `nonce`: what no other
    Job of the task has, for the name of the Secret with its owner's token.

    The same arguments always give the same manifest, and no secret is in it. Raises `errors.SpecError`, naming the
    setting, when the task or the template cannot become a Job.
    """
    try:
        job_name = names.job_name(task.id)
    except errors.ConfigError as error:
        raise errors.SpecError(str(error)) from None
    if task.container.malformed:
        raise errors.SpecError(f"the server's answer for the task: {task.container.malformed}")
    parts = _parts(config=config, queue=queue, task=task, worker_id=worker_id)
    wanted = choose(rules, task)
    image = _image(wanted, config=config, queue=queue, rules=rules)
    if edited is not None:
        parts = of_pod(edited, parts=parts, namespace=config.namespace)
        image = check_image(str(parts.container.pop("image", "") or image), setting="the template module's image")
    entrypoint = config.runs_entrypoint(queue.config)
    gang = multi_node.gang_of(task, config=config, queue=queue)
    reserved = RESERVED_ENV | {ENV_SDK_TASK_ID} if entrypoint else RESERVED_ENV
    if gang is not None:
        multi_node.check_template(gang, parts.container.get("resources"))
        reserved |= multi_node.RESERVED_ENV
    template_env, refused = environment.template_env(parts, reserved)
    policy = config.policy_of(queue.config)
    asked = lay_over(
        parts,
        wanted.words,
        policy=policy,
        reserved_env=reserved,
        reserved_paths=_reserved_paths(config),
    )
    wants = own_resources.of_properties(task.properties, policy=policy).over(asked.wants)
    ignored = (*asked.ignored, *multi_node.refused(task, config=config))
    if gang is not None:
        if wants.gpus not in (None, gang.split.gpus):
            why = f"each pod of a task on several nodes has {gang.split.gpus} here: change {multi_node.REQUEST}"
            ignored = (*ignored, Ignored(source="task", argument=f"{wants.gpus} GPUs", why=why))
        wants = replace(wants, gpus=gang.split.gpus if gang.own else None)
    parts = own_resources.lay_over(asked.parts, wants)
    fractions = gpu_shares.reported(parts)
    parts, share = gpu_shares.take_out(parts)
    worker_template = queue.config.settings.worker_id_template or config.task_worker_id
    reports_as = _reports_as(
        worker_template, config=config, queue=queue, task=task, job_name=job_name, worker_id=worker_id
    )

    token_secret = names.token_secret_name(task.id, nonce=nonce) if config.clearml.owner_tokens else ""
    container: dict[str, Any] = {
        "name": names.TASK_CONTAINER,
        "image": image,
        **({} if entrypoint else {"command": _command(config, task, gathers=gang is not None)}),
        **parts.container,
        "env": [
            *environment.identity(
                config=config, task=task, attempt=attempt, reports_as=reports_as, token_secret=token_secret
            ),
            *(env_entries({ENV_SDK_TASK_ID: task.id}) if entrypoint else []),
            *(multi_node.environment(task, gang, namespace=config.namespace) if gang else []),
            *merge_env(
                [*environment.defaults(config), *(multi_node.defaults(gang) if gang else []), *env_entries(fractions)],
                template_env,
                env_entries(asked.env),
                [] if entrypoint else environment.preparation(task, wanted.setup_script, config=config),
            ),
        ],
    }
    spec = {**parts.spec, "containers": [container, *parts.sidecars]}
    if config.clearml.config_secret is not None:
        _mount_config(spec, container, config.clearml.config_secret)
    prepared.add(spec, container, config=config.task)
    if gang is not None:
        multi_node.into_pod(spec, gang, task_id=task.id)

    managed = queue.config.settings.kueue
    labels = _labels(parts, config=config, queue=queue, task=task, controller_id=controller_id)
    annotations = {
        **_KEPT_BY_AUTOSCALERS,
        **{key: value for key, value in parts.annotations.items() if not key.startswith(names.PREFIX)},
        names.ANNOTATION_ATTEMPT: attempt,
        names.ANNOTATION_QUEUE_ID: queue.id,
        names.ANNOTATION_QUEUE_NAME: queue.name,
        names.ANNOTATION_WORKER: worker_id,
        **({names.ANNOTATION_REPORTS_AS: reports_as} if worker_template else {}),
        names.ANNOTATION_TASK_NAME: encodable(task.name)[:_TASK_NAME_LIMIT],
        **session_port.annotation(task, on=config.sessions is not None),
        **({names.ANNOTATION_TOKEN_SECRET: token_secret} if token_secret else {}),
        **share,
        **({names.ANNOTATION_TAKEN: taken} if taken else {}),
    }
    manifest = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name,
            "namespace": config.namespace,
            "labels": {**labels, **kueue.labels(managed)},
            "annotations": annotations,
        },
        "spec": {
            **kueue.spec(managed),
            "backoffLimit": 0,
            **(multi_node.job_fields(gang) if gang else {}),
            "podReplacementPolicy": "Failed",
            "ttlSecondsAfterFinished": TTL_SECONDS + int(60 * _kept_minutes(config)),
            "template": {
                "metadata": {"labels": dict(labels), "annotations": dict(annotations)},
                "spec": spec,
            },
        },
    }
    _check_size(manifest)
    ignored = (*parts.ignored, *refused, *_reserved_metadata(parts, labels), *wanted.ignored, *ignored)
    if entrypoint and wanted.setup_script.strip():
        why = "the queue's tasks start with their image's entrypoint (useImageEntrypoint): put it into the image"
        ignored = (*ignored, Ignored(source="task", argument="the setup script", why=why))
    return BuiltJob(manifest=manifest, ignored=ignored)


def pod_template(
    *, config: Config, queue: ResolvedQueue, task: TaskView, worker_id: str, rules: ContainerRules = NO_RULES
) -> dict[str, Any]:
    """The Pod of the queue's template, as a template module gets it: filled in for the task, without what the task asks
    for. Errors as `build_job`."""
    parts = _parts(config=config, queue=queue, task=task, worker_id=worker_id)
    image = _image(choose(rules, task), config=config, queue=queue, rules=rules)
    return as_pod(parts, image=image, namespace=config.namespace)


def _parts(*, config: Config, queue: ResolvedQueue, task: TaskView, worker_id: str) -> PodParts:
    condition = chosen(config=config, queue=queue.config, task=task)
    template = pod_parts(config=config, queue=queue.config, further=condition.template if condition else None)
    return fill(template, queue=queue, task=task, worker_id=worker_id)


def _kept_minutes(config: Config) -> float:
    """The longest time for which a finished Job is kept."""
    return max(config.completed_pod_deletion_delay_minutes, config.failed_pod_deletion_delay_minutes or 0.0)


SAMPLE_TASK_ID: Final = "0123456789abcdef0123456789abcdef"
SAMPLE_ATTEMPT: Final = "2026-01-15T06:22:11.065000+00:00"
SAMPLE_TASK: Final = TaskView(
    id=SAMPLE_TASK_ID, name="template probe", status_changed=SAMPLE_ATTEMPT, project=strings.SAMPLE
)


def template_probe_job(
    config: Config,
    queue: ResolvedQueue,
    *,
    worker_id: str,
    controller_id: str,
    edited: Mapping[str, Any] | None = None,
) -> BuiltJob:
    """A Job to ask the API server, by a dry run, whether it takes this queue's template.

    Named `clearml-k8s-probe-<hash>`, so that it never meets a task's Job. Raises `errors.SpecError` as `build_job`.
    """
    probe = build_job(
        config=config,
        queue=queue,
        task=SAMPLE_TASK,
        attempt=SAMPLE_ATTEMPT,
        worker_id=worker_id,
        controller_id=controller_id,
        edited=edited,
    )
    digest = hashlib.sha256(f"{config.fullname}\0{queue.config.name}".encode()).hexdigest()[:10]
    probe.manifest["metadata"]["name"] = f"clearml-k8s-probe-{digest}"
    return probe


def pod_of(job: Mapping[str, Any]) -> dict[str, Any]:
    """The Pod that the Job controller would make of this Job, under the Job's name; for a dry run of the pod itself."""
    template = copy.deepcopy(job["spec"]["template"])
    template["metadata"] |= {"name": job["metadata"]["name"], "namespace": job["metadata"]["namespace"]}
    return {"apiVersion": "v1", "kind": "Pod", **template}


def _reserved_paths(config: Config) -> tuple[str, ...]:
    conf = () if config.clearml.config_secret is None else (CONFIG_FOLDER,)
    return (*conf, *prepared.folders(config.task))


def _image(wanted: Chosen, *, config: Config, queue: ResolvedQueue, rules: ContainerRules) -> str:
    if wanted.image:
        return check_image(wanted.image, setting=wanted.by or "the task's container image")
    if queue.config.settings.default_image:
        setting = f"queueSettings.defaultImage of queue {queue.config.name}"
        return check_image(queue.config.settings.default_image, setting=setting)
    if config.default_container_image:
        return check_image(config.default_container_image, setting="defaultContainerImage")
    return rules.image or FALLBACK_IMAGE


def _reports_as(
    template: str | None, *, config: Config, queue: ResolvedQueue, task: TaskView, job_name: str, worker_id: str
) -> str:
    facts = worker_ids.TaskFacts(
        task_id=task.id,
        pod_name=job_name,
        task_name=encodable(task.name),
        project=encodable(task.project_name or task.project or ""),
        queue=encodable(queue.name),
    )
    try:
        return worker_ids.task_worker_id(template, worker_id=worker_id, namespace=config.namespace, task=facts)
    except worker_ids.WorkerIdError as error:
        raise errors.SpecError(f"its worker id: {error}") from None


def _command(config: Config, task: TaskView, *, gathers: bool) -> list[str]:
    pod = config.task
    return list(
        start_command(preparation=pod.preparation_script, own=pod.start_script, task_id=task.id, gathers=gathers)
    )


def _mount_config(spec: dict[str, Any], container: dict[str, Any], secret: SecretKey) -> None:
    source = {"secretName": secret.name, "items": [{"key": secret.key, "path": CONFIG_FILE}]}
    spec["volumes"] = [*spec.get("volumes", []), {"name": CONFIG_VOLUME, "secret": source}]
    mount = {"name": CONFIG_VOLUME, "mountPath": CONFIG_FOLDER, "readOnly": True}
    container["volumeMounts"] = [*container.get("volumeMounts", []), mount]


def _labels(
    parts: PodParts, *, config: Config, queue: ResolvedQueue, task: TaskView, controller_id: str
) -> dict[str, str]:
    return {
        **{key: value for key, value in parts.labels.items() if key not in names.KUEUE_LABELS},
        **names.common_labels(release=config.release_name, controller=controller_id),
        names.LABEL_TASK_ID: task.id,
        names.LABEL_QUEUE: names.label_value(queue.id),
        names.LABEL_QUEUE_NAME: names.label_value(queue.name),
        **({names.LABEL_PARENT_TASK_ID: names.label_value(task.parent)} if task.parent else {}),
    }


def _reserved_metadata(parts: PodParts, labels: Mapping[str, str]) -> list[Ignored]:
    ours = [f"label {key}" for key, value in parts.labels.items() if labels.get(key) != value]
    ours += [f"annotation {key}" for key in parts.annotations if key.startswith(names.PREFIX)]
    return [Ignored(source="template", argument=argument, why="set by the controller") for argument in ours]


def _check_size(manifest: Mapping[str, Any]) -> None:
    try:
        size = len(json.dumps(manifest, ensure_ascii=False).encode())
    except UnicodeEncodeError:
        raise errors.SpecError("the task's container settings hold text that is not valid Unicode") from None
    if size > MAX_MANIFEST_BYTES:
        raise errors.SpecError(
            f"the Job is {size} bytes large, Kubernetes takes {MAX_MANIFEST_BYTES}: "
            "make the task's docker arguments or setup script shorter"
        )
