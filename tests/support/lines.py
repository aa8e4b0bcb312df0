"""A queue over a real store, as claimers see it."""

from collections.abc import Sequence

from tests.support.tasks import an_insert

from taskyard.lifecycle import TaskStatus
from taskyard.principal import Principal, Role
from taskyard.queue.base import ReadyQueue
from taskyard.queue.entry import Entry, Want
from taskyard.runtime import Runtime
from taskyard.store.writes import move

ROOT = Principal("root", Role.ADMIN, frozenset({"*"}))


class Line:
    """A core with its queue: tasks go in through the writer, and come out by claims."""

    def __init__(self, core: Runtime, queue: ReadyQueue | None = None) -> None:
        self.core = core
        self.queue = queue or core.queue
        #: What the queue offered to be claimed, batch by batch.
        self.offered: list[list[Entry]] = []

    async def put(self, *names: str, priority: int = 5, **values: object) -> None:
        """Submit tasks, one behind the other."""
        inserts = [an_insert(name, priority=priority, **values) for name in names]
        assert None not in await self.core.database.writer.write_many(inserts)

    async def commit(self, entries: Sequence[Entry]) -> list[str]:
        """Claim in the store, by compare-and-set, and give the names of those that held."""
        self.offered.append(list(entries))
        events = await self.core.database.writer.write_many(
            [
                move(
                    entry.task_id,
                    TaskStatus.PROCESSING,
                    actor="worker:w1",
                    statuses=frozenset({TaskStatus.QUEUED}),
                    generation=entry.generation,
                    raised=frozenset({"attempt"}),
                )
                for entry in entries
            ]
        )
        return [event.task_id for event in events if event is not None]

    async def claim(self, limit: int = 1, **want: object) -> list[str]:
        return await self.queue.claim(Want(limit=limit, **want), self.commit)  # type: ignore[arg-type]  # fields by name

    async def peek(self, limit: int = 100, **want: object) -> list[str]:
        entries = await self.queue.peek(Want(limit=limit, **want))  # type: ignore[arg-type]  # fields by name
        return [entry.task_id for entry in entries]

    async def drain(self, by: int = 1, **want: object) -> list[str]:
        """Claim `by` at a time until nothing is left, and give the names in order."""
        claimed: list[str] = []
        while got := await self.claim(by, **want):
            claimed += got
        return claimed
