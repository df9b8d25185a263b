"""Canaries in every input of a task that may be secret: in its own Job's environment, and nowhere that we write."""

import base64
import dataclasses
import json
import logging
from urllib.parse import quote

import pytest
from clearml_k8s.kube.slim import slim_pod
from clearml_k8s.kube.watch import Upsert
from clearml_k8s.logs import JsonFormatter, PlainFormatter, Redactor
from hostile import written
from reconcile_loop import ENDED, Loop
from scripted_kube import Fault, status

SECRET = "c4n4ry\"$(A)'\\/é+="
QUOTED = "'" + SECRET.replace("'", "'\"'\"'") + "'"
ARGUMENTS = {
    "well written": f"-e TOKEN={QUOTED}",
    "the name forgotten": f"-e {QUOTED}",
    "glued": f"-e{QUOTED} -v{QUOTED}:/path -u{QUOTED}",
    "another option's": f"--password={QUOTED} --build-arg KEY={QUOTED} --token {QUOTED}",
    "an option itself": f"-{QUOTED} --{QUOTED}",
    "belongs to nothing": QUOTED,
    "quotes do not match": f"-e TOKEN={SECRET}",
    "a name that is none": f"-e 1A={QUOTED}",
}


def assert_untold(texts):
    for where, text in texts.items():
        found = [way for way in written(SECRET) if way in text]
        assert not found, f"{where}: {text}"


@pytest.fixture
def lines(caplog):
    """All that was logged, on level DEBUG, as both formats write it."""
    caplog.set_level(logging.DEBUG)

    def text():
        formatters = (PlainFormatter(Redactor()), JsonFormatter(Redactor()))
        return "\n".join(f.format(record) for f in formatters for record in caplog.records)

    return text


@pytest.mark.parametrize("arguments", ARGUMENTS.values(), ids=ARGUMENTS)
@pytest.mark.parametrize("refused", [False, True], ids=["taken", "refused"])
async def test_what_a_task_gives_is_told_nobody(side, server, cluster, lines, arguments, refused):
    container = {"image": "python:3.11", "arguments": arguments, "setup_shell_script": f"export KEY={QUOTED}"}
    task = server.create_task(queue="default", container=container)
    if refused:
        value = f'Invalid value: "{SECRET * 10}"'
        causes = [{"field": "spec.template.spec.containers[0].env[9].value", "message": f"{value}: too long"}]
        answer = status(422, "Invalid", f"Job is invalid: {value}: too long", causes=causes)
        cluster.fault("POST", Fault(code=422, status=answer), Fault(code=422, status=answer), path="jobs")
    if await side.poll():
        loop = Loop(side)
        loop.pod(task, dataclasses.replace(ENDED, message="out of memory"), phase="Failed")
        await loop.looks(task)
    await side.teller.flush()

    row = server.task(task)
    told = {
        "log": lines(),
        "console": server.console(task),
        "status": f"{row['status_reason']} {row['status_message']}",
        "record and other objects": str({k: v for k, v in cluster.objects.items() if k != "jobs"}),
        "states": str(side.served.states),
        "properties": str(row["hyperparams"]["properties"]),
    }
    assert told["log"]
    assert told["console"]
    assert_untold(told)


async def test_the_jobs_of_a_task_hold_it_in_the_environment_alone(side, server):
    task = server.create_task(queue="default", container={"image": "a", "arguments": f"-e TOKEN={QUOTED}"})
    await side.poll()
    (job,) = side.created(task)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container.pop("env")
    assert_untold({"Job": str(job)})


def printed(secret, script):
    """What a setup script shows of it, and of the variables that a Secret gives, before it fails."""
    return "\n".join(
        [
            "clearml-k8s: running the task's setup script",
            f"TOKEN={secret}",
            f"declare -x TOKEN={json.dumps(secret)}",
            f"+ python -c {secret!r}",
            f"environ({{'HOME': '/root', 'TOKEN': {secret!r}}})",
            base64.b64encode(secret.encode()).decode(),
            quote(secret, safe=""),
            f"CLEARML_K8S_SETUP_SCRIPT={script}",
            "CLEARML_API_SECRET_KEY=c4n4ry-of-the-tasks",
            "environ({'CLEARML_API_SECRET_KEY': 'c4n4ry-of-the-tasks'})",
            "clearml-k8s: ended with exit code 3 while running the task's setup script",
        ]
    )


async def test_a_log_that_shows_it_does_not_bring_it_to_the_console(side, server, cluster, lines):
    """By value what the pod's own environment says; by its name what only a Secret says."""
    script = f"export API_KEY={QUOTED}\nenv; exit 3\n"
    container = {"image": "a", "arguments": f"-e TOKEN={QUOTED}", "setup_shell_script": script}
    task = server.create_task(queue="default", container=container)
    await side.poll()
    loop = Loop(side)
    ended = {"exitCode": 3, "reason": "Error", "message": f"TOKEN={SECRET}", "finishedAt": "2026-01-01T00:00:00Z"}
    (job,) = side.created(task)
    template = job["spec"]["template"]
    owner = {"kind": "Job", "uid": loop.job(task).uid}
    pod = {
        "metadata": {**template["metadata"], "name": "p", "uid": "p-1", "ownerReferences": [owner]},
        "spec": {**template["spec"], "nodeName": "n"},
        "status": {"phase": "Failed", "containerStatuses": [{"name": "task", "state": {"terminated": ended}}]},
    }
    cluster.objects["pods"] = {"p": pod}
    loop.pods.apply(Upsert(item=slim_pod(pod)))
    cluster.fault("GET", Fault(code=200, text=printed(SECRET, script)), path="/log")
    await loop.looks(task)
    await side.teller.flush()
    console = server.console(task)
    row = server.task(task)
    assert "ended with exit code 3 while running" in console
    assert row["status"] == "failed"
    told = {"console": console, "log": lines(), "status": f"{row['status_reason']} {row['status_message']}"}
    assert_untold(told)
    assert "c4n4ry" not in console


async def test_a_log_whose_secrets_are_not_known_is_not_shown(side, server, cluster):
    task = server.create_task(queue="default", container={"image": "a"})
    await side.poll()
    loop = Loop(side)
    loop.pod(task, ENDED, phase="Failed")
    cluster.fault("GET", Fault(code=403, status=status(403, "Forbidden", "not allowed")), path="/pods")
    await loop.looks(task)
    await side.teller.flush()
    assert cluster.of("GET", "/log") == []
    assert "The log of the pod is not shown" in server.console(task)
    assert f"kubectl -n ns logs clearml-id-{task}-x --all-containers" in server.console(task)
    assert server.task(task)["status"] == "failed"
