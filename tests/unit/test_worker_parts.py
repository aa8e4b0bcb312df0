"""The parts of a worker by themselves, where a real database would have to fail at the right moment."""

import asyncio
import logging
from collections.abc import Collection
from typing import cast

import pytest
from tests.support.clock import FakeClock
from tests.support.core import PATIENCE

from taskyard.errors import Unavailable
from taskyard.service.claims import ClaimService, Run
from taskyard_workers import settler
from taskyard_workers.attempt import Attempt
from taskyard_workers.executor import Executor
from taskyard_workers.heartbeat import Heartbeat
from taskyard_workers.looper import Looper
from taskyard_workers.outcome import Interrupted, Reason
from taskyard_workers.settler import Settler


class Away:
    """A claim service whose database is away; each call `takes` so many seconds to find out."""

    def __init__(self, takes: float = 0.0) -> None:
        self._takes = takes
        self.calls = 0

    async def renew(self, _worker_id: str, _running: Collection[tuple[str, int]]) -> frozenset[tuple[str, int]]:
        raise Unavailable("the database cannot be written now")

    async def release(self, _run: Run) -> None:
        self.calls += 1
        await asyncio.sleep(self._takes)
        raise Unavailable("the database cannot be written now")


class Running:
    """An executor that notes what it is told to stop."""

    def __init__(self) -> None:
        self.runs: dict[tuple[str, int], float] = {}
        self.interrupted: list[tuple[str, int]] = []

    def running(self) -> dict[tuple[str, int], float]:
        return self.runs

    def interrupt(self, task_id: str, attempt: int, reason: Reason) -> None:
        assert reason is Reason.LOST
        self.interrupted.append((task_id, attempt))


async def _tell() -> None:
    pass


@pytest.mark.parametrize(("late", "stopped"), [(9.5, []), (10.5, [("t", 1)])])
async def test_a_run_is_stopped_before_its_lease_can_be_over(
    clock: FakeClock, late: float, stopped: list[tuple[str, int]]
) -> None:
    """It counts from when its claim was asked for, however late it began, or the first beat comes."""
    running = Running()
    claims, executor = cast("ClaimService", Away()), cast("Executor", running)
    heartbeat = Heartbeat("w1", claims=claims, executor=executor, tell=_tell, clock=clock, lease=15.0, interval=5.0)
    running.runs["t", 1] = clock.monotonic()
    clock.advance(late)
    with pytest.raises(Unavailable):
        await heartbeat.beat()
    assert running.interrupted == stopped


async def test_an_end_that_cannot_be_written_is_given_up_with_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long each try takes."""
    monkeypatch.setattr(settler, "TRY_AGAIN", 0.01)
    away = Away(takes=0.2)
    run = cast("Attempt", type("Attempt", (), {"run": Run("t", 1, "worker:w1")})())
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(Unavailable):
            await Settler(cast("ClaimService", away), lease=0.5).settle(run, Interrupted(Reason.SHUTDOWN))
    assert away.calls < 10


async def test_an_outage_is_told_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rounds = 0
    done = asyncio.Event()

    async def work() -> None:
        nonlocal rounds
        rounds += 1
        if rounds <= 5:
            raise Unavailable("the database does not answer") from OSError("no route")
        if rounds == 7:
            done.set()

    loop = Looper("sweeper", 0.001, work)
    loop.start()
    async with asyncio.timeout(PATIENCE):
        await done.wait()
    await loop.stop()
    told = [(record.levelname, record.getMessage(), record.exc_info) for record in caplog.records]
    assert told == [
        ("WARNING", "sweeper cannot work: the database does not answer; no route", None),
        ("INFO", "over: sweeper cannot work", None),
    ]
