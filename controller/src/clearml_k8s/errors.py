"""The tree of errors.

A call to either API is *answered* (the function returns), *refused* (`Refused`: certainly not done) or ends in *doubt*
(`Unanswered`: nobody knows). Who calls must know which; nothing else may be raised for what the other side did.
Texts never echo objects or secrets: bodies are cut to `TEXT_LIMIT` characters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_REQUEST_SECONDS: Final = 20.0
"""No request of ours lasts longer than this, to either API: the base of every grace period.

A shorter grace makes the limit shorter (`settings.Settings.request_seconds`)."""

TEXT_LIMIT: Final = 256


def trimmed(text: str, *, limit: int = TEXT_LIMIT) -> str:
    """``text`` on one line and at most ``limit`` characters long."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


class ClearMLK8sError(Exception):
    """The root of everything this package raises on purpose."""


class ConfigError(ClearMLK8sError):
    """What the operator wrote cannot work: the text names the thing, what was found and what to write instead."""


class SpecError(ClearMLK8sError):
    """No Job can be made of this task with this template: the text names the setting. Another try cannot help."""


class Refused(ClearMLK8sError):
    """Certainly not done: the other side said no, or the request never left."""


class Unanswered(ClearMLK8sError):
    """Doubt: the request was sent, and whether it was done is not known."""


class Unreachable(Refused):
    """No connection (name, route, refused, TLS, proxy), so the request was not sent.

    ``service`` is "ClearML" or "Kubernetes", ``address`` the URL without path.
    """

    def __init__(self, service: str, address: str, why: str) -> None:
        self.service = service
        self.address = address
        self.why = trimmed(why)
        super().__init__(f"{service} API at {address} cannot be reached: {self.why}")


class HookUnavailable(Refused):
    """The administrator's own code cannot be called: whatever task it is for."""


class NotSent(Refused):
    """The deadline had passed before the request was sent."""


# ---- ClearML -------------------------------------------------------------------------------------------------------


class ApiRefused(Refused):
    """The ClearML server refused: HTTP status ``code`` (a 4xx), its ``subcode``, its ``message``, the ``endpoint``."""

    def __init__(self, endpoint: str, code: int, subcode: int, message: str) -> None:
        self.endpoint = endpoint
        self.code = code
        self.subcode = subcode
        self.message = trimmed(message)
        super().__init__(f"{endpoint}: {code}/{subcode} {self.message}")


class AuthRefused(ApiRefused):
    """401: the credentials are wrong, or were revoked."""


class Forbidden(ApiRefused):
    """403: these credentials' role may not do this."""


class OwnerRefused(ApiRefused):
    """Asked for a token of another user, the server gave one that is not his."""


class NotFound(ApiRefused):
    """The task or queue does not exist (400/101, 400/701, 400/131)."""


class NotSupported(ApiRefused):
    """404: this server does not have the endpoint, or not in this version."""


class InvalidStatus(ApiRefused):
    """400/110: the task's status does not allow this."""


class ApiUnanswered(Unanswered):
    """Doubt about a ClearML call: ``code`` is the HTTP status (408 or 5xx), or None for a time-out or lost reply."""

    def __init__(self, endpoint: str, message: str, *, code: int | None = None, subcode: int = 0) -> None:
        self.endpoint = endpoint
        self.code = code
        self.subcode = subcode
        self.message = trimmed(message)
        status = "no answer" if code is None else f"{code}/{subcode}"
        super().__init__(f"{endpoint}: {status}: {self.message}")


# ---- Kubernetes ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Cause:
    """One entry of a Status' ``details.causes``: what is wrong with which field; long values are left out."""

    field: str
    reason: str
    message: str


class KubeRefused(Refused):
    """The Kubernetes API refused.

    ``code`` HTTP status, ``reason`` the Status' reason word ("NotFound", "Invalid", ...), ``message`` its text,
    ``retry_after`` seconds it asked to wait or None, ``causes`` which fields are wrong, ``call`` method and path.
    """

    def __init__(
        self,
        call: str,
        code: int,
        reason: str,
        message: str,
        *,
        retry_after: float | None = None,
        causes: tuple[Cause, ...] = (),
    ) -> None:
        self.call = call
        self.code = code
        self.reason = reason
        self.message = trimmed(message)
        self.retry_after = retry_after
        self.causes = causes
        super().__init__(f"{call}: {code} {reason}: {self.message}")


class KubeUnauthorized(KubeRefused):
    """401: the token or certificate is not accepted."""


class KubeForbidden(KubeRefused):
    """403: RBAC, an admission plugin or a ResourceQuota; see `quota_exceeded`."""

    @property
    def quota_exceeded(self) -> bool:
        """True when a ResourceQuota refused, which passes; RBAC does not."""
        return "exceeded quota" in self.message

    @property
    def lacks_right_to_create(self) -> bool:
        """True when RBAC refused a create; an admission plugin says something else."""
        return "cannot create resource" in self.message


class KubeNotFound(KubeRefused):
    """404."""


class KubeConflict(KubeRefused):
    """409: the object was changed meanwhile, or a precondition (uid, resourceVersion) does not hold."""


class KubeAlreadyExists(KubeConflict):
    """409 AlreadyExists: an object of this name is there."""


class KubeExpired(KubeRefused):
    """410: the resourceVersion or the continue token is too old: list again."""


class KubeInvalid(KubeRefused):
    """422 (and 400): the object is not valid; sending it again cannot help."""


class KubeThrottled(KubeRefused):
    """429: too many requests; honour ``retry_after``."""


class KubeUnanswered(Unanswered):
    """Doubt about a Kubernetes call: ``code`` is the HTTP status (5xx), or None for a time-out or lost reply."""

    def __init__(self, call: str, message: str, *, code: int | None = None, retry_after: float | None = None) -> None:
        self.call = call
        self.code = code
        self.retry_after = retry_after
        self.message = trimmed(message)
        super().__init__(f"{call}: {'no answer' if code is None else code}: {self.message}")


class Fenced(ClearMLK8sError):
    """Another instance of the controller holds the claim record: this one must stop taking tasks at once."""


class RecordFull(Refused):
    """The claim record has no room for more claims (a ConfigMap holds 1 MiB)."""
