"""Task documents: how one is made, which fields a client may set, how it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from . import errors
from .settings import COMPANY_ID
from .store import Document, new_id

TASK_TYPES = (
    "training",
    "testing",
    "inference",
    "data_processing",
    "application",
    "monitor",
    "controller",
    "optimizer",
    "service",
    "qc",
    "custom",
    "dataset_import",
    "annotation",
    "annotation_manual",
)

CREATE_FIELDS: Mapping[str, str] = {
    "tags": "strings",
    "system_tags": "strings",
    "type": "str",
    "error": "str",
    "comment": "str",
    "parent": "str",
    "project": "str",
    "input": "dict",
    "models": "dict",
    "output_dest": "str",
    "execution": "dict",
    "hyperparams": "dict",
    "configuration": "dict",
    "script": "dict",
    "runtime": "dict",
    "container": "dict",
    "report": "str",
}
# tasks.edit merges these into what is there; it replaces the other dictionaries
MERGED_FIELDS = ("script", "execution", "models")
# an edit of these alone does not count as an update of the task
USER_FIELDS = frozenset({"name", "comment", "report", "tags", "system_tags", "project", "hidden", "error"})
SCRIPT_TEXTS = ("repository", "tag", "branch", "version_num", "entry_point", "working_dir", "binary")


def requested_fields(data: dict[str, Any]) -> Document:
    """The fields that a create or edit request sets, brought into the stored form."""
    fields = {name: data[name] for name in ("name", *CREATE_FIELDS) if data.get(name) is not None}
    if "name" in fields:
        fields["name"] = str(fields["name"]).strip()
        if len(fields["name"]) < 3:
            raise errors.data_validation(f"task name is too short, at least 3 characters: {fields['name']!r}")
    if "type" in fields and fields["type"] not in TASK_TYPES:
        raise errors.validation(f"unknown task type {fields['type']}", field="type")
    if "output_dest" in fields:
        fields["output"] = {"destination": fields.pop("output_dest")}
    if "hyperparams" in fields:
        fields["hyperparams"] = _named_items(fields["hyperparams"])
    if "script" in fields:
        script = fields["script"]
        stripped = {name: script[name].strip() for name in SCRIPT_TEXTS if isinstance(script.get(name), str)}
        fields["script"] = {**script, **stripped}
    return fields


def _named_items(sections: dict[str, Any]) -> Document:
    """Every parameter carries its own section and name."""
    result: Document = {}
    for section, items in sections.items():
        if not isinstance(items, dict):
            raise errors.validation(f"hyperparams.{section} must be dict", field="hyperparams")
        result[section] = {
            name: {"section": section, "name": name, **(item if isinstance(item, dict) else {"value": str(item)})}
            for name, item in items.items()
        }
    return result


def new_task(fields: Document, *, user: str, now: datetime) -> Document:
    """A task in status ``created``. ``fields`` as given by :func:`requested_fields`."""
    task: Document = {
        "id": new_id(),
        "company": COMPANY_ID,
        "user": user,
        "status": "created",
        "status_reason": "",
        "status_message": "",
        "status_changed": now,
        "created": now,
        "last_update": now,
        "last_change": now,
        "last_changed_by": user,
        "last_iteration": 0,
        "last_metrics": {},
        "tags": [],
        "system_tags": [],
        "hyperparams": {},
        "configuration": {},
        "container": {},
        "runtime": {},
        "models": {"input": [], "output": []},
        "output": {},
        "execution": {},
        **fields,
    }
    task["execution"] = {"parameters": {}, "artifacts": [], **task["execution"]}
    return task


def shown(task: Document, *, legacy: bool = False) -> Document:
    """The task as it is sent: without empty fields. ``legacy``: parameters also in the form of API before 2.9."""
    result = {name: value for name, value in task.items() if value is not None}
    if legacy:
        parameters = {
            (f"{section}/{name}" if section != "legacy" else name): item.get("value")
            for section, items in task["hyperparams"].items()
            for name, item in items.items()
        }
        result["execution"] = {**task["execution"], "parameters": parameters}
    return result
