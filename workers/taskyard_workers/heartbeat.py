"""Keeps a worker's claims, and tells that it lives."""

from collections.abc import Awaitable, Callable

from taskyard.service.claims import ClaimService
from taskyard_workers.executor import Executor
from taskyard_workers.outcome import Reason


class Heartbeat:
    """One beat: renew the leases of what runs in one statement, stop what is no longer ours, tell the figures."""

    def __init__(
        self, worker_id: str, claims: ClaimService, executor: Executor, tell: Callable[[], Awaitable[None]]
    ) -> None:
        self._worker_id = worker_id
        self._claims = claims
        self._executor = executor
        self._tell = tell

    async def beat(self) -> None:
        before = self._executor.running()
        kept = await self._claims.renew(self._worker_id, before)
        for task_id, attempt in before - kept:
            self._executor.interrupt(task_id, attempt, Reason.LOST)
        await self._tell()
