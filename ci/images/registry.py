"""`IMAGE_REGISTRY`: images go through a registry, for clusters into which nothing can be loaded.

`IMAGE_REGISTRY_TLS_VERIFY=false` is for one that speaks plain HTTP or has a certificate of its own. Credentials are
those of the user's `skopeo login` or `docker login`.
"""

from __future__ import annotations

import os
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path

from .build import ImageError, reference, run_program

# A first part without a dot or a port would be an account at Docker Hub.
_PATH = r"(localhost|[a-z0-9-]+(\.[a-z0-9-]+)+|[a-z0-9.-]+(?=:))(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*"
_HINTS = {
    r"unauthorized|denied|authentication": "log in: skopeo login {host}",
    r"HTTP response to HTTPS|certificate|x509": "plain HTTP, unknown certificate: IMAGE_REGISTRY_TLS_VERIFY=false",
}


@dataclass(frozen=True, kw_only=True)
class Registry:
    """Where images are pushed, and pods pull them from: `path` is HOST[:PORT][/PATH]."""

    path: str
    tls_verify: bool

    def name(self, image: str, archive: Path) -> str:
        """As pods write it; the tag tells what is in the image, so that no node runs an older one."""
        return f"{self.path}/{image}:{archive.stem.rpartition('-')[2]}"

    def push(self, image: str, archive: Path) -> str:
        """Pushes what the registry has not yet; the image's name. Raises ImageError."""
        name = self.name(image, archive)
        verify = f"--dest-tls-verify={str(self.tls_verify).lower()}"
        source = f"{_transport(archive)}:{archive}"
        try:
            run_program(["skopeo", "--insecure-policy", "copy", "--quiet", verify, source, f"docker://{name}"])
        except ImageError as error:
            host = self.path.partition("/")[0]
            hints = [text.format(host=host) for words, text in _HINTS.items() if re.search(words, str(error))]
            raise ImageError("\n".join([f"the image {name} could not be pushed: {error}", *hints])) from None
        return name


def _transport(archive: Path) -> str:
    """skopeo's word for the archive: newer versions of docker write both forms into one."""
    try:
        with tarfile.open(archive) as tar:
            return "docker-archive" if "manifest.json" in tar.getnames() else "oci-archive"
    except (OSError, tarfile.TarError) as error:
        raise ImageError(f"{archive} is no image archive: {error}") from error


def chosen() -> Registry | None:
    """What IMAGE_REGISTRY says; None when it is not set. Raises ImageError for what is no registry."""
    path = os.environ.get("IMAGE_REGISTRY", "")
    if not path:
        return None
    if not re.fullmatch(_PATH, path):
        shown = f"...@{path.rpartition('@')[2]}" if "@" in path else path
        raise ImageError(
            f"IMAGE_REGISTRY={shown!r}: write HOST[:PORT][/PATH] in lower case, without https://, tag or password; "
            "for example registry.example.com/path (Docker Hub: docker.io/ACCOUNT)"
        )
    verify = os.environ.get("IMAGE_REGISTRY_TLS_VERIFY", "") or "true"
    if verify not in ("true", "false"):
        raise ImageError(f"IMAGE_REGISTRY_TLS_VERIFY={verify!r}: write true or false")
    return Registry(path=path, tls_verify=verify == "true")


def pod_name(image: str, archive: Path) -> str:
    """The image's name as pods write it: in the registry, or as it is loaded into a cluster."""
    registry = chosen()
    return registry.name(image, archive) if registry else reference(image)
