"""The way between a host and its servers, and everything that may go wrong on it."""

import asyncio
import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from taskyard.errors import Unavailable

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
#: A call that gets no answer is given up after so many seconds.
STALL = 0.8
_QUICK = (0.001, 0.008)


class HostClock:
    """The virtual time as one host sees it; `skew` is seconds."""

    def __init__(self, skew: float = 0.0) -> None:
        self._start = START + timedelta(seconds=skew)
        self._loop = asyncio.get_running_loop()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._loop.time())

    def monotonic(self) -> float:
        return self._loop.time()


class Link:
    """Carries calls. A dead host's never return, a frozen one's halt until it is thawed."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._loop = asyncio.get_running_loop()
        self.dead = False
        self.cut = False
        #: The next write of a group gets no answer until this event is set.
        self.stuck: asyncio.Event | None = None
        self.frozen: asyncio.Event | None = None
        #: When it last stopped to be frozen.
        self.thawed_at = -math.inf
        #: Shares of calls that are lost on their way, or whose answer is.
        self.lost_requests = self.lost_replies = 0.0
        #: Shares of reads and writes that fail at once on a host that is else well; and when a write did.
        self.failed_reads = self.failed_writes = 0.0
        self.hiccups: list[float] = []
        #: Share of live events that do not arrive.
        self.lost_events = 0.0
        #: A call takes up to so much longer, each way: for what the link does, and for what the store does.
        self.slower = self.slow_store = 0.0
        self._ailments = 0
        self._well_since = self._loop.time()

    @contextmanager
    def ailing(self) -> Iterator[None]:
        """As long as a fault lasts: what goes wrong in that time is the fault's doing."""
        self._ailments += 1
        try:
            yield
        finally:
            self._ailments -= 1
            self._well_since = self._loop.time()

    def well_since(self, moment: float) -> bool:
        """Whether no fault but a call that failed at once has touched this host since then, by the loop's time."""
        return not self.dead and not self._ailments and self._well_since <= moment

    def wrote_since(self, moment: float) -> bool:
        """Whether no write has failed at once since then."""
        return not self.hiccups or self.hiccups[-1] < moment

    async def flow(self) -> None:
        """Go on, unless the host does not."""
        while self.frozen is not None:
            await self.frozen.wait()
        if self.dead:
            await self._loop.create_future()

    async def request(self, *, write: bool) -> None:
        """The way to the server. Raises `Unavailable` if it does not get there."""
        await self.flow()
        await asyncio.sleep(self._delay())
        if self.dead:
            await self.flow()
        if self.cut or self._chance(self.lost_requests):
            await self._give_up()
        if self._chance(self.failed_writes if write else self.failed_reads):
            if write:
                self.hiccups.append(self._loop.time())
            raise Unavailable("the server stumbled")

    async def reply(self) -> None:
        """The way back. Raises `Unavailable` if the answer is lost: what was done is done."""
        if self.slower or self.slow_store:
            await asyncio.sleep(self._delay())
        if self.dead or self.frozen is not None:
            await self.flow()
        if self.cut or self._chance(self.lost_replies):
            await self._give_up()

    def _delay(self) -> float:
        return self._dice.uniform(*_QUICK) + (self.slower + self.slow_store) * self._dice.random()

    async def _give_up(self) -> None:
        await asyncio.sleep(STALL)
        await self.flow()
        raise Unavailable("the server does not answer")

    def _chance(self, share: float) -> bool:
        return share > 0 and self._dice.random() < share
