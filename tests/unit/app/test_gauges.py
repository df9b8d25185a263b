"""Gauges are read at the scrape, from what there is; who does not lead, or does not know, shows none."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from clearml_k8s import metrics
from clearml_k8s.app.gauges import StateGauges
from clearml_k8s.clearml.health import State as Health
from clearml_k8s.config import QueueConfig, QueueSettings
from clearml_k8s.flow import needs
from clearml_k8s.flow.lengths import FRESH_SECONDS, QueueLengths
from clearml_k8s.flow.needs import Need
from clearml_k8s.flow.poll import Poller
from clearml_k8s.kube.uses import Measure, Uses
from clearml_k8s.kube.watch import Upsert
from clearml_k8s.report.discovery import Summary
from clearml_server.process import DevServer
from flow_parts import Side, make_config, make_job, make_pod
from prometheus_client import CollectorRegistry, generate_latest
from scripted_kube import Cluster


class Scrape:
    """A controller's parts beside its claiming side; `of` is what a scrape shows of one name, by its labels."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.leads, self.known = True, True
        self.pods = side.pods
        self.nodes: Summary | None = Summary(
            gpus=16, gpus_usable=8, counts_cpus=True, cpus_milli=40_500, cpus_milli_usable=32_000
        )
        self.poller = Poller(
            config=side.config,
            session=side.session,
            served=side.served,
            claims=side.claims,
            book=side.book,
            counting=side.counting,
            needs=side.needs,
            teller=side.teller,
            may_take=lambda: True,
        )
        self.lengths = QueueLengths(session=side.session, served=side.served)
        self.parts: Any = SimpleNamespace(
            session=side.session,
            served=side.served,
            poller=self.poller,
            counting=side.counting,
            reports=SimpleNamespace(seen=lambda: self.nodes),
            lengths=self.lengths,
            book=side.book,
            adopted=side.adopted,
            cluster=SimpleNamespace(jobs=side.jobs, pods=self.pods, known=lambda: self.known),
        )
        self.registry = CollectorRegistry()
        self.registry.register(StateGauges(parts=lambda: self.parts, leads=lambda: self.leads))

    def all(self) -> dict[str, dict[tuple[str, ...], float]]:
        return {
            family.name.removeprefix("clearml_k8s_"): {
                tuple(sample.labels.values()): sample.value for sample in family.samples
            }
            for family in self.registry.collect()
        }

    def of(self, name: str) -> dict[tuple[str, ...], float]:
        return self.all().get(name, {})

    def job(self, name: str, *, queue: str | None, **fields: Any) -> None:
        self.side.jobs.apply(Upsert(item=make_job(name, uid=f"job-{name}", queue=queue, **fields)))

    def pod(self, name: str, *, queue: str | None, phase: str) -> None:
        pod = make_pod(name, uid=f"pod-{name}", job_uid=f"job-{name}", queue=queue, phase=phase)
        self.pods.apply(Upsert(item=pod))


@pytest.fixture
async def scrape(server: DevServer, cluster: Cluster) -> AsyncIterator[Scrape]:
    """Two queues, one with a limit, and one that is not there."""
    server.create_queue("gpu")
    server.create_queue("cpu")
    queues = {
        "gpu": QueueConfig(name="gpu", settings=QueueSettings(max_pods=4, max_gpus=8)),
        server.queue_id("cpu"): QueueConfig(name=server.queue_id("cpu")),
        "missing": QueueConfig(name="missing"),
    }
    config = make_config(api_server=server.url, queues=queues)
    side = Side(server=server, cluster=cluster, config=dataclasses.replace(config, max_pods=9, max_pending_pods=50))
    await side.start()
    yield Scrape(side)
    await side.close()


GPU = "agentk8sglue.queues.gpu.queueSettings"


def limits(scrape: Scrape) -> dict[tuple[str, ...], tuple[float, float]]:
    """By queue, limit and setting: what is used, and of how much."""
    used, most = scrape.of("limit_used"), scrape.of("limit")
    assert used.keys() == most.keys()
    return {labels: (used[labels], most[labels]) for labels in most}


async def test_what_there_is(scrape: Scrape, server: DevServer) -> None:
    gpu, cpu = server.queue_id("gpu"), server.queue_id("cpu")
    for name, queue, phase, fields in (
        ("a", gpu, "Running", {}),
        ("b", gpu, "Pending", {}),
        ("c", gpu, "", {"suspend": True}),
        ("d", cpu, "Succeeded", {"finished": "Complete"}),
        ("e", "id-of-another", "Running", {}),
        ("f", None, "Strange", {}),
    ):
        scrape.job(name, queue=queue, **fields)
        if phase:
            scrape.pod(name, queue=queue, phase=phase)
    assert scrape.of("queue_places_used") == {("gpu",): 3, (cpu,): 0, ("",): 2}
    assert scrape.of("queue_room") == {("gpu",): 1, (cpu,): 4}
    assert limits(scrape) == {
        ("gpu", "pods", f"{GPU}.maxPods"): (3, 4),
        ("gpu", "gpus", f"{GPU}.maxGpus"): (0, 8),
        ("gpu", "pending-pods", "agentk8sglue.maxPendingPods"): (0, 50),
        (cpu, "pending-pods", "agentk8sglue.maxPendingPods"): (0, 50),
        ("", "pods", "agentk8sglue.maxPods"): (5, 9),
        ("", "undecided-jobs", "agentk8sglue.maxPendingPods"): (0, 50),
    }
    pods = {labels: number for labels, number in scrape.of("pods").items() if number}
    assert pods == {
        ("gpu", "Running"): 1,
        ("gpu", "Pending"): 1,
        (cpu, "Succeeded"): 1,
        ("", "Running"): 1,
        ("", "Unknown"): 1,
    }
    waiting = {labels: number for labels, number in scrape.of("jobs_not_running").items() if number}
    assert waiting == {("gpu", "starting"): 1, ("gpu", "suspended"): 1, ("", "starting"): 1}
    # What is 0 is shown, so that it can be told from what is not known.
    assert scrape.of("jobs_not_running")[(cpu, "starting")] == 0
    assert scrape.of("pods")[("gpu", "Failed")] == 0
    assert scrape.of("queue_state") == {("gpu", "served"): 1, (cpu, "served"): 1, ("missing", "missing"): 1}


async def test_the_queues(scrape: Scrape, server: DevServer) -> None:
    assert scrape.of("queue_entries") == {}
    cpu = server.queue_id("cpu")
    server.bulk_tasks(3, queue="gpu")
    await scrape.lengths.look()
    assert scrape.of("queue_entries") == {("gpu",): 3, (cpu,): 0}
    oldest = scrape.lengths.known()["gpu"].oldest
    assert oldest is not None
    # The server's clock is ahead of this one, or behind it.
    now = scrape.side.clock.now()
    assert scrape.of("queue_oldest_entry_age_seconds") == {
        ("gpu",): max(0.0, (now - oldest).total_seconds()),
        (cpu,): 0.0,
    }
    await scrape.side.clock.advance(FRESH_SECONDS + 1)
    assert scrape.of("queue_entries") == scrape.of("queue_oldest_entry_age_seconds") == {}


async def test_the_age_is_that_of_now(scrape: Scrape, monkeypatch: pytest.MonkeyPatch, server: DevServer) -> None:
    server.bulk_tasks(1, queue="gpu")
    await scrape.lengths.look()
    oldest = scrape.lengths.known()["gpu"].oldest
    assert oldest is not None
    monkeypatch.setattr(scrape.side.clock, "now", lambda: datetime.fromtimestamp(oldest.timestamp() + 90, UTC))
    assert scrape.of("queue_oldest_entry_age_seconds")[("gpu",)] == pytest.approx(90)


async def test_claims_under_way_take_places(scrape: Scrape, server: DevServer) -> None:
    scrape.side.book.begin([SimpleNamespace(task=SimpleNamespace(id="t"), queue=scrape.side.served.all_found()[0])])  # type: ignore[list-item]
    assert scrape.of("claims_in_flight") == {(): 1}
    assert scrape.of("queue_places_used")[("gpu",)] == 1


async def test_a_standby_shows_nothing(scrape: Scrape) -> None:
    assert scrape.all() != {}
    scrape.leads = False
    assert scrape.all() == {}
    scrape.leads, scrape.parts = True, None
    assert scrape.all() == {}


OF_THE_CLUSTER = {"queue_room", "queue_places_used", "claims_in_flight", "pods", "jobs_not_running"} | {
    "queue_gpus_used",
    "limit",
    "limit_used",
}


async def test_nothing_of_a_cluster_that_is_not_known(scrape: Scrape) -> None:
    known = set(scrape.all())
    scrape.known = False
    assert known - set(scrape.all()) == OF_THE_CLUSTER
    assert scrape.of("api_healthy") == {("clearml",): 1, ("kubernetes",): 0}


async def test_a_server_that_is_away(scrape: Scrape) -> None:
    scrape.side.session.health.failed(Health.UNREACHABLE, "no route")
    assert scrape.of("api_healthy") == {("clearml",): 0, ("kubernetes",): 1}


async def test_a_queue_that_nothing_opens(scrape: Scrape, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its state is not "served", though nothing is wrong with the queue itself; what is not known closes none."""
    strange = Measure(fields=(("metadata", "labels", "x"),))
    uses = strange({"metadata": {"labels": {"x": "many"}}})
    need = Need(uses=dataclasses.replace(uses, monitored=Decimal(1)), problem="no amount")
    monkeypatch.setattr(needs, "need_of", lambda *_, **__: need)
    cpu = scrape.side.server.queue_id("cpu")
    assert scrape.of("queue_state") == {("gpu", "closed"): 1, (cpu, "closed"): 1, ("missing", "missing"): 1}
    scrape.known = False
    assert scrape.of("queue_state") == {("gpu", "served"): 1, (cpu, "served"): 1, ("missing", "missing"): 1}


async def test_the_last_poll(scrape: Scrape) -> None:
    assert scrape.of("last_poll_timestamp_seconds") == {}
    scrape.poller.last_round = datetime.fromtimestamp(1_800_000_000, UTC)
    assert scrape.of("last_poll_timestamp_seconds") == {(): 1_800_000_000}


async def test_every_gauge_is_shown_and_no_other(scrape: Scrape, server: DevServer) -> None:
    await scrape.lengths.look()
    scrape.poller.last_round = scrape.side.clock.now()
    assert set(scrape.all()) == {m.name.removeprefix(metrics.PREFIX) for m in metrics.ALL if m.state}
    assert all(line.startswith((b"#", b"clearml_k8s_")) for line in generate_latest(scrape.registry).splitlines())


async def test_gpus_of_the_nodes_and_of_the_pods(scrape: Scrape, server: DevServer) -> None:
    scrape.job("a", queue=server.queue_id("gpu"), uses=Uses(gpus=Decimal(2)))
    scrape.job("b", queue=server.queue_id("cpu"), uses=Uses(gpus=Decimal(1)))
    assert scrape.of("gpus") == {("all",): 16.0, ("usable",): 8.0}
    assert scrape.of("queue_gpus_used") == {("gpu",): 2.0, (server.queue_id("cpu"),): 1.0}
    assert limits(scrape)["gpu", "gpus", f"{GPU}.maxGpus"] == (2, 8)
    assert scrape.of("cpus") == {("all",): 40.5, ("usable",): 32.0}
    scrape.nodes = Summary(counts_gpus=False)
    assert scrape.of("gpus") == scrape.of("cpus") == {}
    scrape.nodes = None
    assert scrape.of("gpus") == {}


async def test_a_queue_made_anew_has_what_is_there_of_its_name(scrape: Scrape, server: DevServer) -> None:
    """Its limits would leak else."""
    for name, queue_name in (("a", "gpu"), ("b", "gpu"), ("c", "unknown")):
        scrape.job(name, queue="id-of-the-old-one", queue_name=queue_name, uses=Uses(gpus=Decimal(2)))
        pod = make_pod(
            name, uid=f"pod-{name}", job_uid=f"job-{name}", queue="id-of-the-old-one", queue_name=queue_name,
            phase="Running",
        )  # fmt: skip
        scrape.pods.apply(Upsert(item=pod))
    assert scrape.of("queue_places_used")[("gpu",)] == 2
    assert limits(scrape)["gpu", "gpus", f"{GPU}.maxGpus"] == (4, 8)
    assert scrape.of("pods")[("gpu", "Running")] == 2
    assert scrape.of("pods")[("", "Running")] == 1
    assert scrape.of("queue_room")[("gpu",)] == 2


async def test_few_series_whatever_the_number_of_tasks(scrape: Scrape, server: DevServer) -> None:
    """Of both kinds, for each queue: docs/metrics.md says some 130."""
    await scrape.lengths.look()

    def series() -> int:
        texts = (generate_latest(scrape.registry), generate_latest(scrape.side.metrics.registry))
        return sum(1 for text in texts for line in text.splitlines() if b'queue="gpu"' in line)

    before = series()
    assert before <= 140
    for number in range(500):
        scrape.job(f"{number}", queue=server.queue_id("gpu"))
        scrape.pod(f"{number}", queue=server.queue_id("gpu"), phase="Running")
    assert series() == before
