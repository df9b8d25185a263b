"""What tests ask of a running development server: ClearML calls, faults, down times, and what happened.

Only the standard library is used here.
"""

from __future__ import annotations

import base64
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

# proxies set for the machine must not come between a test and its own server
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class CallFailed(Exception):
    """An answer other than 200: ``code``, ``subcode``, ``message`` as in the server's ``meta``."""

    def __init__(self, endpoint: str, code: int, subcode: int, message: str) -> None:
        self.endpoint, self.code, self.subcode, self.message = endpoint, code, subcode, message
        super().__init__(f"{endpoint}: {code}/{subcode} {message}")


class RemoteServer:
    """A development server that is reached at ``control_url``, which a subclass sets once it knows it."""

    def __init__(self, *, access_key: str, secret_key: str) -> None:
        self.access_key = access_key
        self.secret_key = secret_key
        self.control_url = ""

    # ---- the ClearML API

    def call(
        self, endpoint: str, /, *, timeout: float = 30.0, keys: tuple[str, str] | None = None, **data: Any
    ) -> dict[str, Any]:
        """``data`` of the answer to a POST, sent over the control port (so it works while the API is down).

        It is subject to faults as every other call; keep tests' own calls out of rules by ``client``: they send the
        header ``X-Client-Name: test``. ``keys``: of others than the server's own account. :class:`CallFailed` for any
        answer but 200.
        """
        pair = base64.b64encode(":".join(keys or (self.access_key, self.secret_key)).encode()).decode()
        headers = {"Authorization": f"Basic {pair}", "X-Client-Name": "test"}
        status, body = _send("POST", f"{self.control_url}/{endpoint}", data, headers, timeout)
        meta = body.get("meta", {})
        if status != 200:
            raise CallFailed(endpoint, status, meta.get("result_subcode", 0), meta.get("result_msg", str(body)))
        found = body["data"]
        assert isinstance(found, dict)
        return found

    def create_task(self, name: str = "test task", *, queue: str | None = None, **fields: Any) -> str:
        """Id of a new task, enqueued to ``queue`` (a name; made if there is none) if given."""
        task: str = self.call("tasks.create", **{"name": name, "type": "training", **fields})["id"]
        if queue is not None:
            self.call("tasks.enqueue", task=task, queue_name=queue)
        return task

    def create_queue(self, name: str, **fields: Any) -> str:
        queue: str = self.call("queues.create", name=name, **fields)["id"]
        return queue

    def queue_id(self, name: str) -> str:
        found = self.call("queues.get_all", name=f"^{re.escape(name)}$", only_fields=["name"])["queues"]
        if not found:
            raise CallFailed("queues.get_all", 200, 0, f"no queue is named {name}")
        queue: str = found[0]["id"]
        return queue

    def entries(self, queue_id: str) -> list[str]:
        """Ids of the tasks in the queue, in order."""
        return [entry["task"] for entry in self.call("queues.get_by_id", queue=queue_id)["queue"]["entries"]]

    def task(self, task_id: str) -> dict[str, Any]:
        found = self.call("tasks.get_by_id", task=task_id)["task"]
        assert isinstance(found, dict)
        return found

    def console(self, task_id: str) -> str:
        """The task's console so far, in order of time."""
        events = self.call("events.get_task_log", task=task_id, navigate_earlier=False, batch_size=10000)["events"]
        return "\n".join(event.get("msg", "") for event in events)

    def wait_for_status(self, task_id: str, *statuses: str, timeout: float) -> dict[str, Any]:
        """The task, once it has one of the statuses. ``TimeoutError`` names what it had instead."""
        found: dict[str, Any] = {}

        def reached() -> bool:
            nonlocal found
            found = self.task(task_id)
            return found["status"] in statuses

        try:
            wait_for(reached, timeout=timeout)
        except TimeoutError as error:
            state = f"{found.get('status')}, {found.get('status_reason')!r}, {found.get('status_message')!r}"
            raise TimeoutError(
                f"task {task_id} not {' or '.join(statuses)} within {timeout} s; it is {state}"
            ) from error
        return found

    # ---- faults and down times

    def add_fault(self, **rule: Any) -> int:
        """See the README for the fields. The id of the rule."""
        fault: int = self._dev("POST", "faults", rule)["ids"][0]
        return fault

    def clear_faults(self, fault: int | None = None) -> None:
        self._dev("DELETE", "faults" if fault is None else f"faults?id={fault}")

    def faults(self) -> list[dict[str, Any]]:
        """The rules, with ``seen`` and ``hits``."""
        rules: list[dict[str, Any]] = self._dev("GET", "faults")["rules"]
        return rules

    def elasticsearch(
        self,
        *,
        probability: float = 0.0,
        delay: tuple[float, float] = (0.0, 0.0),
        count: int | None = None,
        seed: int = 0,
    ) -> None:
        """Failing or slow writes of queue metrics, after the database change; without arguments: well again."""
        self._dev("POST", "elasticsearch", {"probability": probability, "delay": delay, "count": count, "seed": seed})

    def down(self, *, mode: str = "refuse", seconds: float | None = None) -> None:
        """``refuse`` connections, ``close`` them, or answer ``503``; for ``seconds`` or until :meth:`up`."""
        self._dev("POST", "down", {"mode": mode, "seconds": seconds})

    def up(self) -> None:
        self._dev("POST", "up")

    def advance_clock(self, seconds: float) -> None:
        """The server's time jumps forward: tokens age, workers fall silent."""
        self._dev("POST", "clock", {"advance": seconds})

    def revoke_tokens(self) -> None:
        """Every session token given so far is refused with 401/30 from now on."""
        self._dev("POST", "revoke", {"tokens": "all"})

    def revoke_credentials(self, access_key: str) -> None:
        self._dev("POST", "revoke", {"access_key": access_key})

    def add_credentials(
        self, *, user: str = "developer", role: str = "user", protected: bool = False, **more: Any
    ) -> tuple[str, str]:
        """A new access key and its secret; the user is made if there is none. ``more``: ``company``,
        ``service_account_type``."""
        made = self._dev("POST", "credentials", {"user": user, "role": role, "protected": protected, **more})
        return made["access_key"], made["secret_key"]

    def set_vaults(self, user: str, *vaults: str) -> None:
        """What `users.get_vaults` gives this user: texts in HOCON."""
        self._dev("POST", "vaults", {"user": user, "vaults": vaults})

    # ---- what happened

    def calls(self, *, since: int = 0, endpoint: str | None = None, task: str | None = None) -> list[dict[str, Any]]:
        """All records after number ``since`` whose endpoint matches the regular expression (``calllog.CallRecord``)."""
        return list(self.iterate_calls(since=since, endpoint=endpoint, task=task))

    def iterate_calls(
        self, *, since: int = 0, endpoint: str | None = None, task: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """As :meth:`calls`, a page at a time."""
        while True:
            query = {"since": since, **({"endpoint": endpoint} if endpoint else {}), **({"task": task} if task else {})}
            page = self._dev("GET", f"calls?{urllib.parse.urlencode(query)}")
            yield from page["calls"]
            if page["last"] <= since:
                return
            since = page["last"]

    def last_call(self) -> int:
        """The number of the newest record, to be given as ``since`` later."""
        number: int = self.counters()["calls"]
        return number

    def counters(self) -> dict[str, Any]:
        return self._dev("GET", "counters")

    def state(self) -> dict[str, Any]:
        """Tasks by status, queues with their number of entries, workers, calls in flight."""
        return self._dev("GET", "state")

    def cluster_reports(self) -> dict[str, Any]:
        """Enterprise edition: by key and worker the last ``workers.cluster_report`` whose time is not over."""
        reports: dict[str, Any] = self._dev("GET", "cluster_reports")["reports"]
        return reports

    def limit_calls(self, limit: int | None) -> None:
        """Keep only about that many records from now on."""
        self._dev("POST", "calls/limit", {"limit": limit})

    def reset(self) -> None:
        """Forget tasks, queues, workers, events, faults and the call log; the clock and tokens stay."""
        self._dev("POST", "reset")

    def bulk_tasks(self, count: int, *, queue: str | None = None, **task: Any) -> list[str]:
        """Ids of ``count`` new tasks, enqueued to ``queue`` (id or name) if given, in one call."""
        made = self._dev("POST", "bulk_tasks", {"count": count, "queue": queue, "task": task})
        ids: list[str] = made["ids"]
        return ids

    def _dev(self, method: str, path: str, data: Any = None) -> dict[str, Any]:
        status, body = _send(method, f"{self.control_url}/_dev/{path}", data, {}, 60.0)
        if status != 200:
            raise CallFailed(f"_dev/{path}", status, 0, body.get("error", str(body)))
        return body


def wait_for(condition: Callable[[], bool], *, timeout: float, poll: float = 0.05) -> None:
    """``TimeoutError`` if the condition is not true within ``timeout`` seconds."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"the condition did not become true within {timeout} s")
        time.sleep(poll)


def _send(method: str, url: str, data: Any, headers: dict[str, str], timeout: float) -> tuple[int, dict[str, Any]]:
    body = None if data is None else json.dumps(data).encode()
    if body is not None:
        headers = {**headers, "Content-Type": "application/json"}
    request = urllib.request.Request(url, data=body, headers=headers, method=method)
    try:
        with _opener.open(request, timeout=timeout) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            text = error.read()
        try:
            return error.code, json.loads(text)
        except ValueError:
            return error.code, {"error": text.decode(errors="replace")}
