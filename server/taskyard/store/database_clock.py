"""The database's clock, read without asking it each time: what machines whose clocks differ agree upon."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from taskyard.outage import Outage
from taskyard.stopping import end

#: Seconds between two measurements.
INTERVAL = 10.0
#: A measurement that took so many seconds says too little.
TOO_LONG = 1.0
#: Seconds that a stop waits for the measurement that is going on.
STOP_BOUND = 5.0


@dataclass(frozen=True, slots=True)
class Reading:
    """The database's time, asked for in one round trip between two moments of the steady clock, in seconds."""

    moment: datetime
    asked: float
    answered: float

    @property
    def took(self) -> float:
        return self.answered - self.asked

    def at(self, steady: float) -> datetime:
        """The database's time at another moment of the steady clock; half the round trip is taken off."""
        return self.moment + timedelta(seconds=steady - (self.asked + self.answered) / 2)


class DatabaseClock:
    """`Clock` of a deployment with several machines: the database's time, and the machine's steady clock in between.

    `ask` asks the database. The wall clock of the machine itself is never used: it may be wrong, and it may jump.
    """

    def __init__(self, ask: Callable[[], Awaitable[Reading]], interval: float = INTERVAL) -> None:
        self._ask = ask
        self._interval = interval
        self._reading: Reading | None = None
        self._ending = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._outage = Outage("the database's clock cannot be read; this machine's steady clock goes on")

    def now(self) -> datetime:
        assert self._reading is not None, "a clock is started before it is used"
        return self._reading.at(time.monotonic())

    def monotonic(self) -> float:
        return time.monotonic()

    async def start(self) -> None:
        """Measure, and go on measuring. Raises what `ask` does if there is no first measurement."""
        if self._task is None:
            await self.measure()
            self._ending.clear()
            self._task = asyncio.create_task(self._run(), name="database-clock")

    async def stop(self) -> None:
        """Measure no more; what was measured still holds."""
        task, self._task = self._task, None
        if task is None:
            return
        self._ending.set()
        await asyncio.wait({task}, timeout=STOP_BOUND)
        await end(task)

    async def measure(self) -> None:
        """Compare with the database once."""
        reading = await self._ask()
        if self._reading is None or reading.took < TOO_LONG:
            self._reading = reading

    async def _run(self) -> None:
        while not self._ending.is_set():
            try:
                async with asyncio.timeout(self._interval):
                    await self._ending.wait()
            except TimeoutError:
                await self._measure_again()

    async def _measure_again(self) -> None:
        try:
            await self.measure()
        except Exception as error:  # noqa: BLE001 - the edge of the loop; the outage logs it
            self._outage.failed(error)
        else:
            self._outage.over()
