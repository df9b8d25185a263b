"""Each task on several nodes gets a headless Service, whatever goes wrong for others."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from clearml_k8s import names
from clearml_k8s.config.multi_node import MultiNodeConfig
from clearml_k8s.config.sessions import SessionsConfig
from clearml_k8s.flow.ranks import AGAIN_SECONDS, LIST_SECONDS, LOOK_SECONDS, NAMESAKE_SECONDS, WAIT_SECONDS, Ranks
from clearml_k8s.kube.service import manifest
from clearml_k8s.kube.watch import Gone
from clearml_server.process import DevServer
from flow_parts import Side, make_config, make_job
from scripted_kube import Cluster, Fault, status

NO_RIGHT = 'services is forbidden: User "system:serviceaccount:ns:x" cannot create resource "services" in API group ""'


class World:
    """One controller; ``ranks`` is of its present life."""

    def __init__(self, side: Side, cluster: Cluster, server: DevServer) -> None:
        self.side, self.cluster, self.server = side, cluster, server
        self.restart()

    def restart(self) -> None:
        side = self.side
        self.ranks = Ranks(
            config=side.config, client=side.client, jobs=side.jobs, teller=side.teller, controller=side.controller
        )

    async def task(self, request: str = "[0, 2]") -> str:
        """One that has its Job."""
        name = "multi_node_request"
        asked = {"properties": {name: {"section": "properties", "name": name, "value": request}}} if request else {}
        task: str = self.server.create_task("several nodes", queue="default", hyperparams=asked)
        assert await self.side.poll() == 1
        await self.side.book.flush()
        return task

    async def look(self, after: float = LOOK_SECONDS) -> None:
        await self.side.clock.advance(after)
        await self.ranks.look()

    def services(self) -> dict[str, Any]:
        return dict(self.cluster.objects.get("services", {}))

    async def console(self, task: str) -> list[str]:
        await self.side.teller.flush()
        return [line for line in self.server.console(task).splitlines() if "each other" in line]


@pytest.fixture
async def world(new_side: Callable[..., Any], cluster: Cluster, server: DevServer) -> World:
    config = make_config(api_server=server.url, multi_node=MultiNodeConfig())
    return World(await new_side(cluster, config=config), cluster, server)


async def test_the_service(world: World) -> None:
    task = await world.task()
    await world.look()
    (found,) = world.services().values()
    (job,) = world.side.jobs.of_task(task)
    assert found["metadata"]["name"] == f"nodes-{task}"
    assert found["metadata"]["labels"] == {
        "app.kubernetes.io/name": "clearml-agent",
        "app.kubernetes.io/instance": "gpu",
        "app.kubernetes.io/component": "nodes",
        "app.kubernetes.io/part-of": "clearml",
        "app.kubernetes.io/managed-by": "clearml-agent",
        "clearml-k8s.io/controller": world.side.controller,
        "clearml-task-id": task,
    }
    assert found["metadata"]["ownerReferences"] == [
        {"apiVersion": "batch/v1", "kind": "Job", "name": job.name, "uid": job.uid}
    ]
    assert found["spec"] == {
        "clusterIP": "None",
        "selector": {"clearml-task-id": task, "batch.kubernetes.io/controller-uid": job.uid},
        "publishNotReadyAddresses": True,
        "ports": [{"name": "master", "protocol": "TCP", "port": 29500}],
    }
    pod = world.side.created(task)[0]["spec"]["template"]["spec"]
    env = {entry["name"]: entry.get("value") for entry in pod["containers"][0]["env"]}
    assert pod["subdomain"] == found["metadata"]["name"]
    assert env["MASTER_ADDR"] == f"{job.name}-0.{found['metadata']['name']}.{world.side.config.namespace}.svc"


async def test_a_task_in_one_pod_gets_none(world: World) -> None:
    await world.task("")
    await world.look()
    assert world.services() == {}
    assert world.cluster.of("GET", "services") == []


async def test_one_of_a_single_rank_has_an_address_too(world: World) -> None:
    await world.task("[0, 1]")
    await world.look()
    assert len(world.services()) == 1


async def test_what_is_done_is_not_done_again_and_what_went_is_made_again(world: World) -> None:
    task = await world.task()
    await world.look()
    calls = len(world.cluster.seen)
    await world.look()
    assert len(world.cluster.seen) == calls, "nothing is asked while nothing is missing"
    world.restart()
    await world.look()
    assert [seen.method for seen in world.cluster.seen[calls:]] == ["GET"]
    world.cluster.drop("services", names.nodes_name(task))
    await world.look(LIST_SECONDS)
    assert len(world.services()) == 1


async def test_one_that_is_refused_waits_and_is_told_and_others_do_not(world: World) -> None:
    refused = await world.task()
    world.cluster.fault("POST", Fault(code=403, status=status(403, "Forbidden", "policy says no")), path="services")
    await world.look()
    assert world.services() == {}
    assert await world.console(refused) == [
        "Waiting: its pods cannot find each other: Kubernetes refuses its Service: policy says no"
    ]
    other = await world.task()
    await world.look()
    assert set(world.services()) == {names.nodes_name(other)}
    await world.look(AGAIN_SECONDS)
    assert set(world.services()) == {names.nodes_name(other), names.nodes_name(refused)}
    assert len(await world.console(refused)) == 1


async def test_nothing_is_listed_while_nothing_may_be_tried(world: World) -> None:
    """What was refused is tried again after a pause, and a namesake gets its time to go."""
    await world.task()
    world.cluster.fault("POST", Fault(code=403, status=status(403, "Forbidden", "policy says no")), path="services")
    await world.look()
    lists = len(world.cluster.of("GET", "services"))
    for _ in range(int(AGAIN_SECONDS) - 2):
        await world.look(1.0)
    assert len(world.cluster.of("GET", "services")) == lists


async def test_a_namesake_that_stays_is_looked_at_now_and_then(world: World) -> None:
    name = names.nodes_name(await world.task())
    labels = {"app.kubernetes.io/component": "nodes", "app.kubernetes.io/instance": "gpu",
              "app.kubernetes.io/managed-by": "clearml-agent"}  # fmt: skip
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "another", "uid": "another"}
    world.cluster.put("services", name, metadata={"name": name, "labels": labels, "ownerReferences": [owner]}, spec={})
    await world.look()
    await world.look(NAMESAKE_SECONDS)
    lists = len(world.cluster.of("GET", "services"))
    for _ in range(int(WAIT_SECONDS) - 2):
        await world.look(1.0)
    assert len(world.cluster.of("GET", "services")) == lists


async def test_without_the_right_each_user_is_told_and_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    task = await world.task()
    world.cluster.fault("POST", Fault(code=403, status=status(403, "Forbidden", NO_RIGHT)), path="services")
    with caplog.at_level(logging.WARNING):
        await world.look()
    (line,) = await world.console(task)
    assert line.endswith("the agent may not make Services in this cluster; its administrator can allow it")
    (record,) = [record for record in caplog.records if record.name == "clearml_k8s.flow.ranks"]
    assert "agentk8sglue.multiNode.enabled: true" in str(record.__dict__)


async def test_the_former_attempts_service_goes_first(world: World) -> None:
    task = await world.task()
    (job,) = world.side.jobs.of_task(task)
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job.name, "uid": "former"}
    name = names.nodes_name(task)
    labels = {"app.kubernetes.io/component": "nodes", "app.kubernetes.io/instance": "gpu",
              "app.kubernetes.io/managed-by": "clearml-agent"}  # fmt: skip
    world.cluster.put("services", name, metadata={"name": name, "labels": labels, "ownerReferences": [owner]}, spec={})
    await world.look()
    assert await world.console(task) == []
    await world.look(NAMESAKE_SECONDS)
    assert await world.console(task) == [f"Waiting: its pods cannot find each other: another Service is named {name}"]
    world.cluster.drop("services", name)
    await world.look(WAIT_SECONDS)
    assert world.services()[name]["metadata"]["ownerReferences"][0]["uid"] == job.uid


async def test_nothing_is_made_for_a_job_that_is_over(world: World) -> None:
    task = await world.task()
    (job,) = world.side.jobs.of_task(task)
    world.side.jobs.apply(Gone(item=job))
    await world.look()
    assert world.services() == {}


def test_a_session_on_several_nodes_is_reached_at_rank_0() -> None:
    made = {
        "port": 10022,
        "node_port": 30001,
        "sessions": SessionsConfig(),
        "namespace": "ns",
        "release": "r",
        "controller": "c",
    }
    several: Any = manifest(make_job(pods=2, ranked=True), **made)  # type: ignore[arg-type]
    assert several["spec"]["selector"]["batch.kubernetes.io/job-completion-index"] == "0"
    one: Any = manifest(make_job(), **made)  # type: ignore[arg-type]
    assert "batch.kubernetes.io/job-completion-index" not in one["spec"]["selector"]
