"""Writes how a run ended."""

import asyncio
import logging

from taskyard.errors import LeaseLost, TaskyardError, Unavailable
from taskyard.lifecycle import TaskStatus
from taskyard.service.claims import ClaimService
from taskyard.task import ErrorCode
from taskyard_workers.attempt import Attempt
from taskyard_workers.outcome import Completed, Failed, Interrupted, Outcome, Reason

logger = logging.getLogger(__name__)

#: A database that is away is tried again after so many seconds, until the lease is gone anyway.
TRY_AGAIN = 0.5


class Settler:
    """Turns outcomes into writes. `lease` is seconds: after it another may hold the task."""

    def __init__(self, claims: ClaimService, lease: float) -> None:
        self._claims = claims
        self._lease = lease

    async def settle(self, attempt: Attempt, outcome: Outcome) -> TaskStatus | None:
        """The status that was written, or None if the claim was no longer ours."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._lease
        while True:
            try:
                return await self._write(attempt, outcome)
            except LeaseLost:
                logger.warning("the result of task %s came too late and was thrown away", attempt.task.id)
                return None
            except Unavailable:
                if loop.time() + TRY_AGAIN >= give_up_at:
                    raise
                await asyncio.sleep(TRY_AGAIN)

    async def _write(self, attempt: Attempt, outcome: Outcome) -> TaskStatus | None:
        match outcome:
            case Completed(output, metrics):
                try:
                    await self._claims.complete(attempt.run, output, metrics)
                except (LeaseLost, Unavailable):
                    raise
                except (TaskyardError, TypeError, ValueError) as error:
                    # It cannot be stored as it is: trying again would not help.
                    failed = Failed(ErrorCode.INVALID_OUTPUT, str(error), False, metrics.processing_ms or 0)
                    return await self._write(attempt, failed)
                return TaskStatus.COMPLETED
            case Failed(code, message, retry, processing_ms):
                return await self._claims.fail(
                    attempt.run,
                    attempt.task,
                    code,
                    message,
                    retry=retry,
                    backoff=attempt.processor.backoff,
                    processing_ms=processing_ms,
                )
            case Interrupted(Reason.SHUTDOWN | Reason.UNAVAILABLE):
                await self._claims.release(attempt.run)
                return TaskStatus.QUEUED
            case Interrupted():
                return None
