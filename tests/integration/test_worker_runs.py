"""A real worker over a real core: how runs end, and what becomes of claims that are lost."""

import asyncio
import logging
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, BeforeValidator, Field
from tests.support.core import PATIENCE, meddle, opened, reach, stored, submit
from tests.support.working import Gate, row_of, soon, until, until_row, working

from taskyard.errors import LeaseLost
from taskyard.lifecycle import TaskStatus
from taskyard.principal import Principal
from taskyard.processor import PermanentError, TaskContext, processor
from taskyard.retry import Backoff
from taskyard.runtime import Runtime
from taskyard.task import LogLevel, StepStatus
from taskyard_workers.janitor import Janitor

S = TaskStatus
QUICK = Backoff(base=0.02, cap=0.04)


# -- how runs end -----------------------------------------------------------------------------


@pytest.mark.slow
async def test_failures_are_tried_again_until_retries_run_out(
    core: Runtime, user: Principal, janitor: Janitor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)  # what is no Unicode cannot be sent from one test process to another
    attempts: list[tuple[int, str]] = []

    @processor("hopeless", backoff=QUICK, max_retries=2)
    async def hopeless(value: Any, ctx: TaskContext) -> None:
        attempts.append((ctx.attempt, ctx.idempotency_key))
        raise ValueError("no \udcff luck")

    async with working(core, hopeless) as worker:
        task = await submit(core, user, "hopeless")
        failed = await reach(core, user, task.id, S.FAILED)
        keyed = await submit(core, user, "hopeless", idempotency_key="pay-once", max_retries=1)
        await reach(core, user, keyed.id, S.FAILED)
    assert attempts == [(1, task.id), (2, task.id), (3, task.id), (1, keyed.id), (2, keyed.id)]
    assert (failed.retry_count, failed.attempt) == (2, 3)
    assert (failed.error_code, failed.error_message) == ("PROCESSOR_ERROR", "ValueError: no ? luck")
    waits = [event for event in await core.tasks.events(user, task.id) if event.status is S.RETRYING]
    assert [event.state["retry_count"] for event in waits] == [1, 2]
    for event, longest in zip(waits, (20, 40), strict=True):
        wait = event.state["run_at"] - round(event.at.timestamp() * 1000)
        assert -1 <= wait <= longest + 1
    assert (await row_of(core, worker)).failed == 5


async def test_a_permanent_error_is_not_tried_again(core: Runtime, user: Principal) -> None:
    @processor("picky", max_retries=5)
    async def picky(value: Any, ctx: TaskContext) -> None:
        raise PermanentError("never", code="NO_SUCH_PAGE")

    async with working(core, picky):
        task = await submit(core, user, "picky")
        failed = await reach(core, user, task.id, S.FAILED)
    assert (failed.error_code, failed.error_message, failed.retry_count) == ("NO_SUCH_PAGE", "never", 0)


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (SystemExit(3), "RuntimeError: the processor called for the process to end: SystemExit(3)"),
        (BaseExceptionGroup("both", [GeneratorExit()]), "BaseExceptionGroup: both (1 sub-exception)"),
        (asyncio.CancelledError("by itself"), "CancelledError: by itself"),
        (LeaseLost("of another task"), None),
    ],
)
async def test_whatever_a_processor_raises_ends_the_run_alone(
    core: Runtime, user: Principal, raised: BaseException, message: str | None
) -> None:
    @processor("odd", max_retries=0)
    async def odd(value: Any, ctx: TaskContext) -> None:
        raise raised

    gate = Gate()
    gate.open.set()
    async with working(core, odd, gate.processor(), concurrency=1):
        task = await submit(core, user, "odd")
        if message is not None:
            failed = await reach(core, user, task.id, S.FAILED)
            assert (failed.error_code, failed.error_message) == ("PROCESSOR_ERROR", message)
        after = await submit(core, user, "gated")
        await reach(core, user, after.id, S.COMPLETED)


@pytest.mark.parametrize("by_task", [True, False])
async def test_a_run_that_takes_too_long_is_ended(core: Runtime, user: Principal, by_task: bool) -> None:
    gate = Gate()
    own = {"timeout": timedelta(milliseconds=50)} if by_task else {}
    async with working(core, gate.processor(timeout=60 if by_task else 0.05, max_retries=5)):
        task = await submit(core, user, "gated", **own)
        failed = await reach(core, user, task.id, S.FAILED)
        assert await soon(gate.interrupted.get()) == task.id
    assert (failed.error_code, failed.error_message) == ("TIMEOUT", "it ran longer than its time-out of 0.05 s")
    assert failed.retry_count == 0
    assert failed.processing_ms is not None
    assert failed.processing_ms >= 50


async def test_a_processor_that_will_not_stop_is_left_behind(
    core: Runtime, user: Principal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("taskyard_workers.attempt.STOP_GRACE", 0.02)
    release = asyncio.Event()
    ended = asyncio.Event()

    @processor("deaf", timeout=0.02)
    async def deaf(value: Any, ctx: TaskContext) -> str:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        ended.set()
        return "too late"

    gate = Gate()
    gate.open.set()
    async with working(core, deaf, gate.processor(), concurrency=1):
        task = await submit(core, user, "deaf")
        assert (await reach(core, user, task.id, S.FAILED)).error_code == "TIMEOUT"
        assert "ignores that it was told to stop" in caplog.text
        after = await submit(core, user, "gated")
        await reach(core, user, after.id, S.COMPLETED)  # its slot is free
        release.set()
        await soon(ended.wait())
    assert (await stored(core, task.id)).error_code == "TIMEOUT", "what it says later is thrown away"


async def test_cancelling_reaches_the_running_processor(core: Runtime, user: Principal) -> None:
    gate = Gate()
    async with working(core, gate.processor()) as worker:
        task = await submit(core, user, "gated")
        ctx = await soon(gate.begun.get())
        assert ctx.cancelled is False
        await core.tasks.cancel(user, task.id)
        assert await soon(gate.interrupted.get()) == task.id
        assert ctx.cancelled is True
        await until_row(core, worker, running=0, completed=0, failed=0)
    assert (await stored(core, task.id)).status is S.CANCELLED


class Page(BaseModel):
    """An input that is checked."""

    number: int = Field(ge=1)


async def test_input_and_output_that_are_not_of_their_type(core: Runtime, user: Principal) -> None:
    @processor("paged", max_retries=5)
    async def paged(page: Page, ctx: TaskContext) -> Page:
        return {"number": 0} if page.number == 13 else page  # type: ignore[return-value]

    @processor("loose", max_retries=5)
    async def loose(value: Any, ctx: TaskContext) -> Any:
        return {"text": "x" * (1 << 20)} if value == "large" else {"text": "nul \0"}

    # Submitted before the type is known: only the worker can tell.
    bad = await submit(core, user, "paged", input={"number": "no"})
    async with working(core, paged, loose):
        failed = await reach(core, user, bad.id, S.FAILED)
        assert (failed.error_code, failed.retry_count, failed.processing_ms) == ("INVALID_INPUT", 0, 0)
        wrong = [
            await submit(core, user, "paged", input={"number": 13}),
            await submit(core, user, "loose", input="large"),
            await submit(core, user, "loose", input="nul"),
        ]
        for task in wrong:
            failed = await reach(core, user, task.id, S.FAILED)
            assert (failed.error_code, failed.retry_count) == ("INVALID_OUTPUT", 0)
        good = await submit(core, user, "paged", input={"number": 7})
        await reach(core, user, good.id, S.COMPLETED)


async def test_an_input_type_that_breaks(core: Runtime, user: Principal) -> None:
    def broken(value: Any) -> Any:
        raise KeyError("a bug of its author")

    @processor("broken", max_retries=5)
    async def never(value: Annotated[Any, BeforeValidator(broken)], ctx: TaskContext) -> None:
        raise AssertionError("it is not run")

    async with working(core, never):
        task = await submit(core, user, "broken")
        assert (await reach(core, user, task.id, S.FAILED)).error_code == "INVALID_INPUT"


async def test_what_a_processor_tells(core: Runtime, user: Principal) -> None:
    seen: dict[str, Any] = {}

    @processor("talker")
    async def talker(value: Any, ctx: TaskContext) -> None:
        seen.update(task=ctx.task_id, instance=ctx.instance_id, agent=ctx.agent_id, attempt=ctx.attempt)
        await ctx.progress(40, "reading")
        await ctx.step("read")
        await ctx.step("read", StepStatus.COMPLETED, {"pages": 2})
        await ctx.log("slow", LogLevel.WARNING)
        await ctx.log("plain")
        ctx.report(actual_cost=1.0)
        ctx.report(quality_score=0.5)
        ctx.report(actual_cost=2.0)

    async with working(core, talker) as worker:
        task = await submit(core, user, "talker", agent_id="ann")
        done = await reach(core, user, task.id, S.COMPLETED)
    assert seen == {"task": task.id, "instance": "default", "agent": "ann", "attempt": 1}
    assert (done.actual_cost, done.quality_score, done.progress) == (2.0, 0.5, 100.0)
    (step,) = await core.tasks.steps(user, task.id)
    assert (step.name, step.status, step.output) == ("read", StepStatus.COMPLETED, {"pages": 2})
    events = [event for event in await core.tasks.events(user, task.id) if event.detail or event.kind == "PROGRESS"]
    assert [(str(event.kind), event.actor) for event in events] == [
        (kind, f"worker:{worker.id}") for kind in ("PROGRESS", "STEP", "STEP", "LOG", "LOG")
    ]
    assert (events[0].state["progress"], events[0].state["progress_step"]) == (40.0, "reading")
    assert [event.detail for event in events[3:]] == [
        {"level": "WARNING", "message": "slow"},
        {"level": "INFO", "message": "plain"},
    ]


async def test_figures_out_of_range_are_no_result(core: Runtime, user: Principal) -> None:
    @processor("boaster", max_retries=5)
    async def boaster(value: Any, ctx: TaskContext) -> None:
        ctx.report(quality_score=11)

    async with working(core, boaster):
        task = await submit(core, user, "boaster")
        assert (await reach(core, user, task.id, S.FAILED)).error_code == "INVALID_OUTPUT"


# -- claims that are lost ---------------------------------------------------------------------


async def test_a_lost_lease_interrupts_at_the_next_word(place: Path | str, user: Principal) -> None:
    said: asyncio.Queue[str] = asyncio.Queue()
    go_on = asyncio.Event()
    begun = asyncio.Event()

    @processor("teller")
    async def teller(value: Any, ctx: TaskContext) -> str:
        begun.set()
        await go_on.wait()
        try:
            await ctx.progress(50)
        except LeaseLost:
            said.put_nowait("lost")
            raise
        return "never"

    # No beat comes in between: it is the write that is refused.
    async with opened(place, heartbeat=500, lease=1000, poll=60) as runtime:
        async with working(runtime, teller) as worker:
            task = await submit(runtime, user, "teller")
            await soon(begun.wait())
            await meddle(runtime, "UPDATE tasks SET attempt = 2, holder = 'another'")
            go_on.set()
            assert await soon(said.get()) == "lost"
            await until(lambda: not worker._executor.running())
        kept = await stored(runtime, task.id)
        assert (kept.status, kept.attempt, kept.holder, kept.version) == (S.PROCESSING, 2, "another", 2)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE tasks SET attempt = attempt + 1, holder = 'another'",
        "UPDATE tasks SET status = 'CANCELLED', holder = NULL",
        "DELETE FROM tasks",
    ],
)
async def test_a_beat_interrupts_what_was_lost_elsewhere(core: Runtime, user: Principal, change: str) -> None:
    gate = Gate()
    async with working(core, gate.processor()) as worker:
        task = await submit(core, user, "gated")
        await soon(gate.begun.get())
        await meddle(core, change)  # no event tells of it
        assert await soon(gate.interrupted.get()) == task.id
        await until_row(core, worker, running=0, completed=0)


async def test_a_result_that_comes_too_late_is_thrown_away(
    place: Path | str, user: Principal, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    async with opened(place, heartbeat=500, lease=1000, poll=60) as runtime:
        async with working(runtime, gate.processor()) as worker:
            task = await submit(runtime, user, "gated")
            await soon(gate.begun.get())
            await meddle(runtime, "UPDATE tasks SET attempt = 2, holder = 'another'")
            gate.open.set()
            await until(lambda: not worker._executor.running())
        assert "came too late and was thrown away" in caplog.text
        kept = await stored(runtime, task.id)
        assert (kept.status, kept.holder) == (S.PROCESSING, "another")
        assert kept.payload is not None
        assert kept.payload.output is None


async def test_a_beat_renews_what_runs(core: Runtime, user: Principal) -> None:
    gate = Gate()
    async with working(core, gate.processor()):
        task = await submit(core, user, "gated")
        await soon(gate.begun.get())
        first = (await stored(core, task.id)).lease_until
        assert first is not None
        async with asyncio.timeout(PATIENCE):
            while (await stored(core, task.id)).lease_until in (first, None):
                await asyncio.sleep(0.02)
        assert (await stored(core, task.id)).lease_until > first  # type: ignore[operator]
        gate.open.set()
        await reach(core, user, task.id, S.COMPLETED)
