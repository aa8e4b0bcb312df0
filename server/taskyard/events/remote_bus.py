"""A bus over a server that all processes reach: what the one by Redis and the one by PostgreSQL have in common."""

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from typing import Protocol

from taskyard.events.bus import Listener, Listeners
from taskyard.events.wire import decode, encode, hint
from taskyard.outage import FIRST_TRY, Outage
from taskyard.stopping import end
from taskyard.task import Event

logger = logging.getLogger(__name__)

#: Events that wait to be sent; beyond, the others are only told to look into the table.
WAITING = 10_000
#: A bus that stops may send what waits for so many seconds.
LAST_WORDS = 1.0


class Channel(Protocol):
    """A way to tell every process a text."""

    #: Bytes that a message may have.
    limit: int

    async def hear(self, connected: Callable[[], None], heard: Callable[[str], None]) -> None:
        """Listen until the connection is lost, which raises. `connected` is called once it listens."""
        ...

    async def send(self, messages: Sequence[str]) -> None:
        """Tell every process, this one as well, or raise within seconds."""
        ...

    async def close(self) -> None:
        """Let go of the server, within a bound."""
        ...


class RemoteBus:
    """`Bus` over a `Channel`.

    Listeners of this process hear its own events at once, without the server. Publishing never waits for the server
    either: a task of its own sends what has come together. What was sent late or not at all, or may have been missed
    while this process was cut off, is followed by an empty message: the table has it.
    """

    def __init__(self, channel: Channel, name: str) -> None:
        self._channel = channel
        self._name = name
        self._sender = secrets.token_hex(8)
        self._listeners = Listeners()
        self._waiting: list[Event] = []
        self._look = False  # the others are to be told to look into the table
        self._something = asyncio.Event()
        self._stopping = False
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    async def start(self) -> None:
        if self._tasks:
            return
        self._stopping = False
        self._tasks = (
            asyncio.create_task(self._send_forever(), name=f"{self._name}-sender"),
            asyncio.create_task(self._hear_forever(), name=f"{self._name}-listener"),
        )

    async def stop(self) -> None:
        tasks, self._tasks = self._tasks, ()
        if not tasks:
            return
        self._stopping = True
        self._something.set()
        sender, listener = tasks
        await asyncio.wait({sender}, timeout=LAST_WORDS)
        await end(sender)
        await end(listener)
        await self._channel.close()

    async def publish(self, events: Sequence[Event]) -> None:
        self._listeners.tell(events)
        if not self._tasks:
            return
        if not events or len(self._waiting) + len(events) > WAITING:
            self._look = True
            events = []
        self._waiting += events
        self._something.set()

    def listen(self, listener: Listener) -> Callable[[], None]:
        return self._listeners.add(listener)

    async def _send_forever(self) -> None:
        outage = Outage(f"{self._name}: events are not sent to the other processes, which read them from the table")
        while True:
            await self._something.wait()
            self._something.clear()
            if self._waiting or self._look:
                try:
                    await self._send_waiting()
                except Exception as error:  # noqa: BLE001 - the edge of the loop; the outage logs it
                    self._look = True
                    self._something.set()
                    if not self._stopping:
                        await asyncio.sleep(outage.failed(error))
                else:
                    outage.over()
            if self._stopping:
                return

    async def _send_waiting(self) -> None:
        events, self._waiting = self._waiting, []
        look, self._look = self._look, False
        messages = encode(self._sender, events, self._channel.limit)
        try:
            await self._channel.send([*messages, hint(self._sender)] if look else messages)
        except BaseException:
            # Whether they have arrived is not known; the others take them once.
            if len(events) + len(self._waiting) <= WAITING:
                self._waiting = [*events, *self._waiting]
            raise

    async def _hear_forever(self) -> None:
        outage = Outage(f"{self._name}: the other processes are not heard; their events come from the table")

        def connected() -> None:
            outage.over()
            self._listeners.tell([])

        while not self._stopping:
            try:
                await self._channel.hear(connected, self._heard)
            except Exception as error:  # noqa: BLE001 - the edge of the loop; the outage logs it
                pause = outage.failed(error)
            else:
                pause = FIRST_TRY
            if not self._stopping:
                await asyncio.sleep(pause)

    def _heard(self, message: str) -> None:
        try:
            sender, events = decode(message)
        except Exception:
            logger.warning("%s: a message cannot be read", self._name, exc_info=True)
            sender, events = "", []
        if sender != self._sender:
            self._listeners.tell(events)
