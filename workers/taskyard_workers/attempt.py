"""One attempt at a task: its time-out, its interruption, its outcome."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from taskyard.clock import Clock
from taskyard.processor import Processor
from taskyard.service.claims import Run
from taskyard.task import ErrorCode, Task
from taskyard_workers.context import Identity, RunContext, Teller
from taskyard_workers.outcome import Completed, Failed, Interrupted, Outcome, Reason

logger = logging.getLogger(__name__)

#: A processor that is told to stop has so many seconds to clean up; then it is left behind.
STOP_GRACE = 5.0

#: Where a run takes place: in this process (`invoke`) or in one of its own (`run_isolated`).
Place: TypeAlias = Callable[[RunContext], Coroutine[Any, Any, Outcome]]


class Attempt:
    """Runs a processor once, in its `place`. `timeout` is seconds."""

    def __init__(
        self, task: Task, run: Run, processor: Processor, place: Place, teller: Teller, clock: Clock, timeout: float
    ) -> None:
        self.task = task
        self.run = run
        self.processor = processor
        self._place = place
        self._clock = clock
        self._timeout = timeout
        self._context = RunContext(Identity(task.id, task.instance_id, task.agent_id, run.attempt), teller)
        self._reason: Reason | None = None
        self._stop = asyncio.Event()

    def interrupt(self, reason: Reason) -> None:
        """Stop the run; the first reason holds."""
        self._reason = self._reason or reason
        self._context.cancelled = True
        self._stop.set()

    async def execute(self) -> Outcome:
        """Run to an end of whatever kind. Never raises but for its own cancellation."""
        started = self._clock.monotonic()
        # The name is what the watchdog shows.
        work = asyncio.create_task(
            self._place(self._context), name=f"task {self.task.id} (processor {self.processor.name})"
        )
        stop = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({work, stop}, timeout=self._timeout, return_when=asyncio.FIRST_COMPLETED)
            timed_out = not work.done() and self._reason is None
            if not work.done():
                await self._end(work)
        finally:
            stop.cancel()
            if not work.done():
                work.cancel()
        finished = work.done() and not work.cancelled() and isinstance(work.result(), Completed)
        if self._reason is Reason.LOST or (self._reason is not None and not finished):
            return Interrupted(self._reason)
        if timed_out:
            elapsed = round((self._clock.monotonic() - started) * 1000)
            message = f"it ran longer than its time-out of {self._timeout:g} s"
            return Failed(ErrorCode.TIMEOUT, message, retry=False, processing_ms=elapsed)
        return work.result()

    async def _end(self, work: "asyncio.Task[Outcome]") -> None:
        work.cancel()
        await asyncio.wait({work}, timeout=STOP_GRACE)
        if not work.done():
            logger.error(
                "the processor %s of task %s ignores that it was told to stop; it is left behind",
                self.processor.name,
                self.task.id,
            )
