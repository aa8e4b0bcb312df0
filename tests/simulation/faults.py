"""What goes wrong in a history, and heals."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import ExitStack

from tests.simulation.host import Host
from tests.simulation.index import Index


class Faults:
    """Faults at random times for `seconds`: one at a time on each host, several at once on all."""

    def __init__(
        self,
        hosts: dict[str, Host],
        web: Host,
        index: Index,
        boot: Callable[[str], Host],
        dice: random.Random,
        seconds: float,
    ) -> None:
        self._hosts = hosts
        self._web = web
        self._index = index
        self._boot = boot
        self._dice = dice
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        # Every history has its own temper.
        self._pace = dice.uniform(0.8, 2.5)
        self._failing = dice.choice([0.0, 0.02, 0.08])
        self._steady = dice.choice([None, None, None, *hosts])

    async def happen(self) -> None:
        """Until all is healed."""
        for host in self._hosts.values():
            self._fail_at_times(host)
        lines = [self._trouble(name) for name in self._hosts if name != self._steady]
        await asyncio.gather(
            *lines, self._trouble_web(), self._trouble_index(), self._trouble_bus(), self._trouble_store()
        )
        self._failing = 0.0
        for host in self._hosts.values():
            self._fail_at_times(host)

    async def _trouble(self, name: str) -> None:
        kinds: list[Callable[[str], Awaitable[None]]] = [
            self._death,
            self._freeze,
            self._partition,
            self._slow_link,
            self._lost_calls,
            self._lost_replies,
            self._stuck_writer,
            self._termination,
        ]
        # Each host has a weakness.
        weights = [1] * len(kinds)
        weights[self._dice.choice([0, 0, 1, 2, 3, 3, 4, 5, 6, 6, 6, 6, 7])] = 6
        while True:
            await asyncio.sleep(self._dice.expovariate(0.5 / self._pace))
            if self._loop.time() > self._seconds:
                return
            (happen,) = self._dice.choices(kinds, weights)
            await happen(name)

    async def _death(self, name: str) -> None:
        self._hosts[name].kill()
        await asyncio.sleep(self._dice.uniform(0.3, 4))
        self._start(name)

    async def _termination(self, name: str) -> None:
        await self._hosts[name].stop()
        self._start(name)

    def _start(self, name: str) -> None:
        self._hosts[name] = self._boot(name)
        self._fail_at_times(self._hosts[name])

    def _fail_at_times(self, host: Host) -> None:
        host.link.failed_reads, host.link.failed_writes = self._failing, self._failing / 8

    async def _freeze(self, name: str) -> None:
        link = self._hosts[name].link
        with link.ailing():
            link.frozen = thawed = asyncio.Event()
            await asyncio.sleep(self._dice.uniform(1, 8))
            link.frozen = None
            link.thawed_at = self._loop.time()
            thawed.set()

    async def _partition(self, name: str) -> None:
        link = self._hosts[name].link
        with link.ailing():
            link.cut = True
            await asyncio.sleep(self._dice.uniform(1, 7))
            link.cut = False

    async def _slow_link(self, name: str) -> None:
        await self._slow(self._hosts[name])

    async def _slow(self, host: Host) -> None:
        link = host.link
        with link.ailing():
            link.slower = self._dice.choice([self._dice.uniform(0.8, 1.2), self._dice.uniform(0.5, 2.5)])
            await asyncio.sleep(self._dice.uniform(2, 7))
            link.slower = 0.0

    async def _lost_calls(self, name: str) -> None:
        link = self._hosts[name].link
        with link.ailing():
            link.lost_requests = 0.3
            await asyncio.sleep(self._dice.uniform(1, 4))
            link.lost_requests = 0.0

    async def _lost_replies(self, name: str) -> None:
        await self._deaf(self._hosts[name])

    async def _deaf(self, host: Host) -> None:
        link = host.link
        with link.ailing():
            link.lost_replies = 0.3
            await asyncio.sleep(self._dice.uniform(1, 5))
            link.lost_replies = 0.0

    async def _stuck_writer(self, name: str) -> None:
        """Heartbeats go out, but writes of tasks hang: a connection that is black."""
        link = self._hosts[name].link
        with link.ailing():
            link.stuck = freed = asyncio.Event()
            await asyncio.sleep(self._dice.choice([self._dice.uniform(1, 5), self._dice.uniform(6, 13)]))
            link.stuck = None
            freed.set()

    async def _trouble_store(self) -> None:
        """The database itself is slow at times, to all alike."""
        if self._dice.random() < 0.4:
            return
        while True:
            await asyncio.sleep(self._dice.uniform(1, 8))
            if self._loop.time() > self._seconds:
                return
            hosts = [*self._hosts.values(), self._web]
            slower = self._dice.uniform(0.5, 2)
            with ExitStack() as ailing:
                for host in hosts:
                    ailing.enter_context(host.link.ailing())
                    host.link.slow_store = slower
                await asyncio.sleep(self._dice.uniform(2, 6))
                for host in hosts:
                    host.link.slow_store = 0.0

    async def _trouble_web(self) -> None:
        while True:
            await asyncio.sleep(self._dice.uniform(0.3, 3))
            if self._loop.time() > self._seconds:
                return
            await self._dice.choice([self._slow, self._slow, self._deaf])(self._web)

    async def _trouble_bus(self) -> None:
        while self._loop.time() < self._seconds:
            await asyncio.sleep(self._dice.uniform(0.5, 3))
            share = self._dice.choice([0.0, 0.5, 1.0])
            for host in self._hosts.values():
                host.link.lost_events = share
        for host in self._hosts.values():
            host.link.lost_events = 0.0

    async def _trouble_index(self) -> None:
        if not self._index.shaky:
            return
        while self._loop.time() < self._seconds:
            self._index.lost = self._dice.choice([0.0, 0.2, 0.6])
            self._index.repeated = self._dice.choice([0.0, 0.3])
            self._index.remember()
            await asyncio.sleep(self._dice.uniform(0.5, 2.5))
            match self._dice.randrange(4):
                case 0:
                    self._index.flush()
                case 1 | 2:
                    await self._index.restore()
        self._index.lost = self._index.repeated = 0.0
