"""An event loop whose clock jumps: what would be waited for has come, so that minutes pass in milliseconds."""

import asyncio
from collections.abc import Sequence
from typing import Any


class Deadlock(RuntimeError):
    """Everybody waits, and nothing is going to happen."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Timers, futures and tasks without sockets, threads or real time. Time begins at 0, in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        # The base class asks its selector how long to wait for sockets: here is none, and the clock jumps.
        self._selector = self

    def time(self) -> float:
        return self._now

    def select(self, timeout: float | None) -> Sequence[Any]:
        """Do not wait, but be where the wait would have ended."""
        if timeout is None:
            raise Deadlock("nothing is scheduled and everybody waits")
        self._now += timeout
        return ()

    def _process_events(self, event_list: Sequence[Any]) -> None:
        """No socket has anything to tell."""

    def _write_to_self(self) -> None:
        """Nobody else could wake this loop: it never sleeps."""
