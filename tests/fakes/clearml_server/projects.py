"""``projects.*`` and ``models.*``: as much as the SDK and a controller use."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from . import errors, query
from .clock import Clock
from .queue_service import checked_name
from .registry import Call, endpoint
from .settings import COMPANY_ID
from .store import Document, Store, new_id


def new_project(store: Store, fields: Document, *, user: str, now: datetime) -> str:
    """Creates the parents of a name such as ``a/b/c`` too, as the server does."""
    name = checked_name(fields["name"], what="project")
    if any(project["name"] == name for project in store.projects.values()):
        raise errors.not_unique(name=name)
    parent_name = name.rpartition("/")[0]
    parent = find_or_create_project(store, parent_name, user=user, now=now) if parent_name else None
    project: Document = {
        "id": new_id(),
        "company": COMPANY_ID,
        "user": user,
        "created": now,
        "last_update": now,
        "description": "",
        "tags": [],
        "system_tags": [],
        **fields,
        "name": name,
        "basename": name.rpartition("/")[2],
    }
    if parent:
        project["parent"] = parent
    store.projects[project["id"]] = project
    return str(project["id"])


def find_or_create_project(store: Store, name: str, *, user: str, now: datetime) -> str:
    found = next((project["id"] for project in store.projects.values() if project["name"] == name), None)
    return found or new_project(store, {"name": name}, user=user, now=now)


class ProjectService:
    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def _require(self, project_id: str) -> Document:
        project = self._store.projects.get(project_id)
        if project is None:
            raise errors.invalid_project_id(project_id)
        return project

    @endpoint("projects.create", name="!str", description="str", tags="strings", system_tags="strings")
    def create(self, call: Call) -> dict[str, Any]:
        names = ("name", "description", "tags", "system_tags", "default_output_destination")
        fields = {name: call.data[name] for name in names if call.data.get(name) is not None}
        return {"id": new_project(self._store, fields, user=call.identity.user, now=self._clock.stored_now())}

    @endpoint("projects.get_by_id", project="!str")
    def get_by_id(self, call: Call) -> dict[str, Any]:
        return {"project": self._require(call.data["project"])}

    @endpoint("projects.get_all", only_fields="strings")
    def get_all(self, call: Call) -> dict[str, Any]:
        predicates = query.build(
            call.data,
            patterns=("name", "basename", "description"),
            lists=("id", "tags", "system_tags", "parent", "user"),
            ranges=("created", "last_update"),
        )
        found = query.find(self._store.projects.values(), call.data, predicates)
        return {"projects": [query.project(project, call.data.get("only_fields")) for project in found]}

    @endpoint("projects.get_all_ex", only_fields="strings")
    def get_all_ex(self, call: Call) -> dict[str, Any]:
        return self.get_all(call)

    @endpoint("projects.update", project="!str", name="str", description="str", tags="strings", system_tags="strings")
    def update(self, call: Call) -> dict[str, Any]:
        project = self._require(call.data["project"])
        names = ("description", "tags", "system_tags", "default_output_destination")
        fields = {name: call.data[name] for name in names if call.data.get(name) is not None}
        project.update(fields, last_update=self._clock.stored_now())
        return {"updated": 1, "fields": fields}

    @endpoint("projects.delete", project="!str", force="bool", delete_contents="bool")
    def delete(self, call: Call) -> dict[str, Any]:
        project = self._require(call.data["project"])
        tasks = [task["id"] for task in self._store.tasks if task.get("project") == project["id"]]
        if tasks and not (call.data.get("force") or call.data.get("delete_contents")):
            raise errors.project_has_tasks(project["id"])
        for task_id in tasks:
            if call.data.get("delete_contents"):
                self._store.queues.remove_from_all(task_id)
                self._store.tasks.delete(task_id)
            else:
                self._store.tasks.update(task_id, {"project": None})
        del self._store.projects[project["id"]]
        return {"deleted": 1, "disassociated_tasks": len(tasks)}

    @endpoint("projects.get_task_tags")
    def get_task_tags(self, call: Call) -> dict[str, Any]:
        return {"tags": sorted({tag for task in self._store.tasks for tag in task["tags"]}), "system_tags": []}


class ModelService:
    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def _require(self, model_id: str) -> Document:
        model = self._store.models.get(model_id)
        if model is None:
            raise errors.invalid_model_id(model_id)
        return model

    @endpoint("models.create", name="!str", uri="!str")
    def create(self, call: Call) -> dict[str, Any]:
        now = self._clock.stored_now()
        model: Document = {
            "tags": [],
            "system_tags": [],
            "ready": True,
            **call.data,
            "id": call.data.get("id") or new_id(),
            "company": COMPANY_ID,
            "user": call.identity.user,
            "created": now,
            "last_update": now,
        }
        self._store.models[model["id"]] = model
        return {"id": model["id"], "created": True}

    @endpoint("models.get_by_id", model="!str")
    def get_by_id(self, call: Call) -> dict[str, Any]:
        return {"model": self._require(call.data["model"])}

    @endpoint("models.get_all", only_fields="strings")
    def get_all(self, call: Call) -> dict[str, Any]:
        predicates = query.build(
            call.data,
            patterns=("name", "comment"),
            lists=("id", "tags", "system_tags", "project", "task", "uri", "user"),
            ranges=("created", "last_update"),
        )
        found = query.find(self._store.models.values(), call.data, predicates)
        return {"models": [query.project(model, call.data.get("only_fields")) for model in found]}

    @endpoint("models.get_all_ex", only_fields="strings")
    def get_all_ex(self, call: Call) -> dict[str, Any]:
        return self.get_all(call)

    @endpoint("models.edit", model="!str")
    def edit(self, call: Call) -> dict[str, Any]:
        return self.update(call)

    @endpoint("models.update", model="!str")
    def update(self, call: Call) -> dict[str, Any]:
        model = self._require(call.data["model"])
        fields = {name: value for name, value in call.data.items() if name not in ("model", "id", "force")}
        model.update(fields, last_update=self._clock.stored_now())
        return {"updated": 1, "fields": fields}

    @endpoint("models.set_ready", model="!str")
    def set_ready(self, call: Call) -> dict[str, Any]:
        self._require(call.data["model"])["ready"] = True
        return {"updated": 1}

    @endpoint("models.delete", model="!str")
    def delete(self, call: Call) -> dict[str, Any]:
        del self._store.models[self._require(call.data["model"])["id"]]
        return {"deleted": True}
