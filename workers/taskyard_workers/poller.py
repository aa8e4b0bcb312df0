"""Claims as many tasks as there are free slots."""

from collections.abc import Sequence

from taskyard.principal import EVERYTHING
from taskyard.queue.entry import Want
from taskyard.service.claims import ClaimService
from taskyard_workers.executor import Executor


class Poller:
    """One round: claim for the free slots and start what was claimed, until there is no slot or no task."""

    def __init__(
        self,
        *,
        worker_id: str,
        queues: Sequence[str] | None,
        task_types: Sequence[str] | None,
        claims: ClaimService,
        executor: Executor,
    ) -> None:
        self._worker_id = worker_id
        self._queues = queues
        self._task_types = task_types
        self._claims = claims
        self._executor = executor
        self.closed = False

    async def poll(self) -> None:
        while not self.closed and (free := self._executor.free) > 0:
            want = Want(limit=free, queues=self._queues, task_types=self._task_types, scope=EVERYTHING)
            claimed = await self._claims.claim(self._worker_id, want, self._executor.timeout_of)
            for task in claimed:
                self._executor.start(task)
            if not claimed:
                return
