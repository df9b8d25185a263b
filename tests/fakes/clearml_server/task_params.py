"""``tasks.*`` endpoints for parts of a task: parameters, configuration, runtime, artifacts, models."""

from __future__ import annotations

from typing import Any

from . import errors
from .clock import Clock
from .registry import Call, endpoint
from .store import Document, Store

_PROPERTIES = "properties"


class TaskParams:
    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def _require(self, task_id: str) -> Document:
        task = self._store.tasks.get(task_id)
        if task is None:
            raise errors.invalid_task_id(task_id)
        return task

    def _for_update(self, call: Call, *, any_status: bool = False) -> Document:
        """Edits are for tasks in created; with force also queued and in_progress."""
        task = self._require(call.data["task"])
        allowed = ("created", "queued", "in_progress") if call.data.get("force") else ("created",)
        if not any_status and task["status"] not in allowed:
            raise errors.invalid_task_status(expected="created", status=task["status"])
        return task

    def _save(self, call: Call, task: Document, fields: Document, *, is_update: bool = True) -> int:
        now = self._clock.now()
        changes = {**fields, "last_change": now, "last_changed_by": call.identity.user}
        if is_update:
            changes["last_update"] = now
        return int(self._store.tasks.update(task["id"], changes))

    @staticmethod
    def _items(values: list[Any], *, need_name: bool) -> list[Document]:
        items: list[Document] = []
        for value in values:
            if not isinstance(value, dict) or not isinstance(value.get("section"), str):
                raise errors.validation("Field is required: hyperparams.section", field="hyperparams")
            if need_name and not isinstance(value.get("name"), str):
                raise errors.validation("Field is required: hyperparams.name", field="hyperparams")
            section = value["section"]
            items.append({**value, "section": _PROPERTIES if section.lower() == _PROPERTIES else section})
        return items

    @endpoint("tasks.get_hyper_params", since="2.9", tasks="!strings")
    def get_hyper_params(self, call: Call) -> dict[str, Any]:
        answer = []
        for task in map(self._require, call.data["tasks"]):
            items = [item for section in task["hyperparams"].values() for item in section.values()]
            items.sort(key=lambda item: (item["section"], item["name"]))
            answer.append({"task": task["id"], "hyperparams": items})
        return {"params": answer}

    @endpoint(
        "tasks.edit_hyper_params",
        since="2.9",
        task="!str",
        hyperparams="!list",
        replace_hyperparams="str",
        force="bool",
    )
    def edit_hyper_params(self, call: Call) -> dict[str, Any]:
        """Merge by key (``none``), replace the sections that are named (``section``) or everything (``all``)."""
        mode = call.data.get("replace_hyperparams") or "none"
        if mode not in ("none", "section", "all"):
            raise errors.validation(f"replace_hyperparams must be none, section or all, found {mode}")
        items = self._items(call.data["hyperparams"], need_name=True)
        only_properties = all(item["section"] == _PROPERTIES for item in items)
        task = self._for_update(call, any_status=only_properties)
        sections: dict[str, Document] = {}
        for item in items:
            sections.setdefault(item["section"], {})[item["name"]] = item
        current = task["hyperparams"]
        if mode == "all":
            merged = sections
        elif mode == "section":
            merged = {**current, **sections}
        else:
            merged = {**current, **{name: {**current.get(name, {}), **new} for name, new in sections.items()}}
        return {"updated": self._save(call, task, {"hyperparams": merged}, is_update=not only_properties)}

    @endpoint("tasks.delete_hyper_params", since="2.9", task="!str", hyperparams="!list", force="bool")
    def delete_hyper_params(self, call: Call) -> dict[str, Any]:
        """An item without a name deletes its whole section."""
        items = self._items(call.data["hyperparams"], need_name=False)
        only_properties = all(item["section"] == _PROPERTIES for item in items)
        task = self._for_update(call, any_status=only_properties)
        whole = {item["section"] for item in items if not item.get("name")}
        single = {(item["section"], item["name"]) for item in items if item.get("name")}
        if any(section in whole for section, _ in single):
            raise errors.ApiError(400, 15, "Conflicting fields (the whole section was scheduled for deletion)")
        left = {
            section: {name: item for name, item in values.items() if (section, name) not in single}
            for section, values in task["hyperparams"].items()
            if section not in whole
        }
        return {"deleted": self._save(call, task, {"hyperparams": left}, is_update=not only_properties)}

    @endpoint("tasks.get_configurations", since="2.9", tasks="!strings", names="strings")
    def get_configurations(self, call: Call) -> dict[str, Any]:
        names = call.data.get("names")
        return {
            "configurations": [
                {
                    "task": task["id"],
                    "configuration": [
                        item for name, item in sorted(task["configuration"].items()) if not names or name in names
                    ],
                }
                for task in map(self._require, call.data["tasks"])
            ]
        }

    @endpoint("tasks.get_configuration_names", since="2.9", tasks="!strings", skip_empty="bool")
    def get_configuration_names(self, call: Call) -> dict[str, Any]:
        tasks = [task for task_id in call.data["tasks"] if (task := self._store.tasks.get(task_id))]
        return {"configurations": [{"task": task["id"], "names": sorted(task["configuration"])} for task in tasks]}

    @endpoint(
        "tasks.edit_configuration",
        since="2.9",
        task="!str",
        configuration="!list",
        replace_configuration="bool",
        force="bool",
    )
    def edit_configuration(self, call: Call) -> dict[str, Any]:
        items = call.data["configuration"]
        if not all(isinstance(item, dict) and isinstance(item.get("name"), str) for item in items):
            raise errors.validation("Field is required: configuration.name", field="configuration")
        task = self._for_update(call)
        new = {item["name"]: item for item in items}
        merged = new if call.data.get("replace_configuration") else {**task["configuration"], **new}
        return {"updated": self._save(call, task, {"configuration": merged})}

    @endpoint("tasks.delete_configuration", since="2.9", task="!str", configuration="!strings", force="bool")
    def delete_configuration(self, call: Call) -> dict[str, Any]:
        task = self._for_update(call)
        left = {name: item for name, item in task["configuration"].items() if name not in call.data["configuration"]}
        return {"deleted": self._save(call, task, {"configuration": left})}

    @endpoint("tasks.edit_runtime", task="!str", runtime="!dict", force="bool")
    def edit_runtime(self, call: Call) -> dict[str, Any]:
        task = self._require(call.data["task"])
        if task["status"] not in ("created", "queued", "in_progress"):
            raise errors.invalid_task_status(expected="created", status=task["status"])
        return {"updated": self._save(call, task, {"runtime": {**task["runtime"], **call.data["runtime"]}})}

    @endpoint("tasks.add_or_update_artifacts", since="2.10", task="!str", artifacts="!list", force="bool")
    def add_or_update_artifacts(self, call: Call) -> dict[str, Any]:
        task = self._require(call.data["task"])
        artifacts = {(item["key"], item.get("mode", "output")): item for item in task["execution"]["artifacts"]}
        for item in call.data["artifacts"]:
            if not isinstance(item, dict) or not isinstance(item.get("key"), str):
                raise errors.validation("Field is required: artifacts.key", field="artifacts")
            artifacts[item["key"], item.get("mode", "output")] = item
        execution = {**task["execution"], "artifacts": list(artifacts.values())}
        return {"updated": self._save(call, task, {"execution": execution})}

    @endpoint("tasks.delete_artifacts", since="2.10", task="!str", artifacts="!list", force="bool")
    def delete_artifacts(self, call: Call) -> dict[str, Any]:
        task = self._require(call.data["task"])
        gone = {item.get("key") for item in call.data["artifacts"] if isinstance(item, dict)}
        left = [item for item in task["execution"]["artifacts"] if item["key"] not in gone]
        return {"deleted": self._save(call, task, {"execution": {**task["execution"], "artifacts": left}})}

    @endpoint("tasks.add_or_update_model", since="2.13", task="!str", name="!str", model="!str", type="!str")
    def add_or_update_model(self, call: Call) -> dict[str, Any]:
        task, kind = self._require(call.data["task"]), call.data["type"]
        if kind not in ("input", "output"):
            raise errors.validation(f"type must be input or output, found {kind}", field="type")
        item = {"name": call.data["name"], "model": call.data["model"], "updated": self._clock.stored_now()}
        others = [model for model in task["models"].get(kind, []) if model["name"] != item["name"]]
        return {"updated": self._save(call, task, {"models": {**task["models"], kind: [*others, item]}})}
