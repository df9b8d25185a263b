"""Programs of other people's machines (kind, minikube, skopeo, kubectl, go), faked: they note how they were called."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from ci.paths import ROOT

SETTINGS = ("CLUSTER", "CLUSTER_NAME", "CLUSTER_HOST_IP", "KUBECONFIG", "IMAGE_REGISTRY", "IMAGE_REGISTRY_TLS_VERIFY")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A folder that is alone on PATH beside the system's own programs, and a file of calls."""

    bin: Path
    calls_file: Path

    def program(self, name: str, *, does: str = "") -> None:
        """A program that writes its name and arguments down, then does what the shell lines say."""
        path = self.bin / name
        path.write_text(f'#!/bin/sh\necho {name} "$@" >>"$CALLS"\n{does}\n')
        path.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        return self.calls_file.read_text().splitlines() if self.calls_file.exists() else []

    def environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        """This process' own, without its cluster, with the settings."""
        kept = {name: value for name, value in os.environ.items() if name not in SETTINGS}
        path = os.pathsep.join([str(self.bin), str(Path(sys.executable).parent), "/usr/bin", "/bin"])
        return {**kept, "PATH": path, "CALLS": str(self.calls_file), **settings}

    def python(self, *words: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
        """`python -m WORDS` in the checkout, with the settings in the environment."""
        command = [sys.executable, "-m", *map(str, words)]
        environment = self.environment(settings)
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    folder = tmp_path / "bin"
    folder.mkdir()
    return Machine(bin=folder, calls_file=tmp_path / "calls")
