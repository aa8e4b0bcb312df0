"""The queue without an index of its own: claims straight from the tasks table."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from taskyard.clock import Clock
from taskyard.principal import Scope
from taskyard.queue.base import Commit
from taskyard.queue.entry import Entry, Want
from taskyard.queue.turns import in_turn, turns
from taskyard.task import Task

T = TypeVar("T")


class ReadyTasks(Protocol):
    """The store's view of what is ready; paused queues are left out."""

    async def ready(
        self,
        scope: Scope,
        *,
        limit: int,
        queue_names: Sequence[str] | None = None,
        task_types: Sequence[str] | None = None,
        min_priority: int = 1,
        agent_id: str | None = None,
        agent_type: str | None = None,
        oldest_queued_before: datetime | None = None,
    ) -> list[Task]: ...


class SqlQueue:
    """`ReadyQueue` over SQL. `starve` is seconds.

    Claimers of one process take turns. Those of several processes may see the same candidates: the
    compare-and-set gives each to one of them, and the others look again.
    """

    def __init__(self, tasks: ReadyTasks, clock: Clock, starve: float = 60) -> None:
        self._tasks = tasks
        self._clock = clock
        self._starve = timedelta(seconds=starve)
        self._turn = asyncio.Lock()
        #: How many were claimed, which tells whose turn it is; an index in front of this table counts here, too.
        self.claimed = 0

    async def add(self, entries: Sequence[Entry]) -> None:
        """Nothing to do: the row is the entry."""

    async def discard(self, entries: Sequence[Entry]) -> None:
        """Nothing to do: the row says that it is not ready."""

    async def set_paused(self, instance_id: str, queue: str, paused: bool) -> None:
        """Nothing to do: the queue's row says it."""

    async def claim(self, want: Want, commit: Commit[T]) -> list[T]:
        claimed: list[T] = []
        offered: set[Entry] = set()
        async with self._turn:
            while len(claimed) < want.limit:
                found = await self._candidates(want, want.limit - len(claimed))
                # What was refused and is still read (a store that lags behind) is not offered for ever.
                entries = [entry for entry in found if entry not in offered]
                if not entries:
                    break
                offered.update(entries)
                try:
                    got = await commit(entries)
                except Exception:
                    if claimed:
                        break
                    raise
                claimed += got
                self.claimed += len(got)
        return claimed

    async def peek(self, want: Want) -> list[Entry]:
        return await self._candidates(want, want.limit)

    async def _candidates(self, want: Want, limit: int) -> list[Entry]:
        best = await self._ready(want, limit)
        places = turns(self.claimed, limit)
        starved = await self._ready(want, places[-1] + 1, self._clock.now() - self._starve) if places else []
        return in_turn(best, starved, places, limit)

    async def _ready(self, want: Want, limit: int, before: datetime | None = None) -> list[Entry]:
        found = await self._tasks.ready(
            want.scope,
            limit=limit,
            queue_names=want.queues,
            task_types=want.task_types,
            min_priority=want.min_priority,
            agent_id=want.agent_id,
            agent_type=want.agent_type,
            oldest_queued_before=before,
        )
        return [Entry.of_task(task) for task in found]
