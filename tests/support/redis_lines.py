"""A core whose queue is in Redis, and other processes' queues beside it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from redis.asyncio import Redis
from tests.support.core import opened
from tests.support.lines import Line

from taskyard.clock import Clock
from taskyard.errors import Unavailable
from taskyard.queue.redis_queue import RedisQueue
from taskyard.queue.redis_rebuild import ReadySource
from taskyard.queue.sql import SqlQueue
from taskyard.redis_link import RedisLink
from taskyard.runtime import Runtime
from taskyard.service.relay import ReadyRows


@asynccontextmanager
async def redis_line(database_url: str, url: str, prefix: str, clock: Clock | None = None) -> AsyncIterator[Line]:
    """The index is whole at the beginning, if Redis is there; after that nobody mends it but the test."""
    async with opened(database_url, clock, redis_url=url, redis_prefix=prefix) as core:
        with suppress(Unavailable):
            await queue_of_core(core).mend()
        yield Line(core)


@asynccontextmanager
async def beside(line: Line, source: ReadySource | None = None) -> AsyncIterator[RedisQueue]:
    """The queue of another process over the same database and the same Redis."""
    core = line.core
    assert core.settings.redis_url is not None
    link = RedisLink(core.settings.redis_url, core.settings.redis_prefix)
    try:
        table = SqlQueue(core.reader, core.clock)
        yield RedisQueue(link, table, source or ReadyRows(core.reader, core.registry), core.clock)
    finally:
        await link.aclose()


def queue_of(line: Line) -> RedisQueue:
    return queue_of_core(line.core)


def queue_of_core(core: Runtime) -> RedisQueue:
    assert isinstance(core.queue, RedisQueue)
    return core.queue


async def flush(url: str) -> None:
    """Only for a server that the test has started itself."""
    async with Redis.from_url(url) as client:
        await client.flushall()
