"""Puts in the index what an announcer could not: the event log is the outbox (docs/decisions/0008)."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from taskyard.clock import Clock
from taskyard.lifecycle import TaskStatus
from taskyard.principal import EVERYTHING
from taskyard.queue.entry import Entry
from taskyard.queue.redis_queue import RedisQueue
from taskyard.store.registry import Registry
from taskyard.store.tasks import TaskReader
from taskyard.task import Ready, Task

CURSOR = "relay"
#: Events of the log that one read looks at, and one round: after an outage it catches up round by round.
SLICE, ROUND = 1000, 20_000
#: The slow walk compares so many ready tasks a round, and begins a round so often (seconds): 100,000 take 20 s.
WALK_SLICE = 5000
WALK_EVERY = 1.0
#: How often unused queues are forgotten, in seconds.
FORGET_EVERY = 60.0
#: No sequence is higher: a walk that has come to the end looks at all that follows.
LAST_SEQ = 2**43 - 1
#: How often the cursor is stored, in seconds. A relay that begins at an old one only repeats itself.
STORE_EVERY = 1.0


@dataclass(frozen=True, slots=True)
class ReadyRows:
    """What an index is filled from: rows of the database."""

    reader: TaskReader
    registry: Registry

    async def paused(self) -> frozenset[tuple[str, str]]:
        return await self.registry.paused()

    async def queued_after(self, queue_seq: int, limit: int) -> list[Ready]:
        return await self.reader.queued_after(queue_seq, limit)


class Relay:
    """Follows the log one round behind its head, walks slowly over all that is ready, and has a lost index filled.

    A round adds the tasks that entered a queue and are still there: entries that are in line already, as most are,
    do not change. To be run by one process at a time; by two it does the same twice.
    """

    def __init__(self, reader: TaskReader, registry: Registry, index: RedisQueue, clock: Clock) -> None:
        self._reader = reader
        self._registry = registry
        self._index = index
        self._clock = clock
        self._cursor: int | None = None
        self._stored = 0
        self._store_at = 0.0
        self._head = 0
        self._walked = 0
        self._walk_at = 0.0
        self._forget_at = 0.0

    def pause(self) -> None:
        """Another process relays: where this one was is worth nothing any more."""
        self._cursor = None

    async def round(self) -> None:
        """One step of the log and, from time to time, of the walk; before that the whole index, if it was lost."""
        await self._index.mend()
        # Kept here while the round lasts: a `pause` may come in the middle of it.
        cursor = self._cursor
        if cursor is None:
            cursor = self._head = self._stored = await self._registry.cursor(CURSOR)
        # To where the log ended in the last round: announcers have had their time with that.
        upto = min(self._head, cursor + ROUND)
        if upto == self._head:
            self._head = await self._reader.head()
        if upto > cursor:
            await self._follow(cursor, upto)
            cursor = upto
        self._cursor = cursor
        now = self._clock.monotonic()
        if cursor != self._stored and now >= self._store_at:
            await self._registry.set_cursor(CURSOR, cursor)
            self._stored, self._store_at = cursor, now + STORE_EVERY
        if now >= self._walk_at:
            self._walk_at = now + WALK_EVERY
            await self._walk()
        if now >= self._forget_at:
            self._forget_at = now + FORGET_EVERY
            await self._index.forget_unused()

    async def _follow(self, after: int, upto: int) -> None:
        """Add what entered a queue in this part of the log and is still there."""
        while True:
            part = min(after + SLICE, upto)
            ready = await self._reader.queued_between(after, part, SLICE)
            if ready:
                await self._index.add([Entry.of_task(task) for task in ready])
            if part == upto:
                return
            after = part

    async def _walk(self) -> None:
        """Compare a slice of what is ready with the index, in the order of the sequence, over and over again."""
        await self._index.copy_pauses()
        ready = await self._reader.queued_after(self._walked, WALK_SLICE)
        if ready:
            await self._index.add([Entry.of_task(task) for task in ready])
        last = ready[-1].queue_seq if len(ready) == WALK_SLICE else None
        await self._drop_stale(self._walked + 1, last or LAST_SEQ, {_key(task) for task in ready})
        self._walked = last or 0

    async def _drop_stale(self, low: int, high: int, ready: AbstractSet[tuple[str, str, int]]) -> None:
        """Take out of line what is not ready any more; where no worker asks for its type, nothing else would."""
        strays = [
            entry
            for entry in await self._index.between(low, high, WALK_SLICE)
            if (entry.task_id, entry.instance_id, entry.generation) not in ready
        ][:WALK_SLICE]
        # Read after the index: whatever came into line before is committed, and what is not ready now is over.
        found = {task.id: task for task in await self._reader.get_many([one.task_id for one in strays], EVERYTHING)}
        stale = [entry for entry in strays if not _is_ready(found.get(entry.task_id), entry)]
        if stale:
            await self._index.discard(stale)


def _key(task: Ready) -> tuple[str, str, int]:
    return task.id, task.instance_id, task.generation


def _is_ready(task: Task | None, entry: Entry) -> bool:
    return task is not None and (task.status, task.instance_id, task.generation) == (
        TaskStatus.QUEUED,
        entry.instance_id,
        entry.generation,
    )
