"""Records found by task, which tasks a change makes dirty, and what is known of the gone."""

from clearml_k8s.kube.slim import slim_job, slim_pod
from clearml_k8s.kube.store import Store
from clearml_k8s.kube.watch import Gone, Listed, Upsert
from kube_objects import TASK, job, pod


def store():
    dirty = []
    return Store(dirty=dirty.append), dirty


def test_the_first_list_syncs():
    records, dirty = store()
    assert not records.synced.is_set()
    records.apply(Listed(items=(slim_job(job()),)))
    assert records.synced.is_set()
    assert dirty == [TASK]
    assert records.of_task(TASK)[0].uid == "j1"
    assert records.named(f"clearml-id-{TASK}").uid == "j1"


def test_a_new_list_is_diffed():
    records, dirty = store()
    one, two = slim_job(job("j1", "aa")), slim_job(job("j2", "bb"))
    records.apply(Listed(items=(one, two)))
    dirty.clear()
    records.apply(Listed(items=(two, slim_job(job("j3", "cc")))))
    assert sorted(dirty) == ["aa", "cc"]
    assert records.tasks() == {"bb", "cc"}
    assert len(records) == 2


def test_a_job_made_again_under_its_name():
    records, _ = store()
    old, new = slim_job(job("j1")), slim_job(job("j2"))
    records.apply(Upsert(item=old))
    records.apply(Upsert(item=new))
    assert {record.uid for record in records.of_task(TASK)} == {"j1", "j2"}
    records.apply(Gone(item=old))
    assert records.named(new.name) == new
    assert records.of_task(TASK) == (new,)
    records.apply(Gone(item=new))
    assert records.named(new.name) is None
    assert records.of_task(TASK) == ()
    assert records.tasks() == frozenset()


def test_an_event_without_a_change_makes_nothing_dirty():
    records, dirty = store()
    records.apply(Upsert(item=slim_job(job())))
    records.apply(Upsert(item=slim_job(job())))
    records.apply(Gone(item=slim_job(job("other"))))
    assert dirty == [TASK]


def test_what_a_write_answered_is_known_at_once_and_never_overwrites():
    records, _ = store()
    records.note(slim_job(job()))
    assert len(records.of_task(TASK)) == 1
    records.apply(Upsert(item=slim_job(job(conditions=[{"type": "Complete", "status": "True"}]))))
    records.note(slim_job(job()))
    assert records.get("j1").finished


def test_iterating_survives_changes():
    records, _ = store()
    records.apply(Listed(items=(slim_job(job("j1", "aa")), slim_job(job("j2", "bb")))))
    for record in records:
        records.apply(Gone(item=record))
    assert len(records) == 0


def test_the_last_states_of_the_gone_are_kept_until_nobody_asks():
    dirty = []
    records = Store(dirty=dirty.append, keep_gone=True)
    records.apply(Listed(items=(slim_pod(pod("p1")), slim_pod(pod("p2", phase="Running")))))
    records.apply(Gone(item=slim_pod(pod("p2", phase="Failed"))))
    records.apply(Listed(items=()))
    assert [(record.uid, record.phase) for record in records.gone_of_task(TASK)] == [("p2", "Failed"), ("p1", "Failed")]
    assert records.of_task(TASK) == ()
    assert dirty[-1] == TASK
    records.forget(TASK)
    records.forget(TASK)
    assert records.gone_of_task(TASK) == ()


def test_nothing_gone_is_kept_unasked():
    records, _ = store()
    records.apply(Upsert(item=slim_pod(pod())))
    records.apply(Gone(item=slim_pod(pod())))
    assert records.gone_of_task(TASK) == ()
