"""Images in the cluster's containerd, without any registry."""

from __future__ import annotations

import json
import tarfile
import tempfile
from pathlib import Path

from . import pause_image
from .errors import ClusterError
from .layout import Layout
from .shell import run


def _ctr(layout: Layout, *words: str, limit: float = 60) -> str:
    return run(["ctr", "--address", layout.containerd_socket, "--namespace", "k8s.io", *words], limit=limit)


def images(layout: Layout) -> dict[str, str]:
    """Digest of each image in containerd, by name."""
    lines = _ctr(layout, "images", "list").splitlines()[1:]
    return {line.split()[0]: line.split()[2] for line in lines if len(line.split()) > 2}


def archive_images(archive: Path) -> dict[str, str] | None:
    """Digest of each named image of an OCI archive; None for another kind of archive."""
    try:
        with tarfile.open(archive) as tar:
            file = tar.extractfile("index.json")
            index = json.load(file) if file else {}
    except KeyError:
        return None
    except (OSError, tarfile.TarError, ValueError) as error:
        raise ClusterError(f"{archive} is no image archive: {error}") from error
    found = {}
    for entry in index.get("manifests", []):
        notes = entry.get("annotations", {})
        name = notes.get("io.containerd.image.name") or notes.get("org.opencontainers.image.ref.name")
        if name:
            found[name] = entry["digest"]
    return found


def load(layout: Layout, archive: Path) -> list[str]:
    """Imports an OCI or Docker archive, unless it is there already; the names of its images, empty when unknown."""
    wanted = archive_images(archive)
    if wanted:
        there = images(layout)
        if all(there.get(name) == digest for name, digest in wanted.items()):
            return sorted(wanted)
    _ctr(layout, "images", "import", str(archive), limit=300)
    return sorted(wanted or {})


def ensure_pause(layout: Layout, program: Path, image: str) -> None:
    """Imports the sandbox image when containerd does not have it."""
    if image not in images(layout):
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "pause.tar"
            pause_image.write(program, image, archive)
            load(layout, archive)
