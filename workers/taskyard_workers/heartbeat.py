"""Keeps a worker's claims, and tells that it lives."""

import asyncio
from collections.abc import Awaitable, Callable

from taskyard.clock import Clock
from taskyard.errors import Unavailable
from taskyard.service.claims import ClaimService
from taskyard_workers.executor import Executor
from taskyard_workers.outcome import Reason

#: Telling of itself may take a worker so many seconds, or the time between two beats.
TELL_BOUND = 1.0


class Heartbeat:
    """One beat: renew the leases of what runs in one statement, stop what is no longer ours, tell the figures.

    `lease` and `interval` are seconds. A run whose lease could not be renewed and would be over before the next
    beat is stopped: another worker may soon begin it.
    """

    def __init__(
        self,
        worker_id: str,
        *,
        claims: ClaimService,
        executor: Executor,
        tell: Callable[[], Awaitable[None]],
        clock: Clock,
        lease: float,
        interval: float,
    ) -> None:
        self._worker_id = worker_id
        self._claims = claims
        self._executor = executor
        self._tell = tell
        self._clock = clock
        self._lease = lease
        self._interval = interval
        #: When each run's claim was last known to hold, on the monotonic clock.
        self._kept_at: dict[tuple[str, int], float] = {}

    async def beat(self) -> None:
        began = self._clock.monotonic()
        running = self._executor.running()
        before = frozenset(running)
        self._kept_at = {run: self._kept_at.get(run, since) for run, since in running.items()}
        oldest = min(self._kept_at.values(), default=began)
        try:
            async with asyncio.timeout(max(self._interval, oldest + self._lease - self._interval - began)):
                kept = await self._claims.renew(self._worker_id, before)
        except (Unavailable, TimeoutError) as error:
            self._abort_what_runs_out()
            raise Unavailable("the claims of what runs could not be renewed") from error
        self._kept_at |= dict.fromkeys(kept, began)
        for task_id, attempt in before - kept:
            self._executor.interrupt(task_id, attempt, Reason.LOST)
        try:
            # Not for ever: the next beat must come in time.
            async with asyncio.timeout(max(self._interval, TELL_BOUND)):
                await self._tell()
        except TimeoutError as error:
            raise Unavailable("the worker could not tell that it lives") from error

    def _abort_what_runs_out(self) -> None:
        next_beat = self._clock.monotonic() + self._interval
        for (task_id, attempt), kept_at in self._kept_at.items():
            if kept_at + self._lease <= next_beat:
                self._executor.interrupt(task_id, attempt, Reason.LOST)
