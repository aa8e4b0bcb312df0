"""The whole protocol under faults, a history a seed, in virtual time. A failure names its seed."""

import asyncio
import os
import random
import subprocess
import sys

import pytest
from tests.simulation.history import CALM_EVERY, play
from tests.simulation.loop import Deadlock, VirtualLoop
from tests.support.core import PATIENCE

#: Histories of one test, so that many tests share them.
_PART = 25


def _histories(first: int, count: int) -> None:
    for seed in range(first, first + count):
        play(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 300, _PART))
def test_every_law_holds_in_300_histories(first: int) -> None:
    _histories(first, _PART)


@pytest.mark.fault
@pytest.mark.parametrize("first", range(300, 3300, 100))
def test_every_law_holds_in_3000_more_histories(first: int) -> None:
    _histories(first, 100)


def test_a_seed_is_one_history() -> None:
    assert play(7).digest() == play(7).digest()
    assert play(7).digest() != play(8).digest()


@pytest.mark.slow
def test_a_seed_is_the_same_history_in_another_process() -> None:
    # Sets of texts are walked in an order that each process chooses for itself.
    script = "from tests.simulation.history import play; print(play(7).digest())"
    told = [
        subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE,
        ).stdout
        for seed in ("1", "2")
    ]
    assert told[0] == told[1]


def test_most_histories_have_every_kind_of_trouble() -> None:
    kinds = {"RETRYING", "CANCELLED", "COMPLETED", "FAILED", "ASSIGNED", "SCHEDULED"}
    seen = [{status for *_, status in play(seed).digest()} for seed in range(CALM_EVERY + 1, CALM_EVERY + 6)]
    assert all(kinds - {"ASSIGNED"} <= statuses for statuses in seen)
    assert any("ASSIGNED" in statuses for statuses in seen)


def test_virtual_time_passes_at_once_and_in_order() -> None:
    async def sleepers() -> list[float]:
        loop = asyncio.get_running_loop()
        woken: list[float] = []

        async def sleep(seconds: float) -> None:
            await asyncio.sleep(seconds)
            woken.append(loop.time())

        await asyncio.gather(*map(sleep, random.Random(1).sample(range(3600), 50)))
        return woken

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        woken = runner.run(sleepers())
    assert woken == sorted(woken)
    assert len(woken) == 50


def test_a_wait_for_nothing_is_told() -> None:
    async def forever() -> None:
        await asyncio.get_running_loop().create_future()

    loop = VirtualLoop()
    waiting = loop.create_task(forever())
    with pytest.raises(Deadlock):
        loop.run_until_complete(waiting)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(waiting)
    loop.close()
