"""Tasks on several nodes (ADR 0017): how many pods a task asks for, and what its Job has for them.

All pods of a task are alike, and one Indexed Job makes them: each has the greatest common divisor of the GPUs that the
nodes are to have.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from clearml_k8s import names
from clearml_k8s.clearml.tasks import TaskView
from clearml_k8s.config import Config, ResolvedQueue, gpus
from clearml_k8s.config.multi_node import Split, gpu_advice, split
from clearml_k8s.errors import SpecError
from clearml_k8s.spec.container import env_entries
from clearml_k8s.spec.ignored import Ignored

REQUEST: Final = "multi_node_request"
LAYOUT: Final = "multi_node_request_layout"
TYPE: Final = "multi_node_type"

LAYOUTS: Final = ("gpus_per_node_count", "gpus_per_node_list")
TYPES: Final = ("physical", "logical")

MASTER_PORT: Final = "29500"
HOST_NAME_MAX: Final = 63
MORE_THAN_ALL_NODES: Final = 1_000_000

RESERVED_ENV: Final = frozenset({names.ENV_NODE_RANK, names.ENV_RANK, names.ENV_PODS, names.ENV_MASTER_ADDR})
"""By which the pods of a task know each other, and the agent that it is not to speak for the task."""

_INDEX_FIELD: Final = f"metadata.annotations['{names.LABEL_POD_INDEX}']"
_HOST: Final = "kubernetes.io/hostname"


@dataclass(frozen=True, kw_only=True, slots=True)
class Gang:
    """The pods of one task. ``own``: it says so itself, so its GPUs replace the template's; ``apart``: pods of
    different nodes of its list are on different nodes of the cluster."""

    split: Split
    own: bool
    apart: bool


def said(properties: Mapping[str, str]) -> dict[str, str]:
    """Those of the properties that say something here."""
    return {name: text for name in (REQUEST, LAYOUT, TYPE) if (text := properties.get(name, "").strip())}


def gang_of(task: TaskView, *, config: Config, queue: ResolvedQueue) -> Gang | None:
    """The task's pods; None: one, as ever. Raises `SpecError` for properties that make no sense, or are not allowed."""
    if config.multi_node is None:
        return None
    given = said(task.properties)
    if REQUEST not in given and not queue.config.settings.multi_node:
        return None
    kind = _one_of(TYPE, given.get(TYPE, TYPES[0]), TYPES)
    if REQUEST in given:
        found = _requested(given)
        most = config.policy_of(queue.config).max_gpus
        if most and found.gpus > most:
            raise SpecError(
                f"the task's property {REQUEST}: that makes {found.gpus} GPUs in each pod; tasks of this queue may "
                f"have up to {most} (taskPolicy.maxGpus)"
            )
    else:
        found = _of_queue(queue)
    if config.runs_entrypoint(queue.config):
        raise SpecError(
            "a task on several nodes cannot start with its image's entrypoint (useImageEntrypoint): its pods wait for "
            "each other in our start script"
        )
    last = f"{names.JOB_NAME_PREFIX}{task.id}-{found.pods - 1}"
    if len(last) > HOST_NAME_MAX:
        raise SpecError(f"the task's id is too long for {found.pods} pods: {last} is no host name")
    return Gang(split=found, own=REQUEST in given, apart=kind == "physical")


def refused(task: TaskView, *, config: Config) -> tuple[Ignored, ...]:
    """What is told of a request where no task may run on several nodes."""
    if config.multi_node is not None or REQUEST not in said(task.properties):
        return ()
    why = "tasks run in one pod here; the administrator can set agentk8sglue.multiNode.enabled"
    return (Ignored(source="task", argument=f"the property {REQUEST}", why=why),)


def check_template(gang: Gang, resources: Mapping[str, Any] | None) -> None:
    """That a template's GPUs are those of one pod of its queue's `multiNode`. Raises SpecError."""
    limit = gpus.limit(resources)
    if not gang.own and limit is not None and limit != gang.split.gpus:
        advice = gpu_advice(gang.split, limit=limit, where="its templateOverrides.resources")
        raise SpecError(f"queueSettings.multiNode of the queue: {advice}")


def environment(task: TaskView, gang: Gang, *, namespace: str) -> list[dict[str, Any]]:
    """What only we may set."""
    rank = {"valueFrom": {"fieldRef": {"fieldPath": _INDEX_FIELD}}}
    return [
        {"name": names.ENV_NODE_RANK, **rank},
        # clearml-agent and the SDK: all but rank 0 leave the task's state alone.
        {"name": names.ENV_RANK, **rank},
        *env_entries(
            {
                names.ENV_PODS: str(gang.split.pods),
                names.ENV_MASTER_ADDR: names.master_address(task.id, namespace=namespace),
            }
        ),
    ]


def defaults(gang: Gang) -> list[dict[str, Any]]:
    """What a template's or the task's own value replaces."""
    world = gang.split.total or gang.split.pods
    values = {"WORLD_SIZE": str(world), "MASTER_PORT": MASTER_PORT, "CLEARML_MULTI_NODE_SINGLE_TASK": "1"}
    return [dict(entry) for entry in env_entries(values)]


def job_fields(gang: Gang) -> dict[str, Any]:
    """Of the Job's spec: as many pods as that, each with a number of its own."""
    return {"completionMode": "Indexed", "completions": gang.split.pods, "parallelism": gang.split.pods}


def into_pod(spec: dict[str, Any], gang: Gang, *, task_id: str) -> None:
    """Give the PodSpec its place in the headless Service's names, and keep its pods apart where they are to be."""
    # The Job controller makes the host name, of the Job's name and the index.
    spec.pop("hostname", None)
    # With the Service's it is longer than the 64 characters that a host's name may have, and no pod starts.
    spec.pop("setHostnameAsFQDN", None)
    spec["subdomain"] = names.nodes_name(task_id)
    if spec.get("hostNetwork") and (spec.get("dnsPolicy") or "ClusterFirst") == "ClusterFirst":
        # On the node's network that means the node's own DNS, which does not know the Service.
        spec["dnsPolicy"] = "ClusterFirstWithHostNet"
    if not gang.apart or gang.split.pods == 1:
        return
    same = {"matchLabels": {names.LABEL_TASK_ID: task_id}}
    if gang.split.together == 1:
        affinity = dict(spec.get("affinity") or {})
        anti = dict(affinity.get("podAntiAffinity") or {})
        required = "requiredDuringSchedulingIgnoredDuringExecution"
        anti[required] = [*(anti.get(required) or []), {"labelSelector": same, "topologyKey": _HOST}]
        spec["affinity"] = {**affinity, "podAntiAffinity": anti}
        return
    # Which pods make up a node of the list nobody can say of pods that are alike: no node gets more than the largest.
    spec["topologySpreadConstraints"] = [
        *(spec.get("topologySpreadConstraints") or []),
        {
            "maxSkew": gang.split.together,
            # More than a cluster has, so that a node's pods are counted from none, and not from those of the emptiest.
            "minDomains": MORE_THAN_ALL_NODES,
            "topologyKey": _HOST,
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": same,
        },
    ]


def _of_queue(queue: ResolvedQueue) -> Split:
    try:
        return split(queue.config.settings.multi_node)
    except ValueError as error:
        raise SpecError(f"queueSettings.multiNode of queue {queue.config.name}: {error}") from None


def _requested(given: Mapping[str, str]) -> Split:
    layout = _one_of(LAYOUT, given.get(LAYOUT, LAYOUTS[0]), LAYOUTS)
    text = given[REQUEST]
    try:
        asked = json.loads(text)
    except (ValueError, RecursionError):
        asked = None
    if not isinstance(asked, list) or any(isinstance(one, bool) or not isinstance(one, int) for one in asked):
        raise _bad(text, "a JSON list of whole numbers, as in [2, 6]")
    if layout == LAYOUTS[0]:
        if len(asked) != 2 or asked[1] < 1:
            raise _bad(text, f"the GPUs of a node and the number of nodes, as in [2, 6], or {LAYOUT}={LAYOUTS[1]}")
        each, count = asked
        # Not built before it is known to be short.
        asked = [each] * min(count, 10_000)
    try:
        return split(asked)
    except ValueError as error:
        raise SpecError(f"the task's property {REQUEST}: found {text[:80]!r}; {error}") from None


def _bad(text: str, expected: str) -> SpecError:
    return SpecError(f"the task's property {REQUEST}: found {text[:80]!r}; expected {expected}")


def _one_of(name: str, text: str, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise SpecError(f"the task's property {name}: found {text[:80]!r}; expected {' or '.join(choices)}")
    return text
