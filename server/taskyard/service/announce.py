"""What follows a commit: index, then publish. Both are best effort; maintenance mends the gaps."""

import logging
from collections.abc import Sequence

from taskyard.events.bus import Bus
from taskyard.lifecycle import TaskStatus
from taskyard.queue.base import TaskQueue
from taskyard.queue.entry import Entry
from taskyard.task import Event, EventKind

logger = logging.getLogger(__name__)

_ENTERING = (EventKind.STATUS, EventKind.PRIORITY)


class Announcer:
    """Tells the queue and the bus what a writer has committed. It never raises."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._queue: TaskQueue | None = None

    def index_in(self, queue: TaskQueue) -> None:
        """The queue that ready tasks are put in from now on."""
        self._queue = queue

    async def __call__(self, events: Sequence[Event]) -> None:
        entries = [
            Entry.of(event) for event in events if event.kind in _ENTERING and event.status is TaskStatus.QUEUED
        ]
        try:
            if entries and self._queue is not None:
                await self._queue.add(entries)
        except Exception:
            logger.exception("ready tasks could not be put in the queue")
        try:
            await self._bus.publish(events)
        except Exception:
            logger.exception("events could not be published")
