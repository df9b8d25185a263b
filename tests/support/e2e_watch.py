"""What became of a task's pods and Job, after they are gone: a watch by kubectl, the API server's audit log."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from chaos_kube import AuditLog
from e2e_programs import Helm, Kubectl, until

from ci.cluster.choice import current_chosen


class Audit:
    """Who made and deleted Jobs in one namespace, from now on."""

    def __init__(self, kubectl: Kubectl) -> None:
        if current_chosen():
            pytest.skip("switched off by CLUSTER=current: needs the API server's audit log")
        self._log = AuditLog(Path(os.environ["CLUSTER_AUDIT_LOG"]), namespaces=(kubectl.namespace,))

    def made(self, task: str) -> list[str]:
        """The uid of each Job that was made for the task, in order."""
        return [job.uid for job in self._log.jobs() if job.task == task]

    def in_doubt(self) -> set[str]:
        """Names of Jobs whose create got an error after which it may be done all the same."""
        return {
            event["objectRef"].get("name", "")
            for event in self._log.events()
            if event["objectRef"].get("resource") == "jobs"
            and event["verb"] == "create"
            and event["responseStatus"].get("code", 500) >= 500
        }

    def deleted_by(self, task: str) -> list[str]:
        """The user of each delete of the task's Job that was carried out."""
        return [
            event["user"]["username"]
            for event in self._log.events()
            if event["objectRef"].get("resource") == "jobs"
            and event["objectRef"].get("name") == f"clearml-id-{task}"
            and event["verb"] == "delete"
            and event["responseStatus"].get("code") == 200
        ]


def account(helm: Helm) -> str:
    """The controller's user, as the API server knows it."""
    return f"system:serviceaccount:{helm.namespace}:{helm.fullname}-controller"


class PodStates:
    """All states of a task's pods that a watch was told of, as JSON texts one after the other in a file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def all(self) -> Iterator[dict[str, Any]]:
        text, at, decoder = self._file.read_text(), 0, json.JSONDecoder()
        while (at := text.find("{", at)) >= 0:
            try:
                state, at = decoder.raw_decode(text, at)
            except ValueError:  # still being written
                return
            yield state

    def exit_codes(self) -> set[int]:
        """Of the task's container."""
        ends = (
            status.get("state", {}).get("terminated")
            for state in self.all()
            for status in state.get("status", {}).get("containerStatuses", [])
        )
        return {end["exitCode"] for end in ends if end}

    def grace_periods(self) -> set[int]:
        """Seconds that the pods were given to end; 0 is the kubelet's own last word on a pod that has ended."""
        found = (state["metadata"].get("deletionGracePeriodSeconds") for state in self.all())
        return {seconds for seconds in found if seconds}


@contextmanager
def watched(kubectl: Kubectl, task: str, folder: Path) -> Iterator[PodStates]:
    """The states of the task's pods while the block runs, from the present one on."""
    file = folder / f"pods-of-{task}.json"
    words = ("--namespace", kubectl.namespace, "get", "pods", "--selector", f"clearml-task-id={task}")
    with file.open("w") as sink, subprocess.Popen(["kubectl", *words, "--watch", "--output=json"], stdout=sink) as told:
        try:
            states = PodStates(file)
            until("the watch shows the pod", lambda: next(states.all(), None), limit=30)
            yield states
        finally:
            told.terminate()
