"""A worker that cannot renew its claims stops what it runs before another may begin it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.core import PATIENCE, opened, reach, submit
from tests.support.working import Gate, soon, working

from taskyard.errors import Unavailable
from taskyard.lifecycle import TaskStatus
from taskyard.principal import Principal
from taskyard_workers.janitor import Janitor

LEASE, BEAT = 1.0, 0.2


async def _refused(*_: Any) -> frozenset[tuple[str, int]]:
    raise Unavailable("the database cannot be written now")


async def _never(*_: Any) -> frozenset[tuple[str, int]]:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.slow
@pytest.mark.parametrize("renew", [_refused, _never])
async def test_a_worker_that_is_cut_off_stops_its_runs_in_time(
    place: Path | str,
    user: Principal,
    monkeypatch: pytest.MonkeyPatch,
    renew: Callable[..., Awaitable[frozenset[tuple[str, int]]]],
) -> None:
    gate = Gate()
    async with opened(place, heartbeat=BEAT, lease=LEASE, poll=10 * PATIENCE) as runtime:
        async with working(runtime, gate.processor()):
            task = await submit(runtime, user, "gated")
            await soon(gate.begun.get())
            monkeypatch.setattr(runtime.registry, "renew", renew)
            cut_off = time.monotonic()
            assert await soon(gate.interrupted.get()) == task.id
            stopped = time.monotonic() - cut_off
            # Not at the first beat that fails: a moment's trouble costs no run.
            assert stopped > LEASE / 2 - BEAT
            monkeypatch.undo()
            # Whoever reaps the lease gives the task to the next run, which may be here.
            janitor = Janitor(runtime.maintenance)
            janitor.start()
            gate.open.set()
            done = await reach(runtime, user, task.id, TaskStatus.COMPLETED)
            await janitor.stop()
        assert (done.attempt, done.lost_count) == (2, 1)
