"""Notices that the event loop stands still, and says on whose behalf."""

import asyncio
import logging
import sys
import threading
import time
import traceback

logger = logging.getLogger(__name__)

#: Seconds after which a loop counts as blocked.
BLOCKED_AFTER = 1.0
#: So many of the innermost lines are shown of what blocks.
_LINES = 5


class Watchdog:
    """A thread that asks the loop for a sign of life, and warns once a blockade and once at its end.

    A blocked loop renews no lease: its tasks are given to others, and what their runs say is thrown away.
    """

    def __init__(self, patience: float = BLOCKED_AFTER) -> None:
        self._patience = patience
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Watch the running loop, from its own thread."""
        if self._thread is None:
            self._stopped = threading.Event()
            arguments = (asyncio.get_running_loop(), threading.get_ident(), self._stopped)
            self._thread = threading.Thread(target=self._watch, args=arguments, name="watchdog", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Does not wait for the thread, which ends at its next step."""
        self._stopped.set()
        self._thread = None

    def _watch(self, loop: asyncio.AbstractEventLoop, ident: int, stopped: threading.Event) -> None:
        while not stopped.wait(self._patience / 2):
            alive = threading.Event()
            asked = time.monotonic()
            try:
                loop.call_soon_threadsafe(alive.set)
            except RuntimeError:  # the loop is closed
                return
            if not alive.wait(self._patience):
                logger.warning(
                    "the event loop has been blocked for %.1f s by %s; for blocking work there is"
                    ' asyncio.to_thread or @processor(..., isolation="process")\n%s',
                    self._patience,
                    _culprit(loop),
                    _stack(ident),
                )
                while not alive.wait(self._patience):
                    if loop.is_closed() or stopped.is_set():
                        return
            if (length := time.monotonic() - asked) >= self._patience:
                logger.warning("the event loop runs again after it was blocked for %.1f s", length)


def _culprit(loop: asyncio.AbstractEventLoop) -> str:
    """The task that the loop runs now, by name: a run's is that of its task and its processor."""
    task = asyncio.current_task(loop)
    return "a callback" if task is None else task.get_name()


def _stack(ident: int) -> str:
    frame = sys._current_frames().get(ident)
    lines = [] if frame is None else traceback.format_stack(frame)[-_LINES:]
    return "".join(lines).rstrip()
