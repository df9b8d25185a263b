"""The controller's configuration as frozen dataclasses.

Shape and words are those of "The config file" in docs/architecture.md. Pod-template parts stay raw mappings: their
shape is Kubernetes' own and is checked by config.schema.json and by the API server, not by Python types. Nothing here
reads a file or an environment; see `config.file` (the file the chart renders) and `config.glue_flags` (ClearML's own).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clearml_k8s.config.conditions import ConditionalTemplate
from clearml_k8s.config.dashboard import DashboardConfig
from clearml_k8s.config.kueue import KueueConfig
from clearml_k8s.config.multi_node import MultiNodeConfig
from clearml_k8s.config.pod_commands import PodCommandsConfig
from clearml_k8s.config.policy import TaskPolicy
from clearml_k8s.config.sessions import SessionsConfig

RawTemplate = Mapping[str, Any]
"""Part of a pod template as it stands in values.yaml; never changed in place."""


@dataclass(frozen=True, kw_only=True)
class SecretKey:
    """One key of a Secret in the namespace of the tasks."""

    name: str
    key: str


@dataclass(frozen=True, kw_only=True)
class TaskCredentials:
    """Where task pods get their ClearML credentials from: by `secretKeyRef`, never by value."""

    secret_name: str
    access_key_key: str = "agentk8sglue_key"
    secret_key_key: str = "agentk8sglue_secret"  # noqa: S105 - the name of a key, not a secret


@dataclass(frozen=True, kw_only=True)
class ClearMLConfig:
    """The ClearML server, as the controller and the task pods reach it."""

    api_server: str
    web_server: str | None = None
    file_server: str | None = None
    verify_certificate: bool = True
    task_credentials: TaskCredentials | None = None
    """None: each task's pod has a token of the task's owner in their place."""
    config_secret: SecretKey | None = None
    """clearml.conf for task pods."""
    vault_environment: bool = True
    """The agent in a task's pod sets the variables of the vaults that it finds on the server, and of clearml.conf."""

    @property
    def owner_tokens(self) -> bool:
        """Task pods run as their tasks' owners."""
        return self.task_credentials is None


@dataclass(frozen=True, kw_only=True)
class ControllerImage:
    """What the init container of task pods runs."""

    name: str
    pull_policy: str = "IfNotPresent"


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """Certificates that task pods trust: the ConfigMap that has them as ``names.CERTIFICATES_FILE``."""

    config_map: str
    complete: bool = False
    """They are all; else the public ones of the controller's image count, too."""


@dataclass(frozen=True, kw_only=True)
class TaskPodConfig:
    """Fixed parts of every task pod."""

    service_account_name: str | None = None
    image_pull_secrets: tuple[str, ...] = ()
    preparation_script: str = ""
    """Run in the pod before the agent is installed, and before the task's own setup script."""
    start_script: str = ""
    """In place of the last part of ours; with the placeholders of `config.start_script`."""
    skips_system_packages: bool = False
    """Nothing is installed with the image's package manager."""
    controller_image: ControllerImage | None = None
    """Set where `bootstrap`, or `certificates` that are not complete, need it."""
    bootstrap: bool = False
    """Python, clearml-agent and git come with the pod."""
    certificates: Certificates | None = None


@dataclass(frozen=True, kw_only=True)
class QueueSettings:
    """`queueSettings` of one queue."""

    max_pods: int | None = None
    """Task pods of this queue at one time; None: no limit of its own."""
    default_image: str | None = None
    patience_seconds: Mapping[str, float | None] = field(default_factory=dict)
    """By reason to wait: seconds before the task is failed; None: those of `Config.patience_seconds`."""
    max_run_minutes: float | None = None
    """How long a task may run; None: as `Config.max_run_minutes`."""
    max_requeues: Mapping[str, int | None] = field(default_factory=dict)
    """By how its pod ended: how often a task is put back; None: that of `Config.max_requeues`."""
    max_gpus: float | None = None
    """GPUs of its task pods at one time; None: no limit of its own."""
    max_cpus: float | None = None
    """CPUs that its task pods ask for at one time; None: no limit of its own."""
    max_pending_pods: int | None = None
    """Its task pods that wait for a node at one time; None: as for all together."""
    priority: int = 0
    """Tasks are taken from a queue only while none of a higher number has one that there is room for."""
    weight: float = 1.0
    """Its share among the queues of the same priority."""
    task_policy: TaskPolicy | None = None
    """What its tasks may ask for; None: `Config.task_policy`."""
    worker_id_template: str | None = None
    """Of the worker ids of this queue's tasks; None: `Config.task_worker_id`."""
    use_image_entrypoint: bool | None = None
    """The image's own entrypoint runs in place of our start script; None: `Config.use_image_entrypoint`."""
    kueue: KueueConfig | None = None
    """Kueue decides when its Jobs may run; None: nobody does."""
    multi_node: tuple[int, ...] = ()
    """GPUs of each node of a task; (): its tasks run in one pod unless they say otherwise."""


GPU_FIELD = "resources|limits|nvidia.com/gpu"


@dataclass(frozen=True, kw_only=True)
class MonitoredResources:
    """`monitoredResources`: a limit on the sum of an amount that stands in each task pod."""

    max_resources: float = 0.0
    """Of all task pods at one time; 0: no limit."""
    min_field: str = GPU_FIELD
    """Path to the amount in the pod, its parts joined by "|"; the larger one of both fields counts."""
    max_field: str = GPU_FIELD


@dataclass(frozen=True, kw_only=True)
class TemplateModuleConfig:
    """Code of the administrator's own that changes each task's pod template: `module:function`."""

    function: str
    timeout_seconds: float = 10.0
    """For one call, the loading of the module included."""
    path: tuple[str, ...] = ()
    """Folders that the module is looked for in, before those of Python itself."""


@dataclass(frozen=True, kw_only=True)
class QueueConfig:
    """One served queue. `name` is the key under `queues`: the queue's name or its id."""

    name: str
    template_overrides: RawTemplate = field(default_factory=dict)
    settings: QueueSettings = field(default_factory=QueueSettings)
    conditional_templates: tuple[ConditionalTemplate, ...] = ()
    """Looked at before those of `Config`; the first that holds is laid over `template_overrides`."""


@dataclass(frozen=True, kw_only=True)
class ResolvedQueue:
    """A served queue that was found on the server."""

    config: QueueConfig
    id: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything the controller is told. Absent keys have the defaults of config.schema.json."""

    release_name: str
    fullname: str
    namespace: str
    clearml: ClearMLConfig
    queues: Mapping[str, QueueConfig]
    """By key, in the order of the file; never empty."""
    worker_id: str | None = None
    """None: `clearml-agent-<releaseName>-<first 8 hex of the namespace's uid>`."""
    old_worker_id: str | None = None
    """Under which ClearML's own agent served here before; its pods are followed to their end. None: nobody did."""
    queue_poll_frequency_seconds: float = 5.0
    create_queues: bool = False
    max_pods: int | None = None
    """Task pods at one time, all queues together; None: no limit."""
    default_container_image: str | None = None
    """None: that of clearml.conf, else `spec.job.FALLBACK_IMAGE`."""
    completed_pod_deletion_delay_minutes: float = 0.0
    failed_pod_deletion_delay_minutes: float | None = None
    """Of failed tasks; None: as of all others."""
    patience_seconds: Mapping[str, float | None] = field(default_factory=dict)
    """By reason to wait (`flow.diagnosis.key_of`): seconds before the task is failed; None: as long as it takes."""
    max_run_minutes: float | None = None
    """How long a task may run, from the start of its container; None: no limit."""
    max_requeues: Mapping[str, int] = field(default_factory=dict)
    """By how its pod ended (preempted, evicted, nodeLost): how often a task is put back; absent: never."""
    monitored_resources: MonitoredResources = field(default_factory=MonitoredResources)
    max_pending_pods: int | None = None
    """Task pods that Kubernetes has found no node for at one time; None: as many as it keeps up with."""
    respect_resource_quotas: bool = True
    """Take no task whose pod a ResourceQuota would refuse."""
    task_policy: TaskPolicy = field(default_factory=TaskPolicy)
    """What tasks may ask for of their pod."""
    task: TaskPodConfig = field(default_factory=TaskPodConfig)
    base_pod_template: RawTemplate = field(default_factory=dict)
    base_pod_spec: RawTemplate | None = None
    """A whole PodSpec below the named keys of the templates; only the flags of `run` set it, no config file does."""
    conditional_templates: tuple[ConditionalTemplate, ...] = ()
    """Of all queues."""
    cluster_access: bool = False
    """The account may read the cluster's nodes."""
    status_report_seconds: float = 30.0
    """Between two reports of the controller as a worker of the server."""
    use_image_entrypoint: bool = False
    """Of queues that do not say; only the environment sets it (`config.glue_environment`)."""
    task_worker_id: str | None = None
    """Template of the worker ids of tasks (`config.worker_ids`); None: ``<worker id>:<task id>``."""
    dashboard: DashboardConfig = field(default_factory=DashboardConfig)
    template_module: TemplateModuleConfig | None = None
    pod_commands: PodCommandsConfig = field(default_factory=PodCommandsConfig)
    sessions: SessionsConfig | None = None
    """How the SSH servers of clearml-session are reached from outside; None: not at all."""
    multi_node: MultiNodeConfig | None = None
    """How tasks run on several nodes; None: none does."""

    def runs_entrypoint(self, queue: QueueConfig) -> bool:
        """Whether the image's own entrypoint runs in the queue's task pods."""
        chosen = queue.settings.use_image_entrypoint
        return self.use_image_entrypoint if chosen is None else chosen

    @property
    def uses_kueue(self) -> bool:
        """Whether the Jobs of some queue wait for Kueue."""
        return any(queue.settings.kueue is not None for queue in self.queues.values())

    def policy_of(self, queue: QueueConfig) -> TaskPolicy:
        """What tasks of the queue may ask for."""
        return queue.settings.task_policy or self.task_policy
