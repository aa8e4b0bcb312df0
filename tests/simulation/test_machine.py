"""The real services over the real store do what the model says, whatever is done in whatever order."""

import random
import shutil
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.simulation.machine import SETTINGS, TaskMachine
from tests.support.clock import FakeClock

from taskyard.runtime import Runtime, open_embedded
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

    class Machine(TaskMachine):
        pass

    Machine.opener = staticmethod(opener)
    run_state_machine_as_test(Machine, settings=settings(_REPEATED, max_examples=examples))
