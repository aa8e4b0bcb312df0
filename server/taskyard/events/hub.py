"""One hub a process: events in order, gaps filled from the table, to bounded subscribers."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from taskyard.errors import Unavailable
from taskyard.events.bus import Bus
from taskyard.outage import Outage
from taskyard.stopping import end
from taskyard.task import Event

logger = logging.getLogger(__name__)

#: How long a missing event may take to arrive by itself before it is read from the table, in seconds.
GRACE = 0.002
#: How often the table is looked at, whatever was heard, in seconds.
TICK = 0.25
FILL = 500
#: Events that are kept while one before them is missing; the table has those beyond.
HELD = 10_000
#: Events that a subscriber may have waiting before it is cut off.
BUFFER = 10_000
_STOPPING = "the service is stopping"

Wants = Callable[[Event], bool]


class EventLog(Protocol):
    """The table of events."""

    async def events_after(self, seq: int, limit: int) -> list[Event]: ...

    async def head(self) -> int: ...


class Subscription:
    """What one subscriber has yet to read."""

    def __init__(self, wants: Wants, buffer: int) -> None:
        self.wants = wants
        self._buffer = buffer
        self._events: list[Event] = []
        self._filled = asyncio.Event()
        self._end: Exception | None = None

    def offer(self, event: Event) -> None:
        if self._end is not None or not self._wanted(event):
            return
        if len(self._events) >= self._buffer:
            self.end(Unavailable("this subscriber read too slowly and was cut off"))
            return
        self._events.append(event)
        self._filled.set()

    def _wanted(self, event: Event) -> bool:
        try:
            return self.wants(event)
        except Exception as error:
            logger.exception("a subscriber failed to choose")
            self.end(error)
            return False

    def end(self, reason: Exception) -> None:
        """Let the subscriber read what it has, then raise the reason at each `next`."""
        self._end = self._end or reason
        self._filled.set()

    async def next(self) -> list[Event]:
        """Everything that has come since the last time, once there is something."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            events, self._events = self._events, []
            if self._end is not None:
                self._filled.set()
            if events:
                return events
            if self._end is not None:
                raise self._end


class Hub:
    """Delivers each event of the deployment once and in the order of `seq` to every subscriber."""

    def __init__(self, bus: Bus, log: EventLog) -> None:
        self._bus = bus
        self._log = log
        self._head = 0
        self._held: dict[int, Event] = {}
        self._subscribers: set[Subscription] = set()
        self._hole = asyncio.Event()
        self._stop_listening: Callable[[], None] | None = None
        self._filler: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen first, then take the head, so that nothing falls between."""
        if self._filler is not None:
            return
        self._stop_listening = self._bus.listen(self._heard)
        self._head = await self._log.head()
        self._filler = asyncio.create_task(self._fill_forever(), name="event-hub")

    async def stop(self) -> None:
        """End every subscription and stop."""
        for subscriber in list(self._subscribers):
            subscriber.end(Unavailable(_STOPPING))
        if self._stop_listening is not None:
            self._stop_listening()
            self._stop_listening = None
        if self._filler is not None:
            await end(self._filler)
            self._filler = None

    @contextmanager
    def subscribe(self, wants: Wants, buffer: int = BUFFER) -> Iterator[Subscription]:
        """What the hub delivers from here on and `wants` accepts. One of a hub that is stopped has ended."""
        subscription = Subscription(wants, buffer)
        if self._filler is None:
            subscription.end(Unavailable(_STOPPING))
        self._subscribers.add(subscription)
        try:
            yield subscription
        finally:
            self._subscribers.discard(subscription)

    def _heard(self, events: Sequence[Event]) -> None:
        for event in events:
            if event.seq == self._head + 1:
                self._deliver(event)
                self._drain()
            elif event.seq > self._head and len(self._held) < HELD:
                self._held[event.seq] = event
        if self._held or not events:
            self._hole.set()

    def _deliver(self, event: Event) -> None:
        self._head = event.seq
        for subscriber in list(self._subscribers):
            subscriber.offer(event)

    def _drain(self) -> None:
        while (event := self._held.pop(self._head + 1, None)) is not None:
            self._deliver(event)

    async def _fill_forever(self) -> None:
        outage = Outage("the event log cannot be read")
        while True:
            try:
                async with asyncio.timeout(TICK):
                    await self._hole.wait()
                await asyncio.sleep(GRACE)
            except TimeoutError:
                pass
            self._hole.clear()
            try:
                await self._fill()
                outage.over()
            except Unavailable as error:
                outage.failed(error)
            except Exception:
                logger.exception("the event log could not be read")

    async def _fill(self) -> None:
        while missing := await self._log.events_after(self._head, FILL):
            for event in missing:
                if event.seq > self._head:
                    self._deliver(event)
            self._held = {seq: event for seq, event in self._held.items() if seq > self._head}
            self._drain()
            if len(missing) < FILL:
                return
