"""Errors of the ClearML API: HTTP status, subcode and text as the server gives them."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """An answer other than 200. ``data`` becomes ``meta.error_data`` and is appended to the message."""

    def __init__(self, code: int, subcode: int, message: str, **data: Any) -> None:
        self.code = code
        self.subcode = subcode
        self.data = data
        details = ", ".join(f"{key}={value}" for key, value in data.items())
        self.message = f"{message}: {details}" if details else message
        super().__init__(f"{code}/{subcode} {self.message}")


def bad_request(message: str, **data: Any) -> ApiError:
    return ApiError(400, 0, message, **data)


def invalid_id(**data: Any) -> ApiError:
    return ApiError(400, 10, "Invalid object id", **data)


def impersonation(message: str, **data: Any) -> ApiError:
    return ApiError(400, 6, f"Impersonation error ({message})", **data)


def validation(message: str, **data: Any) -> ApiError:
    return ApiError(400, 12, f"Validation error ({message})", **data)


def invalid_regex(**data: Any) -> ApiError:
    return ApiError(400, 21, "Malformed regular expression", **data)


def invalid_task_id(task: str) -> ApiError:
    return ApiError(400, 101, "Invalid task id", id=task)


def invalid_task_status(message: str = "", **data: Any) -> ApiError:
    return ApiError(400, 110, f"Invalid task status ({message})" if message else "Invalid task status", **data)


def failed_changing_status(**data: Any) -> ApiError:
    return ApiError(400, 121, "Failed changing task status. probably someone changed it before you", **data)


def missing_task_fields(**data: Any) -> ApiError:
    return ApiError(400, 122, "Task is missing expected fields", **data)


def task_cannot_be_deleted(**data: Any) -> ApiError:
    return ApiError(400, 123, "Task cannot be deleted (due to status, use force=True)", **data)


def events_not_added(**data: Any) -> ApiError:
    return ApiError(400, 131, "Events not added", **data)


def invalid_model_id(model: str) -> ApiError:
    return ApiError(400, 201, "Invalid model id", id=model)


def invalid_user(**data: Any) -> ApiError:
    return ApiError(400, 300, "Invalid user (invalid user or invalid access key)", **data)


def protected_user() -> ApiError:
    return ApiError(400, 301, "Invalid user id (protected identity)")


def invalid_project_id(project: str) -> ApiError:
    return ApiError(400, 401, "Invalid project id", id=project)


def project_has_tasks(project: str) -> ApiError:
    return ApiError(400, 402, "Project has associated tasks (use force=true to delete)", id=project)


def invalid_queue_id(queue: str) -> ApiError:
    return ApiError(400, 701, "Invalid queue id", id=queue)


def queue_not_empty(queue: str) -> ApiError:
    return ApiError(400, 702, "Queue is not empty (use force=true to delete)", id=queue)


def not_in_queue(queue: str, task: str) -> ApiError:
    return ApiError(400, 703, "Invalid queue id or task not in queue", task=task, id=queue)


def already_queued(task: str) -> ApiError:
    return ApiError(400, 706, "Failed adding task to queue since task is already queued", task=task)


def no_default_queue() -> ApiError:
    return ApiError(400, 707, "No queue is tagged as the default queue for this company")


def data_validation(message: str) -> ApiError:
    return ApiError(400, 800, f"Data validation error ({message})")


def not_unique(**data: Any) -> ApiError:
    return ApiError(400, 801, "Value combination already exists", **data)


def worker_registration_failed(message: str, **data: Any) -> ApiError:
    return ApiError(400, 1002, f"Worker registration failed ({message})", **data)


def bad_auth_type() -> ApiError:
    return ApiError(401, 10, "Unauthorized (bad authentication header type)")


def no_credentials() -> ApiError:
    return ApiError(401, 20, "Unauthorized (missing credentials)")


def invalid_credentials(reason: str = "failed to locate provided credentials") -> ApiError:
    return ApiError(401, 22, f"Unauthorized (invalid credentials) ({reason})")


def invalid_token(reason: str) -> ApiError:
    return ApiError(401, 30, "Invalid token", reason=reason)


def role_not_allowed(role: str) -> ApiError:
    return ApiError(403, 20, "Forbidden (not allowed for role)", role=role)


def tenant_not_allowed(tenant: str) -> ApiError:
    return ApiError(403, 10, "Forbidden (routing error)", tenant=tenant)


def unknown_endpoint(name: str, version: str) -> ApiError:
    return ApiError(404, 0, f"Unable to find endpoint for name {name} and version {version}")


def general_data_error(reason: str) -> ApiError:
    return ApiError(500, 100, "General data error", reason=reason)
