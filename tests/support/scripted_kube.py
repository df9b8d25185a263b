"""A little Kubernetes API server on loopback: a few resources in memory, a watch, and faults as the test wants them."""

import asyncio
import copy
import json
from dataclasses import dataclass, field

from aiohttp import web


@dataclass
class Fault:
    """What happens to one request instead of the ordinary answer (``after``: the request is carried out first)."""

    code: int = 0
    status: dict | None = None
    headers: dict = field(default_factory=dict)
    text: str | None = None
    drop: bool = False
    stall: bool = False
    after: bool = False


@dataclass
class Seen:
    """One request as received."""

    method: str
    path: str
    query: dict
    body: object
    headers: dict


def status(code, reason, message="", **details):
    """A Status object."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "code": code,
        "reason": reason,
        "message": message,
        "details": details,
    }


class Cluster:
    """Objects by path of their collection; watches get what changes, and what the test pushes."""

    def __init__(self):
        self.objects = {}
        self.version = 100
        self.seen = []
        self.faults = []
        self.tokens = None
        self.watches = []
        self.watch_faults = []
        self.history = []
        self.oldest = 0
        self.on_list = None
        self.groups = {"batch": ("v1",)}
        self.server = None
        self._held = asyncio.Event()

    # ---- for the test -------------------------------------------------------------------------------------------

    @property
    def url(self):
        return str(self.server.make_url("")).rstrip("/")

    def fault(self, method, *faults, path=""):
        """The next requests with this method (and this text in the path) end so."""
        self.faults += [(method, path, fault) for fault in faults]

    def of(self, method, path=""):
        """The requests with this method and this text in the path; watches apart."""
        return [s for s in self.seen if s.method == method and path in s.path and "watch" not in s.query]

    def watched(self):
        """The watch requests."""
        return [s for s in self.seen if "watch" in s.query]

    def put(self, collection, name, **parts):
        """Add or change an object, as another client would."""
        objects = self.objects.setdefault(collection, {})
        old = objects.get(name)
        meta = {"name": name, "uid": old["metadata"]["uid"] if old else f"uid-{self.version + 1}"}
        thing = {"metadata": {**meta, **parts.pop("metadata", {})}, **parts}
        objects[name] = thing
        self._bump(collection, thing, "MODIFIED" if old else "ADDED")
        return thing

    def drop(self, collection, name):
        thing = self.objects[collection].pop(name)
        self._bump(collection, thing, "DELETED")

    def push(self, raw):
        """Send raw bytes to all open watches."""
        for queue in self.watches:
            queue.put_nowait(raw)

    def bookmark(self):
        thing = {"kind": "Job", "metadata": {"resourceVersion": str(self.version)}}
        self.push(json.dumps({"type": "BOOKMARK", "object": thing}).encode() + b"\n")

    def end_watches(self):
        """Close the open watches, as the API server does after their time."""
        for queue in self.watches:
            queue.put_nowait(None)

    def compact(self):
        """Forget all history: older versions are 410."""
        self.version += 1
        self.oldest = self.version
        self.history.clear()

    def release(self):
        self._held.set()

    async def watching(self, count=1):
        """Wait (at most 5 s) until ``count`` watches were opened in all and one is open."""
        async with asyncio.timeout(5):
            while len(self.watched()) < count or not self.watches:
                await asyncio.sleep(0.001)

    # ---- the server ---------------------------------------------------------------------------------------------

    def _bump(self, collection, thing, kind):
        self.version += 1
        thing["metadata"]["resourceVersion"] = str(self.version)
        event = (self.version, collection, kind, copy.deepcopy(thing))
        self.history.append(event)
        line = json.dumps({"type": kind, "object": thing}).encode() + b"\n"
        for queue in self.watches:
            if queue.collection == collection:
                queue.put_nowait(line)

    async def handle(self, request):
        raw = await request.read()
        body = json.loads(raw) if raw else None
        seen = Seen(request.method, request.path, dict(request.query), body, dict(request.headers))
        self.seen.append(seen)
        if self.tokens is not None and request.headers.get("Authorization") not in self.tokens:
            return web.json_response(status(401, "Unauthorized", "Unauthorized"), status=401)
        fault = self._fault(seen)
        if fault is not None:
            if fault.after:
                self._answer(seen)
            if fault.stall:
                await self._held.wait()
            if fault.drop:
                request.transport.abort()
                return web.Response()
            if fault.text is not None:
                return web.Response(status=fault.code, text=fault.text, headers=fault.headers)
            if fault.code:
                return web.json_response(fault.status or {}, status=fault.code, headers=fault.headers)
        if "watch" in seen.query:
            return await self._watch(request, seen)
        code, answer = self._answer(seen)
        return web.json_response(answer, status=code)

    def _fault(self, seen):
        if "watch" in seen.query:
            return self.watch_faults.pop(0) if self.watch_faults else None
        for index, (method, path, fault) in enumerate(self.faults):
            if method == seen.method and path in seen.path:
                del self.faults[index]
                return fault
        return None

    def _answer(self, seen):
        if seen.path == "/apis":
            groups = [{"name": n, "versions": [{"version": v} for v in found]} for n, found in self.groups.items()]
            return 200, {"kind": "APIGroupList", "groups": groups}
        parts = seen.path.strip("/").split("/")
        at = 3 if parts[0] == "apis" else 2
        if len(parts) > at + 2 and parts[at] == "namespaces":
            at += 2
        collection, name = parts[at], parts[at + 1] if len(parts) > at + 1 else None
        objects = self.objects.setdefault(collection, {})
        if collection == "selfsubjectaccessreviews":
            allowed = seen.body["spec"]["resourceAttributes"]["verb"] != "delete"
            return 201, {**seen.body, "status": {"allowed": allowed, "reason": "RBAC" if allowed else ""}}
        if seen.method == "POST":
            return self._create(collection, objects, seen)
        if name is None:
            return self._list(objects, seen)
        if name not in objects:
            return 404, status(404, "NotFound", f'{collection} "{name}" not found', name=name, kind=collection)
        if seen.method == "PATCH":
            return self._patch(collection, objects[name], seen)
        if seen.method == "DELETE":
            wanted = (seen.body or {}).get("preconditions", {}).get("uid")
            if wanted and wanted != objects[name]["metadata"]["uid"]:
                return 409, status(409, "Conflict", "the UID in the precondition does not match")
            self.drop(collection, name)
            return 200, {"kind": "Status", "status": "Success"}
        return 200, objects[name]

    def _create(self, collection, objects, seen):
        name = seen.body["metadata"]["name"]
        if name in objects:
            return 409, status(409, "AlreadyExists", f'{collection} "{name}" already exists')
        thing = copy.deepcopy(seen.body)
        thing["metadata"]["uid"] = f"uid-{self.version + 1}"
        if "dryRun" not in seen.query:
            objects[name] = thing
            self._bump(collection, thing, "ADDED")
        return 201, thing

    def _patch(self, collection, thing, seen):
        wanted = seen.body.get("metadata", {}).get("resourceVersion")
        if wanted is not None and wanted != thing["metadata"]["resourceVersion"]:
            return 409, status(409, "Conflict", "the object has been modified")

        def merge(target, patch):
            for key, value in patch.items():
                if value is None:
                    target.pop(key, None)
                elif isinstance(value, dict):
                    merge(target.setdefault(key, {}), value)
                else:
                    target[key] = value

        merge(thing, seen.body)
        self._bump(collection, thing, "MODIFIED")
        return 200, thing

    def _list(self, objects, seen):
        if self.on_list:
            self.on_list()
        limit, start = int(seen.query.get("limit", 0)), int(seen.query.get("continue", 0))
        if start and start < self.oldest:
            return 410, status(410, "Expired", "the provided continue parameter is too old")
        names = sorted(objects)
        page = names[start : start + limit] if limit else names
        meta = {"resourceVersion": str(self.version)}
        if limit and start + limit < len(names):
            meta["continue"] = str(start + limit)
        return 200, {"kind": "List", "metadata": meta, "items": [objects[n] for n in page]}

    async def _watch(self, request, seen):
        since = int(seen.query["resourceVersion"])
        if since < self.oldest:
            gone = {"type": "ERROR", "object": status(410, "Expired", "too old resource version")}
            return web.Response(text=json.dumps(gone) + "\n")
        queue = asyncio.Queue()
        queue.collection = request.path.rstrip("/").rsplit("/", 1)[1]
        for version, collection, kind, thing in self.history:
            if version > since and collection == queue.collection:
                queue.put_nowait(json.dumps({"type": kind, "object": thing}).encode() + b"\n")
        self.watches.append(queue)
        response = web.StreamResponse()
        try:
            await response.prepare(request)
            while (raw := await queue.get()) is not None:
                await response.write(raw)
        except ConnectionError:
            return response
        finally:
            self.watches.remove(queue)
        return response
