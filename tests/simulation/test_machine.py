"""The real services over the real store do what the model says, whatever is done in whatever order."""

import random
import shutil
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.simulation.machine import SETTINGS, Opener, TaskMachine
from tests.support.clock import FakeClock
from tests.support.databases import Databases

from taskyard.runtime import Runtime, open_deployment, open_embedded
from taskyard.settings import Settings
from taskyard.store.database import DATABASE_FILE

#: The same examples in every run: what it finds at one time it finds at all times.
_REPEATED = settings(
    derandomize=True,
    database=None,
    deadline=None,
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def _run(opener: Opener, examples: int) -> None:
    class Machine(TaskMachine):
        pass

    Machine.opener = staticmethod(opener)
    run_state_machine_as_test(Machine, settings=settings(_REPEATED, max_examples=examples))


@pytest.mark.slow
@pytest.mark.parametrize(("queue", "examples"), [("memory", 60), ("sql", 40)])
def test_the_embedded_core_does_what_the_model_says(
    tmp_path: Path, database_template: Path, queue: str, examples: int
) -> None:
    numbers = count()

    async def opener(clock: FakeClock) -> Runtime:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        shutil.copy(database_template, folder / DATABASE_FILE)
        return await open_embedded(
            Settings(data=folder, queue_backend=queue, **SETTINGS), clock, random.Random(1), migrate=False
        )

    _run(opener, examples)


@pytest.mark.slow
@pytest.mark.parametrize("queue", ["sql", "redis"])
def test_a_deployment_does_what_the_model_says(
    databases: Databases, redis_url: str, redis_prefix: str, queue: str
) -> None:
    numbers = count()
    used: list[str] = []

    async def opener(clock: FakeClock) -> Runtime:
        used.append(databases.take())
        redis = (
            {"redis_url": redis_url, "redis_prefix": f"{redis_prefix}:{next(numbers)}"} if queue == "redis" else {}
        )
        core = await open_deployment(
            Settings(database_url=used[-1], queue_backend=queue, **redis, **SETTINGS), clock, random.Random(1)
        )
        if core.relay is not None:
            await core.relay.round()  # the line is complete: claims come from Redis
        return core

    try:
        _run(opener, 25)
    finally:
        for url in used:
            databases.give_back(url)
