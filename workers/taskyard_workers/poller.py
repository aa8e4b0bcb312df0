"""Claims as many tasks as there are free slots."""

import asyncio
from dataclasses import replace

from taskyard.queue.entry import Want
from taskyard.service.claims import ClaimService
from taskyard_workers.executor import Executor

#: Turns of the event loop from the start of a run to the call of its processor: it begins before more is claimed.
STEPS = 3


class Poller:
    """One round: claim for the free slots and start what was claimed, until there is no slot or no task.

    `want` says what to claim; its limit is the number of free slots each time. `idle` is set after a round
    that found nothing while nothing ran.
    """

    def __init__(self, *, worker_id: str, want: Want, claims: ClaimService, executor: Executor) -> None:
        self._worker_id = worker_id
        self._want = want
        self._claims = claims
        self._executor = executor
        self.closed = False
        self.idle = asyncio.Event()

    async def poll(self) -> None:
        while not self.closed and (free := self._executor.free) > 0:
            want = replace(self._want, limit=free)
            with self._executor.claiming():
                claimed = await self._claims.claim(self._worker_id, want, self._executor.timeout_of)
                for task in claimed:
                    self._executor.start(task)
            if not claimed:
                if not self._executor.running():
                    self.idle.set()
                return
            for _ in range(STEPS):
                await asyncio.sleep(0)
