"""Those who submit tasks, change their minds, and work by hand."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar

from tests.simulation.host import Host
from tests.simulation.oracle import ENDED, STALE, Oracle
from tests.simulation.store import MemoryStore
from tests.simulation.work import TYPES

from taskyard.errors import TaskyardError, Unavailable
from taskyard.principal import Principal, Role
from taskyard.queue.entry import Want
from taskyard.task import Metrics, NewTask, Task

T = TypeVar("T")

QUEUES = ("default", "chat")
USER = Principal("user-1", Role.USER, frozenset({"default"}))
ADMIN = Principal("admin-1", Role.ADMIN, frozenset({"default"}))
AGENT = Principal("agent-1", Role.AGENT, frozenset({"default"}))


class People:
    """They use the services of two processes, of which the web has faults, for `seconds`."""

    def __init__(
        self, web: Host, desk: Host, store: MemoryStore, oracle: Oracle, dice: random.Random, seconds: float
    ) -> None:
        self._web = web
        self._desk = desk
        self._store = store
        self._oracle = oracle
        self._dice = dice
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        #: Whether administrators end here what seems stale.
        self._strict = dice.choice([0, 0, 1])
        self._paused: set[str] = set()
        self.accepted: set[str] = set()

    async def submit(self) -> None:
        """Submit in bursts until each task is accepted."""
        count = self._dice.randint(30, 45)
        starts = sorted(self._dice.uniform(0, self._seconds * 0.8) for _ in range(count // 5))
        numbers = iter(range(1, count + 1))
        for start in starts:
            await asyncio.sleep(max(0.0, start - self._loop.time()))
            burst = [self._new(number) for number, _ in zip(numbers, range(5), strict=False)]
            await asyncio.gather(*map(self._insist, burst))

    async def meddle(self) -> None:
        """Cancel, retry, reorder, pause."""
        acts: list[tuple[Callable[[str], Awaitable[Any]], int]] = [
            (self._cancel, 4),
            (self._retry, 6),
            (self._reorder, 6),
            (self._pause, 1),
            (self._time_out, self._strict),
        ]
        while self._loop.time() < self._seconds:
            await asyncio.sleep(self._dice.expovariate(3))
            task_id = self._one()
            if task_id is None:
                continue
            (act,) = self._dice.choices([act for act, _ in acts], [weight for _, weight in acts])
            try:
                await act(task_id)
            except TaskyardError:
                continue

    async def insist(self) -> None:
        """Retry at once what ran out of time: perhaps it was a host's fault."""
        while self._loop.time() < self._seconds:
            await asyncio.sleep(self._dice.uniform(0.1, 0.6))
            for row in list(self._store.rows.values()):
                if row["error_code"] == "TIMEOUT" and row["status"] == "FAILED" and self._dice.random() < 0.7:
                    with suppress(TaskyardError):
                        await self._desk.service.retry(USER, row["id"])

    async def work_by_hand(self) -> None:
        """Claim as a remote agent, and end it or not."""
        while self._loop.time() < self._seconds:
            await asyncio.sleep(self._dice.expovariate(0.5))
            try:
                for task in await self._web.claims.dequeue(AGENT, Want(limit=1)):
                    await self._do(await self._web.claims.start(AGENT, task.id))
            except TaskyardError:
                continue

    async def resume(self) -> None:
        """Let every queue go on."""
        for queue in sorted(self._paused):
            while True:
                try:
                    await self._web.service.set_paused(ADMIN, queue, False, None)
                    break
                except Unavailable:
                    await asyncio.sleep(0.1)

    def _one(self) -> str | None:
        """Some task, rather one that has not ended."""
        rows = self._store.rows.values()
        found = [row["id"] for row in rows if row["status"] not in ENDED] if self._dice.random() < 0.7 else []
        found = found or list(self._store.rows)
        return self._dice.choice(found) if found else None

    def _new(self, number: int) -> NewTask:
        dice = self._dice
        how = dice.choices(["plain", "tell", "hang", "permanent"], [10, 4, 4, 1])[0]
        seconds = dice.choices(
            [0.0, dice.uniform(0.01, 0.6), dice.uniform(0.6, 2), dice.uniform(4, 8)], [4, 5, 3, 3]
        )[0]
        # Some runs take almost as long as they may.
        tight = seconds + dice.uniform(0.05, 0.5) if dice.random() < 0.3 else None
        timeout = (
            dice.choice([dice.uniform(0.8, 2), dice.uniform(3, 7)])
            if how == "hang"
            else 20.0
            if seconds > 3
            else tight
        )
        later = self._web.clock.now() + timedelta(seconds=dice.uniform(0.2, 5))
        return NewTask(
            id=f"t{number:02}",
            task_type=dice.choice(TYPES),
            input={"how": how, "seconds": seconds, "fails": dice.choices([0, 1, 2, 5], [3, 2, 2, 3])[0]},
            queue=dice.choice(QUEUES),
            priority=dice.choice([2, 5, 5, 5, 8]),
            max_retries=dice.choice([0, 1, 3, 4, 4]),
            timeout=None if timeout is None else timedelta(seconds=timeout),
            scheduled_for=later if dice.random() < 0.2 else None,
        )

    async def _insist(self, new: NewTask) -> None:
        while True:
            try:
                task = await self._web.service.create(USER, new)
            except Unavailable:
                await asyncio.sleep(0.1)
            else:
                self.accepted.add(task.id)
                return

    async def _cancel(self, task_id: str) -> None:
        task = await self._web.service.cancel(USER, task_id)
        if task.status != "CANCELLED":
            self._oracle.fail(f"cancelled, it is said, and is {task.status}", task_id)

    async def _retry(self, task_id: str) -> None:
        task = await self._web.service.retry(USER, task_id)
        if task.status != "QUEUED":
            self._oracle.fail(f"retried, it is said, and is {task.status}", task_id)

    async def _reorder(self, task_id: str) -> None:
        await self._web.service.change_priority(USER, task_id, self._dice.randint(1, 10))

    async def _pause(self, _task_id: str) -> None:
        queue = self._dice.choice(QUEUES)
        self._paused.add(queue)
        await self._web.service.set_paused(ADMIN, queue, True, None)
        await asyncio.sleep(self._dice.uniform(0.3, 1.5))
        await self._web.service.set_paused(ADMIN, queue, False, None)

    async def _time_out(self, _task_id: str) -> None:
        await self._web.maintenance.time_out_stale(ADMIN, STALE)

    async def _do(self, task: Task) -> None:
        self._oracle.begun(task.id, task.attempt)
        await asyncio.sleep(self._dice.uniform(0.05, 1))
        if self._dice.random() < 0.5:
            self._oracle.returned(task.id, task.attempt)
            output = {"attempt": task.attempt}
            await self._web.claims.complete_by_hand(AGENT, task.id, output, Metrics(), task.attempt)
        elif self._dice.random() < 0.7:
            await self._web.claims.fail_by_hand(AGENT, task.id, "no luck", attempt=task.attempt, retry=True)
