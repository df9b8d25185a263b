"""Names of projects: tasks carry their ids alone."""

from __future__ import annotations

import logging
from typing import Final

from clearml_k8s.clearml.session import Session
from clearml_k8s.errors import ApiUnanswered, Refused, Unanswered

log = logging.getLogger(__name__)

MOST: Final = 1000

FRESH_SECONDS: Final = 60.0
"""How long a name counts; then it is read again, as anybody may have changed it."""


class ProjectNames:
    """Remembers each for a while."""

    def __init__(self, *, session: Session) -> None:
        self._session = session
        self._names: dict[str, tuple[str, float]] = {}

    async def of(self, project: str | None) -> str:
        """As `read`; "" also when it cannot be read now, which is logged."""
        try:
            return await self.read(project)
        except (Refused, Unanswered) as error:
            log.warning("the name of project %s cannot be read: %s", project, error)
            return ""

    async def read(self, project: str | None) -> str:
        """The project's name as a path, "a/b"; "" of one that there is not. Errors as `Session.call`."""
        if not project:
            return ""
        now = self._session.clock.monotonic()
        name, at = self._names.get(project, ("", -FRESH_SECONDS))
        if project not in self._names or now - at >= FRESH_SECONDS:
            body: dict[str, object] = {"id": [project], "only_fields": ["id", "name"]}
            data = await self._session.call("projects.get_all", body, read=True)
            found = data.get("projects")
            if not isinstance(found, list):
                raise ApiUnanswered("projects.get_all", "the answer holds no list of projects")
            first = found[0] if found else {}
            given = first.get("name") if isinstance(first, dict) else None
            name = given if isinstance(given, str) else ""
            if len(self._names) >= MOST:
                self._names.clear()
            self._names[project] = (name, now)
        return name
