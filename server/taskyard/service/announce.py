"""What follows a commit: index, then publish. Both are best effort; maintenance mends the gaps."""

import logging
from collections.abc import Awaitable, Callable, Sequence

from taskyard.errors import Unavailable
from taskyard.events.bus import Bus
from taskyard.lifecycle import TaskStatus
from taskyard.queue.base import ReadyQueue
from taskyard.queue.entry import Entry
from taskyard.task import WORKER_ACTOR, Event, EventKind

logger = logging.getLogger(__name__)

_ENTERING = (EventKind.STATUS, EventKind.PRIORITY)


class Announcer:
    """Tells the queue and the bus what a writer has committed. It never raises."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._queue: ReadyQueue | None = None

    def index_in(self, queue: ReadyQueue) -> None:
        """The queue that ready tasks are put in from now on."""
        self._queue = queue

    async def __call__(self, events: Sequence[Event]) -> None:
        ready, left = [], []
        for event in events:
            if event.kind in _ENTERING and event.status is TaskStatus.QUEUED:
                ready.append(Entry.of(event))
            elif event.kind is EventKind.STATUS and _may_be_in_line(event):
                left.append(Entry.of(event))
        if self._queue is not None:
            await _best_effort(self._queue.add, ready)
            await _best_effort(self._queue.discard, left)
        try:
            await self._bus.publish(events)
        except Exception:
            logger.exception("events could not be published")


async def _best_effort(tell: Callable[[Sequence[Entry]], Awaitable[None]], entries: Sequence[Entry]) -> None:
    if not entries:
        return
    try:
        await tell(entries)
    except Unavailable:
        logger.debug("the queue is away, which it says by itself")
    except Exception:
        logger.exception("the queue could not be told what became ready, or ceased to be")


def _may_be_in_line(event: Event) -> bool:
    """Whether this took a ready task away other than through the queue, as the workers' claims do."""
    return event.state["queue_seq"] is not None and not event.actor.startswith(WORKER_ACTOR)
