"""Debian's docker-registry: images and charts, plain HTTP, with or without a password."""

from __future__ import annotations

import base64
import json
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from e2e_programs import until

PORT = 5000  # files.render: at the machine's address, the local clusters take this port as plain HTTP
USER, PASSWORD = "somebody", "open-sesame"
HASHED = "$2b$04$abcdefghijklmnopqrstuuXcjcm5avyCiJoD2uS24xa2lb6fjMB3G"  # bcrypt


@dataclass(frozen=True, kw_only=True)
class Registry:
    """One that answers, empty at first."""

    address: str
    folder: Path

    def tags(self, image: str, *, user: tuple[str, str] | None = None) -> list[str]:
        """Of one image or chart; a closed registry asks for ``user``, name and password."""
        request = urllib.request.Request(f"http://{self.address}/v2/{image}/tags/list")
        if user:
            request.add_header("Authorization", f"Basic {base64.b64encode(':'.join(user).encode()).decode()}")
        with _OPENER.open(request, timeout=10) as answer:
            found: list[str] = json.load(answer)["tags"]
            return found


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@contextmanager
def registry(host: str, folder: Path, *, closed: bool = False) -> Iterator[Registry]:
    """Serves at ``host``:PORT, with its files in ``folder``; a closed one wants USER and PASSWORD."""
    config = folder / "registry.yml"
    storage = {"filesystem": {"rootdirectory": str(folder / "registry")}}
    document = {"version": 0.1, "storage": storage, "http": {"addr": f"{host}:{PORT}"}}
    if closed:
        users = folder / "users"
        users.write_text(f"{USER}:{HASHED}\n")
        document["auth"] = {"htpasswd": {"realm": "test", "path": str(users)}}
    config.write_text(yaml.safe_dump(document))
    with (folder / "registry.log").open("w") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log)
    try:

        def answers() -> bool:
            assert process.poll() is None, (folder / "registry.log").read_text()
            try:
                _OPENER.open(f"http://{host}:{PORT}/", timeout=5).close()
            except OSError:
                return False
            return True

        until("the registry answers", answers, poll=0.1)
        yield Registry(address=f"{host}:{PORT}", folder=folder)
    finally:
        process.kill()
        process.wait()
