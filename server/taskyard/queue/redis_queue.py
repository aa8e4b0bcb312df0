"""The queue of a deployment with Redis: an index that every process shares, and that the database can refill."""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from taskyard.clock import Clock
from taskyard.errors import Unavailable
from taskyard.queue.base import Commit
from taskyard.queue.entry import Entry, Want
from taskyard.queue.redis_lines import Found, RedisLines
from taskyard.queue.redis_rebuild import ReadySource, RedisRebuild, in_slices
from taskyard.queue.sql import SqlQueue
from taskyard.queue.turns import in_turn, turns
from taskyard.redis_link import RedisLink

T = TypeVar("T")

logger = logging.getLogger(__name__)

#: Names of lines that other processes have opened are looked for so often, in seconds, and when nothing is found.
NEW_LINES = 1.0
#: How often a claim over several lines is planned, when others take all that it wanted.
PLANS = 3
_INCOMPLETE = "the queue in Redis is being filled"


class _Incomplete(Unavailable):
    """A line has no epoch."""


class RedisQueue:
    """`ReadyQueue` over Redis. `starve` is seconds.

    An index by queue and task type knows no agents: what asks for those is claimed by `table`, and so is what is
    limited to some instances and lies behind too many entries of others, and everything while Redis is away or its
    lines are being refilled. The entries of what was claimed so are dropped, or fall to the compare-and-set. Turns
    of the oldest are counted in each process.
    """

    def __init__(
        self, link: RedisLink, table: SqlQueue, source: ReadySource, clock: Clock, starve: float = 60
    ) -> None:
        self._link = link
        self._lines = RedisLines(link)
        self._rebuild = RedisRebuild(self._lines, source)
        self._table = table
        self._clock = clock
        self._starve = timedelta(seconds=starve)
        self._turn = asyncio.Lock()
        self._names: frozenset[str] = frozenset()
        self._named_at: float | None = None
        #: Set when a line was found without its epoch: time to `mend`.
        self.lost = asyncio.Event()

    async def add(self, entries: Sequence[Entry]) -> None:
        for name, part in in_slices(entries):
            complete = await self._lines.add(name, part)
            if not complete or name not in self._names:
                await self._open(name, complete)

    async def discard(self, entries: Sequence[Entry]) -> None:
        for name, part in in_slices(entries):
            await self._lines.discard(name, part)

    async def claim(self, want: Want, commit: Commit[T]) -> list[T]:
        if want.by_table:
            return await self._claim_by_table(want, commit)
        claimed: list[T] = []
        while (missing := want.limit - len(claimed)) > 0:
            try:
                taken = await self._take(want, missing)
            except Unavailable:
                if claimed:
                    break
                return await self._claim_by_table(want, commit)
            if not taken:
                break
            try:
                got = await commit(taken)
            except BaseException as error:
                self._table.claimed -= len(taken)
                await asyncio.shield(self._put_back(taken))
                if claimed and isinstance(error, Exception):
                    break
                raise
            self._table.claimed -= len(taken) - len(got)
            self._link.later(partial(self._settle, taken))
            claimed += got
            if got and len(taken) < missing:
                break  # most likely there is no more: what came can begin, and the claimer asks again
        return claimed

    async def peek(self, want: Want) -> list[Entry]:
        if want.by_table:
            return await self._table.peek(want)
        try:
            names = await self._names_for(want, anew=True)
            return await self._plan(names, want, want.limit)
        except _Incomplete:
            self.lost.set()
            return await self._table.peek(want)
        except Unavailable:
            return await self._table.peek(want)

    async def set_paused(self, instance_id: str, queue: str, paused: bool) -> None:
        await (self._lines.pause if paused else self._lines.resume)(queue, instance_id)

    # -- what keeps the index right -----------------------------------------------------------

    async def mend(self) -> bool:
        """Fill the lines from the database if they were lost, and say whether they were filled.

        For one process at a time, every moment and when `lost` is set. Raises `Unavailable`.
        """
        self.lost.clear()
        return await self._rebuild.needed() and await self._rebuild.run()

    async def copy_pauses(self) -> None:
        """Make the pauses what they are in the database; after that `add` repairs what a stale line lacks."""
        _, names = await self._read_names()
        await self._rebuild.copy_pauses(names)

    async def forget_unused(self) -> None:
        """Forget lines that are empty and were not used for long: a claim looks at each that is known."""
        _, names = await self._read_names()
        for name in names:
            await self._lines.forget(name)

    async def between(self, low: int, high: int, count: int) -> list[Entry]:
        """Entries in line whose sequence lies there, up to so many of each line, priority and type, in no order."""
        _, names = await self._lines.known()
        found = await asyncio.gather(*(self._lines.between(name, low, high, count) for name in names))
        return [entry for part in found for entry in part]

    async def _open(self, name: str, complete: bool) -> None:
        """Learn whether a line is new, then it begins here; or whether it has lost its epoch."""
        epoch, names = await self._read_names()
        if name not in names:
            await self._lines.open(name, epoch)
            self._names |= {name}
            complete = epoch is not None
        if not complete:
            self.lost.set()

    # -- claims -------------------------------------------------------------------------------

    async def _take(self, want: Want, limit: int) -> list[Entry]:
        # One at a time, so that the turns are counted exactly; what takes long is the commit, which comes after.
        async with self._turn:
            names = await self._names_for(want)
            taken = await self._try_to_take(names, want, limit)
            if not taken and (found := await self._names_for(want, anew=True)) != names:
                taken = await self._try_to_take(found, want, limit)
            if taken is None:
                self.lost.set()
                raise Unavailable(_INCOMPLETE)
            self._table.claimed += len(taken)
            return taken

    async def _try_to_take(self, names: Sequence[str], want: Want, limit: int) -> list[Entry] | None:
        """None: one of these lines is not complete; or it was empty at a rebuild, and is known no more."""
        try:
            return await self._take_from(names, want, limit)
        except _Incomplete:
            return None

    async def _take_from(self, names: Sequence[str], want: Want, limit: int) -> list[Entry]:
        places = frozenset(turns(self._table.claimed, limit))
        if len(names) == 1:
            picks = "".join("o" if place in places else "b" for place in range(limit))
            return await self._take_line(names[0], want, picks)
        for _ in range(PLANS):
            plan = await self._plan(names, want, limit)
            taken = await self._take_planned(plan, places, want)
            if taken or not plan:
                return taken
        return []

    async def _take_planned(self, plan: Sequence[Entry], places: AbstractSet[int], want: Want) -> list[Entry]:
        """Ask each line for as many as it has among the best of all: less, where others were there first."""
        shares: dict[str, str] = {}
        for place, entry in enumerate(plan):
            shares[entry.queue] = shares.get(entry.queue, "") + ("o" if place in places else "b")
        parts = await asyncio.gather(
            *(self._take_line(name, want, picks) for name, picks in shares.items()), return_exceptions=True
        )
        given = {name: deque(part) for name, part in zip(shares, parts, strict=True) if isinstance(part, list)}
        taken = [given[entry.queue].popleft() for entry in plan if given.get(entry.queue)]
        for part in parts:
            if isinstance(part, BaseException) and not (taken and isinstance(part, Unavailable)):
                raise part
        return taken

    async def _take_line(self, name: str, want: Want, picks: str) -> list[Entry]:
        while True:
            found = self._complete(await self._lines.take(name, want, picks, self._old))
            if found.best or not found.more:
                return found.best

    async def _plan(self, names: Sequence[str], want: Want, limit: int) -> list[Entry]:
        """What a claim on these lines takes, in order."""
        if limit < 1:
            return []
        places = turns(self._table.claimed, limit)
        starving = places[-1] + 1 if places else 0
        looks = await asyncio.gather(*(self._look(name, want, limit, starving) for name in names))
        best = sorted((entry for look in looks for entry in look.best), key=lambda e: (-e.priority, e.seq))
        starved = sorted((entry for look in looks for entry in look.starved), key=lambda entry: entry.seq)
        return in_turn(best[:limit], starved, places, limit)

    async def _look(self, name: str, want: Want, limit: int, starving: int) -> Found:
        while True:
            found = self._complete(await self._lines.look(name, want, limit, starving, self._old))
            if not found.more:
                return found

    @staticmethod
    def _complete(found: Found | None) -> Found:
        if found is None:
            raise _Incomplete(_INCOMPLETE)
        if found.too_far:
            raise Unavailable("what is wanted may lie behind too many entries of other instances")
        return found

    @property
    def _old(self) -> datetime:
        return self._clock.now() - self._starve

    async def _claim_by_table(self, want: Want, commit: Commit[T]) -> list[T]:
        async def commit_and_drop(entries: Sequence[Entry]) -> Sequence[T]:
            got = await commit(entries)
            self._link.later(partial(self.discard, entries))
            return got

        return await self._table.claim(want, commit_and_drop)

    async def _settle(self, entries: Sequence[Entry]) -> None:
        for name, part in in_slices(entries):
            await self._lines.settle(name, part)

    async def _put_back(self, entries: Sequence[Entry]) -> None:
        try:
            for name, part in in_slices(entries):
                await self._lines.restore(name, part)
        except Unavailable:
            logger.debug("entries could not be put back in line; they come back by themselves")

    # -- names --------------------------------------------------------------------------------

    async def _names_for(self, want: Want, *, anew: bool = False) -> list[str]:
        now = self._clock.monotonic()
        if anew or self._named_at is None or now - self._named_at > NEW_LINES:
            epoch, _ = await self._read_names()
            if epoch is None:
                self.lost.set()
                raise Unavailable(_INCOMPLETE)
        return sorted(self._names if want.queues is None else self._names & frozenset(want.queues))

    async def _read_names(self) -> tuple[str | None, frozenset[str]]:
        now = self._clock.monotonic()
        epoch, self._names = await self._lines.known()
        # While they are being filled, the names come one by one.
        self._named_at = None if epoch is None else now
        return epoch, self._names
