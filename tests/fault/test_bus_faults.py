"""A bus whose server fails: nothing hangs, and it goes on by itself with a hint to look into the table."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack

import asyncpg
import psutil
import pytest
from redis.asyncio import Redis
from tests.support.buses import PATIENCE, Heard, by_notify, notify_bus, redis_bus
from tests.support.servers import PostgresServer, PrivateServer, RedisServer
from tests.support.tasks import an_event

from taskyard.events.bus import Bus
from taskyard.events.redis_bus import RedisBus
from taskyard.events.remote_bus import RemoteBus
from taskyard.redis_link import RedisLink

pytestmark = pytest.mark.slow


@pytest.fixture(params=["redis", "notify"])
def server(request: pytest.FixtureRequest) -> Iterator[PrivateServer]:
    with RedisServer() if request.param == "redis" else PostgresServer() as started:
        yield started


@pytest.fixture
async def pair(server: PrivateServer) -> AsyncIterator[tuple[Bus, Bus]]:
    async with AsyncExitStack() as stack:
        buses = [await stack.enter_async_context(opened(server)) for _ in range(2)]
        yield buses[0], buses[1]


def opened(server: PrivateServer) -> AbstractAsyncContextManager[Bus]:
    if isinstance(server, RedisServer):
        return redis_bus(server.url, "test")
    assert isinstance(server, PostgresServer)
    return notify_bus(server.url())


async def cut(server: PrivateServer) -> None:
    """End every session on the server, from the server's side."""
    if isinstance(server, RedisServer):
        async with Redis.from_url(server.url) as client:
            for kind in ("normal", "pubsub"):
                await client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        return
    assert isinstance(server, PostgresServer)
    connection = await asyncpg.connect(server.url())
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    await connection.close()


def stop_and_go(server: PrivateServer, number: signal.Signals) -> None:
    """Send the signal to every process of the server."""
    for process in [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]:
        os.kill(process.pid, number)


async def goes_on(here: Bus, there: Bus, seq: int) -> None:
    """What is published now is heard there."""
    heard = Heard()
    forget = there.listen(heard)
    await here.publish([an_event(seq)])
    try:
        await heard.until(seq)
    finally:
        forget()


async def test_server_killed_and_started_again(
    server: PrivateServer, pair: tuple[Bus, Bus], caplog: pytest.LogCaptureFixture
) -> None:
    here, there = pair
    near, far = Heard(), Heard()
    here.listen(near)
    there.listen(far)
    await goes_on(here, there, 1)
    with caplog.at_level(logging.INFO):
        await asyncio.to_thread(server.kill)
        longest = 0.0
        for seq in range(2, 30):
            began = time.monotonic()
            await here.publish([an_event(seq)])
            longest = max(longest, time.monotonic() - began)
            await asyncio.sleep(0.02)
        assert longest < 1, "the writer does not wait for the server"
        hints = far.hints
        await asyncio.to_thread(server.start)
        await far.until_hint(hints + 1)
    await goes_on(here, there, 100)
    await goes_on(there, here, 101)
    assert near.seqs == [*range(1, 30), 100, 101], "its own events it heard all the time, once each"
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len([record for record in warnings if "are not sent" in record.message]) == 1
    assert len([record for record in warnings if "are not heard" in record.message]) == 2, "once each process"


async def test_sessions_cut(server: PrivateServer, pair: tuple[Bus, Bus]) -> None:
    here, there = pair
    heard = Heard()
    there.listen(heard)
    for seq in range(3):
        hints = heard.hints
        await cut(server)
        await heard.until_hint(hints + 1)
        await goes_on(here, there, seq)


async def test_server_that_stands_still_for_three_seconds(server: PrivateServer, pair: tuple[Bus, Bus]) -> None:
    here, there = pair
    heard = Heard()
    there.listen(heard)
    stop_and_go(server, signal.SIGSTOP)
    try:
        longest = 0.0
        for seq in range(1, 150):
            began = time.monotonic()
            await here.publish([an_event(seq)])
            longest = max(longest, time.monotonic() - began)
            await asyncio.sleep(0.02)
    finally:
        stop_and_go(server, signal.SIGCONT)
    assert longest < 1, "the writer does not wait for the server"
    await goes_on(here, there, 1000)
    assert heard.seqs[-1] == 1000
    assert heard.hints or heard.seqs == [*range(1, 150), 1000], "all arrived, or it was told to look"


async def test_stop_while_the_server_stands_still(server: PrivateServer) -> None:
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(opened(server))
        stop_and_go(server, signal.SIGSTOP)
        try:
            await bus.publish([an_event(1)])
            async with asyncio.timeout(PATIENCE):
                await bus.stop()
        finally:
            stop_and_go(server, signal.SIGCONT)


@pytest.mark.parametrize("kind", ["redis", "notify"])
async def test_a_bus_starts_before_its_server(kind: str) -> None:
    with RedisServer() if kind == "redis" else PostgresServer() as server:
        server.kill()
        link = RedisLink(f"redis://127.0.0.1:{server.port}/0", "test")
        bus: Bus = RedisBus(link) if kind == "redis" else by_notify(f"postgresql://postgres@127.0.0.1:{server.port}/")
        heard = Heard()
        bus.listen(heard)
        await bus.start()
        try:
            await bus.publish([an_event(1)])
            assert heard.seqs == [1]
            assert not heard.hints
            await asyncio.to_thread(server.start)
            await heard.until_hint()
        finally:
            await bus.stop()
            await link.aclose()


async def test_a_driver_that_answers_a_cancellation_with_an_error() -> None:
    """The loop takes it for one more fault; it must end all the same."""

    class Stubborn:
        limit = 1000
        listening = asyncio.Event()

        async def hear(self, _connected: object, _heard: object) -> None:
            self.listening.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise ConnectionError("the connection was lost") from None

        send = hear

        async def close(self) -> None: ...

    bus = RemoteBus(Stubborn(), "stubborn-bus")  # type: ignore[arg-type]  # a double of a driver
    await bus.start()
    await bus.publish([an_event(1)])
    await Stubborn.listening.wait()
    async with asyncio.timeout(PATIENCE):
        await bus.stop()
