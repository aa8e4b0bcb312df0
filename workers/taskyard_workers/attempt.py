"""One attempt at a task: the processor, its time-out, its interruption."""

import asyncio
import logging
from typing import Any

from pydantic import ValidationError

from taskyard.clock import Clock
from taskyard.errors import LeaseLost, TaskyardError, Unavailable
from taskyard.processor import PermanentError, Processor
from taskyard.service.claims import ClaimService, Run
from taskyard.task import ErrorCode, Task
from taskyard_workers.context import RunContext
from taskyard_workers.outcome import Completed, Failed, Interrupted, Outcome, Reason

logger = logging.getLogger(__name__)

#: A processor that is told to stop has so many seconds to clean up; then it is left behind.
STOP_GRACE = 5.0


class Attempt:
    """Runs a processor once. `timeout` is seconds."""

    def __init__(
        self, task: Task, run: Run, processor: Processor, claims: ClaimService, clock: Clock, timeout: float
    ) -> None:
        self.task = task
        self.run = run
        self.processor = processor
        self._clock = clock
        self._timeout = timeout
        self._context = RunContext(task, run, claims)
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
        try:
            value = self.processor.input_type.validate_python(self._input())
        except Exception as error:  # noqa: BLE001 - whatever a user's type raises, the input is not of it
            return Failed(ErrorCode.INVALID_INPUT, _faults(error), retry=False, processing_ms=0)
        work = asyncio.ensure_future(self._process(value))
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
        elapsed = round((self._clock.monotonic() - started) * 1000)
        finished = work.done() and not work.cancelled() and work.exception() is None
        if self._reason is Reason.LOST or (self._reason is not None and not finished):
            return Interrupted(self._reason)
        if timed_out:
            message = f"it ran longer than its time-out of {self._timeout:g} s"
            return Failed(ErrorCode.TIMEOUT, message, retry=False, processing_ms=elapsed)
        return self._outcome(work, elapsed)

    async def _process(self, value: Any) -> Any:
        try:
            return await self.processor.run(value, self._context)
        except (SystemExit, KeyboardInterrupt) as error:
            # asyncio would end the whole process; a Ctrl-C of the user's comes as a signal and not here.
            raise RuntimeError(f"the processor called for the process to end: {error!r}") from error

    def _input(self) -> Any:
        assert self.task.payload is not None
        return self.task.payload.input

    async def _end(self, work: "asyncio.Future[Any]") -> None:
        work.cancel()
        await asyncio.wait({work}, timeout=STOP_GRACE)
        if not work.done():
            logger.error(
                "the processor %s of task %s ignores that it was told to stop; it is left behind",
                self.processor.name,
                self.task.id,
            )
        elif not work.cancelled():
            work.exception()  # seen: what it raised while stopping is of no account

    def _outcome(self, work: "asyncio.Future[Any]", elapsed: int) -> Outcome:
        try:
            result = work.result()
        except LeaseLost:
            return Interrupted(Reason.LOST)
        except Unavailable:
            return Interrupted(Reason.UNAVAILABLE)
        except PermanentError as error:
            return Failed(error.code, str(error), retry=False, processing_ms=elapsed)
        except BaseException as error:
            # Of the processor, whatever it is: nothing is awaited here.
            logger.warning("task %s failed in the processor %s", self.task.id, self.processor.name, exc_info=error)
            code = error.code if isinstance(error, TaskyardError) else ErrorCode.PROCESSOR_ERROR
            return Failed(code, f"{type(error).__name__}: {error}", retry=True, processing_ms=elapsed)
        try:
            checked = self.processor.output_type.validate_python(result)
            output = self.processor.output_type.dump_python(checked, mode="json")
        except Exception as error:  # noqa: BLE001 - whatever a user's type raises, the output is not of it
            return Failed(ErrorCode.INVALID_OUTPUT, _faults(error), retry=False, processing_ms=elapsed)
        return Completed(output, self._context.metrics(elapsed))


def _faults(error: Exception) -> str:
    """What is wrong with a value, place by place."""
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(
        f"{'.'.join(map(str, fault['loc'])) or 'the value'}: {fault['msg']}"
        for fault in error.errors(include_url=False, include_context=False, include_input=False)
    )
