"""One call of a processor, from the raw input to an outcome: the same in every process."""

import asyncio
import logging
from typing import Any

from pydantic import ValidationError

from taskyard.clock import Clock
from taskyard.errors import LeaseLost, TaskyardError, Unavailable
from taskyard.processor import PermanentError, Processor
from taskyard.task import ErrorCode, Json
from taskyard_workers.context import RunContext
from taskyard_workers.outcome import Completed, Failed, Interrupted, Outcome, Reason

logger = logging.getLogger(__name__)


async def invoke(processor: Processor, raw: Json, context: RunContext, clock: Clock) -> Outcome:
    """Check the input, run the processor, check what it gives.

    Raises `CancelledError` if its task was cancelled and the processor let that pass, and nothing else.
    """
    started = clock.monotonic()
    try:
        value = processor.input_type.validate_python(raw)
    except Exception as error:  # noqa: BLE001 - whatever a user's type raises, the input is not of it
        return Failed(ErrorCode.INVALID_INPUT, _faults(error), retry=False, processing_ms=0)
    try:
        result = await _call(processor, value, context)
    except BaseException as error:
        # Of the processor, whatever it is, unless it answers to a cancellation of ours.
        if _told_to_stop() and isinstance(error, asyncio.CancelledError):
            raise
        return _failure(error, processor, context, round((clock.monotonic() - started) * 1000))
    elapsed = round((clock.monotonic() - started) * 1000)
    try:
        checked = processor.output_type.validate_python(result)
        output = processor.output_type.dump_python(checked, mode="json")
    except Exception as error:  # noqa: BLE001 - whatever a user's type raises, the output is not of it
        return Failed(ErrorCode.INVALID_OUTPUT, _faults(error), retry=False, processing_ms=elapsed)
    return Completed(output, context.metrics(elapsed))


async def _call(processor: Processor, value: Any, context: RunContext) -> Any:
    try:
        return await processor.run(value, context)
    except (SystemExit, KeyboardInterrupt) as error:
        # asyncio would end the whole process; a Ctrl-C of the user's comes as a signal and not here.
        raise RuntimeError(f"the processor called for the process to end: {error!r}") from error


def _told_to_stop() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _failure(error: BaseException, processor: Processor, context: RunContext, elapsed: int) -> Outcome:
    if isinstance(error, LeaseLost):
        return Interrupted(Reason.LOST)
    if isinstance(error, Unavailable):
        return Interrupted(Reason.UNAVAILABLE)
    if isinstance(error, PermanentError):
        return Failed(error.code, str(error), retry=False, processing_ms=elapsed)
    if not _told_to_stop():  # what it raises while it stops is of no account
        logger.warning("task %s failed in the processor %s", context.task_id, processor.name, exc_info=error)
    code = error.code if isinstance(error, TaskyardError) else ErrorCode.PROCESSOR_ERROR
    return Failed(code, f"{type(error).__name__}: {error}", retry=True, processing_ms=elapsed)


def _faults(error: Exception) -> str:
    """What is wrong with a value, place by place."""
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(
        f"{'.'.join(map(str, fault['loc'])) or 'the value'}: {fault['msg']}"
        for fault in error.errors(include_url=False, include_context=False, include_input=False)
    )
