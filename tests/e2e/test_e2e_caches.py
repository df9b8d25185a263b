"""The recipe "Caches that pods share" of docs/customisation.md: two pods at one time, and what a killed one leaves.

The claim is a folder of the node. A repository is fetched, a package built of sources, an environment made.
"""

from __future__ import annotations

import functools
import http.server
import io
import re
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import e2e_index
import pytest
from clearml_server.process import DevServer
from e2e_programs import Helm, Kubectl, values_for
from recipes import recipes

QUEUE = "training"
LIMIT = 420.0
PROJECT = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "built"
version = "1"
[tool.setuptools]
py-modules = ["built"]
"""
SCRIPT = "import built, humanize\nprint('it runs with', built.ANSWER, humanize.intword(10**9), flush=True)\n"
MEETS = """\
touch /caches/met-$CLEARML_K8S_TASK_ID
while ! { set -- /caches/met-*; [ $# -ge 2 ]; }; do sleep 0.1; done
echo "both are there"
"""
"""A setup script that waits for the other pod's, so that both agents start at one time."""
BREAKS = "for folder in /caches/vcs/*/*/.git; do : >$folder/HEAD; : >$folder/packed-refs.lock; done\n"
"""What is left of a repository whose pod was killed while it fetched."""


@pytest.fixture(scope="module")
def sources(index: e2e_index.PackageIndex, host: str, folder: Path) -> Iterator[e2e_index.PackageIndex]:
    """An index that has a package as sources alone, too."""
    packages = folder / "packages"
    shutil.copytree(e2e_index.fetch_wheels(), packages)
    with tarfile.open(packages / "built-1.tar.gz", "w:gz") as archive:
        for name, text in (("pyproject.toml", PROJECT), ("built.py", "ANSWER = 42\n")):
            entry = tarfile.TarInfo(f"built-1/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    with e2e_index.PackageIndex(packages, host=host) as served:
        yield served


@pytest.fixture(scope="module")
def repository(host: str, folder: Path) -> Iterator[str]:
    """The URL of a git repository with the script."""
    git = functools.partial(subprocess.run, check=True, capture_output=True, cwd=folder)
    served = folder / "served"
    git(["git", "init", "--quiet", "--initial-branch", "main", "source"])
    (folder / "source/run.py").write_text(SCRIPT)
    git(["git", "-C", "source", "add", "run.py"])
    git(["git", "-C", "source", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "first"])
    git(["git", "clone", "--quiet", "--bare", "source", served / "work.git"])
    git(["git", "-C", served / "work.git", "update-server-info"])
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(served))
    with http.server.ThreadingHTTPServer((host, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://{host}:{server.server_port}/work.git"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def kubectl(namespaces: Any, folder: Path) -> Iterator[Kubectl]:
    """With the recipe's claim."""
    made: Kubectl = namespaces()
    size = {"storage": "1Gi"}
    same: dict[str, Any] = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    host_path = {"path": str(folder / "claim"), "type": "DirectoryOrCreate"}
    volume = {"capacity": size, "hostPath": host_path, "persistentVolumeReclaimPolicy": "Retain", **same}
    claim = {"resources": {"requests": size}, "volumeName": made.namespace, **same}
    made.apply(
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": made.namespace}, "spec": volume},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "caches"}, "spec": claim},
    )
    yield made
    made("delete", "persistentvolume", made.namespace, "--wait=false")


@pytest.fixture(scope="module")
def helm(kubectl: Kubectl, server: DevServer, sources: e2e_index.PackageIndex, folder: Path) -> Iterator[Helm]:
    release = Helm("caches", kubectl.namespace)
    queues = recipes()["Caches that pods share"]["agentk8sglue"]["queues"]
    quick = {"name": "CLEARML_AGENT_QUEUE_POLL_FREQ_SEC", "value": "1"}
    queues[QUEUE]["templateOverrides"]["env"] += [*sources.environment(), quick]
    keys = {"url": server.url, "access_key": server.access_key, "secret_key": server.secret_key}
    release.upgrade(values_for(queues=queues, **keys), folder)
    yield release
    release.uninstall()


def enqueued(server: DevServer, repository: str, setup: str = "") -> str:
    """A task of the repository; by the server's API, as the SDK would clone it here first."""
    script = {
        "repository": repository,
        "branch": "main",
        "entry_point": "run.py",
        "working_dir": ".",
        "binary": "python3",
        "requirements": {"pip": "built==1\nhumanize==4.13.0"},
    }
    return server.create_task("caches", queue=QUEUE, script=script, container={"setup_shell_script": setup})


def console(server: DevServer, task: str) -> str:
    """Of a task that has completed."""
    found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=LIMIT)
    text = server.console(task)
    assert found["status"] == "completed", text
    assert re.search(r"it runs with 42 1\.0 billion", text), text
    return text


@pytest.mark.long
def test_two_pods_at_one_time_and_what_a_killed_one_leaves(
    helm: Helm, kubectl: Kubectl, server: DevServer, repository: str
) -> None:
    both = [enqueued(server, repository, MEETS) for _ in range(2)]
    for text in [console(server, task) for task in both]:
        assert "Adding venv into cache: " in text
    text = console(server, enqueued(server, repository))
    assert "::: Using Cached environment /caches/venvs/" in text
    assert 'Using cached repository in "/caches/vcs/' in text
    text = console(server, enqueued(server, repository, BREAKS))
    assert "pulling git failed, re-cloning" in text
    assert "Using cached repository in" in console(server, enqueued(server, repository))
