"""``tasks.*`` endpoints that create, read, edit and delete tasks; those that change the status are in ``task_flow``."""

from __future__ import annotations

import copy
from typing import Any

from . import errors, query
from .clock import Clock
from .projects import find_or_create_project
from .registry import Call, endpoint
from .settings import COMPANY_NAME
from .store import Document, Store
from .task_documents import CREATE_FIELDS, MERGED_FIELDS, USER_FIELDS, new_task, requested_fields, shown

_PATTERNS = ("name", "comment", "report")
_LISTS = ("id", "user", "project", "type", "status", "tags", "system_tags", "parent", "company")
_RANGES = (
    "created",
    "started",
    "completed",
    "published",
    "status_changed",
    "last_update",
    "last_change",
    "last_iteration",
    "active_duration",
)
_NOT_FILTERS = frozenset({"page", "page_size", "order_by", "only_fields", "search_hidden", "projection"})


class TaskService:
    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def require(self, task_id: str) -> Document:
        task = self._store.tasks.get(task_id)
        if task is None:
            raise errors.invalid_task_id(task_id)
        return task

    def _check_references(self, fields: Document) -> None:
        if fields.get("project") and fields["project"] not in self._store.projects:
            raise errors.invalid_project_id(fields["project"])
        if fields.get("parent") and self._store.tasks.get(fields["parent"]) is None:
            raise errors.invalid_task_id(fields["parent"])

    @endpoint("tasks.create", common=CREATE_FIELDS, name="!str", type="!str")
    def create(self, call: Call) -> dict[str, Any]:
        fields = requested_fields(call.data)
        self._check_references(fields)
        task = new_task(fields, user=call.identity.user, now=self._clock.stored_now())
        self._store.tasks.add(task)
        return {"id": task["id"]}

    @endpoint("tasks.validate", common=CREATE_FIELDS, name="!str", type="!str")
    def validate(self, call: Call) -> dict[str, Any]:
        data = dict(call.data)
        if str(data.get("parent") or "").startswith("__DELETED__"):
            data.pop("parent")
        self._check_references(requested_fields(data))
        return {}

    @endpoint("tasks.get_by_id", task="!str")
    def get_by_id(self, call: Call) -> dict[str, Any]:
        return {"task": shown(self.require(call.data["task"]), legacy=call.version < (2, 9))}

    @endpoint("tasks.get_by_id_ex", id="!strings", only_fields="strings")
    def get_by_id_ex(self, call: Call) -> dict[str, Any]:
        return {"tasks": [self._joined(task, call.data.get("only_fields")) for task in self._find(call)]}

    @endpoint("tasks.get_all", only_fields="strings", projection="strings")
    def get_all(self, call: Call) -> dict[str, Any]:
        only = call.data.get("only_fields") or call.data.get("projection")
        legacy = call.version < (2, 9)
        return {"tasks": [query.project(shown(task, legacy=legacy), only) for task in self._find(call)]}

    @endpoint("tasks.get_all_ex", only_fields="strings", projection="strings")
    def get_all_ex(self, call: Call) -> dict[str, Any]:
        only = call.data.get("only_fields") or call.data.get("projection")
        return {"tasks": [self._joined(task, only) for task in self._find(call)]}

    def _find(self, call: Call) -> list[Document]:
        """Look up by id or by status where the request has them, in place of a scan."""
        data = call.data
        ids, statuses = data.get("id"), data.get("status")
        documents: Any = self._store.tasks
        if ids and all(isinstance(task_id, str) for task_id in ids):
            names = [ids] if isinstance(ids, str) else ids
            if not any(name.startswith(("-", "__$")) for name in names):
                documents = [task for name in dict.fromkeys(names) if (task := self._store.tasks.get(name))]
        elif statuses and all(isinstance(status, str) for status in statuses):
            names = [statuses] if isinstance(statuses, str) else statuses
            if not any(name.startswith(("-", "__$")) for name in names):
                documents = self._store.tasks.with_status(dict.fromkeys(names))
        nested = tuple(field for field in data if "." in field and not field.startswith("_") and field not in _RANGES)
        predicates = query.build(
            {field: value for field, value in data.items() if field not in _NOT_FILTERS},
            patterns=_PATTERNS,
            lists=(*_LISTS, *nested),
            ranges=_RANGES,
        )
        return query.find(documents, data, predicates)

    def _joined(self, task: Document, only_fields: Any) -> Document:
        """The ``_ex`` form: ``project.name`` and the like give the document that is referred to."""
        document = shown(task)
        fields: list[str] = list(only_fields or [])
        for name in ("project", "parent", "user", "company", "execution.queue"):
            wanted = [field for field in fields if field.startswith(f"{name}.")]
            reference = query.get_path(document, name)
            if not wanted or reference is None:
                continue
            if name == "execution.queue":
                document["execution"] = dict(document["execution"])
            query.set_path(document, name, self._referred(name, reference))
        return query.project(document, fields)

    def _referred(self, kind: str, reference: str) -> Document:
        found: Document | None = None
        if kind == "project":
            found = self._store.projects.get(reference)
        elif kind == "parent":
            found = self._store.tasks.get(reference)
        elif kind == "execution.queue" and (queue := self._store.queues.get(reference)):
            found = {"name": queue.name}
        elif kind in ("user", "company"):
            found = {"name": COMPANY_NAME if kind == "company" else reference}
        return {**(found or {}), "id": reference}

    @endpoint("tasks.get_types", projects="strings")
    def get_types(self, call: Call) -> dict[str, Any]:
        projects = call.data.get("projects")
        tasks = (task for task in self._store.tasks if not projects or task.get("project") in projects)
        return {"types": sorted({task["type"] for task in tasks})}

    @endpoint("tasks.clone", task="!str", new_task_name="str", new_task_project="str", new_task_tags="strings")
    def clone(self, call: Call) -> dict[str, Any]:
        data = call.data
        source = self.require(data["task"])
        kept = ("name", "type", "project", "comment", "script", "hyperparams", "configuration", "container", "output")
        fields: Document = {name: copy.deepcopy(source[name]) for name in kept if source.get(name) is not None}
        execution = copy.deepcopy(source["execution"])
        execution.pop("queue", None)
        execution["artifacts"] = [item for item in execution.get("artifacts", []) if item.get("mode") == "input"]
        execution.update(data.get("execution_overrides") or {})
        fields["execution"] = execution
        fields["parent"] = data.get("new_task_parent") or source["id"]
        fields["tags"] = data.get("new_task_tags") or list(source["tags"])
        fields["system_tags"] = data.get("new_task_system_tags") or [
            tag for tag in source["system_tags"] if tag not in ("development", "archived")
        ]
        overrides = {
            name: data[f"new_task_{name}"]
            for name in ("name", "comment", "project", "hyperparams", "configuration", "container")
            if data.get(f"new_task_{name}") is not None
        }
        fields.update(requested_fields(overrides))
        if data.get("new_project_name"):
            fields["project"] = find_or_create_project(
                self._store, data["new_project_name"], user=call.identity.user, now=self._clock.stored_now()
            )
        self._check_references(fields)
        task = new_task(fields, user=call.identity.user, now=self._clock.stored_now())
        self._store.tasks.add(task)
        return {"id": task["id"]}

    @endpoint("tasks.edit", task="!str", force="bool", common=CREATE_FIELDS, name="str")
    def edit(self, call: Call) -> dict[str, Any]:
        task = self.require(call.data["task"])
        if not call.data.get("force") and task["status"] != "created":
            raise errors.invalid_task_status(expected="created", status=task["status"])
        fields = requested_fields(call.data)
        self._check_references(fields)
        for name in MERGED_FIELDS:
            if name in fields and isinstance(task.get(name), dict):
                fields[name] = {**task[name], **fields[name]}
        if "output" in fields:
            fields["output"] = {**task["output"], **fields["output"]}
        if not fields:
            return {"updated": 0}
        return self._apply(call, task, fields)

    @endpoint("tasks.update", task="!str", common=CREATE_FIELDS, name="str")
    def update(self, call: Call) -> dict[str, Any]:
        task = self.require(call.data["task"])
        fields = {name: value for name, value in requested_fields(call.data).items() if name in USER_FIELDS}
        for name in ("status_reason", "status_message"):
            if isinstance(call.data.get(name), str):
                fields[name] = call.data[name]
        return self._apply(call, task, fields) if fields else {"updated": 0, "fields": {}}

    def _apply(self, call: Call, task: Document, fields: Document) -> dict[str, Any]:
        self._check_references(fields)
        now = self._clock.now()
        changes = {**fields, "last_change": now, "last_changed_by": call.identity.user}
        if not set(fields) <= USER_FIELDS | {"status_reason", "status_message"}:
            changes["last_update"] = now
        self._store.tasks.update(task["id"], changes)
        return {"updated": 1, "fields": changes}

    @endpoint("tasks.update_batch", batch=True)
    def update_batch(self, call: Call) -> dict[str, Any]:
        items = call.batch or []
        if not items:
            raise errors.ApiError(400, 17, "Batch request contains no items")
        for item in items:
            self.require(str(item.get("task")))
        for item in items:
            call.data = item
            self.update(call)
        return {"updated": len(items)}

    @endpoint("tasks.set_requirements", task="!str", requirements="!dict")
    def set_requirements(self, call: Call) -> dict[str, Any]:
        task = self.require(call.data["task"])
        if not task.get("script"):
            raise errors.missing_task_fields(task=task["id"])
        requirements = call.data["requirements"]
        self._apply(call, task, {"script": {**task["script"], "requirements": requirements}})
        return {"updated": 1, "fields": {"script.requirements": requirements}}

    @endpoint("tasks.delete", task="!str", force="bool")
    def delete(self, call: Call) -> dict[str, Any]:
        task = self.require(call.data["task"])
        if task["status"] != "created" and "archived" not in task["system_tags"] and not call.data.get("force"):
            raise errors.task_cannot_be_deleted(task=task["id"], expected="created", current=task["status"])
        self._store.queues.remove_from_all(task["id"])
        self._store.tasks.delete(task["id"])
        self._store.events.pop(task["id"], None)
        return {"deleted": True, "updated_children": 0, "updated_models": 0, "deleted_models": 0}

    @endpoint("tasks.ping", task="!str")
    def ping(self, call: Call) -> dict[str, Any]:
        now = self._clock.now()
        fields = {"last_update": now, "last_change": now, "last_changed_by": call.identity.user}
        self._store.tasks.update(call.data["task"], fields)
        return {}

    @endpoint("tasks.make_public", since="2.9", ids="!strings")
    def make_public(self, call: Call) -> dict[str, Any]:
        return {"updated": len([self.require(task_id) for task_id in call.data["ids"]])}

    @endpoint("tasks.make_private", since="2.9", ids="!strings")
    def make_private(self, call: Call) -> dict[str, Any]:
        return {"updated": len([self.require(task_id) for task_id in call.data["ids"]])}

    @endpoint("tasks.move", ids="!strings", project="str", project_name="str")
    def move(self, call: Call) -> dict[str, Any]:
        project = call.data.get("project")
        if not project:
            if not call.data.get("project_name"):
                raise errors.ApiError(400, 11, "Missing required fields (project or project_name is required)")
            project = find_or_create_project(
                self._store, call.data["project_name"], user=call.identity.user, now=self._clock.stored_now()
            )
        for task in [self.require(task_id) for task_id in call.data["ids"]]:
            self._apply(call, task, {"project": project})
        return {"project_id": project}
