"""How many more tasks may be started, and in words why not."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from clearml_k8s.config import Config, MonitoredResources, QueueConfig, QueueSettings, ResolvedQueue
from clearml_k8s.config.conditions import ConditionalTemplate
from clearml_k8s.config.kueue import KueueConfig
from clearml_k8s.flow.capacity import room
from clearml_k8s.flow.needs import Need, measure_of, need_of
from clearml_k8s.flow.places import Known, Place, Stage, counted, places
from clearml_k8s.flow.room import MAX_IN_FLIGHT, Room
from clearml_k8s.kube.events import EventRecord
from clearml_k8s.kube.quota import QuotaRecord, Scope
from clearml_k8s.kube.slim import Condition
from clearml_k8s.kube.uses import NOTHING, Uses
from flow_parts import make_config, make_job, make_pod
from hypothesis import given, settings
from hypothesis import strategies as st

PACE = 30


def queue(key: str, *, template: dict[str, Any] | None = None, **values: Any) -> ResolvedQueue:
    """Its id is ``key``."""
    config = QueueConfig(name=key, settings=QueueSettings(**values), template_overrides=template or {})
    return ResolvedQueue(config=config, id=key, name=key)


def limited(*queues: ResolvedQueue, **changes: Any) -> Config:
    return make_config(**{"max_pending_pods": None, "queues": {q.id: q.config for q in queues}, **changes})


def left(
    *queues: ResolvedQueue,
    taken: list[Place] | tuple[Place, ...] = (),
    quotas: tuple[QuotaRecord, ...] = (),
    pace: int = PACE,
    unknown: str = "",
    kueue: str = "",
    **changes: Any,
) -> Room:
    config = limited(*queues, **changes)
    measure = measure_of(config)
    return room(
        config=config,
        queues=queues,
        counts=counted(taken),
        needs={q.id: need_of(config, q, measure=measure, worker_id="a:b") for q in queues},
        quotas=quotas,
        pace=pace,
        unknown=unknown,
        kueue=kueue,
    )


def placed(key: str, number: int = 1, *, stage: Stage = Stage.PLACED, **fields: Any) -> list[Place]:
    coming = stage is Stage.COMING
    return [Place(queue=key, stage=stage, podless=coming, pod=not coming, **fields) for _ in range(number)]


def gpus(number: int | str) -> dict[str, Any]:
    return {"resources": {"limits": {"nvidia.com/gpu": number}}}


# ---- who holds a place ----------------------------------------------------------------------------------------------


def stages(**given: Any) -> Counter[tuple[str | None, str]]:
    found = places(**{"jobs": [], "pods": [], "in_flight": {}, **given})
    return Counter((place.queue, place.stage.value) for place in found)


def test_a_task_counts_once_however_it_shows() -> None:
    assert stages(
        jobs=[make_job("t1", uid="j1", queue="q"), make_job("t2", uid="j2", queue="q")],
        pods=[make_pod("t1", job_uid="j1", queue="q"), make_pod("t2", job_uid="j2", uid="p2", queue="q")],
        in_flight={"t2": "q", "t3": "q"},
    ) == {("q", "placed"): 2, ("q", "coming"): 1}


def test_what_ended_gives_its_place_back() -> None:
    ended = make_job("t1", uid="j1", queue="q", finished="Complete")
    assert stages(jobs=[ended], pods=[make_pod("t1", job_uid="j1", phase="Succeeded")]) == {}


def test_a_pod_that_may_still_run_keeps_its_place() -> None:
    """Also after its Job, and when the Job has ended before it."""
    ended = make_job("t1", uid="j1", queue="q", finished="Failed")
    running = make_pod("t1", job_uid="j1", queue="q", phase="Running")
    assert stages(jobs=[ended], pods=[running]) == {("q", "placed"): 1}
    assert stages(pods=[running]) == {("q", "placed"): 1}


def test_a_pod_that_is_being_deleted_keeps_its_queues_place() -> None:
    """Its Job was deleted (an abort) and left the store at once; the pod's own annotation tells the queue."""
    ending = make_pod("t1", job_uid="j1", queue="q", phase="Running", deleted="2026-01-15T07:00:00Z")
    assert stages(pods=[ending]) == {("q", "placed"): 1}


def test_the_pod_of_an_older_attempt_keeps_its_place_beside_the_new_one() -> None:
    """Aborted, enqueued again and claimed, or launched, before the first pod has ended: two pods."""
    ending = make_pod("t1", job_uid="j1", queue="q", phase="Running", deleted="2026-01-15T07:00:00Z")
    assert stages(pods=[ending], in_flight={"t1": "p"}) == {("q", "placed"): 1, ("p", "coming"): 1}
    job = make_job("t1", uid="j2", queue="q")
    found = stages(jobs=[job], pods=[ending], in_flight={"t1": "q"})
    assert found == {("q", "placed"): 1, ("q", "undecided"): 1}


UNSCHEDULABLE = (Condition(type="PodScheduled", status="False", reason="Unschedulable"),)
GATED = (Condition(type="PodScheduled", status="False", reason="SchedulingGated"),)


@pytest.mark.parametrize(
    ("job", "pod", "stage"),
    [
        ({}, None, "undecided"),
        ({"suspend": True}, None, "held"),
        ({"deleted": "2026-01-15T07:00:00Z"}, None, "placed"),
        ({}, {"node": None}, "undecided"),
        ({}, {"node": None, "conditions": UNSCHEDULABLE}, "waiting"),
        ({}, {"node": None, "conditions": GATED}, "held"),
        ({}, {"node": "node-1"}, "placed"),
        ({}, {"node": "node-1", "phase": "Running"}, "placed"),
        ({"suspend": True}, {"node": "node-1", "phase": "Running"}, "placed"),
    ],
)
def test_how_far_kubernetes_is(job: dict[str, Any], pod: dict[str, Any] | None, stage: str) -> None:
    pods = [] if pod is None else [make_pod("t", job_uid="j", **pod)]
    assert stages(jobs=[make_job("t", uid="j", queue="q", **job)], pods=pods) == {("q", stage): 1}


def refusal(job: str, text: str) -> EventRecord:
    message = f'Error creating: pods "x-abcde" is forbidden: {text}'
    return EventRecord(uid="e", about=job, kind="Job", reason="FailedCreate", message=message, warning=True, last="1")


QUOTA_TEXT = "exceeded quota: team, requested: pods=1, used: pods=3, limited: pods=3"


def test_what_a_quota_refused_waits_and_says_so() -> None:
    job = make_job("t", uid="j", queue="q")
    (place,) = places(jobs=[job], pods=[], in_flight={}, events=lambda _: [refusal("j", QUOTA_TEXT)])
    assert place.stage is Stage.WAITING
    assert "exceeded quota: team" in place.refused
    (place,) = places(
        jobs=[job], pods=[make_pod("t", job_uid="j")], in_flight={}, events=lambda _: [refusal("j", QUOTA_TEXT)]
    )
    assert (place.stage, place.refused) == (Stage.PLACED, ""), "over as soon as there is a pod"


def test_what_another_rule_refused_waits_and_stops_nobody() -> None:
    """It may be this task's image alone, and its patience ends."""
    job = make_job("t", uid="j", queue="q")
    text = 'violates PodSecurity "restricted:latest": runAsNonRoot'
    (place,) = places(jobs=[job], pods=[], in_flight={}, events=lambda _: [refusal("j", text)])
    assert (place.stage, place.refused) == (Stage.WAITING, "")


def test_of_job_and_pod_the_larger_use_counts() -> None:
    """An admission webhook may have changed the pod."""
    job = make_job("t", uid="j", uses=Uses(gpus=Decimal(1), cpus=Decimal(4)))
    pod = make_pod("t", job_uid="j", uses=Uses(gpus=Decimal(2)))
    (place,) = places(jobs=[job], pods=[pod], in_flight={})
    assert place.uses == Uses(gpus=Decimal(2), cpus=Decimal(4))


PHASES = st.sampled_from(["", "Pending", "Running", "Succeeded"])


@settings(deadline=None)
@given(
    steps=st.lists(
        st.dictionaries(
            st.sampled_from(["a", "b", "c"]),
            st.tuples(st.sampled_from(["", "open", "suspended", "over"]), PHASES, st.booleans()),
        ),
        max_size=6,
    )
)
def test_what_is_remembered_changes_nothing(steps: list[dict[str, tuple[str, str, bool]]]) -> None:
    """Jobs and pods come, change and go; ``booleans``: a quota has refused the pod."""
    known: Known = {}
    for number, step in enumerate(steps):
        jobs = [
            make_job(t, uid=f"j-{t}", finished="Complete" if job == "over" else "", suspend=job == "suspended")
            for t, (job, _, _) in step.items()
            if job
        ]
        pods = [
            make_pod(t, job_uid=f"j-{t}", uid=f"p-{t}", phase=phase, node=None if number % 2 else "n")
            for t, (_, phase, _) in step.items()
            if phase
        ]
        told = {f"j-{t}": [refusal(f"j-{t}", QUOTA_TEXT)] for t, (_, _, refused) in step.items() if refused}
        given: dict[str, Any] = {"jobs": jobs, "pods": pods, "in_flight": {"a": "q"}}
        given["events"] = lambda job, told=told: told.get(job.uid, [])
        assert Counter(places(**given, known=known)) == Counter(places(**given))
        assert known.keys() == {job.uid for job in jobs}


# ---- pods -----------------------------------------------------------------------------------------------------------


def test_places_are_what_the_limits_leave() -> None:
    found = left(queue("q", max_pods=5), queue("p"), taken=[*placed("q", 3), *placed("p", 2)], max_pods=6)
    assert (found.of("q"), found.of("p")) == (1, 1)
    assert left(queue("q", max_pods=4), taken=placed("q", 3), max_pods=100).of("q") == 1


def test_a_limit_below_what_runs_gives_no_room() -> None:
    found = left(queue("q", max_pods=1), taken=placed("q", 3), max_pods=1)
    assert found.of("q") == 0
    assert found.why("q") == "limit of 1 pods is reached (agentk8sglue.queues.q.queueSettings.maxPods)"


def test_without_limits_the_claims_under_way_are_limited() -> None:
    found = left(queue("q"), taken=placed("q", 50), max_pending_pods=5000)
    assert (found.of("q"), found.why("q")) == (MAX_IN_FLIGHT, "")


def test_a_queue_that_is_not_served_is_limited_with_all() -> None:
    found = left(queue("q"), taken=placed("gone", 3), max_pods=4)
    assert (found.of("gone"), found.of("q")) == (1, 1)


tasks_of = st.dictionaries(st.integers(0, 30).map("t{}".format), st.sampled_from(["q", "p"]), max_size=20)
limit = st.none() | st.integers(0, 12)


@settings(deadline=None)
@given(jobs=tasks_of, alone=tasks_of, flight=tasks_of, total=limit, one=limit, two=limit)
def test_room_is_what_the_limits_leave(
    jobs: dict[str, str],
    alone: dict[str, str],
    flight: dict[str, str],
    total: int | None,
    one: int | None,
    two: int | None,
) -> None:
    """``jobs`` have pods, too; ``alone`` are pods whose Job is gone, also of tasks that have another Job."""
    taken = places(
        jobs=[make_job(task, uid=f"j-{task}", queue=queue) for task, queue in jobs.items()],
        pods=[
            *(make_pod(t, job_uid=f"j-{t}", uid=f"p-{t}", queue=queue) for t, queue in jobs.items()),
            *(make_pod(t, job_uid=f"gone-{t}", uid=f"alone-{t}", queue=queue) for t, queue in alone.items()),
        ],
        in_flight=flight,
    )
    found = left(queue("q", max_pods=one), queue("p", max_pods=two), taken=taken, max_pods=total, max_pending_pods=999)
    coming = {task: queue for task, queue in flight.items() if task not in jobs}
    used = Counter([*jobs.values(), *alone.values(), *coming.values()])
    for key, most in (("q", one), ("p", two)):
        expected = [MAX_IN_FLIGHT]
        expected += [] if total is None else [max(0, total - used.total())]
        expected += [] if most is None else [max(0, most - used[key])]
        assert found.of(key) == min(expected)
        assert (found.why(key) == "") == (min(expected) > 0)


# ---- amounts --------------------------------------------------------------------------------------------------------


def test_gpus_of_a_queue_are_counted_as_its_pods_ask_for_them() -> None:
    taken = placed("q", uses=Uses(gpus=Decimal(5)))
    found = left(queue("q", max_gpus=8, template=gpus(2)), queue("p", template=gpus(2)), taken=taken)
    assert (found.of("q"), found.of("p")) == (1, PACE)
    full = left(queue("q", max_gpus=8, template=gpus(2)), taken=[*taken, *placed("q", uses=Uses(gpus=Decimal(2)))])
    where = "agentk8sglue.queues.q.queueSettings.maxGpus"
    assert full.why("q") == f"a task needs 2, and 1 of 8 GPUs are left ({where})"


def test_cpus_of_a_queue_are_what_its_pods_request() -> None:
    template = {"resources": {"requests": {"cpu": "500m"}, "limits": {"cpu": 2}}}
    found = left(queue("q", max_cpus=2.2, template=template), taken=placed("q", uses=Uses(cpus=Decimal("0.5"))))
    assert found.of("q") == 3
    sidecar = {"podSpec": {"containers": [{"name": "side", "resources": {"limits": {"cpu": "1500m"}}}]}}
    assert left(queue("q", max_cpus=4, template={**template, **sidecar})).of("q") == 2


def test_a_task_that_never_fits_says_so() -> None:
    found = left(queue("q", max_gpus=3, template=gpus(4)))
    where = "agentk8sglue.queues.q.queueSettings.maxGpus"
    assert found.why("q") == f"a task needs 4 GPUs, and the limit is 3 ({where})"


def test_a_queue_without_gpus_is_not_stopped_by_a_limit_on_them() -> None:
    assert left(queue("q", max_gpus=1), taken=placed("q", uses=Uses(gpus=Decimal(1)))).of("q") == PACE - 0


LABEL = "metadata|labels|required-resources"


def labelled(amount: str) -> dict[str, Any]:
    return {"labels": {"required-resources": amount}}


def test_the_documentations_example_of_monitored_resources() -> None:
    """Fractions in a label, 3 in all, whatever the queue."""
    monitored = MonitoredResources(max_resources=3, min_field=LABEL, max_field=LABEL)
    queues = (queue("half", template=labelled("0.5")), queue("whole", template=labelled("1")), queue("none"))
    found = left(*queues, monitored_resources=monitored)
    assert [found.of(q.id) for q in queues] == [6, 3, PACE]
    taken = [*placed("half", 3, uses=Uses(monitored=Decimal("0.5"))), *placed("whole", uses=Uses(monitored=Decimal(1)))]
    found = left(*queues, monitored_resources=monitored, taken=taken)
    assert [found.of(q.id) for q in queues] == [1, 0, PACE]
    where = "agentk8sglue.monitoredResources.maxResources"
    assert found.why("whole") == f"a task needs 1, and 0.5 of 3 monitored resources are left ({where})"


def test_monitored_resources_are_gpu_limits_by_default_and_off_with_0() -> None:
    assert left(queue("q", template=gpus(2)), monitored_resources=MonitoredResources(max_resources=5)).of("q") == 2
    assert left(queue("q", template=gpus(2)), monitored_resources=MonitoredResources()).of("q") == PACE


def test_of_both_fields_the_larger_amount_counts() -> None:
    monitored = MonitoredResources(
        max_resources=8, min_field="resources|requests|cpu", max_field="resources|limits|cpu"
    )
    template = {"resources": {"requests": {"cpu": 1}, "limits": {"cpu": 4}}}
    assert left(queue("q", template=template), monitored_resources=monitored).of("q") == 2
    assert (
        left(queue("q", template={"resources": {"requests": {"cpu": 2}}}), monitored_resources=monitored).of("q") == 4
    )


def test_what_is_no_amount_stops_what_is_counted_by_it() -> None:
    monitored = MonitoredResources(max_resources=3, min_field=LABEL, max_field=LABEL)
    bad, good, none = queue("bad", template=labelled("much")), queue("good", template=labelled("1")), queue("none")
    found = left(bad, good, none, monitored_resources=monitored)
    assert [found.of(q.id) for q in (bad, good, none)] == [0, 3, PACE]
    assert "metadata|labels|required-resources of its pod template is no amount" in found.why("bad")
    taken = placed("old", uses=Uses(unreadable=LABEL))
    found = left(good, none, monitored_resources=monitored, taken=taken)
    assert [found.of(q.id) for q in (good, none)] == [0, PACE], "the sum is not known"
    assert "the sum is not known" in found.why("good")


# ---- the pace of Kubernetes -----------------------------------------------------------------------------------------


def test_what_kubernetes_has_not_got_to_is_limited_over_all_queues() -> None:
    taken = [*placed("q", 20, stage=Stage.UNDECIDED), *placed("p", 5, stage=Stage.COMING)]
    assert left(queue("q"), queue("p"), taken=taken).of("p") == 5


def test_pods_without_a_node_stop_their_own_queue_alone() -> None:
    found = left(queue("q"), queue("p"), taken=placed("q", PACE, stage=Stage.WAITING))
    assert (found.of("q"), found.of("p")) == (0, PACE)
    assert found.why("q") == f"limit of {PACE} pods that wait for a node is reached (agentk8sglue.maxPendingPods)"


def test_what_is_suspended_is_apart() -> None:
    taken = placed("q", 100, stage=Stage.HELD)
    assert left(queue("q"), taken=taken).of("q") == PACE
    assert left(queue("q", max_pods=101), taken=taken).of("q") == 1, "but Kueue may start it at any time"


def test_what_waits_for_kueue_is_limited_in_its_queue_alone() -> None:
    """Else all tasks of a queue would stand as suspended Jobs, in an order that their users cannot change."""
    taken = placed("q", PACE - 2, stage=Stage.HELD)
    own = {"kueue": KueueConfig(queue_name="team")}
    found = left(queue("q", **own), queue("p", **own), taken=[*taken, *placed("q", 5)])
    assert (found.of("q"), found.of("p")) == (2, PACE)
    assert left(queue("q", **own, max_pending_pods=PACE - 2), taken=taken).why("q") == (
        f"limit of {PACE - 2} tasks that wait for Kueue or for a node is reached "
        "(agentk8sglue.queues.q.queueSettings.maxPendingPods)"
    )


def test_while_kueue_is_not_seen_nothing_is_taken_for_it() -> None:
    own = {"kueue": KueueConfig(queue_name="team")}
    found = left(queue("q", **own), queue("p"), kueue="Kueue is not installed")
    assert (found.of("q"), found.why("q"), found.of("p")) == (0, "Kueue is not installed", PACE)


def test_a_set_number_takes_the_place_of_the_pace() -> None:
    taken = placed("q", 3, stage=Stage.WAITING)
    assert left(queue("q"), taken=taken, max_pending_pods=5).of("q") == 2
    assert left(queue("q", max_pending_pods=40), taken=taken, max_pending_pods=50).of("q") == 37


# ---- quotas ---------------------------------------------------------------------------------------------------------


def quota(*scopes: Scope, used: dict[str, int] | None = None, **hard: Any) -> QuotaRecord:
    names = {name.replace("__", "/").replace("_", "."): Decimal(amount) for name, amount in hard.items()}
    taken = {name: Decimal(amount) for name, amount in (used or {}).items()}
    return QuotaRecord(uid="u", name="team", resource_version="1", hard=names, used=taken, scopes=scopes)


def test_a_quota_leaves_what_is_not_used_and_not_sure_to_come() -> None:
    taken = [*placed("q", 2, stage=Stage.COMING), *placed("q", 3)]
    found = left(queue("q"), taken=taken, quotas=(quota(pods=10, used={"pods": 4}),))
    assert found.of("q") == 4, "the three with a pod are in its own number"
    full = left(queue("q"), taken=taken, quotas=(quota(pods=6, used={"pods": 4}),))
    assert full.why("q") == "limit of 6 pods in the namespace is reached (ResourceQuota team)"


def test_pods_that_a_quota_has_not_told_of_yet_are_used() -> None:
    """Two watches: the pod may be seen before the quota's number that holds it."""
    found = left(queue("q"), taken=placed("q", 3), quotas=(quota(pods=4, used={"pods": 1}),))
    assert found.of("q") == 1


def test_what_is_suspended_uses_nothing_of_a_quota() -> None:
    """Kueue holds 20 Jobs of one queue: there is no pod of them, and the other queue goes on."""
    held = [make_job(f"t{n}", uid=f"j{n}", queue="q", suspend=True) for n in range(20)]
    ending = make_job("t", uid="j", queue="q", deleted="2026-01-15T07:00:00Z")
    taken = places(jobs=[*held, ending], pods=[], in_flight={})
    found = left(queue("q"), queue("p"), taken=taken, quotas=(quota(pods=20),))
    assert (found.of("p"), found.why("p")) == (20, "")
    jobs = QuotaRecord(uid="u", name="j", resource_version="1", hard={"count/jobs.batch": Decimal(25)}, used={})
    assert left(queue("q"), queue("p"), taken=taken, quotas=(jobs,)).of("p") == 4, "but the Jobs are there"


def test_a_quota_on_resources_counts_the_queues_pods() -> None:
    template = {"resources": {"requests": {"cpu": "500m", "nvidia.com/gpu": 2}, "limits": {"nvidia.com/gpu": 2}}}
    gpu_quota = QuotaRecord(
        uid="u", name="gpus", resource_version="1", hard={"requests.nvidia.com/gpu": Decimal(5)}, used={}
    )
    found = left(queue("q", template=template), queue("p"), quotas=(gpu_quota,))
    assert (found.of("q"), found.of("p")) == (2, PACE)
    assert left(queue("q", template=template), quotas=(quota(requests_cpu=2),)).of("q") == 4
    assert left(queue("q", template=template), quotas=(quota(cpu=3),)).of("q") == 6
    assert left(queue("q", template=template), quotas=(quota(limits_memory=3),)).of("q") == PACE


def test_a_quota_of_jobs_counts_those_that_are_not_made_yet() -> None:
    jobs = QuotaRecord(
        uid="u",
        name="n",
        resource_version="1",
        hard={"count/jobs.batch": Decimal(9)},
        used={"count/jobs.batch": Decimal(5)},
    )
    taken = [*placed("q", 3, stage=Stage.UNDECIDED, **{}), *placed("q", 2, stage=Stage.COMING)]
    assert left(queue("q"), taken=taken, quotas=(jobs,)).of("q") == 2


@pytest.mark.parametrize(
    ("scope", "template", "applies"),
    [
        (Scope(name="BestEffort"), {}, True),
        (Scope(name="BestEffort"), {"resources": {"limits": {"cpu": 1}}}, False),
        (Scope(name="NotBestEffort"), {"resources": {"limits": {"cpu": 1}}}, True),
        (Scope(name="Terminating"), {}, False),
        (Scope(name="Terminating"), {"activeDeadlineSeconds": 60}, True),
        (Scope(name="NotTerminating"), {}, True),
        (Scope(name="PriorityClass", operator="In", values=("low",)), {"priorityClassName": "low"}, True),
        (Scope(name="PriorityClass", operator="In", values=("low",)), {"priorityClassName": "high"}, False),
        (Scope(name="PriorityClass", operator="NotIn", values=("low",)), {"priorityClassName": "high"}, True),
        (Scope(name="PriorityClass", operator="Exists"), {}, False),
        (Scope(name="PriorityClass", operator="DoesNotExist"), {}, True),
        (Scope(name="CrossNamespacePodAffinity"), {}, False),
    ],
)
def test_a_quota_counts_for_the_pods_of_its_scope(scope: Scope, template: dict[str, Any], applies: bool) -> None:
    found = left(queue("q", template=template), quotas=(quota(scope, pods=0),))
    assert (found.of("q") == 0) is applies


def conditioned(key: str, template: dict[str, Any], *conditional: dict[str, Any], **values: Any) -> ResolvedQueue:
    found = queue(key, template=template, **values)
    those = tuple(ConditionalTemplate(when={"type": "a"}, template=one, place="p") for one in conditional)
    return replace(found, config=replace(found.config, conditional_templates=those))


def test_room_is_counted_for_the_largest_of_a_queues_templates() -> None:
    asks = conditioned("q", gpus(1), gpus(4), gpus(2), max_gpus=9)
    assert left(asks, taken=placed("q", uses=Uses(gpus=Decimal(1)))).of("q") == 2
    small, large = ({"resources": {"requests": {"cpu": number}}} for number in (1, 4))
    assert left(conditioned("c", large, small, max_cpus=9)).of("c") == 2


def test_a_quota_has_to_have_room_for_the_largest_template_and_each_pod_there_uses_its_own() -> None:
    resource = "requests.nvidia.com/gpu"
    asks = conditioned("q", gpus(1), gpus(4))
    measure = measure_of(limited(asks))
    one = measure({"spec": {"containers": [gpus(1)]}})
    for taken, used, room_left in ((0, 0, 4), (8, 8, 2), (8, 0, 2), (13, 13, 0)):
        limit = QuotaRecord(
            name="gpus", uid="u", resource_version="1", hard={resource: Decimal(16)}, used={resource: Decimal(used)}
        )
        assert left(asks, taken=placed("q", taken, uses=one), quotas=(limit,)).of("q") == room_left


def test_a_conditional_template_that_cannot_be_used_takes_nothing() -> None:
    found = left(conditioned("q", {}, {"nonsense": 1}))
    assert found.of("q") == 0
    assert "nonsense" in found.why("q")


def test_a_refusal_by_quota_stops_its_queue_alone() -> None:
    taken = placed("q", refused="Kubernetes does not take the pod: exceeded quota: team", stage=Stage.WAITING)
    found = left(queue("q"), queue("p"), taken=taken)
    assert (found.of("q"), found.of("p")) == (0, PACE)
    assert found.why("q") == "quota: Kubernetes does not take the pod: exceeded quota: team"


# ---- what is not known ----------------------------------------------------------------------------------------------


def test_nothing_is_taken_while_it_is_not_known_what_exists() -> None:
    found = left(queue("q"), queue("p", max_pods=3), unknown="the pods of the namespace are not listed yet")
    assert (found.of("q"), found.of("p")) == (0, 0)
    assert found.why("p") == "the pods of the namespace are not listed yet"


def test_a_template_that_cannot_be_used_takes_nothing() -> None:
    found = left(queue("q", template={"podSecurityContext": {}, "nonsense": 1}))
    assert found.of("q") == 0
    assert "nonsense" in found.why("q")
    assert Need().uses == NOTHING
