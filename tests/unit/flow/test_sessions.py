"""Sessions: each gets a Service of its own and the way to it on its task, whatever goes wrong for others."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import pytest
from clearml_k8s import names
from clearml_k8s.config.sessions import SessionsConfig
from clearml_k8s.errors import KubeNotFound, Refused, Unanswered
from clearml_k8s.flow.session_services import AGAIN_SECONDS, LIST_SECONDS, NAMESAKE_SECONDS, WAIT_SECONDS
from clearml_k8s.flow.sessions import BALANCER_SECONDS, CHECK_SECONDS, LOOK_SECONDS, Sessions
from clearml_k8s.kube.slim import PodRecord
from clearml_k8s.kube.watch import Gone, Upsert
from clearml_server.process import DevServer
from flow_parts import Side, make_config, make_pod
from scripted_kube import Cluster, Fault, status

NODE = "192.0.2.11"
NO_WAY = (names.NO_GATEWAY, None)


class World:
    """One controller with sessions in its queue; ``sessions`` is of its present life."""

    def __init__(self, side: Side, cluster: Cluster, server: DevServer) -> None:
        self.side, self.cluster, self.server = side, cluster, server
        self._create, cluster._create = cluster._create, self._allocating
        self.restart()

    def restart(self) -> None:
        side = self.side
        assert side.config.sessions is not None
        self.sessions = Sessions(
            config=side.config, sessions=side.config.sessions, session=side.session, client=side.client,
            jobs=side.jobs, pods=side.pods, teller=side.teller, controller=side.controller,
        )  # fmt: skip

    def _allocating(self, collection: str, objects: dict[str, Any], seen: Any) -> tuple[int, dict[str, Any]]:
        """As the API server: it gives a port of nodes once."""
        if collection == "services":
            port = seen.body["spec"]["ports"][0].get("nodePort")
            if port and any(port == one["spec"]["ports"][0].get("nodePort") for one in objects.values()):
                return 422, dict(allocated(port).status or {})
        answer: tuple[int, dict[str, Any]] = self._create(collection, objects, seen)
        return answer

    async def session(self, **fields: Any) -> str:
        """A session that has its Job."""
        task: str = self.server.create_task("session", queue="default", **{"system_tags": ["interactive"], **fields})
        await self.side.poll()
        await self.side.book.flush()
        return task

    def runs(self, task: str, *, ip: str | None = NODE) -> PodRecord:
        """Its pod is on a node."""
        (job,) = self.side.jobs.of_task(task)
        pod = make_pod(task, job_uid=job.uid, uid=f"pod-{task}", host_ip=ip)
        self.side.pods.apply(Upsert(item=pod))
        return pod

    async def look(self, after: float = LOOK_SECONDS) -> None:
        await self.side.clock.advance(after)
        await self.sessions.look()

    def service(self, task: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.cluster.objects.get("services", {}).get(names.session_name(task))
        return found

    def node_port(self, task: str) -> int | None:
        found = self.service(task)
        return found["spec"]["ports"][0].get("nodePort") if found else None

    def way(self, task: str) -> tuple[str | None, str | None]:
        """What the client reads."""
        found = self.server.task(task).get("hyperparams", {}).get("properties", {})
        return (
            found.get("k8s-gateway-address", {}).get("value"),
            found.get("k8s-pod-port", {}).get("value"),
        )

    def reached(self, *tasks: str) -> list[bool]:
        return [self.way(task)[1] is not None for task in tasks]

    async def console(self, task: str) -> list[str]:
        await self.side.teller.flush()
        return [line for line in self.server.console(task).splitlines() if "ession" in line]


def allocated(port: int = 30001) -> Fault:
    field = "spec.ports[0].nodePort"
    message = f"Invalid value: {port}: provided port is already allocated"
    cause = {"field": field, "reason": "FieldValueInvalid", "message": message}
    text = f'Service "x" is invalid: {field}: {message}'
    return Fault(code=422, status=status(422, "Invalid", text, causes=[cause]))


def forbidden(why: str) -> Fault:
    return Fault(code=403, status=status(403, "Forbidden", why))


NO_RIGHT = 'services is forbidden: User "system:serviceaccount:ns:x" cannot create resource "services" in API group ""'


@pytest.fixture
def new_world(new_side: Any, cluster: Cluster, server: DevServer) -> Callable[..., Any]:
    async def make(**changes: Any) -> World:
        config = make_config(api_server=server.url, sessions=SessionsConfig(**changes))
        return World(await new_side(cluster, config=config), cluster, server)

    return make


async def test_a_session_is_reached_at_its_node(new_world: Any) -> None:
    world = await new_world(annotations={"a/b": "c"}, agent_id="one")
    task = await world.session()
    await world.look()
    found, (job,) = world.service(task), world.side.jobs.of_task(task)
    assert found["metadata"]["labels"] == {
        "app.kubernetes.io/name": "clearml-agent",
        "app.kubernetes.io/instance": "gpu",
        "app.kubernetes.io/component": "session",
        "app.kubernetes.io/part-of": "clearml",
        "app.kubernetes.io/managed-by": "clearml-agent",
        "clearml-k8s.io/controller": world.side.controller,
        "clearml-k8s.io/session-agent": "one",
        "clearml-task-id": task,
    }
    assert found["metadata"]["annotations"] == {"a/b": "c"}
    assert found["metadata"]["ownerReferences"] == [
        {"apiVersion": "batch/v1", "kind": "Job", "name": job.name, "uid": job.uid}
    ]
    assert found["spec"] == {
        "type": "NodePort",
        "selector": {"clearml-task-id": task, "batch.kubernetes.io/controller-uid": job.uid},
        "publishNotReadyAddresses": True,
        "ports": [{"name": "ssh", "protocol": "TCP", "port": 10022, "targetPort": 10022, "nodePort": 30001}],
    }
    assert world.way(task) == NO_WAY, "no node yet"
    world.runs(task, ip=None)
    await world.look()
    assert world.way(task) == NO_WAY
    world.runs(task)
    await world.look()
    assert world.way(task) == (NODE, "30001")
    assert await world.console(task) == [f"This session is reached at {NODE}, port 30001"]


async def test_what_is_done_is_not_done_again(new_world: Any) -> None:
    world = await new_world()
    task = await world.session()
    world.runs(task)
    await world.look()
    calls = len(world.cluster.seen)
    await world.look()
    assert len(world.cluster.seen) == calls, "nothing is asked while nothing is missing"
    await world.look(LIST_SECONDS)
    assert [seen.method for seen in world.cluster.seen[calls:]] == ["GET"]
    assert len(await world.console(task)) == 1


async def test_a_task_that_is_no_session_gets_nothing(new_world: Any) -> None:
    world = await new_world()
    world.runs(await world.session(system_tags=[]))
    await world.look()
    assert world.cluster.of("GET", "services") == []
    assert world.cluster.objects.get("services", {}) == {}


async def test_each_has_the_lowest_free_port(new_world: Any) -> None:
    world = await new_world(starting_port=31000)
    tasks = [await world.session() for _ in range(3)]
    await world.look()
    assert sorted(world.node_port(task) for task in tasks) == [31001, 31002, 31003]
    first = next(task for task in tasks if world.node_port(task) == 31001)
    (job,) = world.side.jobs.of_task(first)
    world.side.jobs.apply(Gone(item=job))
    world.cluster.drop("services", names.session_name(first))
    fourth = await world.session()
    await world.look()
    assert world.node_port(fourth) == 31001


async def test_ports_of_others_are_passed_over(new_world: Any) -> None:
    world = await new_world(max_services=3)
    world.cluster.fault("POST", allocated(30001), allocated(30002), path="services")
    task = await world.session()
    await world.look()
    assert world.node_port(task) == 30003
    assert [line for line in await world.console(task) if "Waiting" in line] == []


async def test_no_port_is_left(new_world: Any) -> None:
    """Told once, tried again later; no call is made for it meanwhile."""
    world = await new_world(max_services=2)
    world.cluster.fault("POST", allocated(30001), allocated(30002), path="services")
    task = await world.session()
    for _ in range(3):
        await world.look()
    assert world.service(task) is None
    assert len(world.cluster.of("POST", "services")) == 2
    waiting = "Waiting for a session port: all of 30001 to 30002 are in use"
    assert await world.console(task) == [waiting]
    assert world.way(task) == NO_WAY, "else its program would write an address of its own"
    world.runs(task)
    await world.look(AGAIN_SECONDS)
    assert world.way(task) == (NODE, "30001")
    assert await world.console(task) == [waiting, f"This session is reached at {NODE}, port 30001"]


@pytest.mark.parametrize("kind", ["NodePort", "ClusterIP", "LoadBalancer"])
async def test_no_more_services_than_allowed(new_world: Any, kind: str) -> None:
    world = await new_world(service_type=kind, max_services=1)
    tasks = [await world.session(), await world.session()]
    await world.look()
    (without,) = [task for task in tasks if world.service(task) is None]
    assert (await world.console(without))[0].startswith("Waiting for a session port: all")


async def test_inside_the_cluster(new_world: Any) -> None:
    world = await new_world(service_type="ClusterIP")
    task = await world.session(runtime={"internal_tcp_port_request": "10044"}, system_tags=[])
    await world.look()
    assert world.service(task)["spec"]["ports"][0] == {
        "name": "ssh", "protocol": "TCP", "port": 10044, "targetPort": 10044
    }  # fmt: skip
    assert world.way(task) == (f"session-{task}.ns.svc", "10044")


@pytest.mark.parametrize("ingress", [{"ip": "198.51.100.7"}, {"hostname": "lb.example.com"}])
async def test_a_load_balancer_is_waited_for(new_world: Any, ingress: dict[str, str]) -> None:
    world = await new_world(service_type="LoadBalancer")
    task = await world.session()
    world.runs(task)
    await world.look()
    await world.look()
    assert world.way(task) == NO_WAY
    world.service(task)["status"] = {"loadBalancer": {"ingress": [ingress]}}
    await world.look(WAIT_SECONDS)
    assert world.way(task) == (next(iter(ingress.values())), "10022")


async def test_a_configured_address_needs_no_node(new_world: Any) -> None:
    world = await new_world(external_address="sessions.example.com")
    task = await world.session()
    await world.look()
    assert world.way(task) == ("sessions.example.com", "30001")


async def test_another_life_goes_on(new_world: Any) -> None:
    """It finds Services and properties; it makes none twice, and says nothing twice."""
    world = await new_world()
    first, second = await world.session(), await world.session()
    world.runs(first)
    await world.look()
    ports = {task: world.node_port(task) for task in (first, second)}
    world.restart()
    third = await world.session()
    for task in (second, third):
        world.runs(task)
    await world.look()
    assert {task: world.node_port(task) for task in (first, second)} == ports
    assert world.way(third) == (NODE, "30003")
    assert len(world.cluster.of("POST", "services")) == 3
    assert [len(await world.console(task)) for task in (first, second, third)] == [1, 1, 1]


async def test_a_service_that_somebody_deleted_is_made_anew(new_world: Any) -> None:
    world = await new_world()
    task = await world.session()
    world.runs(task)
    await world.look()
    world.cluster.drop("services", names.session_name(task))
    world.cluster.fault("POST", allocated(30001), path="services")
    await world.look(LIST_SECONDS)
    assert world.way(task) == (NODE, "30002")


async def test_the_service_as_it_is_counts(new_world: Any) -> None:
    """The values may have changed since it was made."""
    world = await new_world(service_type="NodePort")
    task = await world.session()
    await world.look()
    world.service(task)["spec"] |= {"type": "ClusterIP"}
    await world.look(LIST_SECONDS)
    assert world.way(task) == (f"session-{task}.ns.svc", "10022")


async def test_the_former_attempts_service_is_waited_for(new_world: Any) -> None:
    world = await new_world()
    task = await world.session()
    world.runs(task)
    await world.look()
    world.service(task)["metadata"]["ownerReferences"][0]["uid"] = "former"
    world.restart()
    await world.look()
    assert len(world.cluster.of("POST", "services")) == 1
    assert len(await world.console(task)) == 1, "it goes in a moment"
    await world.look(NAMESAKE_SECONDS)
    assert (await world.console(task))[1:] == [f"Waiting for a session port: another Service is named session-{task}"]
    world.cluster.drop("services", names.session_name(task))
    await world.look(WAIT_SECONDS)
    assert len(world.cluster.of("POST", "services")) == 2


async def test_a_service_that_is_there_already_is_read(new_world: Any) -> None:
    """The list did not have it: a label was taken off, or it came meanwhile."""
    world = await new_world()
    task = await world.session()
    world.runs(task)
    world.cluster.fault("POST", Fault(after=True, drop=True), path="services")
    await world.look()
    assert world.way(task) == NO_WAY
    stale = {"kind": "List", "metadata": {"resourceVersion": "1"}, "items": []}
    world.cluster.fault("GET", Fault(code=200, status=stale), path="services")
    await world.look()
    assert world.way(task) == (NODE, "30001")
    assert [seen.path.rpartition("/")[2] for seen in world.cluster.of("GET", "services/")] == [f"session-{task}"]


async def test_the_service_went_between_two_calls(new_world: Any) -> None:
    world = await new_world()
    task = await world.session()
    world.runs(task)
    exists = Fault(code=409, status=status(409, "AlreadyExists", "it exists"))
    world.cluster.fault("POST", exists, path="services")
    await world.look()
    assert world.service(task) is None
    await world.look()
    assert world.way(task) == (NODE, "30001")


FAULTS = {
    "doubt, not done": Fault(drop=True),
    "doubt, done": Fault(drop=True, after=True),
    "500": Fault(code=500),
    "500 after it was done": Fault(code=500, after=True),
    "429": Fault(code=429, status=status(429, "TooManyRequests", "later")),
    "401": Fault(code=401, status=status(401, "Unauthorized", "who")),
    "no object": Fault(code=200, text="[]"),
    "an object without a name": Fault(code=201, status={"metadata": {}}, after=True),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_one_sessions_trouble_is_not_anothers(new_world: Any, fault: str) -> None:
    world = await new_world()
    tasks = [await world.session(), await world.session()]
    for task in tasks:
        world.runs(task)
    world.cluster.fault("POST", FAULTS[fault], path="services")
    await world.look()
    assert world.reached(*tasks) == [False, True]
    for _ in range(12):
        await world.look()
    assert sorted(world.way(task)[0] or "" for task in tasks) == [NODE, NODE]
    assert world.node_port(tasks[0]) != world.node_port(tasks[1])
    assert [len(await world.console(task)) for task in tasks] == [1, 1]


async def test_an_account_without_the_right(new_world: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Said once in the log, once to each user, and asked again from time to time."""
    world = await new_world()
    tasks = [await world.session(), await world.session()]
    world.cluster.fault("POST", forbidden(NO_RIGHT), forbidden(NO_RIGHT), path="services")
    with caplog.at_level(logging.WARNING):
        await world.look()
        await world.look()
    assert [r.getMessage() for r in caplog.records] == [
        "this account may not list and create Services in namespace ns, so sessions cannot be reached: the chart's "
        "Role gives it with sessions.portModeEnabled: true; clearml-k8s check tells what is missing"
    ]
    assert len(world.cluster.of("POST", "services")) == 2
    for task in tasks:
        assert await world.console(task) == [
            "Waiting for a session port: the agent may not make Services in this cluster; "
            "its administrator can allow it"
        ]
    await world.look(AGAIN_SECONDS)
    assert all(world.service(task) for task in tasks)


@pytest.mark.parametrize(
    "fault",
    [
        forbidden('services "x" is forbidden: exceeded quota: few, requested: services.nodeports=1'),
        Fault(code=422, status=status(422, "Invalid", "the provided port is not in the valid range")),
        Fault(code=400, status=status(400, "BadRequest", "admission webhook denied the request")),
    ],
)
async def test_a_refusal_is_told_and_tried_again(new_world: Any, fault: Fault) -> None:
    world = await new_world()
    refused, other = await world.session(), await world.session()
    world.cluster.fault("POST", fault, path="services")
    await world.look()
    await world.look()
    (line,) = await world.console(refused)
    assert line.startswith("Waiting for a session port: Kubernetes refuses its Service: ")
    assert fault.status is not None
    assert fault.status["message"] in line
    assert len(world.cluster.of("POST", "services")) == 2, "one for the other"
    assert world.node_port(other) == 30001
    await world.look(AGAIN_SECONDS)
    assert world.node_port(refused) == 30002


async def test_the_same_refusal_is_logged_once(new_world: Any, caplog: pytest.LogCaptureFixture) -> None:
    world = await new_world()
    await world.session()
    fault = Fault(code=422, status=status(422, "Invalid", "the provided port is not in the valid range"))
    world.cluster.fault("POST", fault, fault, fault, path="services")
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            await world.look(AGAIN_SECONDS)
    assert world.cluster.faults == []
    assert [r.getMessage() for r in caplog.records if "session" in r.getMessage()] == ["session waits for a port"]


async def test_services_cannot_be_listed(new_world: Any) -> None:
    """Nothing is made on a guess; a later look goes on."""
    world = await new_world()
    task = await world.session()
    world.runs(task)
    world.cluster.fault("GET", Fault(code=404, status=status(404, "NotFound", "no namespace")), path="services")
    with pytest.raises(KubeNotFound):
        await world.look()
    assert world.service(task) is None
    await world.look()
    assert world.way(task) == (NODE, "30001")


async def test_services_may_not_be_listed(new_world: Any, caplog: pytest.LogCaptureFixture) -> None:
    """As where they may not be made; a session that is reached already is told nothing."""
    world = await new_world()
    reached = await world.session()
    world.runs(reached)
    await world.look()
    task = await world.session()
    world.runs(task)
    world.cluster.fault("GET", forbidden("services is forbidden"), forbidden("services is forbidden"), path="services")
    with caplog.at_level(logging.WARNING):
        await world.look()
        await world.look()
        await world.look(AGAIN_SECONDS)
    (record,) = caplog.records
    assert "this account may not list and create Services" in record.getMessage()
    assert len(world.cluster.faults) == 0
    (line,) = await world.console(task)
    assert line.startswith("Waiting for a session port: the agent may not make Services")
    assert len(await world.console(reached)) == 1
    await world.look(AGAIN_SECONDS)
    assert world.way(task) == (NODE, "30002")


async def test_the_server_does_not_take_it(new_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one's properties are refused or in doubt, the other's are written; each is said once it is so."""
    world = await new_world()
    tasks = [await world.session() for _ in range(3)]
    for task in tasks:
        world.runs(task)
    call = world.side.session.call
    errors = [Unanswered("no answer"), Refused("no")]

    async def fails(endpoint: str, body: Any, **more: Any) -> Any:
        if endpoint == "tasks.edit_hyper_params" and errors:
            raise errors.pop(0)
        return await call(endpoint, body, **more)

    monkeypatch.setattr(world.side.session, "call", fails)
    await world.look()
    assert world.reached(*tasks) == [False, False, True]
    assert [len(await world.console(task)) for task in tasks] == [0, 0, 1]
    await world.look()
    assert world.reached(*tasks) == [True, True, True]
    assert [len(await world.console(task)) for task in tasks] == [1, 1, 1]


async def test_an_error_of_our_own_is_one_sessions(
    new_world: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = await new_world()
    tasks = [await world.session(), await world.session()]
    for task in tasks:
        world.runs(task)
    way = world.sessions._way

    async def breaks(job: Any) -> Any:
        if job.task == tasks[0]:
            raise ZeroDivisionError
        return await way(job)

    monkeypatch.setattr(world.sessions, "_way", breaks)
    await world.look()
    assert world.reached(*tasks) == [False, True]
    assert "following a session failed" in caplog.text


async def test_a_deleted_task_is_left_alone(new_world: Any) -> None:
    world = await new_world()
    task, other = await world.session(), await world.session()
    for one in (task, other):
        world.runs(one)
    world.server.call("tasks.delete", task=task, force=True)
    await world.look()
    await world.look()
    assert world.way(other)[0] == NODE


async def test_a_finished_job_gets_nothing(new_world: Any) -> None:
    world = await new_world()
    task = await world.session()
    (job,) = world.side.jobs.of_task(task)
    done = world.cluster.objects["jobs"][job.name]
    done["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    world.side.relist()
    await world.look()
    assert world.cluster.of("POST", "services") == []


async def test_a_former_attempts_pod_tells_no_address(new_world: Any) -> None:
    world = await new_world()
    task = await world.session()
    pod = make_pod(task, job_uid="former", uid="former", host_ip="192.0.2.99")
    world.side.pods.apply(Upsert(item=pod))
    await world.look()
    assert world.way(task) == NO_WAY
    world.runs(task)
    await world.look()
    assert world.way(task) == (NODE, "30001")


async def test_the_way_to_another_session_is_taken_away(new_world: Any) -> None:
    """A clone, and another attempt, has the properties of the one before; their port may be somebody else's by now."""
    world = await new_world()
    properties = {"k8s-gateway-address": "192.0.2.7", "k8s-pod-port": "30009"}
    items = {name: {"section": "properties", "name": name, "value": value} for name, value in properties.items()}
    task = await world.session(hyperparams={"properties": items})
    world.cluster.fault("POST", Fault(code=500), Fault(code=500), path="services")
    await world.look()
    assert world.way(task)[0] == names.NO_GATEWAY
    world.runs(task)
    for _ in range(2):
        await world.look()
    assert world.way(task) == (NODE, "30001")


@pytest.mark.parametrize("reached", [True, False])
async def test_what_a_session_wrote_over_is_written_again(new_world: Any, reached: bool) -> None:
    """The SDK writes all properties as it read them a moment before."""
    world = await new_world()
    task = await world.session()
    if reached:
        world.runs(task)
    await world.look()
    expected = (NODE, "30001") if reached else NO_WAY
    assert world.way(task) == expected
    world.server.call("tasks.edit", task=task, force=True, hyperparams={})
    assert world.way(task) == (None, None)
    await world.look(CHECK_SECONDS)
    assert world.way(task) == expected
    assert len(await world.console(task)) == reached


async def test_a_load_balancer_without_an_address_is_told(new_world: Any) -> None:
    world = await new_world(service_type="LoadBalancer")
    task = await world.session()
    await world.look()
    assert await world.console(task) == []
    for _ in range(2):
        await world.look(BALANCER_SECONDS)
    assert await world.console(task) == [
        f"Waiting for a session port: the load balancer of Service session-{task} has no address yet; "
        "the Service's events say why"
    ]
    world.service(task)["status"] = {"loadBalancer": {"ingress": [{"ip": "198.51.100.7"}]}}
    await world.look(WAIT_SECONDS)
    assert world.way(task) == ("198.51.100.7", "10022")


@pytest.mark.parametrize(
    ("changes", "lists"),
    [
        ({}, 60 / LIST_SECONDS),
        ({"service_type": "LoadBalancer"}, 60 / WAIT_SECONDS),
        ({"service_type": "LoadBalancer", "external_address": "gate"}, 60 / LIST_SECONDS),
        ({"max_services": 1}, 60 / WAIT_SECONDS),
    ],
)
async def test_sessions_that_wait_cost_few_calls(new_world: Any, changes: dict[str, Any], lists: float) -> None:
    """In a minute: without a node, a load balancer or a port."""
    world = await new_world(**changes)
    tasks = [await world.session(), await world.session()]
    await world.look()
    calls, asked = len(world.cluster.seen), len(world.server.calls())
    for _ in range(int(60 / LOOK_SECONDS)):
        await world.look()
    assert {seen.method for seen in world.cluster.seen[calls:]} <= {"GET"}
    assert len(world.cluster.seen) - calls <= lists
    endpoints = [call["endpoint"] for call in world.server.calls()[asked:]]
    assert [name for name in endpoints if name.startswith("tasks.")] == ["tasks.get_all"]
    assert world.reached(*tasks) == [bool(changes.get("external_address"))] * 2


async def test_the_way_stays_when_the_pod_has_ended(new_world: Any) -> None:
    """Until its Job has: what the task says is not written for a moment."""
    world = await new_world()
    task = await world.session()
    pod = world.runs(task)
    await world.look()
    world.side.pods.apply(Upsert(item=dataclasses.replace(pod, phase="Succeeded")))
    await world.look()
    assert world.way(task) == (NODE, "30001")


async def test_another_life_that_may_not_list_takes_no_way_away(new_world: Any) -> None:
    world = await new_world()
    reached = await world.session()
    world.runs(reached)
    await world.look()
    world.restart()
    world.cluster.fault("GET", forbidden("services is forbidden"), path="services")
    await world.look()
    new = await world.session()
    await world.look()
    assert world.way(reached) == (NODE, "30001")
    assert world.way(new) == NO_WAY
