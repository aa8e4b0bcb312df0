"""What one process of a deployment does at a time: it holds a lease for as long as it does it."""

import asyncio
import logging
from typing import Protocol

from taskyard.clock import Clock
from taskyard.errors import TaskyardError
from taskyard.store.registry import Registry

logger = logging.getLogger(__name__)

#: How long a duty stays with a process that has fallen silent, in seconds: well under the second within which a
#: task whose time has come must start.
DUTY_LEASE = 0.6


class Duty(Protocol):
    """Asked before each round of work: whether this process is to do it."""

    async def mine(self) -> bool: ...

    async def give_up(self) -> None:
        """Let another process have it at once."""
        ...


class Alone:
    """`Duty` of the only process there is."""

    async def mine(self) -> bool:
        return True

    async def give_up(self) -> None:
        """There is nobody to take it."""


class LeasedDuty:
    """`Duty` by a row of the leases table. `holder` names this process and no other; `lease` is seconds.

    A process that was stopped in between may finish its round beside the next holder: all that is done under a
    duty is safe to be done twice.
    """

    def __init__(self, registry: Registry, clock: Clock, name: str, holder: str, lease: float = DUTY_LEASE) -> None:
        self._registry = registry
        self._clock = clock
        self._name = name
        self._holder = holder
        self._lease = lease
        self._mine = False
        self._ask_at = 0.0
        self._asking = asyncio.Lock()

    async def mine(self) -> bool:
        async with self._asking:  # all loops of a process ask once together
            now = self._clock.monotonic()
            if now >= self._ask_at:
                had, self._mine, self._ask_at = self._mine, False, now + self._lease / 3
                if had or not await self._registry.is_taken(self._name, self._holder):
                    self._mine = await self._registry.take_lease(self._name, self._holder, self._lease)
            return self._mine

    async def give_up(self) -> None:
        self._mine = False
        self._ask_at = 0.0
        try:
            await self._registry.give_up_lease(self._name, self._holder)
        except TaskyardError:
            logger.warning("the duty %s could not be given up; it runs out by itself", self._name, exc_info=True)
