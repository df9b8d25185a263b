"""A minimal files server below ``/_files``: upload by POST (multipart), download by GET."""

from __future__ import annotations

import urllib.parse

from aiohttp import BodyPartReader, web

from .store import Store


class FileStore:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def handle(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        """An uploaded part named ``a/b`` is found below ``/_files/a/b``. 404 for what is not there."""
        if request.method == "POST":
            paths: list[str] = []
            async for part in await request.multipart():
                if isinstance(part, BodyPartReader):
                    name = urllib.parse.unquote(part.name or part.filename or "").strip("/")
                    self._store.files[name] = bytes(await part.read(decode=True))
                    paths.append(f"/{name}")
            return web.json_response(",".join(paths))
        content = self._store.files.get(urllib.parse.unquote(path).strip("/"))
        if content is None:
            return web.Response(status=404)
        return web.Response(body=content, content_type="application/octet-stream")
