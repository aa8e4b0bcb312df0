"""The loops that keep a deployment in order."""

import asyncio
from collections.abc import Awaitable, Callable

from taskyard.service.duty import Alone, Duty
from taskyard.service.maintenance import Maintenance
from taskyard.service.relay import Relay
from taskyard_workers.looper import Looper

#: Seconds between two looks at what is due: a task starts at most so much late.
PROMOTE_EVERY = 0.2
RELAY_EVERY = 0.2
SWEEP_EVERY = 1.0
WORKERS_EVERY = 10.0


class Janitor:
    """Queues due tasks, ends what ran out of time, marks silent workers, and mends the index of ready tasks.

    Every process has one; the one whose `duty` it is works. `relay` is for a queue whose index may lose something.
    """

    def __init__(self, maintenance: Maintenance, duty: Duty | None = None, relay: Relay | None = None) -> None:
        self._maintenance = maintenance
        self._duty = duty or Alone()
        self._relay = relay
        self._loops = [
            self._loop("promoter", PROMOTE_EVERY, self._maintenance.promote_due),
            self._loop("sweeper", SWEEP_EVERY, self._sweep),
            self._loop("worker-sweeper", WORKERS_EVERY, self._maintenance.reap_workers),
        ]
        if relay is not None:
            self._loops.append(self._loop("relay", RELAY_EVERY, relay.round))

    def start(self) -> None:
        for loop in self._loops:
            loop.start()

    async def stop(self) -> None:
        await asyncio.gather(*(loop.stop() for loop in self._loops))
        await self._duty.give_up()

    def _loop(self, name: str, interval: float, work: Callable[[], Awaitable[object]]) -> Looper:
        async def on_duty() -> None:
            if await self._duty.mine():
                await work()
            elif self._relay is not None:
                self._relay.pause()

        return Looper(name, interval, on_duty)

    async def _sweep(self) -> None:
        await self._maintenance.enforce_deadlines()
        await self._maintenance.reap_leases()
