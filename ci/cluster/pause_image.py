"""The sandbox image of pods as an OCI archive, made from our own static program without any image tool."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path
from typing import Any

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def _tar(files: dict[str, bytes], mode: int = 0o644) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), mode
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def write(program: Path, image: str, archive: Path) -> None:
    """Writes the OCI archive of an image with nothing but `program` in it; the same bytes for the same program."""
    machine = platform.machine()
    layer = _tar({"pause": program.read_bytes()}, 0o755)
    blobs: dict[str, bytes] = {}

    def blob(content: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {
            "mediaType": f"application/vnd.oci.image.{media_type}",
            "digest": f"sha256:{digest}",
            "size": len(content),
        }

    def document(value: dict[str, Any]) -> bytes:
        return json.dumps(value, sort_keys=True).encode()

    config = {
        "architecture": ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(document(config), "config.v1+json"),
        "layers": [blob(layer, "layer.v1.tar")],
    }
    entry = blob(document(manifest), "manifest.v1+json")
    entry["annotations"] = {"io.containerd.image.name": image, "org.opencontainers.image.ref.name": image}
    blobs["index.json"] = document({"schemaVersion": 2, "manifests": [entry]})
    blobs["oci-layout"] = document({"imageLayoutVersion": "1.0.0"})
    archive.write_bytes(_tar(blobs))
