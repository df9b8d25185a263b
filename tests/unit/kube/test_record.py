"""The claim record: stored before it counts, one writer, nothing forgotten by accident."""

import asyncio
from dataclasses import replace

import pytest
from clearml_k8s.errors import Fenced, KubeUnanswered, RecordFull, Refused
from clearml_k8s.kube.record import Claim, ClaimRecord, Owed
from scripted_kube import Fault, status


def claim(task, queue="q1"):
    return Claim(task=task, queue=queue, mark="2026-01-01T00:00:00+00:00#1f", controller="abc")


def record(client, holder="one"):
    return ClaimRecord(client=client, namespace="ns", name="gpu-claims", holder=holder, labels={"a": "b"})


def data(cluster):
    return cluster.objects["configmaps"]["gpu-claims"].get("data", {})


async def test_created_when_missing_and_loaded_when_there(cluster, client):
    first = record(client)
    assert await first.open() == {}
    await first.add([claim("aa"), claim("bb")])
    assert set(data(cluster)) == {"aa", "bb"}
    meta = cluster.objects["configmaps"]["gpu-claims"]["metadata"]
    assert meta["annotations"] == {"clearml-k8s.io/holder": "one"}
    assert meta["labels"] == {"a": "b"}
    second = record(client, "two")
    assert await second.open() == {"aa": claim("aa"), "bb": claim("bb")}


async def test_forget(cluster, client):
    mine = record(client)
    await mine.open()
    await mine.add([claim("aa"), claim("bb")])
    await mine.forget(["aa", "none"])
    assert set(data(cluster)) == {"bb"}
    assert set(mine.claims) == {"bb"}


async def test_what_is_stored_already_costs_no_write(cluster, client):
    mine = record(client)
    await mine.open()
    await mine.add([claim("aa")])
    writes = len(cluster.of("PATCH"))
    await mine.add([claim("aa")])
    await mine.forget(["none"])
    assert len(cluster.of("PATCH")) == writes


async def test_concurrent_changes_go_out_together(cluster, client):
    mine = record(client)
    await mine.open()
    await asyncio.gather(*(mine.add([claim(f"t{number}")]) for number in range(50)))
    assert len(data(cluster)) == 50
    assert len(cluster.of("PATCH")) <= 3


async def test_forget_without_wait_goes_out_with_the_next_write(cluster, client):
    mine = record(client)
    await mine.open()
    await mine.add([claim("aa"), claim("bb")])
    writes = len(cluster.of("PATCH"))
    await mine.forget(["aa"], wait=False)
    assert len(cluster.of("PATCH")) == writes
    await mine.add([claim("cc")])
    assert set(data(cluster)) == {"bb", "cc"}
    assert len(cluster.of("PATCH")) == writes + 1
    await mine.forget(["bb"], wait=False)
    await mine.flush()
    assert set(data(cluster)) == {"cc"}


async def test_a_former_holder_is_fenced_at_its_next_write(cluster, client):
    old = record(client, "old")
    await old.open()
    await old.add([claim("aa")])
    new = record(client, "new")
    await new.open()
    with pytest.raises(Fenced, match="held by 'new'"):
        await old.add([claim("bb")])
    assert "bb" not in data(cluster)
    with pytest.raises(Fenced):
        await old.forget(["aa"])
    await new.add([claim("cc")])
    assert set(data(cluster)) == {"aa", "cc"}


async def test_nothing_is_written_before_open(client):
    with pytest.raises(Fenced, match="not opened"):
        await record(client).add([claim("aa")])


async def test_a_conflict_is_read_again_and_merged(cluster, client):
    mine = record(client)
    await mine.open()
    await mine.add([claim("aa")])
    # A person labels the object: a new version, the same holder.
    thing = cluster.objects["configmaps"]["gpu-claims"]
    thing["metadata"]["labels"]["x"] = "y"
    cluster._bump("configmaps", thing, "MODIFIED")
    await mine.add([claim("bb")])
    assert set(data(cluster)) == {"aa", "bb"}


async def test_a_write_in_doubt_counts_as_not_stored_and_is_settled_by_the_next(cluster, client):
    mine = record(client)
    await mine.open()
    cluster.fault("PATCH", Fault(drop=True, after=True))
    with pytest.raises(KubeUnanswered):
        await mine.add([claim("aa")])
    assert "aa" not in mine.claims
    await mine.add([claim("bb")])
    assert set(data(cluster)) == {"aa", "bb"}
    assert set(mine.claims) == {"aa", "bb"}


async def test_all_callers_of_a_failed_batch_hear_of_it(cluster, client):
    mine = record(client)
    await mine.open()
    cluster.fault("PATCH", *[Fault(code=500)] * 3)
    results = await asyncio.gather(*(mine.add([claim(f"t{i}")]) for i in range(20)), return_exceptions=True)
    failed = [f"t{i}" for i, result in enumerate(results) if isinstance(result, KubeUnanswered)]
    assert failed
    assert set(data(cluster)) == {f"t{i}" for i in range(20)} - set(failed)


async def test_a_failed_forget_is_not_lost(cluster, client):
    mine = record(client)
    await mine.open()
    await mine.add([claim("aa")])
    cluster.fault("PATCH", Fault(code=500))
    with pytest.raises(KubeUnanswered):
        await mine.forget(["aa"])
    await mine.add([claim("bb")])
    assert set(data(cluster)) == {"bb"}


async def test_a_claim_made_anew_after_a_failed_forget_stays(cluster, client):
    mine = record(client)
    await mine.open()
    await mine.add([claim("aa")])
    cluster.fault("PATCH", Fault(code=500))
    with pytest.raises(KubeUnanswered):
        await mine.forget(["aa"])
    await mine.add([claim("aa", queue="q2")])
    assert mine.claims["aa"].queue == "q2"
    assert "q2" in data(cluster)["aa"]


async def test_a_write_without_an_answer_cannot_land_after_the_next_one(cluster, client):
    """Also where the next one has nothing to change: the forget is on its way, the claim is made anew."""
    mine = record(client)
    await mine.open()
    await mine.add([claim("aa")])
    cluster.fault("PATCH", Fault(drop=True))
    with pytest.raises(KubeUnanswered):
        await mine.forget(["aa"])
    late = cluster.of("PATCH")[-1]
    assert late.body["data"] == {"aa": None}
    await mine.add([claim("aa")])
    code, _ = cluster._patch("configmaps", cluster.objects["configmaps"]["gpu-claims"], late)
    assert code == 409
    assert set(data(cluster)) == set(mine.claims) == {"aa"}
    writes = len(cluster.of("PATCH"))
    await mine.add([claim("aa")])
    assert len(cluster.of("PATCH")) == writes


async def test_a_record_deleted_by_hand_is_written_again(cluster, client):
    mine = record(client)
    await mine.open()
    await mine.add([claim("aa")])
    cluster.drop("configmaps", "gpu-claims")
    await mine.add([claim("bb")])
    assert set(data(cluster)) == {"aa", "bb"}


async def test_two_that_open_at_once_end_with_one_holder(cluster, client):
    records = [record(client, f"h{number}") for number in range(4)]
    await asyncio.gather(*(one.open() for one in records))
    results = await asyncio.gather(*(one.add([claim("aa")]) for one in records), return_exceptions=True)
    assert sum(result is None for result in results) == 1
    assert sum(isinstance(result, Fenced) for result in results) == 3


async def test_a_full_record_refuses_and_still_forgets(cluster, client):
    mine = record(client)
    await mine.open()
    await mine.add([claim(f"{number:032}", queue="q" * 2000) for number in range(400)])
    with pytest.raises(RecordFull):
        await mine.add([claim(f"x{number}", queue="q" * 2000) for number in range(100)])
    await mine.forget([f"{number:032}" for number in range(200)])
    await mine.add([claim("y")])


async def test_what_cannot_be_read_is_left_alone(cluster, client):
    mine = record(client)
    await mine.open()
    cluster.objects["configmaps"]["gpu-claims"]["data"] = {"hand": "made", "aa": "[]"}
    assert await record(client, "two").open() == {}
    assert set(data(cluster)) == {"hand", "aa"}


async def test_forbidden_is_refused(cluster, client):
    cluster.fault("GET", Fault(code=403, status=status(403, "Forbidden", "cannot get configmaps")))
    with pytest.raises(Refused):
        await record(client).open()


async def test_a_cancelled_write_is_doubt_for_those_who_share_it(cluster, client):
    mine = record(client)
    await mine.open()

    async def patches(count):
        async with asyncio.timeout(5):
            while len(cluster.of("PATCH")) < count:
                await asyncio.sleep(0.001)

    cluster.fault("PATCH", Fault(stall=True), Fault(stall=True))
    first = asyncio.create_task(mine.add([claim("aa")]))
    await patches(1)
    second, third = (asyncio.create_task(mine.add([claim(task)])) for task in ("bb", "cc"))
    await asyncio.sleep(0)
    first.cancel()
    await patches(2)
    second.cancel()
    with pytest.raises(KubeUnanswered):
        await third
    for task in (first, second):
        with pytest.raises(asyncio.CancelledError):
            await task
    await mine.add([claim("dd")])
    assert "dd" in mine.claims


def owed(task, **changes):
    return replace(Owed(task=task, attempt="2026-01-01T00:00:00+00:00", queue="gpu", number=1), **changes)


async def test_what_is_owed_stands_beside_the_claims(cluster, client):
    mine = record(client)
    await mine.open()
    await mine.add([claim("aa")])
    await mine.owe([owed("aa"), owed("bb", number=2, delete=True)])
    assert set(data(cluster)) == {"aa", "owed.aa", "owed.bb"}
    await mine.forget(["aa"])
    await mine.owe([owed("bb", number=2, delete=True, applied=True)])
    second = record(client, "two")
    assert await second.open() == {}
    assert second.owed == {"aa": owed("aa"), "bb": owed("bb", number=2, delete=True, applied=True)}
    await second.disown(["aa", "none"])
    assert set(data(cluster)) == {"owed.bb"}
    cluster.drop("configmaps", "gpu-claims")
    await second.add([claim("cc")])
    assert set(data(cluster)) == {"owed.bb", "cc"}, "written again with the rest"


async def test_what_is_owed_anew_after_a_failed_write_stays(cluster, client):
    mine = record(client)
    await mine.open()
    await mine.owe([owed("aa")])
    cluster.fault("PATCH", Fault(code=500))
    with pytest.raises(KubeUnanswered):
        await mine.disown(["aa"])
    await mine.owe([owed("aa", attempt="later")])
    assert mine.owed["aa"].attempt == "later"
    assert "later" in data(cluster)["owed.aa"]


async def test_what_is_owed_counts_for_the_size(cluster, client):
    mine = record(client)
    await mine.open()
    await mine.owe([owed(f"{number:032}", queue="q" * 2000) for number in range(400)])
    with pytest.raises(RecordFull, match="commands for 400 pods"):
        await mine.add([claim(f"x{number}", queue="q" * 2000) for number in range(100)])
    await mine.disown([f"{number:032}" for number in range(200)])
    await mine.add([claim("y")])


@pytest.mark.parametrize("text", ["{}", "[]", '{"attempt": "a", "queue": 1, "number": 1}', "x", '{"attempt": "a"}'])
async def test_what_cannot_be_read_of_what_is_owed_is_left_alone(cluster, client, text):
    good = '{"attempt":"a","queue":"q","number":1}'
    cluster.put("configmaps", "gpu-claims", data={"owed.aa": text, "owed.NO.TASK": good, "owed.bb": good})
    mine = record(client)
    await mine.open()
    assert set(mine.owed) == {"bb"}
    await mine.add([claim("cc")])
    assert data(cluster)["owed.aa"] == text
