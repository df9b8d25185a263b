"""``server.*``, ``debug.*``, ``users.*`` and ``organization.*``: what clients ask for before they start to work."""

from __future__ import annotations

from typing import Any

from .auth import Auth
from .registry import Call, endpoint
from .settings import API_VERSION, COMMIT, Settings
from .store import Store, new_id


class ServerService:
    def __init__(self, settings: Settings, store: Store, auth: Auth) -> None:
        self._settings = settings
        self._auth = auth
        self._store = store
        self._uid = new_id()

    @endpoint("server.info")
    def info(self, call: Call) -> dict[str, Any]:
        answer = {"version": self._settings.server_version, "build": "", "commit": COMMIT}
        if call.version >= (2, 12):
            answer["api_version"] = ".".join(map(str, API_VERSION))
        elif call.version >= (2, 8):
            answer["uid"] = self._uid
        return answer

    @endpoint("server.config", roles=("system", "root", "admin"))
    def config(self, call: Call) -> dict[str, Any]:
        return {"edition": self._settings.edition}

    @endpoint("debug.ping", authorize=False)
    def ping(self, call: Call) -> dict[str, Any]:
        return {"msg": "ClearML development server"}

    @endpoint("users.get_current_user")
    def get_current_user(self, call: Call) -> dict[str, Any]:
        return {
            "user": {
                "id": call.identity.user,
                "name": call.identity.user_name,
                "role": call.identity.role,
                "company": {"id": call.identity.company, "name": call.identity.company_name},
            }
        }

    @endpoint("users.get_all")
    def get_all_users(self, call: Call) -> dict[str, Any]:
        return {
            "users": [{"id": call.identity.user, "name": call.identity.user_name, "company": call.identity.company}]
        }

    @endpoint("users.get_vaults", enterprise=True)
    def get_vaults(self, call: Call) -> dict[str, Any]:
        """Those of whoever calls, as an administrator has written them."""
        user = call.identity.user
        texts = enumerate(self._auth.vaults.get(user, []))
        fixed = {"scope": "user", "enabled": True, "type": "config"}
        return {"vaults": [{"id": f"{user}-{number}", "data": text, **fixed} for number, text in texts]}

    @endpoint("organization.get_tags", since="2.8")
    def get_tags(self, call: Call) -> dict[str, Any]:
        return {"tags": sorted({tag for task in self._store.tasks for tag in task["tags"]})}
