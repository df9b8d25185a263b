"""Builds images into archives in the cache, named by a hash of everything that goes into them.

With a Docker daemon that answers, docker builds from the Dockerfiles' public base. Without one, buildah builds from a
base of our own, made by mmdebstrap. `IMAGE_BUILDER=docker|buildah` chooses; `BASE_IMAGE` names another base.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ci.locks import locked
from ci.paths import ROOT, cache_dir

NAMES = "localhost/clearml-k8s"
PACKAGES = "python3,python3-venv,git,ca-certificates,busybox-static"
# What the image's own apt would use; the build's may be a mirror of this machine.
SOURCES = """\
deb http://deb.debian.org/debian bookworm main
deb http://deb.debian.org/debian bookworm-updates main
deb http://security.debian.org/debian-security bookworm-security main
"""
LIMIT_SECONDS = 1800.0


class ImageError(Exception):
    """An image could not be built; the message shows the end of the builder's output."""


@dataclass(frozen=True)
class Image:
    """An image made of a Dockerfile: the build context, and the files of it that go into the image."""

    context: Path
    inputs: tuple[str, ...]


IMAGES: dict[str, Image | None] = {
    "base": None,
    "controller": Image(
        ROOT / "controller", ("Dockerfile", "pyproject.toml", "requirements*.lock", "src/**/*", "bootstrap/*")
    ),
    "bare": Image(ROOT / "ci/images/bare", ("Dockerfile",)),
    "task": Image(ROOT / "ci/images/task", ("Dockerfile", "requirements.lock")),
}


def reference(name: str) -> str:
    """The image's name, as pods write it."""
    return f"{NAMES}/{name}:dev"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run_program(command: Sequence[str | Path], *, environment: dict[str, str] | None = None) -> str:
    """The program's output; ImageError shows its end when it fails."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=LIMIT_SECONDS, env=environment, check=False)  # fmt: skip
    except FileNotFoundError:
        raise ImageError(f"the program {words[0]} is missing; run ci/tools/apt.sh (Debian)") from None
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-25:])
        raise ImageError(f"failed with exit code {done.returncode}: {' '.join(words)}\n{tail}")
    return done.stdout


def builder() -> str:
    """`docker` when its daemon answers, else `buildah`; or what IMAGE_BUILDER says."""
    chosen = os.environ.get("IMAGE_BUILDER", "")
    if chosen in ("docker", "buildah"):
        return chosen
    if chosen:
        raise ImageError(f"IMAGE_BUILDER={chosen!r}: use docker or buildah")
    if shutil.which("docker"):
        try:
            done = subprocess.run(["docker", "info"], capture_output=True, timeout=10, check=False)
        except subprocess.TimeoutExpired:
            return "buildah"
        return "docker" if done.returncode == 0 else "buildah"
    return "buildah"


def source_files(image: Image) -> list[Path]:
    """The files that go into an image, sorted; without what Python leaves beside its sources."""
    found = {file for pattern in image.inputs for file in image.context.glob(pattern) if file.is_file()}
    return sorted(f for f in found if "__pycache__" not in f.parts and not any(".egg-info" in p for p in f.parts))


def _key(name: str, base: str) -> str:
    digest = hashlib.sha256(f"{name}\0{base}\0".encode())
    image = IMAGES[name]
    if image is None:
        digest.update(f"{PACKAGES}\0{SOURCES}".encode())
    else:
        for file in source_files(image):
            digest.update(f"{file.relative_to(image.context)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def ensure(name: str) -> Path:
    """The archive of the image `name` (OCI by buildah, Docker's by docker); builds it when its inputs changed."""
    kind = builder()
    base = os.environ.get("BASE_IMAGE", "")
    if kind == "buildah" and not base and name != "base":
        base = str(ensure("base"))
    folder = cache_dir() / "images"
    archive = folder / f"{name}-{_key(name, f'{kind} {Path(base).name}')}.tar"
    if not archive.exists():
        with locked(folder / f".{name}.lock", f"the build of the image {name}"):
            if not archive.exists():
                started = time.monotonic()
                say(f"image {name}: building with {kind}")
                _remove_leftovers(folder, name)
                temporary = archive.with_suffix(f".{os.getpid()}.tmp")
                try:
                    _build(name, kind, base, temporary)
                    temporary.rename(archive)
                finally:
                    temporary.unlink(missing_ok=True)
                for old in folder.glob(f"{name}-*.tar"):
                    if old != archive and time.time() - old.stat().st_mtime > 86400:
                        old.unlink(missing_ok=True)
                size = archive.stat().st_size / 1e6
                say(f"image {name}: {size:.0f} MB after {time.monotonic() - started:.0f} s")
    return archive


def _remove_leftovers(folder: Path, name: str) -> None:
    """What a build of the image left that was killed; only with its lock held."""
    for archive in folder.glob(f"{name}-*.tmp"):
        archive.unlink()
    for storage in folder.glob(f".buildah.{name}.*"):
        _remove_storage(storage)


def _build(name: str, kind: str, base: str, archive: Path) -> None:
    image = IMAGES[name]
    if image is None:
        if kind != "buildah":
            raise ImageError("the base image is for buildah; docker uses the Dockerfiles' public base")
        with _buildah(name) as buildah:
            _build_base(buildah, archive)
        return
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        context = work / "context"
        for file in source_files(image):  # only what the cache key covers can get into the image
            target = context / file.relative_to(image.context)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target)
        secrets = [f"--secret=id={key},src={path}" for key, path in _secrets(work).items()]
        if kind == "docker":
            arguments = [f"--build-arg=BASE_IMAGE={base}"] if base else []
            environment = dict(os.environ) | {"DOCKER_BUILDKIT": "1"}
            run_program(
                ["docker", "build", "--tag", reference(name), *arguments, *secrets, context], environment=environment
            )
            run_program(["docker", "save", "--output", archive, reference(name)])
            return
        with _buildah(name) as buildah:
            base_name = base
            if Path(base).is_file():
                base_name = reference("base")
                buildah(["pull", f"oci-archive:{base}"])
                loaded = buildah(["images", "--quiet", "--no-trunc"]).split()
                buildah(["tag", loaded[0], base_name])
            buildah(["build", "--isolation=chroot", "--pull=never" if Path(base).is_file() else "--pull=missing",
                     "--layers=false", f"--build-arg=BASE_IMAGE={base_name}", *secrets,
                     f"--tag={reference(name)}", str(context)])  # fmt: skip
            buildah(["push", reference(name), f"oci-archive:{archive}:{reference(name)}"])


def _build_base(buildah: Callable[[list[str]], str], archive: Path) -> None:
    """Debian with Python and git, for the Dockerfiles where no public registry can be reached."""
    with tempfile.TemporaryDirectory() as folder:
        rootfs = Path(folder) / "rootfs.tar"
        sources = Path(folder) / "sources.list"
        sources.write_text(SOURCES)
        run_program(["mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", f"--customize-hook=upload {sources} "
              "/etc/apt/sources.list", "--customize-hook=rm -f $1/etc/resolv.conf $1/etc/hostname",
              "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/doc/*",
              "--dpkgopt=path-exclude=/usr/share/locale/*", "bookworm", rootfs])  # fmt: skip
        container = buildah(["from", "scratch"]).strip()
        buildah(["add", container, str(rootfs), "/"])
        buildah(["config", "--env=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                 "--cmd=python3", container])  # fmt: skip
        buildah(["commit", "--rm", container, reference("base")])
        buildah(["push", reference("base"), f"oci-archive:{archive}:{reference('base')}"])


@contextmanager
def _buildah(name: str) -> Iterator[Callable[[list[str]], str]]:
    """Runs buildah with a storage of its own that is gone afterwards: the archives are the cache."""
    folder = cache_dir() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    storage = Path(tempfile.mkdtemp(prefix=f".buildah.{name}.", dir=folder))
    options: list[str | Path] = [
        "--root",
        storage / "root",
        "--runroot",
        storage / "run",
        "--storage-driver",
        "overlay",
    ]
    environment = dict(os.environ) | {"BUILDAH_ISOLATION": "chroot", "TMPDIR": str(storage)}
    try:
        yield lambda words: run_program(["buildah", *options, *words], environment=environment)
    finally:
        _remove_storage(storage)


def _remove_storage(storage: Path) -> None:
    subprocess.run(["umount", str(storage / "root/overlay")], capture_output=True, check=False)
    shutil.rmtree(storage, ignore_errors=True)


def _secrets(folder: Path) -> dict[str, Path]:
    """This machine's pip settings and CA bundle as build secrets; readable by us alone, gone after the build."""
    done = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    told = [f":env:.{k[4:].lower().replace('_', '-')}={v}" for k, v in os.environ.items() if k.startswith("PIP_")]
    ask = partial(_pip_setting, done.stdout.splitlines() + told)  # the interpreter may be without pip
    bundle = Path(os.environ.get("PIP_CERT") or ask("cert") or "/etc/ssl/certs/ca-certificates.crt")
    lines = ["[global]"]
    secrets = {}
    if bundle.is_file():
        secrets["ca"] = folder / "ca"
        shutil.copyfile(bundle, secrets["ca"])
        lines.append("cert = /run/secrets/ca")
    for key in ("index-url", "extra-index-url", "trusted-host", "timeout", "retries"):
        if value := ask(key):
            lines.append(f"{key} = {value}")
    secrets["pip-conf"] = folder / "pip-conf"
    secrets["pip-conf"].touch(mode=0o600)
    secrets["pip-conf"].write_text("\n".join(lines) + "\n")
    return secrets


def _pip_setting(lines: list[str], key: str) -> str:
    """A setting from `pip config list`, whose lines are like global.index-url='...'; the environment's wins."""
    found = ""
    for line in lines:
        name, _, value = line.partition("=")
        if name in (f"global.{key}", f"install.{key}", f":env:.{key}"):
            found = value.strip().strip("'\"").replace("\\n", " ")
            if name.startswith(":env:"):
                return found
    return found
