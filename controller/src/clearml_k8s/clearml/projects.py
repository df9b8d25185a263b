"""Names of projects: tasks carry their ids alone."""

from __future__ import annotations

import logging
from typing import Final

from clearml_k8s.clearml.session import Session
from clearml_k8s.errors import Refused, Unanswered

log = logging.getLogger(__name__)

MOST: Final = 1000


class ProjectNames:
    """Looks each up once; a name that was changed since is seen after a restart."""

    def __init__(self, *, session: Session) -> None:
        self._session = session
        self._names: dict[str, str] = {}

    async def of(self, project: str | None) -> str:
        """The project's name as a path, "a/b"; "" when it cannot be read now, which is logged."""
        if not project:
            return ""
        if project not in self._names:
            body: dict[str, object] = {"id": [project], "only_fields": ["id", "name"]}
            try:
                data = await self._session.call("projects.get_all", body, read=True)
            except (Refused, Unanswered) as error:
                log.warning("the name of project %s cannot be read: %s", project, error)
                return ""
            found = data.get("projects")
            first = found[0] if isinstance(found, list) and found else {}
            name = first.get("name") if isinstance(first, dict) else None
            if len(self._names) >= MOST:
                self._names.clear()
            self._names[project] = name if isinstance(name, str) else ""
        return self._names[project]
