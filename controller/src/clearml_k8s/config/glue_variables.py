"""Every variable that ClearML's own glue, and the agent in its pods, read of their environment, and what it does here.

The chart's refusals (`files/glue-variables.yaml`) and docs/glue-variables.md are made of this table.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


class State(enum.Enum):
    """What becomes of a variable in `agentk8sglue.extraEnvs`."""

    WORKS = "works"
    NOTHING = "no meaning here"
    """It changes nothing, and nothing is missing; the notes after an installation name it."""
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True, slots=True)
class Variable:
    """``text``: how it works, why it has no meaning, or what to write instead."""

    state: State
    text: str


def _works(text: str) -> Variable:
    return Variable(state=State.WORKS, text=text)


def _nothing(text: str) -> Variable:
    return Variable(state=State.NOTHING, text=text)


def _refused(text: str) -> Variable:
    return Variable(state=State.REFUSED, text=text)


_NAMESPACE = _refused(
    "tasks run in the namespace of the release: install the chart there, one release for each namespace"
)
_SESSIONS = _nothing("with sessions.portModeEnabled each session has a Service of its own, and no other task has")
_REDIS = _nothing("controllers agree by a Lease and by marks on tasks")
_IMAGE = _nothing(
    "the controller is its image, nothing is installed when it starts; for task pods write it into basePodTemplate.env"
)
_AGENT = _nothing("of the agent itself: for task pods write it into basePodTemplate.env")
_POD = _nothing("of the agent in a task's pod: write it into agentk8sglue.basePodTemplate.env")
_DOCKER = _nothing("of containers that an agent starts by docker: for pods write agentk8sglue.basePodTemplate")
_LIMITS = _nothing("of an agent without Kubernetes: write agentk8sglue.maxPods or queueSettings.maxPods")
_WHEEL = _nothing("use an image that has the agent you want, or install it in agentk8sglue.customBashScript")
_GIT = _refused("write it into agentk8sglue.basePodTemplate.env, a password with valueFrom and secretKeyRef")
_GOOGLE = _nothing(
    "of an image for Google's cloud: give the controller an account with agentk8sglue.serviceAccountAnnotations"
)
_KEYS = _refused(
    "the chart gives the controller its credentials; use clearml.existingAgentk8sglueSecret, or "
    "clearml.agentk8sglueKey and clearml.agentk8sglueSecret"
)
_SERVER = _refused("write agentk8sglue.apiServerUrlReference, webServerUrlReference and fileServerUrlReference")

VARIABLES: Final[Mapping[str, Variable]] = {
    "CLEARML_K8S_GLUE_KIND": _nothing("tasks are always Jobs"),
    "CLEARML_K8S_GLUE_START_AGENT_SCRIPT_PATH": _nothing("no script is written in the task's container"),
    "K8S_GLUE_DEF_EXEC_AGENT_ARGS": _refused(
        "the agent gets --full-monitoring --require-queue: for others write agentk8sglue.containerCustomBashScript"
    ),
    "K8S_GLUE_POD_AGENT_INSTALL_ARGS": _refused(
        "write CLEARML_AGENT_UPDATE_VERSION, as in ==3.0.3, into agentk8sglue.basePodTemplate.env"
    ),
    "K8S_GLUE_POD_MONITOR_LOG_BATCH_SIZE": _nothing("lines of the console are sent together by themselves"),
    "K8S_GLUE_POD_MONITOR_DISABLE_ENQUEUE_ON_PREEMPTION": _nothing(
        "a task goes back to its queue only as often as agentk8sglue.maxRequeues says"
    ),
    "K8S_GLUE_POD_MONITOR_EVICTION_REASONS": _refused("write agentk8sglue.patienceSeconds, for each reason"),
    "K8S_GLUE_POD_USE_IMAGE_ENTRYPOINT": _works("for queues without queueSettings.useImageEntrypoint"),
    "K8S_GLUE_IGNORE_KUBECTL_ERROR": _nothing("kubectl is not used"),
    "K8S_GLUE_DEFAULT_SCHEDULER_QUEUE_TAGS": _nothing("the queue k8s_scheduler has the system tag k8s-glue"),
    "K8S_GLUE_COMPLETED_POD_DELETION_DELAY_MINUTES": _refused("write agentk8sglue.completedPodDeletionDelayMinutes"),
    "K8S_GLUE_QUEUE": _refused("write agentk8sglue.queues or agentk8sglue.queue; without Helm --queue"),
    "K8S_GLUE_MAX_PODS": _refused("write agentk8sglue.maxPods; without Helm --max-pods"),
    "K8S_GLUE_EXTRA_ARGS": _refused("write the values of its flags, such as agentk8sglue.maxPods and createQueues"),
    "K8S_DEFAULT_NAMESPACE": _NAMESPACE,
    "CLEARML_K8S_GLUE_DEBUG": _refused("write CLEARML_K8S_LOG_LEVEL with the value DEBUG"),
    "CLEARML_K8S_GLUE_CREATE_QUEUE": _refused("write agentk8sglue.createQueues; without Helm --create-queue"),
    "CLEARML_K8S_GLUE_LIMIT_POD_LABEL": _SESSIONS,
    "CLEARML_K8S_SECRETS_LIST_FILE": _refused("Secrets are not copied: make them in the namespace of the release"),
    "CLEARML_K8S_GLUE_POD_PRE_APPLY_CMD": _works("as agentk8sglue.podCommands.preApply"),
    "CLEARML_K8S_GLUE_POD_POST_APPLY_CMD": _works("as agentk8sglue.podCommands.postApply"),
    "CLEARML_K8S_GLUE_POD_POST_DELETE_CMD": _works("as agentk8sglue.podCommands.postDelete"),
    "CLEARML_K8S_GLUE_TEMPLATE_MODULE": _works("as agentk8sglue.templateModule.function"),
    "CLEARML_K8S_GLUE_COND_CUST_TEMPLATE": _works("as the last of agentk8sglue.conditionalTemplates"),
    "CLEARML_K8S_GLUE_MONITOR_ALL_NAMESPACES": _nothing("tasks run in the namespace of the release alone"),
    "CLEARML_K8S_GLUE_EXTRA_BASH_SCRIPT": _refused("write agentk8sglue.customBashScript"),
    "CLEARML_K8S_GLUE_POD_BASH_SCRIPT": _refused("write agentk8sglue.containerCustomBashScript"),
    "CLEARML_K8S_GLUE_SET_QUEUE_SYSTEM_TAGS": _nothing("tags of queues are left as they are"),
    "CLEARML_K8S_GLUE_APPLY_VAULT_ENV_VARS": _nothing(
        "the agent in a task's pod applies vaults itself: write agentk8sglue.applyVaultEnvVars"
    ),
    "CLEARML_K8S_GLUE_MAX_RESOURCES": _refused("write agentk8sglue.monitoredResources.maxResources"),
    "CLEARML_K8S_GLUE_POD_MIN_RES_FIELD": _refused("write agentk8sglue.monitoredResources.minResourcesFieldName"),
    "CLEARML_K8S_GLUE_POD_MAX_RES_FIELD": _refused("write agentk8sglue.monitoredResources.maxResourcesFieldName"),
    "CLEARML_K8S_SUPPORT_SUSPENSION": _refused("the controller cannot be suspended by the server: leave it out"),
    "CLEARML_K8S_PORTS_MODE_ON_REQUEST_ONLY": _SESSIONS,
    "CLEARML_AGENT_REDIS_HOST": _REDIS,
    "CLEARML_AGENT_REDIS_PORT": _REDIS,
    "CLEARML_AGENT_REDIS_DB": _REDIS,
    "CLEARML_AGENT_REDIS_PASSWORD": _REDIS,
    "CLEARML_AGENT_UPDATE_VERSION": _IMAGE,
    "CLEARML_AGENT_UPDATE_REPO": _IMAGE,
    "CLEARML_AGENT_NO_UPDATE": _IMAGE,
    "FORCE_CLEARML_AGENT_REPO": _WHEEL,
    "CLEARML_AGENT_DOCKER_AGENT_REPO": _WHEEL,
    "FORCE_LOCAL_CLEARML_AGENT_WHEEL": _WHEEL,
    "CLEARML_HOST_IP": _SERVER,
    "TRAINS_HOST_IP": _SERVER,
    "CLEARML_API_HOST": _refused("write agentk8sglue.apiServerUrlReference; it works without Helm"),
    "CLEARML_WEB_HOST": _refused("write agentk8sglue.webServerUrlReference; it works without Helm"),
    "CLEARML_FILES_HOST": _refused("write agentk8sglue.fileServerUrlReference; it works without Helm"),
    "CLEARML_API_ACCESS_KEY": _KEYS,
    "CLEARML_API_SECRET_KEY": _KEYS,
    "CLEARML_AUTH_TOKEN": _refused("the controller logs in with a key pair: write clearml.existingAgentk8sglueSecret"),
    "CLEARML_CONFIG_FILE": _works("a clearml.conf whose agent.default_docker counts, where the chart has none"),
    "CLEARML_API_HOST_VERIFY_CERT": _refused(
        "write agentk8sglue.clearmlcheckCertificate; a CA bundle of your own is named by REQUESTS_CA_BUNDLE"
    ),
    "CLEARML_NO_DEFAULT_SERVER": _nothing("the server is always the one of the values"),
    "CLEARML_API_DEFAULT_REQ_METHOD": _nothing("requests are POST"),
    "CLEARML_WORKER_ID": _refused("write agentk8sglue.workerIdOverride; it works without Helm"),
    "CLEARML_WORKER_NAME": _refused("write agentk8sglue.workerIdOverride"),
    "CLEARML_WORKER_TAGS": _nothing("tags of workers are not reported"),
    "CLEARML_DOCKER_IMAGE": _refused("write agentk8sglue.defaultContainerImage; it works without Helm"),
    "CLEARML_AGENT_GIT_USER": _GIT,
    "CLEARML_AGENT_GIT_PASS": _GIT,
    "CLEARML_AGENT_GIT_HOST": _GIT,
    "CLEARML_AGENT_FORCE_SYSTEM_SITE_PACKAGES": _refused(
        "it is true; for false write CLEARML_AGENT__AGENT__PACKAGE_MANAGER__SYSTEM_SITE_PACKAGES into "
        "agentk8sglue.basePodTemplate.env"
    ),
    "CLEARML_AGENT_QUEUE_POLL_FREQ_SEC": _refused(
        "write agentk8sglue.queuePollFrequencySeconds; for the agent in task pods write it into basePodTemplate.env"
    ),
    "CLEARML_AGENT_STATUS_REPORT_FREQ_SEC": _refused("write agentk8sglue.statusReportFrequencySeconds"),
    "CLEARML_AGENT_DEBUG_GET_NEXT_TASK": _AGENT,
    "CLEARML_AGENT_DEBUG_INFO": _AGENT,
    "CLEARML_AGENT_TEMP_STDOUT_FILE_DIR": _AGENT,
    "CLEARML_AGENT_INITIAL_CONNECT_RETRY_OVERRIDE": _AGENT,
    "CLEARML_AGENT_CRASH_ON_EXCEPTION": _AGENT,
    "CLEARML_AGENT_GPU_FRACTIONS": _AGENT,
    "CLEARML_SERVICE_ACC": _GOOGLE,
    "SERVICE_ACC_KEY_JSON": _GOOGLE,
    "CLUSTER_CRED": _GOOGLE,
    "CLEARML_TASK_ID": _nothing("each task's pod has its own"),
    "CLEARML_LOG_LEVEL": _nothing("of the SDK in a task's pod; for the controller write CLEARML_K8S_LOG_LEVEL"),
    "CLEARML_AGENT_CHILD_AGENTS_COUNT_CMD": _LIMITS,
    "CLEARML_AGENT_ABORT_CALLBACK_CMD": _POD,
    "CLEARML_AGENT_ABORT_CALLBACK_TIMEOUT": _POD,
    "CLEARML_AGENT_ALG_ENV": _POD,
    "CLEARML_AGENT_CONFIG_VERBOSE": _POD,
    "CLEARML_AGENT_CUSTOM_BUILD_SCRIPT": _POD,
    "CLEARML_AGENT_DISABLE_SSH_MOUNT": _POD,
    "CLEARML_AGENT_EXEC_USER": _POD,
    "CLEARML_AGENT_EXTRA_PYTHON_PATH": _POD,
    "CLEARML_AGENT_FORCE_CODE_DIR": _POD,
    "CLEARML_AGENT_FORCE_EXEC_SCRIPT": _POD,
    "CLEARML_AGENT_FORCE_HOST_MACHINE_IP": _POD,
    "CLEARML_AGENT_FORCE_MAX_API_VERSION": _POD,
    "CLEARML_AGENT_FORCE_POETRY": _POD,
    "CLEARML_AGENT_FORCE_TASK_INIT": _POD,
    "CLEARML_AGENT_FORCE_UV": _POD,
    "CLEARML_AGENT_GIT_CLONE_VERBOSE": _POD,
    "CLEARML_AGENT_GIT_USE_AZURE_PAT": _POD,
    "CLEARML_AGENT_GIT_USE_MS_ENTRA_TOKEN": _POD,
    "CLEARML_AGENT_PACKAGE_PYTORCH_RESOLVE": _POD,
    "CLEARML_AGENT_PROPAGATE_EXITCODE": _POD,
    "CLEARML_AGENT_SKIP_CONTAINER_APT": _POD,
    "CLEARML_AGENT_SKIP_PIP_VENV_INSTALL": _POD,
    "CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL": _POD,
    "CLEARML_AGENT_SSH_URL_REPLACEMENT_SCHEME": _POD,
    "CLEARML_AGENT_STANDALONE_CONFIG_BC": _POD,
    "CLEARML_AGENT_URLLIB3_CONNECT_LEVEL": _POD,
    "CLEARML_AGENT_VENV_CACHE_PATH": _POD,
    "CLEARML_API_VERBOSE": _POD,
    "CLEARML_BOOTSTRAP_UV_EXEC": _POD,
    "CLEARML_CACHE_DIR": _POD,
    "CLEARML_CONDA_ENV_PACKAGE": _POD,
    "CLEARML_CPU_ONLY": _POD,
    "CLEARML_CUDA_VERSION": _POD,
    "CLEARML_CUDNN_VERSION": _POD,
    "CLEARML_DROPBEAR_EXEC": _POD,
    "CLEARML_EXTRA_PIP_INSTALL_FLAGS": _POD,
    "CLEARML_LOG_TASK_TO_BACKEND": _POD,
    "CLEARML_MULTI_NODE_SINGLE_TASK": _POD,
    "CLEARML_SESSION_VSCODE_PY_EXT": _POD,
    "CLEARML_SESSION_VSCODE_SERVER_DEB": _POD,
    "CLEARML_USE_CONDA_BASE_ENV": _POD,
    "LOCAL_PYTHON": _POD,
    "CLEARML_AGENT_DOCKER_ARGS_FILTERS": _DOCKER,
    "CLEARML_AGENT_DOCKER_ARGS_HIDE_ENV": _DOCKER,
    "CLEARML_AGENT_DOCKER_HOST_MOUNT": _DOCKER,
    "CLEARML_AGENT_EXTRA_DOCKER_ARGS": _DOCKER,
    "CLEARML_AGENT_EXTRA_DOCKER_LABELS": _DOCKER,
    "CLEARML_AGENT_K8S_HOST_MOUNT": _DOCKER,
    "CLEARML_AGENT_SERVICES_DOCKER_RESTART": _DOCKER,
    "CLEARML_DOCKER_SKIP_GPUS_FLAG": _DOCKER,
}  # fmt: skip

GLUE_PREFIXES: Final = ("K8S_GLUE_", "CLEARML_K8S_GLUE_")
"""Of variables that mean nothing to anybody else: refused also without Helm."""
