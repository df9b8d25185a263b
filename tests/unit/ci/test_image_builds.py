"""Building images: an archive counts once it is whole, and a build that was killed leaves nothing for ever."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from ci.paths import ROOT

# `push` writes the archive; half of it when it is to wait.
BUILDAH = """
case "$*" in *" push "*) ;; *) exit 0 ;; esac
for last; do :; done
archive=${last#oci-archive:}
archive=${archive%%:*}
printf half >"$archive"
[ -z "$WAIT" ] || { touch "$WAIT"; while [ -e "$WAIT" ]; do sleep 0.05; done; }
printf whole >"$archive"
"""


def test_a_build_that_was_killed_half_way_is_made_again(machine, tmp_path: Path) -> None:
    machine.program("buildah", does=BUILDAH)
    cache, waiting = tmp_path / "cache", tmp_path / "waiting"
    settings = {"CLEARML_K8S_CACHE": str(cache), "IMAGE_BUILDER": "buildah", "BASE_IMAGE": "registry.example.com/base"}
    command = [sys.executable, "-m", "ci.images", "task"]
    environment = machine.environment({**settings, "WAIT": str(waiting)})
    first = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 30
        while not waiting.exists():
            assert time.monotonic() < end, machine.calls
            time.sleep(0.02)
    finally:
        first.kill()
        first.wait()
        waiting.unlink(missing_ok=True)
    assert not list((cache / "images").glob("*.tar"))
    done = machine.python("ci.images", "task", **settings, WAIT="")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).read_text() == "whole"
    left = {file.name for file in (cache / "images").iterdir()} - {Path(done.stdout.strip()).name, ".task.lock"}
    assert not left
