"""The claim of ADR 0002: mark, read back, record, take, show, create, forget.

One request at a time for each task; a request without an answer, or a take that found nothing, leaves the task alone
for a grace. The record is written before the take, so whatever happens afterwards is found again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace

from clearml_k8s.clearml import queues, tasks
from clearml_k8s.clearml.session import Session
from clearml_k8s.errors import ClearMLK8sError, Fenced, Refused, Unanswered
from clearml_k8s.flow.batch import each, gathered
from clearml_k8s.flow.book import ClaimBook
from clearml_k8s.flow.choose import Candidate
from clearml_k8s.flow.launch import Launch, Launched, Launcher
from clearml_k8s.flow.marking import Marking
from clearml_k8s.flow.measures import Measures
from clearml_k8s.flow.owner_tokens import REFUSED_SECONDS, OwnerTokens
from clearml_k8s.flow.returning import Returned, Returning
from clearml_k8s.flow.served import ServedQueues
from clearml_k8s.flow.taking import Taking
from clearml_k8s.flow.tell import Teller
from clearml_k8s.kube.record import Claim, ClaimRecord
from clearml_k8s.logs import kv

log = logging.getLogger(__name__)

GIVEN_BACK = (Launch.NOT_NOW, Launch.IN_THE_WAY)

IN_THE_WAY_SECONDS = 15.0
"""How long a task is not looked at again whose Job's name is taken."""

SHOW_SECONDS = 3.0

TELL_AT_DOUBT = 2
"""The doubt in a row about its Job at which the task's user is told why nothing happens."""


class Claims:
    """The steps of all claims of this controller."""

    def __init__(
        self,
        *,
        session: Session,
        record: ClaimRecord,
        book: ClaimBook,
        marking: Marking,
        returning: Returning,
        launcher: Launcher,
        served: ServedQueues,
        teller: Teller,
        measures: Measures,
        controller: str,
        stop: asyncio.Event,
        owners: OwnerTokens | None = None,
    ) -> None:
        """``stop``: set once the process is told to end; ``owners``: where pods get tokens of them."""
        self._owners = owners
        self._session = session
        self._record = record
        self._book = book
        self._marking = marking
        self._returning = returning
        self._launcher = launcher
        self._served = served
        self._teller = teller
        self._measures = measures
        self._controller = controller
        self._stop = stop
        self.launched = 0

    # ---- the claim of a batch -------------------------------------------------------------------------------------

    async def claim(self, candidates: Sequence[Candidate]) -> int:
        """Claim the entries, which the book counts as begun, and create their Jobs; returns how many were launched.

        Raises Fenced alone.
        """
        try:
            found = await tasks.get_many(self._session, [c.task for c in candidates])
            wanted = [self._marking.wanted(found.get(c.task), c.task, c.queue) for c in candidates]
            takings = await self._owned([taking for taking in wanted if taking is not None])
            await each(self._book, [t for t in takings if self._marking.has_job(t)], self._clean)
            takings = await self._marked([t for t in takings if not self._marking.has_job(t)])
            takings = await self._recorded(takings)
            takings = await self._taken(takings)
            await each(self._book, takings, self._show)
            return await self._created(takings)
        except Fenced:
            raise
        except ClearMLK8sError as error:
            log.warning("claim given up", extra=kv(task=_ids(c.task for c in candidates), why=str(error)))
            return self._passed_over(candidates)
        except Exception:
            log.exception("a claim failed", extra=kv(task=_ids(c.task for c in candidates)))
            return self._passed_over(candidates)
        finally:
            self._book.end(candidate.task for candidate in candidates)

    def _passed_over(self, candidates: Sequence[Candidate]) -> int:
        """None was launched; their entries are not looked at for a while."""
        for candidate in candidates:
            self._book.skip(candidate.task)
        return 0

    async def claim_absent(self, takings: Iterable[Taking]) -> None:
        """Mark and record tasks that stood in no queue for a grace; a second grace follows before their Jobs."""
        ready = [t for t in takings if not self._book.busy(t.task.id)]
        self._book.begin(ready)
        try:
            for taking in await self._recorded(await self._marked(ready)):
                self._book.hold(taking, "found in no queue, now recorded as ours")
        except Fenced:
            raise
        except ClearMLK8sError as error:
            log.warning("claim given up", extra=kv(task=_ids(t.task.id for t in ready), why=str(error)))
        finally:
            self._book.end(taking.task.id for taking in ready)

    async def resume(self, takings: Sequence[Taking]) -> None:
        """Create the Jobs of tasks whose entries we took before a doubt or a restart."""
        self._book.begin(takings)
        try:
            await self._created(takings)
        finally:
            self._book.end(taking.task.id for taking in takings)

    async def give_up(self, takings: Sequence[Taking], *, why: str) -> None:
        """Put tasks back that were taken before a doubt or a restart, and whose Jobs are not to be made any more."""
        self._book.begin(takings)
        try:
            back = [t for t in takings if not await self._launcher.standing(t.task)]
            await self._returning.give_back([Returned(taking=t, why=why) for t in back])
        finally:
            self._book.end(taking.task.id for taking in takings)

    async def let_go(self, takings: Sequence[Taking]) -> None:
        """Free tasks of which we know nothing but our mark, once the grace is over: nothing of ours can land any more,
        so a Job that is not there never comes. Raises Fenced alone."""
        self._book.begin(takings)
        try:
            await gathered(takings, self._free)
        finally:
            self._book.end(taking.task.id for taking in takings)

    async def release(self) -> None:
        """The last step of an orderly end: take our marks away from what we have not taken."""
        marks = self._book.idle_marks()
        await gathered(marks, lambda task: self._returning.unmark(task, queue=marks[task]))

    # ---- steps ----------------------------------------------------------------------------------------------------

    async def _free(self, taking: Taking) -> None:
        """Take our mark away, unless a create that got no answer has made the Job."""
        try:
            if await self._launcher.standing(taking.task):
                self._book.unmarked(taking.task.id)  # which stays, as there is more of us
            else:
                await self._returning.free(taking)
        except (Refused, Unanswered) as error:
            self._book.hold(taking, f"our mark is not taken away yet: {error}", doubt=True)

    async def _clean(self, taking: Taking) -> None:
        """The Job of this attempt is there, so the entry is one too many."""
        try:
            await queues.remove_task(self._session, taking.queue.id, taking.task.id)
        except Refused as error:
            log.debug("entry beside its Job not taken out: %s", error)
        except Unanswered as error:
            self._book.hold(taking, str(error), doubt=True)

    async def _owned(self, takings: Sequence[Taking]) -> list[Taking]:
        """Those that can run as their owners, where they are to; the others stay where they are. Errors as
        `Session.call`."""
        owners = self._owners
        if owners is None:
            return list(takings)
        each_owner = {(t.task.user, t.task.company): t.task for t in takings}
        refusals = dict(zip(each_owner, await gathered(each_owner.values(), owners.refusal), strict=True))
        allowed = []
        for taking in takings:
            task, why = taking.task, refusals[taking.task.user, taking.task.company]
            if not why:
                allowed.append(taking)
                continue
            self._book.skip(task.id, seconds=REFUSED_SECONDS)
            self._teller.say(task.id, f"Waiting in queue {taking.queue.name}: {why}", level="WARNING")
            log.warning("task not taken", extra=kv(task=task.id, queue=taking.queue.name, why=why))
        return allowed

    async def _marked(self, takings: Sequence[Taking]) -> list[Taking]:
        """Steps 1 and 2; none after the order to stop."""
        if self._stop.is_set():
            return []
        return await self._unless_stopped(await self._marking.marked(takings))

    async def _unless_stopped(self, takings: Sequence[Taking]) -> list[Taking]:
        """The takings; after the order to stop none, and each is freed at once: time for it may be short later."""
        if not self._stop.is_set():
            return list(takings)
        await each(self._book, takings, lambda t: self._returning.unmark(t.task.id, queue=t.queue.id))
        return []

    async def _recorded(self, takings: Sequence[Taking]) -> list[Taking]:
        """Step 3: one write for all."""
        if not takings:
            return []
        self._book.keep(t.task.id for t in takings)
        try:
            await self._record.add(
                Claim(task=t.task.id, queue=t.queue.id, mark=self._marking.value(t), controller=self._controller)
                for t in takings
            )
        except Fenced:
            raise
        except ClearMLK8sError as error:
            log.warning("claims not recorded, nothing is taken", extra=kv(tasks=len(takings), why=str(error)))
            for taking in takings:
                if isinstance(error, Unanswered):
                    self._book.hold(taking, "perhaps recorded", doubt=True)
                    if taking.absent:
                        self._book.perhaps_recorded(taking)
                else:
                    self._book.skip(taking.task.id)
            await self._unless_stopped(takings)
            return []
        return await self._unless_stopped(takings)

    async def _taken(self, takings: Sequence[Taking]) -> list[Taking]:
        """Step 4."""
        taken = zip(takings, await each(self._book, takings, self._take), strict=True)
        now = self._session.clock.now().isoformat()
        return [replace(taking, taken=now) for taking, done in taken if done]

    async def _take(self, taking: Taking) -> bool:
        if self._stop.is_set() or not self._session.health.healthy:
            # The first half-way failure ends all takes, and so does the end; nothing was sent for this one.
            await self._book.forget(taking.task.id)
            await self._unless_stopped([taking])
            return False
        try:
            if await queues.remove_task(self._session, taking.queue.id, taking.task.id):
                return True
        except Refused as error:
            log.info("entry not taken", extra=kv(task=taking.task.id, queue=taking.queue.name, why=str(error)))
            self._book.skip(taking.task.id)
            await self._book.forget(taking.task.id)
            return False
        except Unanswered as error:
            self._book.hold(taking, str(error), doubt=True)
            return False
        self._book.hold(taking, "its entry was gone when we came")
        return False

    async def _show(self, taking: Taking) -> None:
        """Step 5: for people; the claim does not depend on it, so it must not wait for it either."""
        pending = self._served.pending_queue
        if pending is None or self._stop.is_set() or not self._session.health.healthy:
            return
        try:
            async with self._session.clock.timeout(SHOW_SECONDS):
                await queues.add_task(self._session, pending, taking.task.id)
        except TimeoutError:
            log.debug("not shown in the pending queue: no answer within %.0f s", SHOW_SECONDS)
        except (Refused, Unanswered) as error:
            log.debug("not shown in the pending queue: %s", error)

    async def _created(self, takings: Sequence[Taking]) -> int:
        """Steps 6 and 7; how many Jobs there are now."""
        launches = list(zip(takings, await each(self._book, takings, self._create), strict=True))
        back = [Returned(taking=t, why=done.why) for t, done in launches if done and done.how in GIVEN_BACK]
        if back:
            await self._returning.give_back(back)
        return sum(1 for _, done in launches if done and done.how is Launch.CREATED)

    async def _create(self, taking: Taking) -> Launched:
        """Create the Job and see to all ends but those that are given back together."""
        task = taking.task.id
        launched = await self._launch(taking)
        # What goes on after a grace was chosen long ago, perhaps by another process.
        seconds = None if taking.resumed else self._book.seconds(task)
        self._measures.launched(taking.queue, launched.how, seconds=seconds)
        match launched.how:
            case Launch.CREATED:
                self.launched += 1
                self._served.goes_on(taking.queue)
                await self._book.forget(task)
                self._book.unmarked(task)
            case Launch.IN_THE_WAY:
                # An older attempt's is ended by reconciling, another release's by that.
                self._book.skip(task, seconds=IN_THE_WAY_SECONDS)
            case Launch.DOUBT:
                self._book.hold(taking, launched.why, doubt=True)
                if launched.erring and await self._served.recheck(taking.queue):
                    # It passes, or errs on real Jobs alone.
                    self._served.pause(taking.queue, launched.why)
                if self._book.doubts(task) == TELL_AT_DOUBT:
                    self._teller.say(task, f"Waiting: the Kubernetes API does not take the Job: {launched.why}")
            case Launch.IMPOSSIBLE:
                await self._returning.fail(Returned(taking=taking, why=launched.why))
            case Launch.NOT_NOW:
                self._served.pause(taking.queue, launched.why)
        return launched

    async def _launch(self, taking: Taking) -> Launched:
        """Create the Job; IMPOSSIBLE only when Kubernetes takes the queue's template without this task's settings."""
        launched = await self._launcher.launch(taking.task, queue=taking.queue, taken=taking.taken)
        if launched.how is Launch.IMPOSSIBLE:
            if not await self._served.recheck(taking.queue):
                launched = Launched(how=Launch.NOT_NOW, why=launched.why)
            else:
                # Once more: what refused all Jobs a moment ago may have passed since, and then it was not this task.
                launched = await self._launcher.launch(taking.task, queue=taking.queue, taken=taking.taken)
        if taking.resumed and launched.how in (Launch.IMPOSSIBLE, *GIVEN_BACK):
            # An earlier call may have made the Job unseen, and quota and rights are looked at before names.
            try:
                if await self._launcher.standing(taking.task):
                    return Launched(how=Launch.CREATED)
            except (Refused, Unanswered) as error:
                return Launched(
                    how=Launch.DOUBT, why=f"{launched.why}; whether the Job is there cannot be read: {error}"
                )
        return launched


def _ids(tasks: Iterable[str]) -> str:
    return ",".join(tasks)
