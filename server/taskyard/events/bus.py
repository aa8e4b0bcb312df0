"""PubSub: what was committed, told live to every process that listens. Only a hint; the table has it all."""

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from taskyard.task import Event

logger = logging.getLogger(__name__)

#: Called with events in the order of their commit, or with none: then something was committed, or changed, that
#: the bus cannot tell, and is worth a look. It must not block.
Listener = Callable[[Sequence[Event]], None]


class Bus(Protocol):
    """Carries committed events. They may be lost or cross each other on the way."""

    async def start(self) -> None:
        """Begin to hear. A bus that cannot reach its server goes on trying, and tells its listeners once it can."""
        ...

    async def stop(self) -> None:
        """Let go of the server, within a bound. Both are idempotent."""
        ...

    async def publish(self, events: Sequence[Event]) -> None: ...

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with what is published from now on; the function returned ends that."""
        ...


class Listeners:
    """Who is told what was published in this process."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def tell(self, events: Sequence[Event]) -> None:
        for listener in list(self._listeners):
            try:
                listener(events)
            except Exception:
                logger.exception("a listener failed")

    def add(self, listener: Listener) -> Callable[[], None]:
        self._listeners.append(listener)

        def stop() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return stop


class MemoryBus:
    """`Bus` inside one process."""

    def __init__(self) -> None:
        self._listeners = Listeners()

    async def start(self) -> None:
        """There is nothing to connect."""

    async def stop(self) -> None:
        """There is nothing to let go of."""

    async def publish(self, events: Sequence[Event]) -> None:
        self._listeners.tell(events)

    def listen(self, listener: Listener) -> Callable[[], None]:
        return self._listeners.add(listener)
