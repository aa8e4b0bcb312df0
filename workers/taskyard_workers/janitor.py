"""The loops that keep a deployment in order."""

from taskyard.service.maintenance import Maintenance
from taskyard_workers.looper import Looper

#: Seconds between two looks at what is due: a task starts at most so much late.
PROMOTE_EVERY = 0.2
SWEEP_EVERY = 1.0
WORKERS_EVERY = 10.0


class Janitor:
    """Queues due tasks, ends what ran out of time, and marks silent workers."""

    def __init__(self, maintenance: Maintenance) -> None:
        self._maintenance = maintenance
        self._loops = (
            Looper("promoter", PROMOTE_EVERY, self._promote),
            Looper("sweeper", SWEEP_EVERY, self._sweep),
            Looper("worker-sweeper", WORKERS_EVERY, self._sweep_workers),
        )

    def start(self) -> None:
        for loop in self._loops:
            loop.start()

    async def stop(self) -> None:
        for loop in self._loops:
            await loop.stop()

    async def _promote(self) -> None:
        await self._maintenance.promote_due()

    async def _sweep(self) -> None:
        await self._maintenance.enforce_deadlines()
        await self._maintenance.reap_leases()

    async def _sweep_workers(self) -> None:
        await self._maintenance.reap_workers()
