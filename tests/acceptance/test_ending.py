"""A process that is told to stop ends within its bound, whatever its processors do."""

from pathlib import Path
from typing import Any

import pytest
from tests.support.process import DevProcess, eventually

pytestmark = pytest.mark.slow

PROCESSORS = """
import asyncio, time
from typing import Any

from taskyard import TaskContext, processor


@processor("thread")
async def thread(value: Any, ctx: TaskContext) -> None:
    await ctx.progress(1)
    await asyncio.to_thread(time.sleep, 600)


@processor("stubborn")
async def stubborn(value: Any, ctx: TaskContext) -> None:
    await ctx.progress(1)
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            pass


@processor("interrupting")
async def interrupting(value: Any, ctx: TaskContext) -> None:
    raise KeyboardInterrupt
"""


CREATE = """
mutation($type: String!) { createAITask(input: {id: "t", taskType: $type, inputData: {}, maxRetries: 0}) { id } }
"""
READ = '{ aiTask(id: "t") { status progressPercentage retryCount lostCount errorMessage } }'


def task_of(dev: DevProcess) -> dict[str, Any]:
    found: dict[str, Any] = dev.data_of(READ)["aiTask"]
    return found


@pytest.mark.parametrize("kind", ["thread", "stubborn"])
def test_what_ignores_that_it_is_told_to_stop_is_left_behind(tmp_path: Path, kind: str) -> None:
    (tmp_path / "processors.py").write_text(PROCESSORS)
    with DevProcess(tmp_path / "data", "--import", "processors.py", env={"TASKYARD_DRAIN_SECONDS": "0"}) as dev:
        dev.data_of(CREATE, {"type": kind})
        eventually(lambda: task_of(dev)["progressPercentage"] == 1)
        # Its run would go on for ten minutes, or for ever: `stop` fails long before.
        assert dev.stop() == 0
    with DevProcess(tmp_path / "data") as dev:
        task = task_of(dev)
        assert (task["status"], task["retryCount"], task["lostCount"]) == ("QUEUED", 0, 0)


def test_a_processor_that_interrupts_fails_by_itself(tmp_path: Path) -> None:
    (tmp_path / "processors.py").write_text(PROCESSORS)
    with DevProcess(tmp_path / "data", "--import", "processors.py") as dev:
        dev.data_of(CREATE, {"type": "interrupting"})
        task = eventually(lambda: (found := task_of(dev))["status"] == "FAILED" and found)
        assert "KeyboardInterrupt" in task["errorMessage"]
