"""A real `taskyard dev` whose processors spin, crash and kill: it goes on, and finds who is to blame."""

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support.process import DevProcess, eventually

pytestmark = pytest.mark.slow

PROCESSORS = """
import asyncio, os, subprocess
from pathlib import Path
from typing import Any

from taskyard import TaskContext, processor


@processor("spin", isolation="process")
async def spin(value: Any, ctx: TaskContext) -> None:
    beside = subprocess.Popen(["sleep", "600"])
    await ctx.progress(1, f"{os.getpid()} {beside.pid}")
    while True:
        pass


@processor("poison", max_retries=9)
async def poison(value: Any, ctx: TaskContext) -> None:
    await ctx.progress(1)
    while not Path("go").exists():
        await asyncio.sleep(0.05)
    os._exit(9)


@processor("neighbour", max_retries=0)
async def neighbour(value: Any, ctx: TaskContext) -> int:
    await ctx.progress(1)
    while not Path("finish").exists():
        await asyncio.sleep(0.05)
    return ctx.attempt
"""
CREATE = """
mutation($id: ID!, $type: String!, $timeout: Int, $retries: Int) {
  createAITask(input: {id: $id, taskType: $type, inputData: {}, timeoutMs: $timeout, maxRetries: $retries}) { id }
}
"""
READ = """
query($id: ID!) {
  aiTask(id: $id) { status progressPercentage currentStep errorCode errorMessage attempt retryCount lostCount }
}
"""
CANCEL = "mutation($id: ID!) { cancelAITask(id: $id) { status } }"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "processors.py").write_text(PROCESSORS)
    return tmp_path


def dev_in(folder: Path, **env: str) -> DevProcess:
    return DevProcess(folder / "data", "--import", "processors.py", env=env)


def task_of(dev: DevProcess, task_id: str) -> dict[str, Any]:
    found: dict[str, Any] = dev.data_of(READ, {"id": task_id})["aiTask"]
    return found


def until_status(dev: DevProcess, task_id: str, status: str) -> dict[str, Any]:
    found: dict[str, Any] = eventually(lambda: (task := task_of(dev, task_id))["status"] == status and task)
    return found


def spinning(dev: DevProcess, task_id: str = "t", timeout: int | None = None, retries: int = 0) -> list[int]:
    """The ids of the run's process and of the one that it has started, once they are there."""
    dev.data_of(CREATE, {"id": task_id, "type": "spin", "timeout": timeout, "retries": retries})
    step = eventually(lambda: task_of(dev, task_id)["currentStep"])
    pids = [int(pid) for pid in step.split()]
    assert all(psutil.pid_exists(pid) for pid in pids)
    return pids


def gone(pids: list[int]) -> bool:
    def dead(pid: int) -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    return all(map(dead, pids))


def test_time_out_cancellation_and_death_of_a_run(folder: Path) -> None:
    with dev_in(folder) as dev:
        pids = spinning(dev, "late", timeout=15_000)
        assert until_status(dev, "late", "FAILED")["errorCode"] == "TIMEOUT"
        eventually(lambda: gone(pids))

        pids = spinning(dev, "unwanted")
        dev.data_of(CANCEL, {"id": "unwanted"})
        eventually(lambda: gone(pids))
        assert task_of(dev, "unwanted")["status"] == "CANCELLED"

        pids = spinning(dev, "killed")
        os.kill(pids[0], signal.SIGKILL)
        task = until_status(dev, "killed", "FAILED")
        assert (task["errorCode"], task["errorMessage"]) == ("PROCESS_DIED", "its process was killed by SIGKILL")
        eventually(lambda: gone(pids))

        assert dev.stop() == 0
        assert "Traceback" not in dev.output


def test_a_stop_ends_the_runs_too(folder: Path) -> None:
    with dev_in(folder, TASKYARD_DRAIN_SECONDS="0") as dev:
        pids = [pid for number in range(3) for pid in spinning(dev, f"t{number}")]
        # They would run for ever: `stop` fails long before.
        assert dev.stop() == 0
        eventually(lambda: gone(pids))
    with dev_in(folder) as dev:
        task = eventually(lambda: (found := task_of(dev, "t0"))["currentStep"] and found)
        assert (task["attempt"], task["retryCount"], task["lostCount"]) == (2, 0, 0)


def test_no_run_outlives_a_worker_that_is_killed(folder: Path) -> None:
    with dev_in(folder) as dev:
        pids = spinning(dev)
        dev.kill()
        eventually(lambda: gone(pids))


def test_a_poisonous_task_is_found_and_no_neighbour_blamed(folder: Path) -> None:
    neighbours = [f"n{number}" for number in range(3)]
    tasks = ["p", *neighbours]
    with dev_in(folder) as dev:
        for task_id in tasks:
            kind = "poison" if task_id == "p" else "neighbour"
            dev.data_of(CREATE, {"id": task_id, "type": kind})
        die_together(dev, folder, tasks)
    with dev_in(folder) as dev:
        die_together(dev, folder, tasks)
    with dev_in(folder) as dev:
        # Each runs alone now.
        eventually(lambda: all(task_of(dev, task_id)["progressPercentage"] == 1 for task_id in tasks))
        (folder / "go").touch()
        poison = until_status(dev, "p", "FAILED")
        assert (poison["errorCode"], poison["attempt"], poison["retryCount"]) == ("POISON", 3, 0)
        (folder / "finish").touch()
        for task_id in neighbours:
            task = until_status(dev, task_id, "COMPLETED")
            assert (task["attempt"], task["lostCount"], task["retryCount"]) == (3, 2, 0)
        assert dev.stop() == 0


def die_together(dev: DevProcess, folder: Path, tasks: list[str]) -> None:
    """Let the poison end the process while all of them run."""
    eventually(lambda: all(task_of(dev, task_id)["progressPercentage"] == 1 for task_id in tasks))
    (folder / "go").touch()
    assert dev.ended() == 9
    (folder / "go").unlink()
