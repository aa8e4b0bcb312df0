"""The index of a simulated deployment: one line for all its hosts, which may lose, repeat and forget entries."""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import TypeVar

from tests.simulation.oracle import Oracle
from tests.simulation.store import MemoryStore

from taskyard.clock import Clock
from taskyard.queue.base import Commit
from taskyard.queue.entry import Entry, Want
from taskyard.queue.memory import MemoryQueue
from taskyard.task import Task

T = TypeVar("T")

#: Nothing starves within a history: the order of a line is by rank alone.
STARVE = 3600.0
RELAY_EVERY = 0.5
WALK_EVERY = 2.0
_INSTANCE = "default"


class Index:
    """`TaskQueue` over the real `MemoryQueue`, with faults, and with what keeps it in order in production.

    `shaky`: it may lose what it holds, and a walk over the rows repairs it. Without, only entries that were
    never handed to it are missed; a relay brings those.
    """

    def __init__(
        self,
        store: MemoryStore,
        oracle: Oracle,
        clock: Clock,
        dice: random.Random,
        make: Callable[[Clock, float], MemoryQueue],
        *,
        shaky: bool,
    ) -> None:
        self._store = store
        self._oracle = oracle
        self._clock = clock
        self._dice = dice
        self._make = make
        self._queue = make(clock, STARVE)
        self.shaky = shaky
        self.lost = self.repeated = 0.0
        self._indexed: set[tuple[str, int]] = set()
        #: What should be in line, by the law of the queue; it is known while nothing was lost.
        self._line: dict[str, Entry] = {}
        self._paused: set[str] = set()
        self._faithful = True
        self._snapshot: list[Entry] = []

    # -- TaskQueue ----------------------------------------------------------------------------

    async def add(self, entries: Sequence[Entry]) -> None:
        self._indexed |= {(entry.task_id, entry.generation) for entry in entries}
        if self._chance(self.lost):
            self._faithful = False
            return
        await self._put(entries)
        if self._chance(self.repeated):
            self._faithful = False
            delay = self._dice.uniform(0.02, 1.5)
            loop = asyncio.get_running_loop()
            loop.call_later(delay, lambda: loop.create_task(self._queue.add(entries)))

    async def discard(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            known = self._line.get(entry.task_id)
            if known is not None and known.generation <= entry.generation:
                del self._line[entry.task_id]
        await self._queue.discard(entries)

    async def claim(self, want: Want, commit: Commit[T]) -> list[T]:
        async def watched(entries: Sequence[Entry]) -> Sequence[T]:
            self._offered(entries, want)
            try:
                got = await commit(entries)
            except BaseException:
                self._stand(entries)
                raise
            self._claimed(entries, got)
            return got

        return await self._queue.claim(want, watched)

    async def peek(self, want: Want) -> list[Entry]:
        return await self._queue.peek(want)

    async def set_paused(self, instance_id: str, queue: str, paused: bool) -> None:
        (self._paused.add if paused else self._paused.discard)(queue)
        await self._queue.set_paused(instance_id, queue, paused)

    # -- faults -------------------------------------------------------------------------------

    def flush(self) -> None:
        """Lose everything."""
        self._faithful = False
        self._queue = self._make(self._clock, STARVE)

    def remember(self) -> None:
        """What a restored replica will hold."""
        self._snapshot = [Entry.of_task(self._store.task(row["id"])) for row in self._store.queued()]

    async def restore(self) -> None:
        """Come back as an old replica."""
        self.flush()
        await self._queue.add(self._snapshot)

    # -- order --------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Relay what nobody announced; of a shaky index, walk over the rows and repair it as well."""
        round_ = 0
        while True:
            await asyncio.sleep(RELAY_EVERY)
            round_ += 1
            walk = self.shaky and round_ % round(WALK_EVERY / RELAY_EVERY) == 0
            if walk:
                for name in sorted({row["queue"] for row in self._store.queued()} | self._paused):
                    await self._queue.set_paused(_INSTANCE, name, (_INSTANCE, name) in self._store.paused())
            missed = [
                Entry.of_task(self._store.task(row["id"]))
                for row in self._store.queued()
                if walk or (row["id"], row["generation"]) not in self._indexed
            ]
            self._indexed |= {(entry.task_id, entry.generation) for entry in missed}
            await self._put(missed)

    # -- laws ---------------------------------------------------------------------------------

    async def _put(self, entries: Sequence[Entry]) -> None:
        self._stand(entries)
        await self._queue.add(entries)

    def _stand(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            known = self._line.get(entry.task_id)
            if known is None or known.generation < entry.generation:
                self._line[entry.task_id] = entry

    def _offered(self, entries: Sequence[Entry], want: Want) -> None:
        if not self._faithful:
            return
        fitting = [
            entry
            for entry in self._line.values()
            if entry.queue not in self._paused
            and (want.queues is None or entry.queue in want.queues)
            and (want.task_types is None or entry.task_type in want.task_types)
        ]
        best = sorted(fitting, key=lambda entry: (-entry.priority, entry.seq))[: len(entries)]
        if best != list(entries):
            self._oracle.fail(f"out of turn: {_named(entries)} before {_named(best)}", entries[0].task_id)
        for entry in entries:
            self._line.pop(entry.task_id, None)

    def _claimed(self, entries: Sequence[Entry], got: Sequence[object]) -> None:
        offered = {entry.task_id: entry.generation for entry in entries}
        for task in got:
            assert isinstance(task, Task)
            if offered[task.id] != task.generation:
                self._oracle.fail(f"a stale entry of generation {offered[task.id]} was claimed", task.id)

    def _chance(self, share: float) -> bool:
        return share > 0 and self._dice.random() < share


def _named(entries: Sequence[Entry]) -> str:
    return ", ".join(f"{entry.task_id} (priority {entry.priority}, place {entry.seq})" for entry in entries)
