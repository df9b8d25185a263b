"""`clearml-k8s status`: what a running controller says of itself, as a page of text or as JSON."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TextIO

from clearml_k8s.clock import moment
from clearml_k8s.errors import ClearMLK8sError, ConfigError
from clearml_k8s.health import PORT

TIMEOUT_SECONDS: Final = 10.0
MOST_BYTES: Final = 8 * 1024 * 1024
_COUNTS: Final = ("waiting", "taking", "pending", "running", "ending", "placesLeft")
_CLEAR_SCREEN: Final = "\x1b[H\x1b[2J"


class StatusUnknown(ClearMLK8sError):
    """Nobody answered, or it was no controller."""


def default_address(environ: Mapping[str, str] = os.environ) -> str:
    """That of the controller in the same pod."""
    return f"http://127.0.0.1:{environ.get('CLEARML_K8S_PORT') or PORT}"


def run(*, address: str, as_json: bool, watch_seconds: float | None, out: TextIO) -> int:
    """Print the state once, or again and again until interrupted; 1 when something is wrong with what is shown.

    Raises ConfigError for an address that is none, StatusUnknown when there is no answer and it is asked once.
    """
    while True:
        try:
            document = read(address)
        except StatusUnknown as error:
            if watch_seconds is None:
                raise
            # It is started anew, perhaps, or another pod leads now.
            print(f"{datetime.now(UTC):%H:%M:%S} {error}", file=out, flush=True)
            time.sleep(watch_seconds)
            continue
        if watch_seconds is not None and not as_json and out.isatty():
            out.write(_CLEAR_SCREEN)
        text = json.dumps(document, indent=2) if as_json else "\n".join(page(document))
        print(text, file=out, flush=True)
        if watch_seconds is None:
            return 0 if well(document) else 1
        time.sleep(watch_seconds)


def read(address: str) -> dict[str, Any]:
    """The document behind ``/status`` at this address."""
    url = address.rstrip("/") + "/status"
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"--address: found {address!r}; expected a URL as in {default_address({})}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=TIMEOUT_SECONDS) as reply:
            found = json.loads(reply.read(MOST_BYTES))
    except urllib.error.HTTPError as error:
        raise StatusUnknown(
            f"{url} answers {error.code}: is it a controller of this version? --address names another"
        ) from error
    except ValueError as error:
        raise StatusUnknown(f"{url} does not answer with the state of a controller: {error}") from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise StatusUnknown(
            f"no controller answers at {url} ({reason}): run this in its pod (kubectl exec deploy/NAME -- clearml-k8s "
            f"status), or forward its port first (kubectl port-forward deploy/NAME {PORT})"
        ) from error
    if not isinstance(found, dict) or "state" not in found:
        raise StatusUnknown(f"{url} does not answer with the state of a controller")
    return found


def well(document: Mapping[str, Any]) -> bool:
    """Whether it serves, or is a standby, and nothing that somebody has to mend stops a queue."""
    if str(document["state"]).startswith("standby"):
        return True
    serving = document["state"] == "serving" and document.get("clearml", {}).get("state") == "healthy"
    serving = serving and document["kubernetes"]["known"] is True
    return serving and not any(queue.get("problem") for queue in document.get("queues", ()))


def page(document: Mapping[str, Any]) -> Iterator[str]:
    """The lines for people."""
    yield f"{'controller':<12}{document['state']}"
    if str(document["state"]).startswith("standby"):
        pod, namespace = str(document.get("leader") or "").rpartition("_")[0], document.get("namespace")
        yield f"{'':<12}ask the leader: kubectl -n {namespace} exec {pod} -- clearml-k8s status"
        return
    yield f"{'release':<12}{document.get('release')} in namespace {document.get('namespace')}"
    if "clearml" not in document:
        return
    yield f"{'worker':<12}{document.get('worker')}"
    server = document["clearml"]
    reason = f": {server['reason']}" if server["reason"] else ""
    yield f"{'ClearML':<12}{server['address']} {server['state']}{reason}"
    cluster = document["kubernetes"]
    yield f"{'Kubernetes':<12}" + ("what exists is known" if cluster["known"] else f"unknown: {cluster['reason']}")
    polled = document["secondsSinceLastPoll"]
    for subject in ("nodes", "dashboard"):
        if document[subject]:
            yield f"{subject:<12}{document[subject]}"
    yield f"{'queues':<12}" + ("not read yet" if polled is None else f"read {polled} s ago")
    yield ""
    yield from table(
        ["QUEUE", "WAITING", "TAKING", "PENDING", "RUNNING", "ENDING", "LEFT", "STATE"],
        [
            [
                queue["name"] or queue["key"],
                *("-" if queue[key] is None else str(queue[key]) for key in _COUNTS),
                "; ".join([queue["reason"] or "served", *queue["hints"]]),
            ]
            for queue in document["queues"]
        ],
    )
    yield from in_use(document)
    names = {queue["id"]: queue["name"] for queue in document["queues"] if queue["id"]}
    now = moment(str(document["at"])) or datetime.now(UTC)
    for title, key in (("Waiting for the cluster:", "waiting"), ("Left alone for now:", "leftAlone")):
        if document[key]:
            yield ""
            yield title
        for task in document[key]:
            began = moment(task.get("since", ""))
            waited = f", {_words(now - began)}" if began else ""
            yield f"  {task['task']} ({names.get(task['queue'], task['queue'])}{waited}): {task['why']}"
        if document[f"{key}More"]:
            yield f"  and {document[f'{key}More']} more"


def in_use(document: Mapping[str, Any]) -> Iterator[str]:
    """The limits of which something is used."""
    every = [("all", document["limits"]), *((queue["name"], queue["limits"]) for queue in document["queues"])]
    rows = [
        [one["limit"], str(queue), *(_amount(one["limit"], one[key]) for key in ("used", "most")), one["setting"]]
        for queue, limits in every
        for one in limits
        if one["used"]
    ]
    if rows:
        yield ""
        yield from table(["LIMIT", "QUEUE", "USED", "OF", "SET BY"], rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Left-aligned columns, as wide as they must be."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head) - 1)]
    for row in [head, *rows]:
        yield "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])


def _amount(name: str, value: float) -> str:
    """ "8", "2.5", of memory and storage "1.5Gi"; never with an exponent."""
    unit = ""
    if "memory" in name or "storage" in name:
        for larger in ("Ki", "Mi", "Gi", "Ti"):
            if value >= 1024:
                value, unit = value / 1024, larger
    return f"{value:.3f}".rstrip("0").rstrip(".") + unit


def _words(length: timedelta) -> str:
    """ "12 s", "3 min", "5 h"."""
    seconds = max(0, int(length.total_seconds()))
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"
