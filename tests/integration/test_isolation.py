"""Runs in a process of their own: the same outcomes as in the worker's, and a certain end."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support import isolated
from tests.support.core import meddle, opened, reach, stored, submit
from tests.support.working import Gate, by_name, until, until_row, working

from taskyard.errors import StartupError
from taskyard.lifecycle import TaskStatus
from taskyard.principal import Principal
from taskyard.processor import TaskContext, processor
from taskyard.runtime import Runtime
from taskyard.task import StepStatus
from taskyard_workers.janitor import Janitor
from taskyard_workers.worker import Worker

pytestmark = pytest.mark.slow
S = TaskStatus


@pytest.fixture
def place(data_folder: Path) -> Path:
    """SQLite alone: what matters here is the other process, and its runs are written as those of the worker's own."""
    return data_folder


async def output_of(core: Runtime, user: Principal, what: str) -> Any:
    """What the processor `apart` gives when asked for this."""
    task = await submit(core, user, "apart", input=what, agent_id="ann")
    await reach(core, user, task.id, S.COMPLETED)
    return (await core.tasks.payloads(user, [task.id]))[task.id].output


def gone(pid: int) -> bool:
    """Whether no process has this id, or only one that has died."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def pids_of_spinning(folder: Path) -> tuple[int, int]:
    """Of the run and of the process beside it, once it runs."""
    await until((folder / "pid").exists)
    await until(lambda: (folder / "pid").read_text() != "")
    return int((folder / "pid").read_text()), int((folder / "beside").read_text())


# -- the same as in the worker's process ------------------------------------------------------


async def test_it_runs_in_another_process_that_is_gone_afterwards(core: Runtime, user: Principal) -> None:
    async with working(core, isolated.apart):
        pid = await output_of(core, user, "pid")
        assert pid != os.getpid()
        await until(lambda: gone(pid))
        task_id, instance, agent, attempt, key, cancelled = await output_of(core, user, "who")
    assert (key, instance, agent, attempt, cancelled) == (task_id, "default", "ann", 1, False)


async def test_what_it_tells_is_written(core: Runtime, user: Principal) -> None:
    async with working(core, isolated.apart) as worker:
        task = await submit(core, user, "apart", input="tell")
        done = await reach(core, user, task.id, S.COMPLETED)
    assert (done.actual_cost, done.quality_score, done.progress) == (2.0, 0.5, 100.0)
    (step,) = await core.tasks.steps(user, task.id)
    assert (step.name, step.status, step.output) == ("read", StepStatus.COMPLETED, {"pages": 2})
    told = [event for event in await core.tasks.events(user, task.id) if event.kind != "STATUS"]
    assert [str(event.kind) for event in told] == ["PROGRESS", "STEP", "STEP", "LOG"]
    assert {event.actor for event in told} == {f"worker:{worker.id}"}
    assert told[0].state["progress_step"] == "reading ?"
    assert told[3].detail == {"level": "WARNING", "message": "slow"}


@pytest.mark.parametrize(
    ("what", "code", "message"),
    [
        ("permanent", "NO_SUCH_PAGE", "never"),
        ("error", "PROCESSOR_ERROR", "ValueError: no ? luck"),
        ("exit", "PROCESSOR_ERROR", "RuntimeError: the processor called for the process to end: SystemExit(3)"),
        ("large", "INVALID_OUTPUT", "it is larger than"),
        ("nul", "INVALID_OUTPUT", "outputData holds the character U+0000"),
        ("half", "INVALID_OUTPUT", "outputData cannot be stored as JSON"),
        ("boast", "INVALID_OUTPUT", "quality_score"),
    ],
)
async def test_how_runs_fail(core: Runtime, user: Principal, what: str, code: str, message: str) -> None:
    async with working(core, isolated.apart):
        task = await submit(core, user, "apart", input=what)
        failed = await reach(core, user, task.id, S.FAILED)
    assert failed.error_code == code
    assert message in (failed.error_message or "")


async def test_input_and_output_that_are_not_of_their_type(core: Runtime, user: Principal) -> None:
    bad = await submit(core, user, "paged-apart", input={"number": "no"})
    async with working(core, isolated.paged):
        assert (await reach(core, user, bad.id, S.FAILED)).error_code == "INVALID_INPUT"
        wrong = await submit(core, user, "paged-apart", input={"number": 13})
        assert (await reach(core, user, wrong.id, S.FAILED)).error_code == "INVALID_OUTPUT"
        good = await submit(core, user, "paged-apart", input={"number": 7})
        await reach(core, user, good.id, S.COMPLETED)


async def test_what_is_refused_is_raised_in_the_processor(core: Runtime, user: Principal) -> None:
    async with working(core, isolated.apart):
        assert await output_of(core, user, "refused") == "InvalidInput"
        assert await output_of(core, user, "odd") == "InvalidInput"


async def test_what_it_prints_goes_to_standard_error(
    core: Runtime, user: Principal, capfd: pytest.CaptureFixture[str]
) -> None:
    async with working(core, isolated.apart):
        assert await output_of(core, user, "print") == ""
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == ["printed", "complained", "echoed", "written"]


def test_a_processor_that_no_other_process_could_find(core: Runtime) -> None:
    @processor("hidden", isolation="process")
    async def hidden(value: Any, ctx: TaskContext) -> None: ...

    with pytest.raises(StartupError, match=r"'hidden' is to have a process of its own.*top level of a module"):
        Worker(core, by_name(hidden))


# -- a certain end ----------------------------------------------------------------------------


async def test_a_run_that_takes_too_long_is_killed(core: Runtime, user: Principal, tmp_path: Path) -> None:
    async with working(core, isolated.spinning):
        task = await submit(core, user, "spinning", input=str(tmp_path), timeout=timedelta(seconds=10))
        run, beside = await pids_of_spinning(tmp_path)
        failed = await reach(core, user, task.id, S.FAILED)
        await until(lambda: gone(run))
        await until(lambda: gone(beside))
    assert (failed.error_code, failed.error_message) == ("TIMEOUT", "it ran longer than its time-out of 10 s")


async def test_a_run_that_is_cancelled_is_killed(core: Runtime, user: Principal, tmp_path: Path) -> None:
    async with working(core, isolated.spinning) as worker:
        task = await submit(core, user, "spinning", input=str(tmp_path))
        run, beside = await pids_of_spinning(tmp_path)
        await core.tasks.cancel(user, task.id)
        await until_row(core, worker, running=0, completed=0, failed=0)
        await until(lambda: gone(run))
        await until(lambda: gone(beside))
    assert (await stored(core, task.id)).status is S.CANCELLED


async def test_a_run_whose_claim_is_lost_is_killed(core: Runtime, user: Principal, tmp_path: Path) -> None:
    async with working(core, isolated.spinning) as worker:
        await submit(core, user, "spinning", input=str(tmp_path))
        run, _ = await pids_of_spinning(tmp_path)
        await meddle(core, "UPDATE tasks SET attempt = attempt + 1, holder = 'another'")
        await until_row(core, worker, running=0, completed=0, failed=0)
        await until(lambda: gone(run))


async def test_a_stop_kills_what_will_not_end(data_folder: Path, user: Principal, tmp_path: Path) -> None:
    async with opened(data_folder, drain=0.02, poll=60) as runtime:
        async with working(runtime, isolated.spinning):
            task = await submit(runtime, user, "spinning", input=str(tmp_path))
            run, _ = await pids_of_spinning(tmp_path)
        await until(lambda: gone(run))
        kept = await stored(runtime, task.id)
        assert (kept.status, kept.attempt, kept.retry_count, kept.lost_count) == (S.QUEUED, 1, 0, 0)


async def test_it_may_clean_up_when_it_is_told_to_stop(core: Runtime, user: Principal, tmp_path: Path) -> None:
    async with working(core, isolated.tidy) as worker:
        task = await submit(core, user, "tidy", input=str(tmp_path))
        async for changed in core.live.task_changes(user, task_id=task.id):
            if changed.progress == 1:
                break
        await core.tasks.cancel(user, task.id)
        await until_row(core, worker, running=0)
    assert (tmp_path / "tidied").read_text() == "cancelled=True lost=True"


# -- processes that die -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("exit", "its process ended with the exit code 7 before it gave a result"),
        ("segfault", "its process was killed by SIGSEGV"),
        ("fork", "its process ended with the exit code 7 before it gave a result"),
    ],
)
async def test_a_process_that_dies_is_a_failed_run(
    core: Runtime, user: Principal, janitor: Janitor, how: str, message: str
) -> None:
    gate = Gate()
    async with working(core, isolated.dying, gate.processor()):
        neighbour = await submit(core, user, "gated")
        task = await submit(core, user, "dying", input=how)
        failed = await reach(core, user, task.id, S.FAILED)
        gate.open.set()
        await reach(core, user, neighbour.id, S.COMPLETED)
    assert (failed.error_code, failed.error_message) == ("PROCESS_DIED", message)
    assert (failed.attempt, failed.retry_count) == (2, 1), "by the law of retries"


async def lost_twice(core: Runtime, user: Principal, task_type: str, value: Any, **fields: Any) -> str:
    """A queued task that was running twice when its worker was lost."""
    task = await submit(core, user, task_type, input=value, **fields)
    await meddle(core, "UPDATE tasks SET lost_count = 2 WHERE id = :id", id=task.id)
    return task.id


async def test_a_suspect_runs_in_a_process_of_its_own(core: Runtime, user: Principal, tmp_path: Path) -> None:
    unsuspected = (await submit(core, user, "careless", input=str(tmp_path))).id
    suspect = await lost_twice(core, user, "careless", str(tmp_path))
    async with working(core, isolated.careless):
        for task_id in (unsuspected, suspect):
            await reach(core, user, task_id, S.COMPLETED)
    outputs = await core.tasks.payloads(user, [unsuspected, suspect])
    assert outputs[unsuspected].output == os.getpid()
    assert outputs[suspect].output != os.getpid()


@pytest.mark.parametrize("function", [isolated.careless, isolated.dying])
async def test_a_suspect_that_dies_alone_is_poison(
    core: Runtime, user: Principal, tmp_path: Path, function: Any
) -> None:
    (tmp_path / "die").touch()
    (found,) = by_name(function).values()
    task_id = await lost_twice(core, user, found.name, "exit" if found.isolated else str(tmp_path))
    async with working(core, function):
        failed = await reach(core, user, task_id, S.FAILED)
    assert (failed.error_code, failed.attempt, failed.retry_count) == ("POISON", 1, 0)
    assert "its claim was lost twice or more, and then the process that ran it alone ended" in (
        failed.error_message or ""
    )


async def test_a_suspect_that_fails_otherwise_is_no_poison(core: Runtime, user: Principal) -> None:
    task_id = await lost_twice(core, user, "apart", "error", max_retries=0)
    async with working(core, isolated.apart):
        assert (await reach(core, user, task_id, S.FAILED)).error_code == "PROCESSOR_ERROR"


async def test_a_suspect_that_cannot_be_found_elsewhere_runs_here(
    core: Runtime, user: Principal, caplog: pytest.LogCaptureFixture
) -> None:
    @processor("local")
    async def local(value: Any, ctx: TaskContext) -> int:
        return os.getpid()

    task_id = await lost_twice(core, user, "local", {})
    async with working(core, local):
        await reach(core, user, task_id, S.COMPLETED)
    assert "must run among others: the processor local does not stand at the top level" in caplog.text


async def test_no_process_can_be_started(core: Runtime, user: Principal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    async with working(core, isolated.apart):
        task = await submit(core, user, "apart", input="pid")
        failed = await reach(core, user, task.id, S.FAILED)
    assert failed.error_code == "PROCESS_DIED"
    assert "no process could be started for it" in (failed.error_message or "")
