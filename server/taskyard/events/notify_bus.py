"""The bus by LISTEN and NOTIFY, for a deployment with PostgreSQL and without Redis."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from taskyard.events.remote_bus import RemoteBus

CHANNEL = "taskyard_events"
#: Bytes of a message: PostgreSQL takes less than 8000.
LIMIT = 7900
#: Messages of one statement; the listeners read from the table what is told by more.
BURST = 200
#: A listener asks after so many seconds whether the server is still there.
SILENCE = 5.0

#: Makes a connection of the driver's own, which has no types.
Connect: TypeAlias = Callable[[], Awaitable[Any]]


class NotifyChannel:
    """Two connections of its own, one that listens and one that sends, through no pooler of transactions."""

    limit = LIMIT

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._sending: Any = None

    async def hear(self, connected: Callable[[], None], heard: Callable[[str], None]) -> None:
        connection = await self._connect()
        lost = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(CHANNEL, lambda _connection, _pid, _channel, message: heard(message))
            connected()
            while not lost.is_set():
                try:
                    async with asyncio.timeout(SILENCE):
                        await lost.wait()
                except TimeoutError:
                    await connection.execute("SELECT 1")
            raise ConnectionError("the connection that listens was closed")
        finally:
            connection.terminate()

    async def send(self, messages: Sequence[str]) -> None:
        # Beyond a burst nothing is lost: the last message shows the hub that others are missing.
        told = messages[-BURST:]
        if self._sending is None or self._sending.is_closed():
            self._sending = await self._connect()
        try:
            await self._sending.execute("SELECT pg_notify($1, told) FROM unnest($2::text[]) AS told", CHANNEL, told)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """At once: there is nothing to say good-bye for."""
        connection, self._sending = self._sending, None
        if connection is not None:
            connection.terminate()


class NotifyBus(RemoteBus):
    """`Bus` over a PostgreSQL. `connect` makes a connection of asyncpg; it and its calls must have time-outs."""

    def __init__(self, connect: Connect) -> None:
        super().__init__(NotifyChannel(connect), "notify-bus")
