"""The loop that every part of a worker is: start and stop, both idempotent, within a bound."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from taskyard.errors import Unavailable
from taskyard.outage import Outage
from taskyard.stopping import end

logger = logging.getLogger(__name__)

#: A stopping loop may finish its round for so many seconds before it is cancelled.
STOP_BOUND = 10.0


class Looper:
    """Calls `work` every `interval` seconds, and at once when woken."""

    def __init__(self, name: str, interval: float, work: Callable[[], Awaitable[None]]) -> None:
        self._name = name
        self._interval = interval
        self._work = work
        self._woken = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._task is None:
            self._stopping = False
            self._task = asyncio.create_task(self._run(), name=self._name)

    def wake(self) -> None:
        """Do the next round now."""
        self._woken.set()

    async def stop(self) -> None:
        """Let the round that is going on finish, and end."""
        task, self._task = self._task, None
        if task is None:
            return
        self._stopping = True
        self._woken.set()
        await asyncio.wait({task}, timeout=STOP_BOUND)
        if not task.done():
            logger.error("%s did not stop in time and is cancelled", self._name)
            await end(task)

    async def _run(self) -> None:
        outage = Outage(f"{self._name} cannot work")
        while not self._stopping:
            self._woken.clear()
            try:
                await self._work()
                outage.over()
            except Unavailable as error:
                outage.failed(error)
            except Exception:
                logger.exception("%s failed; it goes on", self._name)
            try:
                async with asyncio.timeout(self._interval):
                    await self._woken.wait()
            except TimeoutError:
                continue
