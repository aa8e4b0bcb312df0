"""What time brings: due tasks, leases and deadlines that run out, old rows. Called by loops and administrators."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from taskyard.clock import Clock
from taskyard.errors import InvalidInput
from taskyard.lifecycle import HELD, TaskStatus
from taskyard.principal import Principal
from taskyard.store.registry import Registry
from taskyard.store.tasks import TaskReader
from taskyard.store.writes import NOW, Change, Writer, move
from taskyard.task import ErrorCode, Task

#: Rows that one round of a sweep takes.
SLICE = 500
#: A worker ends its own runs at their deadline; those that it does not are ended so much later.
DEADLINE_GRACE = timedelta(seconds=2)
MAX_AGE = timedelta(days=36_500)
#: Rows of workers that stopped are kept so long.
WORKER_RETENTION = timedelta(days=1)
#: A slice of a clean-up holds so many events at most (but one task at least): others write in between.
CLEANUP_EVENTS = 5000
_PAST_TIMEOUT = "it ran past its time-out"
_STALE = "it was stale and timed out by an administrator"


class Maintenance:
    """Sweeps. Each writes by compare-and-set, so that any number of processes may run them."""

    def __init__(
        self, *, reader: TaskReader, writer: Writer, registry: Registry, clock: Clock, silence: timedelta
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._registry = registry
        self._clock = clock
        self._silence = silence

    async def promote_due(self) -> int:
        """Queue the waiting tasks whose time has come."""
        due = await self._reader.due(self._clock.now(), SLICE)
        return await self._write(
            [
                move(
                    task.id,
                    TaskStatus.QUEUED,
                    actor="system:scheduler",
                    statuses=frozenset({task.status}),
                    version=task.version,
                    # The wait that begins now has no start yet.
                    values={"started_at": None},
                )
                for task in due
            ]
        )

    async def reap_leases(self) -> int:
        """Queue the tasks again whose holder let its lease run out; a run that is also past its time-out failed."""
        now = self._clock.now()
        return await self._write(
            [
                _timed_out(task, "system:janitor", _PAST_TIMEOUT)
                if task.deadline_at is not None and task.deadline_at <= now
                else _lost(task, now)
                for task in await self._reader.lease_expired(now, SLICE)
            ]
        )

    async def reap_workers(self) -> int:
        """Mark workers that fell silent as stopped, and forget those that stopped long ago."""
        now = self._clock.now()
        await self._registry.forget_workers(now - WORKER_RETENTION)
        return await self._registry.stop_workers(now - self._silence)

    async def recover(self) -> int:
        """Queue again what workers of an earlier process held: for a start that knows it is alone."""
        # Whatever the rows of the workers say: a clock may have moved back, an earlier recovery been cut short.
        workers = [worker.id for worker in await self._registry.workers()]
        recovered = 0
        while held := await self._reader.held_by(workers, SLICE) if workers else []:
            recovered += await self._write([_lost(task, None) for task in held])
        await self._registry.stop_workers(None)
        return recovered

    async def enforce_deadlines(self) -> int:
        """Fail the runs that their holder has not ended in time."""
        late = await self._reader.past_deadline(self._clock.now() - DEADLINE_GRACE, SLICE)
        return await self._write([_timed_out(task, "system:janitor", _PAST_TIMEOUT) for task in late])

    async def time_out_stale(self, principal: Principal, older_than: timedelta) -> int:
        """Fail every run that began longer ago than this; for administrators."""
        principal.require_admin()
        if not timedelta() < older_than <= MAX_AGE:
            raise InvalidInput(f"the age is over 0, and at most {MAX_AGE.days} days", path=["timeoutMs"])
        before, timed_out = self._clock.now() - older_than, 0
        while stale := await self._reader.started_before(principal.scope, before, SLICE):
            written = await self._write([_timed_out(task, principal.subject, _STALE) for task in stale])
            timed_out += written
            if written == 0:
                break
        return timed_out

    async def clean_up(self, principal: Principal, older_than: timedelta) -> int:
        """Delete the tasks that ended longer ago than this, with their events; for administrators."""
        principal.require_admin()
        if not timedelta() <= older_than <= MAX_AGE:
            raise InvalidInput(f"the age lies between 0 and {MAX_AGE.days} days", path=["olderThanDays"])
        before, deleted = self._clock.now() - older_than, 0
        while gone := await self._registry.delete_ended(principal.scope, before, SLICE, CLEANUP_EVENTS):
            deleted += gone
        return deleted

    async def _write(self, changes: Sequence[Change]) -> int:
        return sum(event is not None for event in await self._writer.write_many(changes)) if changes else 0


def _lost(task: Task, now: datetime | None) -> Change:
    return move(
        task.id,
        TaskStatus.QUEUED,
        actor="system:janitor",
        statuses=HELD,
        attempt=task.attempt,
        lease_before=now,
        raised=frozenset({"lost_count"}),
        values={"progress": 0.0, "progress_step": None, "started_at": None},
        detail={"reason": "LEASE_LOST", "holder": task.holder},
    )


def _timed_out(task: Task, actor: str, message: str) -> Change:
    return move(
        task.id,
        TaskStatus.FAILED,
        actor=actor,
        statuses=HELD,
        attempt=task.attempt,
        values={"error_code": ErrorCode.TIMEOUT, "error_message": message, "completed_at": NOW},
    )
