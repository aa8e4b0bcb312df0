"""Buses and those who listen to them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg

from taskyard.events.bus import Bus
from taskyard.events.notify_bus import NotifyBus
from taskyard.events.redis_bus import RedisBus
from taskyard.redis_link import RedisLink
from taskyard.task import Event

#: A bound for what should take a moment: these machines are slow at times.
PATIENCE = 60.0


class Heard:
    """A listener that remembers; a message may take its time."""

    def __init__(self) -> None:
        self.seqs: list[int] = []
        #: How often it was told to look into the table.
        self.hints = 0
        self._came = asyncio.Event()

    def __call__(self, events: Sequence[Event]) -> None:
        self.seqs += [event.seq for event in events]
        self.hints += not events
        self._came.set()

    async def until(self, seq: int) -> list[int]:
        async with asyncio.timeout(PATIENCE):
            while seq not in self.seqs:
                await self._more()
        return self.seqs

    async def until_hint(self, count: int = 1) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.hints < count:
                await self._more()

    async def _more(self) -> None:
        self._came.clear()
        await self._came.wait()


@asynccontextmanager
async def connected(bus: Bus) -> AsyncIterator[Bus]:
    """A bus that is started and hears: it says so with its first hint."""
    heard = Heard()
    forget = bus.listen(heard)
    await bus.start()
    try:
        await heard.until_hint()
        forget()
        yield bus
    finally:
        await bus.stop()


@asynccontextmanager
async def redis_bus(url: str, prefix: str) -> AsyncIterator[Bus]:
    link = RedisLink(url, prefix)
    try:
        async with connected(RedisBus(link)) as bus:
            yield bus
    finally:
        await link.aclose()


@asynccontextmanager
async def notify_bus(url: str) -> AsyncIterator[Bus]:
    async with connected(by_notify(url)) as bus:
        yield bus


def by_notify(url: str) -> NotifyBus:
    """A bus that is not started."""
    return NotifyBus(lambda: asyncpg.connect(url, timeout=5, command_timeout=5))
