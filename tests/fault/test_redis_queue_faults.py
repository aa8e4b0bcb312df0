"""A Redis that forgets, lies, stalls or dies: no task is lost or claimed twice, and tasks run on without it."""

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
from redis.asyncio import Redis
from tests.support.core import PATIENCE
from tests.support.lines import ROOT, Line
from tests.support.redis_lines import beside, flush, queue_of, redis_line
from tests.support.servers import RedisServer

from taskyard.errors import Unavailable
from taskyard.queue import redis_lines
from taskyard.queue.entry import Entry
from taskyard.queue.redis_queue import RedisQueue
from taskyard.redis_link import RedisLink
from taskyard.service.relay import ReadyRows
from taskyard.task import Ready

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as started:
        yield started


@pytest.fixture
async def line(database_url: str, server: RedisServer) -> AsyncIterator[Line]:
    async with redis_line(database_url, server.url, "t") as opened:
        yield opened


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}-{number:04}" for number in range(count)]


async def mended(queue: RedisQueue) -> None:
    """What the relay does every moment, until Redis is there again and whole."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                if await queue.mend():
                    return
            except Unavailable:
                pass
            await asyncio.sleep(0.05)


def link_of(line: Line) -> RedisLink:
    assert line.core.redis is not None
    return line.core.redis


# -- flushed --------------------------------------------------------------------------------------


async def test_flushed_while_tasks_wait(line: Line, server: RedisServer) -> None:
    queue = queue_of(line)
    await line.put(*names("low", 700), priority=3)
    await line.put(*names("high", 700), queue="other", priority=8)
    await line.put("kept-back", queue="other", priority=10, instance_id="one")
    await line.core.tasks.set_paused(ROOT, "other", True, "one")
    expected = [*names("high", 700), *names("low", 700)]
    for _ in range(3):
        await flush(server.url)
        claimed = await line.claim(5)
        assert claimed == expected[:5], "tasks run on: these came from the table"
        del expected[:5]
        assert queue.lost.is_set()
        assert await queue.mend()
        assert not queue.lost.is_set()
        assert not await queue.mend()
    await line.put("new", priority=1)
    assert await line.drain(by=90) == [*expected, "new"]
    assert not queue.lost.is_set(), "these came from Redis"
    await line.core.tasks.set_paused(ROOT, "other", False, "one")
    assert await line.drain() == ["kept-back"]


class Meddling:
    """The database, read ten rows at a time, where something happens each time."""

    def __init__(self, line: Line, happens: Callable[[], Awaitable[None]]) -> None:
        self._ready = ReadyRows(line.core.reader, line.core.registry)
        self._happens = happens

    async def paused(self) -> frozenset[tuple[str, str]]:
        return await self._ready.paused()

    async def queued_after(self, queue_seq: int, limit: int) -> list[Ready]:
        ready = await self._ready.queued_after(queue_seq, min(limit, 10))
        await self._happens()
        return ready


async def test_flushed_during_the_rebuild(line: Line, server: RedisServer) -> None:
    flushes = [True, False, True]
    await line.put(*names("t", 25))

    async def happens() -> None:
        if flushes and flushes.pop():
            await flush(server.url)

    await flush(server.url)
    async with beside(line, Meddling(line, happens)) as queue:
        assert not await queue.mend(), "flushed after the first read"
        assert not await queue.mend(), "flushed after the second"
        assert await queue.mend()
        assert not await queue.mend(), "there is nothing to do"
    assert await line.peek() == names("t", 25)
    assert await line.drain(by=4) == names("t", 25)
    assert not queue_of(line).lost.is_set()


async def test_one_rebuild_at_a_time(line: Line, server: RedisServer) -> None:
    """A process that is busy with one may lose the janitor's lease: its successor must not begin from the start."""
    await line.put(*names("t", 25))
    others: list[bool] = []

    async def happens() -> None:
        others.append(await queue_of(line).mend())

    await flush(server.url)
    async with beside(line, Meddling(line, happens)) as queue:
        assert await queue.mend()
    assert others
    assert not any(others)
    assert await line.drain(by=4) == names("t", 25)


async def test_a_rebuild_whose_process_died_is_begun_anew(
    line: Line, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_lines, "BUILDING", 1)
    await line.put(*names("t", 5))
    await flush(server.url)
    async with beside(line, Meddling(line, _dies)) as queue:
        with pytest.raises(asyncio.CancelledError):
            await queue.mend()
    assert not await queue_of(line).mend(), "the others cannot know yet"
    async with asyncio.timeout(PATIENCE):
        while not await queue_of(line).mend():
            await asyncio.sleep(0.05)
    assert await line.drain() == names("t", 5)


async def _dies() -> None:
    raise asyncio.CancelledError


async def test_tasks_that_come_during_the_rebuild_are_there_once(line: Line, server: RedisServer) -> None:
    await line.put(*names("t", 25))
    coming = iter(range(100))

    async def happens() -> None:
        number = next(coming)
        if number < 6:
            await line.put(f"new-{number}", queue=("default", f"q{number}")[number % 2], priority=4)

    await flush(server.url)
    async with beside(line, Meddling(line, happens)) as queue:
        assert await queue.mend()
        while await queue.mend():
            pass
        queue_of(line).lost.clear()  # as the process does whose turn it is to mend
    expected = [*names("t", 25), *(f"new-{number}" for number in range(6))]
    assert await line.peek() == expected
    assert await line.drain(by=4) == expected
    assert not queue_of(line).lost.is_set()


async def test_a_new_line_at_the_last_moment_of_a_rebuild(line: Line, server: RedisServer) -> None:
    """After the last row was read: its entry is there, and the line must not be forgotten."""
    await line.put("a")
    reads = iter(range(100))

    async def happens() -> None:
        if next(reads) == 1:  # the read that found nothing more
            await line.put("late", queue="late")

    await flush(server.url)
    async with beside(line, Meddling(line, happens)) as queue:
        while await queue.mend():
            pass
    queue_of(line).lost.clear()
    assert await line.drain() == ["a", "late"]
    assert not queue_of(line).lost.is_set()


# -- stale ----------------------------------------------------------------------------------------


async def test_an_old_copy_restored(line: Line, server: RedisServer) -> None:
    """A replica that lagged behind took over: it has an epoch, entries of what is done, and lacks what is new."""
    queue = queue_of(line)
    await line.put(*names("done", 20), priority=9)
    await line.put("paused-then", instance_id="one")
    await line.core.tasks.set_paused(ROOT, "default", True, "one")
    assert await line.claim(1) == ["done-0000"]
    async with Redis.from_url(server.url) as client:
        await client.save()
    assert await line.drain(by=7) == names("done", 20)[1:]
    await line.put("new-1", "new-2")
    await line.core.tasks.set_paused(ROOT, "default", False, "one")
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    async with asyncio.timeout(PATIENCE):
        while "done-0005" not in await line.peek():
            await asyncio.sleep(0.05)
    assert not await queue.mend(), "it looks whole"
    await queue.copy_pauses()
    await queue.add([Entry.of_task(task) for task in await line.core.reader.queued_after(0, 100)])
    assert await line.drain(by=5) == ["paused-then", "new-1", "new-2"]
    assert await line.peek() == []


# -- away -----------------------------------------------------------------------------------------


async def test_killed_and_started_again(line: Line, server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    await line.put(*names("before", 20))
    with caplog.at_level(logging.INFO):
        await asyncio.to_thread(server.kill)
        for name in names("during", 20):
            await line.put(name)
        assert await line.claim(5) == names("before", 20)[:5], "from the table"
        assert await line.peek(3) == names("before", 20)[5:8]
        await asyncio.to_thread(server.start)
        await mended(queue_of(line))
    assert await line.drain(by=8) == [*names("before", 20)[5:], *names("during", 20)]
    assert not queue_of(line).lost.is_set()
    said = [(record.name, record.message) for record in caplog.records if record.levelno >= logging.WARNING]
    # Once by the link; the bus says for itself that it does not hear, and that it is not heard.
    assert sorted(name for name, _ in said) == ["taskyard.outage"] * 2 + ["taskyard.redis_link"]
    assert any("Redis does not answer" in message for _, message in said)


async def test_stalled_for_ten_seconds(line: Line, server: RedisServer) -> None:
    """The first call waits for its time-out; those after it wait for nothing."""
    await line.put(*names("before", 5))
    server.send_signal(signal.SIGSTOP)
    try:
        took: list[float] = []
        for name in names("during", 10):
            began = time.monotonic()
            await line.put(name)
            took.append(time.monotonic() - began)
        claimed = await line.claim(3)
        await asyncio.sleep(max(0.0, 10 - sum(took)))
    finally:
        server.send_signal(signal.SIGCONT)
    assert claimed == names("before", 5)[:3]
    assert max(took[1:]) < took[0], "only the first one waited"
    async with asyncio.timeout(PATIENCE):
        while link_of(line).away:
            await asyncio.sleep(0.05)
    await line.queue.add([Entry.of_task(task) for task in await line.core.reader.queued_after(0, 100)])
    assert await line.drain(by=4) == [*names("before", 5)[3:], *names("during", 10)]
    assert not queue_of(line).lost.is_set()


async def test_stopped_while_redis_stands_still(database_url: str, server: RedisServer) -> None:
    async with asyncio.timeout(PATIENCE):
        async with redis_line(database_url, server.url, "t") as line:
            server.send_signal(signal.SIGSTOP)
            await line.put("a")
            assert link_of(line).away


async def test_started_before_redis(database_url: str) -> None:
    with RedisServer() as server:
        server.kill()
        async with redis_line(database_url, server.url, "t") as line:
            await line.put("a", "b")
            assert await line.claim() == ["a"]
            await asyncio.to_thread(server.start)
            await mended(queue_of(line))
            assert await line.claim() == ["b"]
            assert not queue_of(line).lost.is_set()


async def test_sessions_cut_again_and_again(line: Line, server: RedisServer) -> None:
    expected = names("t", 200)
    claimed: list[str] = []

    async def cut() -> None:
        async with Redis.from_url(server.url) as client:
            while len(claimed) < len(expected):
                await client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                await asyncio.sleep(0.01)

    await line.put(*expected)
    cutter = asyncio.create_task(cut())
    try:
        async with asyncio.timeout(PATIENCE):
            while len(claimed) < len(expected):
                claimed += await line.claim(5)
    finally:
        cutter.cancel()
        await asyncio.wait([cutter])
    assert sorted(claimed) == expected, "each once"


async def test_out_of_memory(line: Line, server: RedisServer) -> None:
    async with Redis.from_url(server.url) as client:
        await line.put(*names("before", 300))
        await client.config_set("maxmemory", 1)
        await line.put(*names("after", 300))
        (last,) = await line.core.reader.queued_after(599, 1)
        with pytest.raises(Unavailable, match="maxmemory"):
            await line.queue.add([Entry.of_task(last)])
        assert not link_of(line).away
        assert await line.claim(100) == names("before", 300)[:100], "tasks run on"
        await client.config_set("maxmemory", 0)
        await line.queue.add([Entry.of_task(task) for task in await line.core.reader.queued_after(0, 1000)])
        assert await line.drain(by=50) == [*names("before", 300)[100:], *names("after", 300)]


@pytest.mark.parametrize(("setting", "value", "healed"), [("maxmemory", 1, 0), ("min-replicas-to-write", 1, 0)])
async def test_an_empty_line_in_a_redis_that_takes_no_writes_is_no_empty_queue(
    line: Line, server: RedisServer, setting: str, value: int, healed: int
) -> None:
    """Full, or without the replicas that it must have: what was accepted meanwhile is in the table alone."""
    await line.put("before")
    assert await line.claim() == ["before"]
    async with Redis.from_url(server.url) as client:
        await client.config_set(setting, value)
        await line.put("during")
        assert await line.claim() == ["during"], "from the table"
        assert not link_of(line).away
        await client.config_set(setting, healed)
    await line.put("after")
    assert await line.drain() == ["after"]
