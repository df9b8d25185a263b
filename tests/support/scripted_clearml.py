"""A little ClearML API server on loopback that does what the test tells it to."""

import asyncio
import base64
import contextlib
import json
from dataclasses import dataclass, field
from random import Random

from aiohttp import web
from clearml_k8s.clearml.keys import Credentials
from clearml_k8s.clearml.session import Session

ACCESS, SECRET = "ACCESSKEY1234", "s3cr3t-key-of-the-test"


def jwt(**claims):
    """An unsigned token with these claims, in the server's shape."""

    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'HS256'})}.{part(claims)}.sig"


@dataclass
class Call:
    """One request as received."""

    endpoint: str
    path: str
    body: object
    auth: str
    content_type: str
    host: str = ""
    proxy_auth: str = ""


@dataclass
class Reply:
    """What to do with one request: answer, drop the connection, or hold it."""

    data: dict = field(default_factory=dict)
    code: int = 200
    subcode: int = 0
    message: str = "OK"
    raw: str | None = None
    headers: dict = field(default_factory=dict)
    drop: bool = False
    stall: bool = False


class Api:
    """Answers from a script per endpoint; the last reply of a script stays."""

    def __init__(self):
        self.calls = []
        self.scripts = {}
        self.tokens = {}
        self.logins = 0
        self.life = 30 * 86400
        self.feature_set = "basic"
        self.version = "2.3.0"
        self.server = None
        self.arrived = asyncio.Event()
        self._held = asyncio.Event()

    def script(self, endpoint, *replies):
        """Have the endpoint answer with these; a callable gets the body and returns a Reply."""
        self.scripts[endpoint] = list(replies)

    def of(self, endpoint):
        """The bodies sent to the endpoint."""
        return [call.body for call in self.calls if call.endpoint == endpoint]

    async def handle(self, request):
        raw = await request.read()
        endpoint = request.path.rsplit("/", 1)[1]
        if request.content_type == "application/json-lines":
            body = [json.loads(line) for line in raw.splitlines()]
        else:
            body = json.loads(raw)
        auth = request.headers.get("Authorization", "")
        call = Call(endpoint, request.path, body, auth, request.headers.get("Content-Type", ""))
        call.host = request.host
        call.proxy_auth = request.headers.get("Proxy-Authorization", "")
        self.calls.append(call)
        self.arrived.set()
        reply = self.reply(call)
        if reply.stall:
            await self._held.wait()
        if reply.drop:
            request.transport.abort()
            return web.Response()
        if reply.raw is not None:
            return web.Response(status=reply.code, text=reply.raw, content_type="text/html", headers=reply.headers)
        meta = {"result_code": reply.code, "result_subcode": reply.subcode, "result_msg": reply.message}
        return web.json_response({"meta": meta, "data": reply.data}, status=reply.code, headers=reply.headers)

    def reply(self, call):
        script = self.scripts.get(call.endpoint)
        if call.endpoint == "auth.login" and not script:
            return self.login(call)
        if call.endpoint != "auth.login" and call.auth.removeprefix("Bearer ") not in self.tokens:
            return Reply(code=401, subcode=30, message="Unauthorized (invalid token) (reason=unknown)")
        if not script:
            return Reply(code=404, message=f"Unable to find endpoint for name {call.endpoint} and version 2.34")
        reply = script.pop(0) if len(script) > 1 else script[0]
        return reply(call.body) if callable(reply) else reply

    def login(self, call):
        wanted = "Basic " + base64.b64encode(f"{ACCESS}:{SECRET}".encode()).decode()
        if call.auth != wanted:
            return Reply(
                code=401,
                subcode=22,
                message="Unauthorized (invalid credentials)",
            )
        self.logins += 1
        token = jwt(
            iat=1_800_000_000,
            exp=1_800_000_000 + self.life,
            session_id=str(self.logins),
            feature_set=self.feature_set,
            api_version="2.34",
            server_version=self.version,
            identity={"user": "u1", "company": "c1", "role": "admin"},
        )
        self.tokens[token] = self.logins
        return Reply(data={"token": token})

    def revoke(self):
        """No token given so far is valid any more."""
        self.tokens.clear()

    def release(self):
        """Let the held requests go on."""
        self._held.set()

    @property
    def url(self):
        return str(self.server.make_url("")).rstrip("/")


def make_session(url, clock, meters=None, *, secret=SECRET, guard=lambda: None):
    credentials = Credentials(access_key=ACCESS, secret_key=secret, source="the test")
    return Session(api_server=url, credentials=credentials, clock=clock, metrics=meters, random=Random(7), guard=guard)


@contextlib.asynccontextmanager
async def started(coroutine, api, calls):
    """The coroutine as a task, once the server has received ``calls`` requests; at most 5 s."""
    task = asyncio.create_task(coroutine)
    try:
        async with asyncio.timeout(5):
            while len(api.calls) < calls:
                api.arrived.clear()
                await api.arrived.wait()
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
