"""Filling the lines in Redis anew from the database, once they were lost."""

import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from itertools import groupby
from typing import Protocol

from taskyard.queue.entry import Entry
from taskyard.queue.redis_lines import RedisLines
from taskyard.task import Ready

logger = logging.getLogger(__name__)

#: Rows read at a time, and entries of one call.
READ, SLICE = 5000, 500


class ReadySource(Protocol):
    """What the lines are made from."""

    async def paused(self) -> AbstractSet[tuple[str, str]]:
        """Instance and name of every paused queue."""
        ...

    async def queued_after(self, queue_seq: int, limit: int) -> list[Ready]:
        """Everything that is ready, in the order of its sequence."""
        ...


class RedisRebuild:
    """Finds out whether lines were lost, and fills them: pauses first, then entries in order, the epoch last."""

    def __init__(self, lines: RedisLines, source: ReadySource) -> None:
        self._lines = lines
        self._source = source

    async def needed(self) -> bool:
        """Whether there is no epoch, or a line that has another one."""
        epoch, names = await self._lines.known()
        return epoch is None or any(other != epoch for other in await self._lines.epochs(names))

    async def run(self) -> bool:
        """Fill all lines; False if another does it, or if they were flushed once more meanwhile.

        What is added while this runs stays; what is there already is left as it is.
        """
        token = secrets.token_hex(8)
        if not await self._lines.begin_all(token):
            return False
        begun: set[str] = set()

        async def begin(names: AbstractSet[str]) -> None:
            for name in names - begun:
                await self._lines.begin(name, token)
                begun.add(name)

        _, names = await self._lines.known()
        await begin(names)
        await self.copy_pauses(names, begin)
        count, seq = 0, 0
        while ready := await self._source.queued_after(seq, READ):
            entries = [Entry.of_task(task) for task in ready]
            await begin({entry.queue for entry in entries})
            for name, part in in_slices(entries):
                await self._lines.add(name, part)
                if not await self._lines.go_on(token):
                    return False
            count, seq = count + len(ready), entries[-1].seq
        for name in begun:
            if not await self._lines.finish(name, token):
                return False
            await self._lines.open(name, None)
        if not await self._lines.finish(None, token):
            return False
        logger.info("the queue in Redis was filled anew: %d tasks are ready", count)
        return True

    async def copy_pauses(
        self, names: AbstractSet[str], begin: Callable[[AbstractSet[str]], Awaitable[None]] | None = None
    ) -> None:
        """Make the pauses of these lines, and of those that are paused, what they are in the database."""
        wanted = await self._source.paused()
        while True:
            lines = names | {name for _, name in wanted}
            if begin is not None:
                await begin(lines)
            for name in lines:
                here = {instance for instance, queue in wanted if queue == name}
                there = await self._lines.paused(name)
                for instance in here - there:
                    await self._lines.pause(name, instance)
                for instance in there - here:
                    await self._lines.resume(name, instance)
            # Somebody may have paused or resumed a queue since they were read: then that is undone now.
            read, wanted = wanted, await self._source.paused()
            if read == wanted:
                return


def in_slices(entries: Sequence[Entry]) -> list[tuple[str, list[Entry]]]:
    """Entries by line, so many that one call takes them; their order in a line stays."""
    slices: list[tuple[str, list[Entry]]] = []
    for name, group in groupby(sorted(entries, key=lambda entry: entry.queue), key=lambda entry: entry.queue):
        part = list(group)
        slices += [(name, part[at : at + SLICE]) for at in range(0, len(part), SLICE)]
    return slices
