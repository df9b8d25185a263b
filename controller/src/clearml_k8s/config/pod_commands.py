"""Commands of the administrator's own around each task's pod: key `podCommands`, and the variables of ClearML's glue.

`{pod_name}`, `{namespace}` and `{pod_number}` are letters, digits and dashes, so they are filled in as text. A queue's
name is its users' text: it reaches the shell as a variable alone, quoted as the place needs it where it is named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from clearml_k8s.config import shell_text
from clearml_k8s.names import ENV_QUEUE_NAME

KEY: Final = "podCommands"
FIELDS: Final[Mapping[str, str]] = {"preApply": "pre_apply", "postApply": "post_apply", "postDelete": "post_delete"}
"""Key -> field."""

VARIABLES: Final[Mapping[str, str]] = {
    "CLEARML_K8S_GLUE_POD_PRE_APPLY_CMD": "pre_apply",
    "CLEARML_K8S_GLUE_POD_POST_APPLY_CMD": "post_apply",
    "CLEARML_K8S_GLUE_POD_POST_DELETE_CMD": "post_delete",
}
"""Of ClearML's glue -> field; what the values say wins."""

_NUMBER: Final = "pod_number"
_NUMBERED: Final = re.compile(rf"(?<!\$)\{{{_NUMBER}\}}")


@dataclass(frozen=True, kw_only=True)
class PodCommandsConfig:
    """Each a shell's text, "" for none."""

    pre_apply: str = ""
    """Before the Job is made."""
    post_apply: str = ""
    """Once the Job is there."""
    post_delete: str = ""
    """When the Job and its pods are gone."""
    timeout_seconds: float = 30.0
    """For one run."""

    def __bool__(self) -> bool:
        return bool(self.pre_apply or self.after)

    @property
    def after(self) -> bool:
        """Some are to run after the Job was made, whatever becomes of this process."""
        return bool(self.post_apply or self.post_delete)


def read(raw: Mapping[str, Any] | None) -> PodCommandsConfig:
    """Of a checked document."""
    given = {key: value for key, value in (raw or {}).items() if value is not None}
    found: dict[str, Any] = {field: given[key].strip() for key, field in FIELDS.items() if key in given}
    if "timeoutSeconds" in given:
        found["timeout_seconds"] = float(given["timeoutSeconds"])
    return PodCommandsConfig(**found)


def problems(command: str, *, field: str) -> Iterator[str]:
    """What is wrong with the command of this field; none with ""."""
    if field == "pre_apply" and _NUMBERED.search(command):
        yield "found {pod_number}, which a pod has only once it is made; name things by {pod_name}"
    if "\0" in command:
        yield "found a zero byte, which no command can hold; leave it out"


def filled(command: str, *, pod_name: str, namespace: str, pod_number: int | None = None) -> str:
    """The text that the shell gets; `variables` has to be in its environment. ``$`` before a brace leaves it alone."""
    texts = {"pod_name": pod_name, "namespace": namespace, _NUMBER: "" if pod_number is None else str(pod_number)}
    return shell_text.filled(command, plain=texts, name="queue_name", variable=ENV_QUEUE_NAME)


def variables(*, queue_name: str) -> dict[str, str]:
    """For the environment of the shell; any text can be one of its values but for zero bytes and half characters."""
    return {ENV_QUEUE_NAME: queue_name.replace("\0", "").encode(errors="replace").decode()}
