"""Every label, annotation, object and environment name that more than one module knows.

Pure functions over strings: no network, no state. The names of ClearML's own glue (clearml-agent 3.0.3,
``glue/k8s.py``) are kept where users select by them; where its sanitising makes the API server refuse the object,
ours differs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Final

from clearml_k8s.errors import ConfigError

PREFIX: Final = "clearml-k8s.io/"

# Labels of everything made for a task.
LABEL_NAME: Final = "app.kubernetes.io/name"
LABEL_INSTANCE: Final = "app.kubernetes.io/instance"
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
LABEL_PART_OF: Final = "app.kubernetes.io/part-of"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABEL_CONTROLLER: Final = PREFIX + "controller"
LABEL_SESSION_AGENT: Final = PREFIX + "session-agent"
LABEL_TASK_ID: Final = "clearml-task-id"
LABEL_PARENT_TASK_ID: Final = "clearml-parent-task-id"
LABEL_QUEUE: Final = "clearml-agent-queue"
LABEL_QUEUE_NAME: Final = "clearml-agent-queue-name"
LABEL_LEGACY_AGENT: Final = "CLEARML"
TASK_LABELS: Final = frozenset(
    {
        LABEL_TASK_ID,
        LABEL_PARENT_TASK_ID,
        LABEL_QUEUE,
        LABEL_QUEUE_NAME,
        LABEL_LEGACY_AGENT,
        "job-name",
        "controller-uid",
    }
)
"""Those without a domain that are ours or the Job controller's."""

APP_NAME: Final = "clearml-agent"
COMPONENT_TASK: Final = "task"
COMPONENT_SESSION: Final = "session"
COMPONENT_TOKEN: Final = "owner-token"  # noqa: S105 - a label, not a secret
COMPONENT_NODES: Final = "nodes"
PART_OF: Final = "clearml"

# Annotations: values as the server gave them, not sanitised.
ANNOTATION_ATTEMPT: Final = PREFIX + "attempt"
ANNOTATION_QUEUE_ID: Final = PREFIX + "queue-id"
ANNOTATION_QUEUE_NAME: Final = PREFIX + "queue-name"
ANNOTATION_WORKER: Final = PREFIX + "worker-id"
ANNOTATION_REPORTS_AS: Final = PREFIX + "reports-as"
ANNOTATION_TASK_NAME: Final = PREFIX + "task-name"
ANNOTATION_SESSION_PORT: Final = PREFIX + "session-port"
ANNOTATION_TOKEN_SECRET: Final = PREFIX + "token-secret"
ANNOTATION_TAKEN: Final = PREFIX + "taken"
ANNOTATION_GPUS: Final = PREFIX + "gpus"
"""Of a GPU, or of several: what the pod has where its resources alone do not say it."""
ANNOTATION_HOLDER: Final = PREFIX + "holder"
ANNOTATION_SETTLED: Final = PREFIX + "settled"

# Of a Job that Kueue admits.
KUEUE_GROUP: Final = "kueue.x-k8s.io"
LABEL_KUEUE_QUEUE: Final = KUEUE_GROUP + "/queue-name"
LABEL_KUEUE_PRIORITY: Final = KUEUE_GROUP + "/priority-class"
KUEUE_LABELS: Final = frozenset({LABEL_KUEUE_QUEUE, LABEL_KUEUE_PRIORITY})
"""Those that the controller sets on Jobs; on a pod they would make it a workload of its own."""

# Set by the Job controller on the pods of a Job.
LABEL_JOB_NAME: Final = "batch.kubernetes.io/job-name"
LABEL_JOB_UID: Final = "batch.kubernetes.io/controller-uid"
LABEL_POD_INDEX: Final = "batch.kubernetes.io/job-completion-index"
"""Of the pods of an Indexed Job; their annotation of the same name is older."""

TASK_CONTAINER: Final = "task"
CERTIFICATES_FILE: Final = "ca-certificates.crt"
JOB_NAME_PREFIX: Final = "clearml-id-"
SESSION_NAME_PREFIX: Final = "session-"
TOKEN_NAME_PREFIX: Final = "owner-token-"  # noqa: S105 - the name of an object, not a secret
TOKEN_KEY: Final = "token"  # noqa: S105 - the name of a key, not a secret
NODES_NAME_PREFIX: Final = "nodes-"
PENDING_QUEUE: Final = "k8s_scheduler"
PENDING_QUEUE_TAG: Final = "k8s-glue"

# The section of the task's user properties, and those that users of the glue look for.
PROPERTIES_SECTION: Final = "properties"
PROPERTY_QUEUE: Final = "k8s-queue"
PROPERTY_CONTROLLER: Final = "k8s-controller"
PROPERTY_REQUEUES: Final = "k8s-requeues"
MARK_PREFIX: Final = "k8s-claim-"

# What clearml-session writes on the tasks that it makes, and where it looks for the way to their SSH server.
SESSION_TAG: Final = "interactive"
RUNTIME_SESSION_PORT: Final = "internal_tcp_port_request"
PROPERTY_GATEWAY: Final = "k8s-gateway-address"
PROPERTY_POD_PORT: Final = "k8s-pod-port"
NO_GATEWAY: Final = "no-session-port-yet.invalid"
"""Stands for an address until there is one; no name server knows it (RFC 6761)."""

# Environment of the task container and of the controller.
ENV_TASK_ID: Final = "CLEARML_K8S_TASK_ID"
ENV_ATTEMPT: Final = "CLEARML_K8S_ATTEMPT"
ENV_API_HOST: Final = "CLEARML_API_HOST"
ENV_WEB_HOST: Final = "CLEARML_WEB_HOST"
ENV_FILES_HOST: Final = "CLEARML_FILES_HOST"
ENV_VERIFY_CERT: Final = "CLEARML_API_HOST_VERIFY_CERT"
ENV_ACCESS_KEY: Final = "CLEARML_API_ACCESS_KEY"
ENV_SECRET_KEY: Final = "CLEARML_API_SECRET_KEY"  # noqa: S105 - the variable's name, not a secret
ENV_CREDENTIALS_DIR: Final = "CLEARML_K8S_CREDENTIALS_DIR"
ENV_POD_NAME: Final = "CLEARML_K8S_POD_NAME"
ENV_AUTH_TOKEN: Final = "CLEARML_AUTH_TOKEN"  # noqa: S105 - the variable's name, not a secret
ENV_WORKER_ID: Final = "CLEARML_WORKER_ID"
ENV_CONFIG_FILE: Final = "CLEARML_CONFIG_FILE"
ENV_BOOTSTRAP: Final = "CLEARML_K8S_BOOTSTRAP"
ENV_QUEUE_NAME: Final = "CLEARML_K8S_QUEUE_NAME"
"""Of the commands around a pod: the name of the queue that its task comes from."""
ENV_PROPAGATE_EXITCODE: Final = "CLEARML_AGENT_PROPAGATE_EXITCODE"

# Of the pods of a task on several nodes.
ENV_PODS: Final = "CLEARML_K8S_PODS"
ENV_NODE_RANK: Final = "NODE_RANK"
ENV_RANK: Final = "RANK"
ENV_MASTER_ADDR: Final = "MASTER_ADDR"

ENV_TASK_CONF: Final = "CLEARML_K8S_TASK_CONF"
"""Of the controller: the file that holds the clearml.conf of task pods."""
RESERVED_ENV: Final[frozenset[str]] = frozenset(
    {
        ENV_TASK_ID,
        ENV_ATTEMPT,
        ENV_BOOTSTRAP,
        ENV_PODS,
        ENV_API_HOST,
        ENV_WEB_HOST,
        ENV_FILES_HOST,
        ENV_ACCESS_KEY,
        ENV_SECRET_KEY,
        ENV_AUTH_TOKEN,
        ENV_WORKER_ID,
    }
)
"""Names that neither a template nor a task may set: who the pod is, which task it runs, where and how it reports."""

LABEL_VALUE_MAX: Final = 63
OBJECT_NAME_MAX: Final = 253

# What ClearML makes (32 hex digits), and what else its server takes as an id and Kubernetes as a name.
_TASK_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,50}[a-z0-9])?")
_LEGACY_ID = re.compile(r"clearml-id-(?P<task>[a-z0-9]+)(?:-.*)?")
_LABEL_VALUE = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?", re.ASCII)
_NOT_LABEL = re.compile(r"[^a-z0-9]+")


def job_name(task_id: str) -> str:
    """The name of the task's Job: ``clearml-id-<task id>``; it is also the task's lock in the cluster.

    Raises ConfigError when the id cannot be part of a label and of a pod's host name (lower-case letters, digits and
    ``-``, at most 52 characters), so that nothing invalid is ever sent to the API server.
    """
    if not _TASK_ID.fullmatch(task_id):
        raise ConfigError(
            f"task id {shown(task_id)} cannot name a Job: use at most 52 lower-case letters, digits and '-', "
            "beginning and ending with a letter or digit"
        )
    return JOB_NAME_PREFIX + task_id


def session_name(task_id: str) -> str:
    """The name of the Service of a session: ``session-<task id>``, at most 60 characters and begun with a letter, as
    Kubernetes wants it of a Service. The id is that of a task that has a Job (`job_name`)."""
    return SESSION_NAME_PREFIX + task_id


def token_secret_name(task_id: str, *, nonce: str) -> str:
    """The name of the Secret with the token of a task's owner; ``nonce`` (lower-case letters and digits) makes it that
    of one Job, so that no other Job of the task ever meets it. The id is that of a task that has a Job (`job_name`)."""
    return f"{TOKEN_NAME_PREFIX}{task_id}-{nonce}"


def nodes_name(task_id: str) -> str:
    """The name of the headless Service of a task on several nodes, within 63 characters as `session_name`."""
    return NODES_NAME_PREFIX + task_id


def master_address(task_id: str, *, namespace: str) -> str:
    """The host name of rank 0, which every pod of the cluster finds by its DNS search list."""
    return f"{JOB_NAME_PREFIX}{task_id}-0.{nodes_name(task_id)}.{namespace}.svc"


def rank_worker_id(worker_id: str, rank: int) -> str:
    """Under which the agent of this rank reports, where rank 0 does under ``worker_id``."""
    return f"{worker_id}:rank{rank}" if rank else worker_id


def task_id_of(*, name: str, labels: Mapping[str, str]) -> str | None:
    """The task that a Job or pod runs: its ``clearml-task-id`` label, else from a name the glue made, else None."""
    labelled = labels.get(LABEL_TASK_ID)
    if isinstance(labelled, str) and labelled:
        return labelled
    match = _LEGACY_ID.fullmatch(name)
    return match["task"] if match else None


def label_value(text: str) -> str:
    """``text`` as a Kubernetes label value, as the glue writes queue labels: lower-case, other characters become ``-``.

    Always valid: ASCII letters, digits and ``-`` only, at most 63 characters, never beginning or ending with ``-``.
    Text without any ASCII letter or digit gives ``""``, which is a valid value too.
    """
    value = _NOT_LABEL.sub("-", text.lower()).strip("-")
    return value[:LABEL_VALUE_MAX].rstrip("-")


def is_label_value(text: str) -> bool:
    """Whether Kubernetes takes ``text`` as a label's value."""
    return not text or (len(text) <= LABEL_VALUE_MAX and _LABEL_VALUE.fullmatch(text) is not None)


def controller_id(*, namespace_uid: str, release: str) -> str:
    """Whose marks and Jobs are whose: 10 hex digits of a sha256, short enough for a label and a property's name.

    The same for every process of one release in one namespace, and for no other release, namespace or cluster.
    """
    return hashlib.sha256(f"{namespace_uid}/{release}".encode()).hexdigest()[:10]


def mark_key(controller: str) -> str:
    """The user property by which the controller with this id (see `controller_id`) marks its claim on a task."""
    return MARK_PREFIX + controller


def mark_value(*, attempt: str, instance: str) -> str:
    """What a mark says: the attempt (``status_changed``), and which life of the controller's process claims it."""
    return f"{attempt}#{instance}"


def marked_attempt(mark: str) -> str:
    """The attempt that a mark is for."""
    return mark.partition("#")[0]


def legacy_agent_label(worker_id: str) -> str:
    """The value of the label ``CLEARML`` that ClearML's own glue puts on the pods of this worker id."""
    if not worker_id:
        return "agent"
    digest = hashlib.md5(worker_id.encode(), usedforsecurity=False).hexdigest()
    return f"agent-{digest[:8]}"


def default_worker_id(*, release: str, namespace_uid: str) -> str:
    """``clearml-agent-<release>-<first 8 hex of the namespace's uid>``: unique over clusters."""
    return f"clearml-agent-{release}-{namespace_uid.replace('-', '')[:8]}"


def task_worker_id(*, worker_id: str, task_id: str) -> str:
    """The worker id under which the agent in the task's pod reports."""
    return f"{worker_id}:{task_id}"


def claims_name(fullname: str) -> str:
    """The ConfigMap that holds the claim record of the release."""
    return f"{fullname}-claims"


def lease_name(fullname: str) -> str:
    """The Lease that the one process of the release holds which does anything."""
    return f"{fullname}-leader"


def task_selector(*, release: str) -> str:
    """Label selector of the Jobs and pods made for the tasks of this release."""
    return f"{LABEL_INSTANCE}={release},{LABEL_COMPONENT}={COMPONENT_TASK},{LABEL_MANAGED_BY}={APP_NAME}"


def session_selector(*, release: str) -> str:
    """Label selector of the Services made for the sessions of this release."""
    return f"{LABEL_INSTANCE}={release},{LABEL_COMPONENT}={COMPONENT_SESSION},{LABEL_MANAGED_BY}={APP_NAME}"


def nodes_selector(*, release: str) -> str:
    """Label selector of the headless Services made for the tasks of this release."""
    return f"{LABEL_INSTANCE}={release},{LABEL_COMPONENT}={COMPONENT_NODES},{LABEL_MANAGED_BY}={APP_NAME}"


def own_labels(*, release: str) -> dict[str, str]:
    """The labels of what the controller makes for itself: record and Lease."""
    return {LABEL_NAME: APP_NAME, LABEL_INSTANCE: release}


def common_labels(*, release: str, controller: str) -> dict[str, str]:
    """The labels that every object made for a task carries."""
    return {
        LABEL_NAME: APP_NAME,
        LABEL_INSTANCE: release,
        LABEL_COMPONENT: COMPONENT_TASK,
        LABEL_PART_OF: PART_OF,
        LABEL_MANAGED_BY: APP_NAME,
        LABEL_CONTROLLER: controller,
    }


def shown(text: str, *, limit: int = 80) -> str:
    """``text`` quoted for a message: escaped, and cut at ``limit`` characters."""
    cut = text if len(text) <= limit else text[: limit - 3] + "..."
    return repr(cut)
