"""An admission webhook that refuses everything, as an administrator's own program may: HTTPS, on one address."""

from __future__ import annotations

import base64
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """Where it is, and the certificate by which it is known (base64 of PEM)."""

    url: str
    ca_bundle: str


@asynccontextmanager
async def refusing(*, host: str, folder: Path, said: str) -> AsyncIterator[Webhook]:
    """It answers every review with a no and ``said``; its certificate, of the address ``host``, is in ``folder``."""
    key, certificate = folder / "webhook.key", folder / "webhook.crt"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=webhook", "-addext", f"subjectAltName=IP:{host}"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )

    async def review(request: web.Request) -> web.Response:
        asked = await request.json()
        response = {"uid": asked["request"]["uid"], "allowed": False, "status": {"code": 403, "message": said}}
        return web.json_response({"apiVersion": asked["apiVersion"], "kind": asked["kind"], "response": response})

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    app = web.Application()
    app.router.add_post("/", review)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, 0, ssl_context=context).start()
        port = runner.addresses[0][1]
        yield Webhook(url=f"https://{host}:{port}/", ca_bundle=base64.b64encode(certificate.read_bytes()).decode())
    finally:
        await runner.cleanup()
