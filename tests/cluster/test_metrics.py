"""A real Prometheus scrapes a real run: the numbers are those of the run, and each query of the chart has an answer."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import yaml
from chaos_controller import config
from chaos_counts import until
from chaos_kube import MERGE_PATCH, Kube
from chaos_quota import set_quota
from chaos_scene import Scene
from chart_render import CHART, CREDENTIALS, at, helm, merged
from clearml_k8s.flow.graces import GRACE_SECONDS
from real_prometheus import Prometheus, prometheus

TASKS = 500
LIMITS: dict[str, int | None] = {"alpha": 40, "beta": 30, "": 60}
RELEASE = "watched"
DISCOVERY = {
    "gpu": {"discovery": {"enabled": True, "baseSelector": "type=kwok", "gpuCountSelector": "gpus"}},
    "cpu": {"discovery": {"enabled": True}},
}
JOB = f"{RELEASE}-clearml-agent-controller"

LOOKS_BACK = {"[10m]": "[10s]", "[15m]": "[15s]", "[30m]": "[30s]", "<= 300": "<= 5"}
"""In the rules, and what stands there in a quick play."""

EMPTY = {
    "clearml_k8s_watch_restarts_total": "no watch ends in so short a run",
}
"""Queries of the dashboard, by a metric in them, that may have no data, and why."""

EMPTY_SELECTORS = {
    'outcome=~"unanswered|unreachable"': "no request goes wrong",
    'state="closed"': "no quota refuses a pod",
}
"""The same of the rules' selectors."""


def rendered_rules(folder: Path, *, namespace: str, quick: bool = False) -> tuple[Path, list[str]]:
    """The chart's rules for this release, which wait for seconds in place of minutes, and their expressions.

    ``quick``: they look back for seconds, too.
    """
    values = json.dumps(merged(CREDENTIALS, at("metrics.prometheusRule.enabled", True)))
    done = helm("helm4", "template", RELEASE, str(CHART), "--namespace", namespace, values=values)
    assert done.returncode == 0, done.stderr
    spec = next(o for o in yaml.safe_load_all(done.stdout) if o and o["kind"] == "PrometheusRule")["spec"]
    rules = spec["groups"][0]["rules"]
    for rule in rules:
        if "for" in rule:
            rule["for"] = "3s"
        if quick:
            for minutes, seconds in LOOKS_BACK.items():
                rule["expr"] = rule["expr"].replace(minutes, seconds)
            assert not re.search(r"\[\d+m\]|<= \d{3}", rule["expr"]), rule["expr"]
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path, [rule["expr"] for rule in rules]


def dashboard_queries(*, namespace: str) -> list[str]:
    """As Grafana sends them, all queues chosen."""
    found: Any = json.loads((CHART / "files/dashboards/clearml-agent.json").read_text())
    texts = [target["expr"] for panel in found["panels"] for target in panel.get("targets", [])]
    known = {"$namespace": namespace, "$job": JOB, "$queue": ".*", "$__rate_interval": "10s"}
    for name, value in known.items():
        texts = [text.replace(name, value) for text in texts]
    assert not any("$" in text for text in texts)
    return texts


async def dashboard_choices(server: Prometheus, *, namespace: str) -> dict[str, list[str]]:
    """What the dashboard's variables offer."""
    found: Any = json.loads((CHART / "files/dashboards/clearml-agent.json").read_text())
    offered: dict[str, list[str]] = {}
    for variable in found["templating"]["list"]:
        if variable["type"] != "query":
            continue
        text = variable["query"]["query"].replace("$namespace", namespace).replace("$job", JOB)
        match = re.fullmatch(r"label_values\((.+), (\w+)\)", text)
        assert match, text
        offered[variable["name"]] = await server.get(f"label/{match[2]}/values", **{"match[]": match[1]})
    return offered


async def label_nodes(kube: Kube, **labels: str) -> int:
    """Label all simulated nodes; how many there are."""
    nodes = (await kube.request("GET", "/api/v1/nodes?labelSelector=type%3Dkwok"))["items"]
    for node in nodes:
        path = f"/api/v1/nodes/{node['metadata']['name']}"
        await kube.request("PATCH", path, body={"metadata": {"labels": labels}}, kind=MERGE_PATCH)
    return len(nodes)


async def test_prometheus_sees_a_run_as_it_was(scene: Scene, tmp_path: Path) -> None:
    namespace, server = scene.namespaces[0], scene.server
    server.call("queues.create", name="bad")
    known = config(
        release=RELEASE, namespace=namespace, api_server=server.url, queues={"alpha": 40, "beta": 30}, max_pods=60
    )
    alpha = known["queues"]["alpha"]
    queues = {
        **known["queues"],
        "alpha": {**alpha, "queueSettings": {**alpha["queueSettings"], "maxGpus": 100}},
        "missing": {},
        # A template that only the API server can refuse.
        "bad": {"templateOverrides": {"resources": {"limits": {"cpu": "-1"}}}},
    }
    rules, expressions = rendered_rules(tmp_path, namespace=namespace)
    # Longer than all else: on a busy machine a request that is cut off makes a doubt, of which there is an alert.
    watched = scene.controller(
        RELEASE,
        limits=LIMITS,
        queues=queues,
        grace_seconds=GRACE_SECONDS,
        clusterAccess=True,
        orchestrationDashboard=DISCOVERY,
    )
    nodes = await label_nodes(scene.kube, gpus="4")
    await set_quota(scene.kube, namespace, pods=1000, scoped=False)
    async with scene.agents() as agents, watched as controller:
        began = time.time()
        targets = {JOB: [f"127.0.0.1:{controller.port}"]}
        async with prometheus(tmp_path, targets=targets, labels={"namespace": namespace}, rules=rules) as prom:

            async def leads() -> bool:
                return await prom.value("clearml_k8s_leader") == 1

            await until(leads, "the controller leads, as Prometheus sees it", limit=60)
            # One of which no Job can be made.
            server.create_task(queue="alpha", container={"arguments": "-e 'A=B"})
            tasks = [task for name in ("alpha", "beta") for task in server.bulk_tasks(TASKS // 2, queue=name)]
            await scene.settled(tasks, releases={RELEASE: namespace}, agents=agents, limit=300)

            async def counted() -> bool:
                created = await prom.value('sum(clearml_k8s_launches_total{result="created"})')
                started = await prom.value("sum(clearml_k8s_queued_to_running_seconds_count)")
                waiting = await prom.value("sum(clearml_k8s_queue_entries)")
                return (created, started, waiting) == (TASKS, TASKS, 0)

            async def numbers() -> str:
                names = ("launches_total", "queued_to_running_seconds_count", "queue_entries")
                return str({name: await prom.get("query", query=f"clearml_k8s_{name}") for name in names})

            try:
                await until(counted, "Prometheus has counted all", limit=60)
            except AssertionError as error:
                raise AssertionError(await numbers()) from error

            # ---- the numbers -----------------------------------------------------------------------------------
            assert await prom.value("sum(clearml_k8s_job_to_running_seconds_count)") == TASKS
            assert await prom.value("sum(clearml_k8s_take_to_job_seconds_count)") == TASKS
            assert await prom.value('sum(clearml_k8s_tasks_failed_total{reason="cannot-be-launched"})') == 1
            assert await prom.value("sum(clearml_k8s_tasks_failed_total)") == 1
            in_all = await prom.value("max_over_time(clearml_k8s_limit_used{setting='agentk8sglue.maxPods'}[1h])")
            assert in_all == LIMITS[""]
            assert (
                await prom.value('max_over_time(clearml_k8s_queue_places_used{queue="alpha"}[1h])') <= LIMITS["alpha"]
            )
            assert await prom.value("min_over_time(clearml_k8s_queue_room{queue='alpha'}[1h])") == 0
            assert await prom.value('max_over_time(clearml_k8s_pods{queue="alpha",phase="Running"}[1h])') > 0
            assert await prom.value('max_over_time(clearml_k8s_queue_entries{queue="beta"}[1h])') > 0
            assert await prom.value('clearml_k8s_gpus{nodes="usable"}') == 4 * nodes
            assert await prom.value('clearml_k8s_cpus{nodes="all"}') > 0
            assert await prom.value('clearml_k8s_limit{limit="gpus",queue="alpha"}') == 100

            # ---- every query -------------------------------------------------------------------------------------
            ended = time.time()
            silent = [
                text
                for text in dashboard_queries(namespace=namespace)
                if not await prom.seen(text, since=began, until=ended) and not any(name in text for name in EMPTY)
            ]
            assert silent == [], "queries of the dashboard without data"
            selectors = {s for text in expressions for s in re.findall(r"clearml_k8s_\w+\{[^}]*\}", text)}
            silent = [
                text
                for text in sorted(selectors)
                if not await prom.seen(text, since=began, until=ended)
                and not any(part in text for part in EMPTY_SELECTORS)
            ]
            assert silent == [], "selectors of the rules without data"
            choices = await dashboard_choices(prom, namespace=namespace)
            assert choices == {"namespace": [namespace], "job": [JOB], "queue": sorted(queues)}

            # ---- the alerts --------------------------------------------------------------------------------------
            groups = (await prom.get("rules"))["groups"]
            wrong = {rule["name"]: rule.get("lastError") for group in groups for rule in group["rules"]
                     if rule["health"] != "ok"}  # fmt: skip
            assert wrong == {}

            async def as_expected() -> bool:
                return await prom.firing() == {
                    ("ClearMLAgentTemplateInvalid", "bad"),
                    ("ClearMLAgentQueueNotServed", "missing"),
                }

            await until(as_expected, "the two queues in trouble are told, and nothing else", limit=60)
            await controller.kill()

            async def nobody_leads() -> bool:
                return await prom.firing() == {("ClearMLAgentNoLeader", "")}

            await until(nobody_leads, "nobody leads, and nothing stale is told", limit=60)


async def test_each_alert_fires_when_it_is_provoked(scene: Scene, tmp_path: Path) -> None:
    """By a real controller, one after the other; no other fires with it, nor before or after."""
    namespace, server = scene.namespaces[0], scene.server
    rules, _ = rendered_rules(tmp_path, namespace=namespace, quick=True)
    nowhere = {"nodeSelector": {"type": "nowhere"}}
    queues = {
        "calm": {},
        "nowhere": {"templateOverrides": nowhere, "queueSettings": {"maxPods": 2}},
        "larger": {
            "templateOverrides": {"resources": {"limits": {"nvidia.com/gpu": 2}}},
            "queueSettings": {"maxGpus": 1},
        },
        "taken": {},
        "wrong": {},
    }
    for name in queues:
        server.create_queue(name)
    watched = scene.controller(
        RELEASE, limits={}, queues=queues, grace_seconds=GRACE_SECONDS, respectResourceQuotas=False
    )
    async with scene.agents(), watched as controller:
        targets = {JOB: [f"127.0.0.1:{controller.port}"]}
        async with prometheus(tmp_path, targets=targets, labels={"namespace": namespace}, rules=rules) as prom:

            async def fires(*expected: tuple[str, str]) -> None:
                async def so() -> bool:
                    return await prom.firing() == {(f"ClearMLAgent{alert}", queue) for alert, queue in expected}

                try:
                    await until(so, f"{expected} and no other", limit=90)
                except AssertionError as error:
                    raise AssertionError(f"{expected}: {await prom.firing()}") from error

            async def leads() -> bool:
                return await prom.value("clearml_k8s_leader") == 1 and bool(await prom.get("query", query="ALERTS"))

            await until(leads, "the controller leads, as Prometheus sees it", limit=60)
            await fires()
            began = time.time()

            # ---- tasks that wait for what is not there ---------------------------------------------------------------
            waiting = server.bulk_tasks(4, queue="nowhere")
            await fires(("LimitFull", "nowhere"))
            too_large = server.create_task(queue="larger")
            await fires(("LimitFull", "nowhere"), ("LimitFull", "larger"))
            for task in (*waiting, too_large):
                server.call("tasks.stop", task=task, force=True)
            await fires()

            # ---- tasks of which no Job can be made -------------------------------------------------------------------
            for _ in range(8):
                server.create_task(queue="wrong", container={"arguments": "-e 'A=B"})
            await fires(("TasksFailing", "wrong"))
            await fires()

            # ---- Jobs that a quota refuses --------------------------------------------------------------------------
            path = f"/api/v1/namespaces/{namespace}/resourcequotas"
            none = {"metadata": {"name": "none"}, "spec": {"hard": {"count/jobs.batch": "0"}}}
            await scene.kube.request("POST", path, body=none)
            server.bulk_tasks(8, queue="calm")
            await fires(("LaunchErrors", "calm"))
            await scene.kube.request("DELETE", f"{path}/none")
            await fires()

            # ---- pods that a quota refuses ---------------------------------------------------------------------------
            none["spec"] = {"hard": {"pods": "0"}}
            await scene.kube.request("POST", path, body=none)
            refused = server.bulk_tasks(2, queue="calm")
            await fires(("QueueNotServed", "calm"))
            for task in refused:
                server.call("tasks.stop", task=task, force=True)
            await scene.kube.request("DELETE", f"{path}/none")
            await fires()

            # ---- a Job that has the name already ---------------------------------------------------------------------
            task = server.create_task()
            await scene.kube.request("POST", f"/apis/batch/v1/namespaces/{namespace}/jobs", body=foreign_job(task))
            server.call("tasks.enqueue", task=task, queue_name="taken")
            await fires(("QueueStuck", "taken"))
            server.call("tasks.dequeue", task=task)
            await fires()

            # ---- the server ------------------------------------------------------------------------------------------
            server.down(mode="503")
            await fires(("APIUnhealthy", ""))
            server.up()
            await fires()
            fault = server.add_fault(kind="error_before", endpoint="^queues.get_all$", status=400, subcode=1)
            await fires(("PollingStale", ""))
            server.clear_faults(fault)
            await fires()
            since = f"{int(time.time() - began)}s"
            query = f'max by (alertname) (max_over_time(ALERTS{{alertstate="firing"}}[{since}]))'
            ever = await prom.get("query", query=query)
            assert {one["metric"]["alertname"].removeprefix("ClearMLAgent") for one in ever["result"]} == {
                "LimitFull",
                "TasksFailing",
                "LaunchErrors",
                "QueueNotServed",
                "QueueStuck",
                "APIUnhealthy",
                "PollingStale",
            }


def foreign_job(task: str) -> dict[str, Any]:
    """Somebody's Job under the name of the task's."""
    container = {"name": "main", "image": "none"}
    return {
        "metadata": {"name": f"clearml-id-{task}"},
        "spec": {"suspend": True, "template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    }
