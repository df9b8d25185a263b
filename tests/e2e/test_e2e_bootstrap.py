"""Start-up without the internet: an image that is a shell, nobody's number, nothing to write on, no package index.

The namespace enforces the Pod Security Standard "restricted". A web server whose certificate is of its own authority
stands for a company's: a git repository is fetched from it.
"""

from __future__ import annotations

import http.server
import json
import re
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import e2e_programs as programs
import pytest
from clearml_server.process import DevServer
from e2e_programs import BARE_IMAGE, TASK_IMAGE, Helm, Kubectl, controller_pod, values_for
from e2e_tasks import NewTask, enqueue

LIMIT = 180.0
NO_INDEX = [
    # Nothing listens there: whoever asks an index fails, and says so.
    {"name": "PIP_INDEX_URL", "value": "http://127.0.0.1:9/simple"},
    {"name": "PIP_RETRIES", "value": "0"},
    {"name": "CLEARML_AGENT_QUEUE_POLL_FREQ_SEC", "value": "1"},
]
RESTRICTED = {
    "podSecurityContext": {"runAsNonRoot": True, "runAsUser": 4242, "runAsGroup": 4242},
    "containerSecurityContext": {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    },
    "env": NO_INDEX,
}
TELLS = """\
import json, os, platform, subprocess, sys, urllib.request
def git(*words):
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout.strip()
url = os.environ["COMPANY"]
git("clone", "--quiet", "--recursive", url + "/repository.git", os.path.expanduser("~/clone"))
print("FOUND", json.dumps({
    "uid": os.getuid(),
    "base": sys.base_prefix,
    "venv": sys.prefix,
    "home": os.path.expanduser("~"),
    "cloned": open(os.path.expanduser("~/clone/file")).read(),
    "fetched": urllib.request.urlopen(url + "/plain").read().decode(),
}), flush=True)
"""
WHERE = "import sys; print('FOUND', '{\"base\": \"%s\"}' % sys.base_prefix, flush=True)\n"
TRUSTED = """\
import os, ssl, urllib.request
context = ssl.create_default_context(cafile=os.environ["REQUESTS_CA_BUNDLE"])
print(len(context.get_ca_certs()) > 50, urllib.request.urlopen("{url}/plain", context=context).read())
"""


@dataclass(frozen=True)
class Company:
    """A web server below `url`, and the certificate of the authority that its own is from."""

    url: str
    authority: str


def certified(folder: Path, host: str) -> Path:
    """A certificate of `host` and its key in one file, beside the authority's own (authority.pem)."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    names = f"subjectAltName=IP:{host}"
    authority = ("-keyout", "authority.key", "-out", "authority.pem", "-subj", "/CN=company")
    own = ("-CA", "authority.pem", "-CAkey", "authority.key", "-keyout", "own.key", "-out", "own.pem")
    for words in (authority, (*own, "-subj", f"/CN={host}", "-addext", names, "-addext", "basicConstraints=CA:FALSE")):
        command = ["openssl", "req", "-x509", *key, "-days", "2", *words]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text((folder / "own.key").read_text() + (folder / "own.pem").read_text())
    return both


@pytest.fixture(scope="module")
def company(host: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    folder = tmp_path_factory.mktemp("company")
    served = folder / "served"
    git = partial(subprocess.run, check=True, capture_output=True, cwd=folder)
    git(["git", "init", "--quiet", "source"])
    (folder / "source/file").write_text("of the repository")
    git(["git", "-C", "source", "add", "file"])
    git(["git", "-C", "source", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "first"])
    git(["git", "clone", "--quiet", "--bare", "source", served / "repository.git"])
    git(["git", "-C", served / "repository.git", "update-server-info"])
    (served / "plain").write_text("trusted")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certified(folder, host))
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(served))
    with http.server.ThreadingHTTPServer((host, 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Company(f"https://{host}:{server.server_port}", (folder / "authority.pem").read_text())
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def kubectl(namespaces: Any) -> Kubectl:
    made: Kubectl = namespaces()
    made("label", "namespace", made.namespace, "pod-security.kubernetes.io/enforce=restricted")
    programs.load_image("bare")
    return made


@pytest.fixture(scope="module")
def helm(kubectl: Kubectl, server: DevServer, company: Company, folder: Path) -> Iterator[Helm]:
    release = Helm("boot", kubectl.namespace)
    values = values_for(
        url=server.url,
        access_key=server.access_key,
        secret_key=server.secret_key,
        queues={
            "shell": {"templateOverrides": {"env": [*NO_INDEX, {"name": "COMPANY", "value": company.url}]}},
            # Debian's Python, without the agent, which this image has elsewhere.
            "debian": {"templateOverrides": {"env": [*NO_INDEX, {"name": "PATH", "value": "/usr/bin:/bin"}]}},
        },
        base=RESTRICTED,
    )
    values["agentk8sglue"]["defaultContainerImage"] = BARE_IMAGE
    values["bootstrap"] = {"enabled": True}
    values["customCertificates"] = {
        "extraCerts": [{"alias": "company", "pem": company.authority}],
        "propagateToTasks": True,
    }
    release.upgrade(values, folder)
    yield release
    release.uninstall()


def told(server: DevServer, task: str) -> dict[str, Any]:
    """What the script has printed, once the task is completed."""
    found = server.wait_for_status(task, "completed", "failed", "stopped", timeout=LIMIT)
    console = server.console(task)
    assert found["status"] == "completed", console
    assert "Connection refused" not in console, "nobody asks the index"
    line = re.search(r"FOUND (\{.*\})", console)
    assert line, console
    result: dict[str, Any] = json.loads(line[1])
    return result


def test_an_image_that_is_a_shell(helm: Helm, kubectl: Kubectl, server: DevServer) -> None:
    (task,) = enqueue(server.environment(), NewTask(name="shell", queue="shell", script=TELLS))
    found = told(server, task)
    assert found.pop("venv").startswith("/clearml-k8s-work/home/.clearml/")
    assert found == {
        "uid": 4242,
        "base": "/clearml-k8s/python",
        "home": "/clearml-k8s-work/home",
        "cloned": "of the repository",
        "fetched": "trusted",
    }
    kubectl.gone(task)


def test_the_images_own_python_is_the_tasks(helm: Helm, kubectl: Kubectl, server: DevServer) -> None:
    new = NewTask(name="debian", queue="debian", script=WHERE, docker=TASK_IMAGE)
    (task,) = enqueue(server.environment(), new)
    assert told(server, task) == {"base": "/usr"}
    kubectl.gone(task)


def test_the_controller_trusts_the_same(helm: Helm, kubectl: Kubectl, company: Company) -> None:
    pod = controller_pod(kubectl, helm)["metadata"]["name"]
    said = kubectl("exec", pod, "-c", "controller", "--", "python3", "-c", TRUSTED.replace("{url}", company.url))
    assert said.split() == ["True", "b'trusted'"]
