"""A real worker over a real core: what it runs, in which order, how it stops, what is told of it."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from tests.support.core import LONG_AGO, meddle, opened, reach, rows, stored, submit
from tests.support.working import Gate, by_name, row_of, soon, until, until_row, working

from taskyard.errors import StartupError
from taskyard.lifecycle import TaskStatus
from taskyard.principal import Principal
from taskyard.processor import PermanentError, TaskContext, processor
from taskyard.queue.entry import Want
from taskyard.runtime import Runtime
from taskyard.task import WaitingReason
from taskyard_workers.janitor import Janitor
from taskyard_workers.loading import load_processors
from taskyard_workers.worker import Worker

S = TaskStatus


# -- what it runs -----------------------------------------------------------------------------


@pytest.mark.slow
async def test_the_demo_processors(core: Runtime, user: Principal, janitor: Janitor) -> None:
    worker = Worker(core, load_processors([], demo=True))
    await worker.start()
    try:
        assert {spec.name for spec in await core.tasks.types(user)} == {
            "delay",
            "echo",
            "mock_content",
            "random_failure",
        }
        echo = await submit(core, user, "echo", input={"text": ["ho", 1, None]})
        content = await submit(core, user, "mock_content", input={"topic": "tides", "length": "short"})
        delay = await submit(core, user, "delay", input={"seconds": 0.01})
        lucky = await submit(core, user, "random_failure", input={"rate": 0})
        unlucky = await submit(core, user, "random_failure", input={"rate": 1}, max_retries=0)
        for task in (echo, content, delay, lucky):
            await reach(core, user, task.id, S.COMPLETED)
        failed = await reach(core, user, unlucky.id, S.FAILED)
    finally:
        await worker.stop()
    assert (failed.error_code, failed.error_message) == ("PROCESSOR_ERROR", "RuntimeError: bad luck")
    outputs = await core.tasks.payloads(user, [echo.id, content.id, delay.id, lucky.id])
    assert outputs[echo.id].output == {"text": ["ho", 1, None]}
    assert outputs[delay.id].output == {"seconds": 0.01}
    assert outputs[lucky.id].output == {"attempt": 1}
    assert outputs[content.id].output["title"] == "On tides"
    written = await stored(core, content.id)
    assert written.actual_cost == pytest.approx(outputs[content.id].output["words"] * 0.0001)
    assert (written.quality_score, written.progress) == (0.9, 100.0)
    assert written.processing_ms is not None
    assert written.processing_ms >= 500
    plan = await core.tasks.steps(user, content.id)
    assert [(step.name, step.status) for step in plan] == [("section 1", "COMPLETED"), ("section 2", "COMPLETED")]


async def test_one_slot_keeps_the_order_of_priority(core: Runtime, user: Principal) -> None:
    order: list[int] = []

    @processor("noted")
    async def noted(value: int, ctx: TaskContext) -> None:
        order.append(value)

    made = [await submit(core, user, "noted", input=n, priority=p) for n, p in enumerate((2, 10, 5, 8, 5, 10, 1))]
    async with working(core, noted, concurrency=1):
        await reach(core, user, made[6].id, S.COMPLETED)
    assert order == [1, 5, 3, 2, 4, 0, 6]


async def test_as_many_at_once_as_there_are_slots_and_never_more(core: Runtime, user: Principal) -> None:
    gate = Gate()
    made = [await submit(core, user, "gated", input=n) for n in range(9)]
    async with working(core, gate.processor(), concurrency=3) as worker:
        begun = [await soon(gate.begun.get()) for _ in range(3)]
        assert {ctx.task_id for ctx in begun} == {task.id for task in made[:3]}
        assert [str((await stored(core, task.id)).status) for task in made].count("QUEUED") == 6, "no more is claimed"
        await until_row(core, worker, running=3)
        gate.open.set()
        for task in made:
            await reach(core, user, task.id, S.COMPLETED)
    assert gate.most == 3


async def test_it_wakes_at_once_for_a_new_task(core: Runtime, user: Principal) -> None:
    gate = Gate()
    async with working(core, gate.processor(), concurrency=1):
        first = await submit(core, user, "gated")
        await soon(gate.begun.get())
        second = await submit(core, user, "gated")
        gate.open.set()
        await reach(core, user, first.id, S.COMPLETED)
        await reach(core, user, second.id, S.COMPLETED)  # by the slot that became free


async def test_it_takes_only_its_queues_and_types(core: Runtime, user: Principal) -> None:
    gate = Gate()
    gate.open.set()
    other_type = await submit(core, user, "unknown", priority=10)
    other_queue = await submit(core, user, "gated", queue="chat", priority=10)
    mine = await submit(core, user, "gated", queue="mail")
    async with working(core, gate.processor(), queues=["mail"]):
        await reach(core, user, mine.id, S.COMPLETED)
        assert await core.catalog.waiting_reason(other_type) is WaitingReason.NO_WORKER_FOR_TYPE
    for task in (other_type, other_queue):
        assert (await stored(core, task.id)).status is S.QUEUED


async def test_the_default_processor_does_unknown_types(place: Path | str, user: Principal) -> None:
    @processor("fallback")
    async def fallback(value: Any, ctx: TaskContext) -> str:
        return "done anyway"

    async with opened(place, default_processor="fallback", poll=60) as runtime:
        async with working(runtime, fallback):
            task = await submit(runtime, user, "never-heard-of")
            await reach(runtime, user, task.id, S.COMPLETED)
            assert await runtime.catalog.waiting_reason(task) is None
        with pytest.raises(StartupError, match=r"TASKYARD_DEFAULT_PROCESSOR.*'fallback'.*there are none"):
            Worker(runtime, {})


# -- stopping ---------------------------------------------------------------------------------


async def test_a_stop_waits_for_what_runs_and_claims_no_more(core: Runtime, user: Principal) -> None:
    gate = Gate()
    worker = Worker(core, by_name(gate.processor()), concurrency=2)
    await worker.stop()  # not begun: nothing to do
    await worker.start()
    await worker.start()  # nothing more
    task = await submit(core, user, "gated")
    await soon(gate.begun.get())
    stopping = asyncio.create_task(worker.stop())
    await until_row(core, worker, status="DRAINING", running=1)
    waiting = await submit(core, user, "gated")
    assert not stopping.done()
    gate.open.set()
    await soon(stopping)
    assert (await stored(core, task.id)).status is S.COMPLETED
    assert (await stored(core, waiting.id)).status is S.QUEUED
    row = await row_of(core, worker)
    assert (row.status, row.running, row.completed, row.failed) == ("STOPPED", 0, 1, 0)
    await worker.stop()


async def test_a_stop_gives_back_what_will_not_end_in_time(place: Path | str, user: Principal) -> None:
    gate = Gate()
    async with opened(place, drain=0.02, poll=60) as runtime:
        async with working(runtime, gate.processor()):
            task = await submit(runtime, user, "gated", max_retries=0)
            await soon(gate.begun.get())
        assert gate.interrupted.get_nowait() == task.id
        kept = await stored(runtime, task.id)
        assert (kept.status, kept.attempt, kept.retry_count, kept.lost_count) == (S.QUEUED, 1, 0, 0)
        assert (kept.holder, kept.started_at, kept.error_code) == (None, None, None)
        gate.open.set()
        async with working(runtime, gate.processor()):
            done = await reach(runtime, user, task.id, S.COMPLETED)
        assert (done.attempt, done.retry_count) == (2, 0)


# -- what is told of it -----------------------------------------------------------------------


async def test_the_row_of_a_worker(core: Runtime, user: Principal, admin: Principal) -> None:
    gate = Gate()

    @processor("picky")
    async def picky(value: Any, ctx: TaskContext) -> None:
        raise PermanentError("never")

    async with working(core, gate.processor(), picky, concurrency=4, queues=["default", "chat"]) as worker:
        (told,) = await core.figures.workers(admin)
        assert (told.id, told.status, told.concurrency, told.running) == (worker.id, "ALIVE", 4, 0)
        assert (told.types, told.queues) == (["gated", "picky"], ["default", "chat"])
        first = await row_of(core, worker)
        for task_type in ("gated", "gated", "picky"):
            await submit(core, user, task_type)
        await until_row(core, worker, running=2, failed=1)
        gate.open.set()
        last = await until_row(core, worker, running=0, completed=2, failed=1)
        assert last.heartbeat_at > first.heartbeat_at
        assert last.started_at == first.started_at


async def test_a_loop_that_fails_goes_on(core: Runtime, user: Principal, caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    gate.open.set()
    caplog.set_level(logging.WARNING)
    async with working(core, gate.processor()) as worker:
        await meddle(core, "ALTER TABLE workers RENAME TO away")
        # A missing table is an outage to SQLite, and a fault of the statement to PostgreSQL.
        await until(lambda: "heartbeat cannot work" in caplog.text or "heartbeat failed; it goes on" in caplog.text)
        await meddle(core, "ALTER TABLE away RENAME TO workers")
        task = await submit(core, user, "gated")
        await reach(core, user, task.id, S.COMPLETED)
        await until_row(core, worker, completed=1)


async def test_the_janitor_does_its_rounds(core: Runtime, user: Principal, janitor: Janitor) -> None:
    lost = await submit(core, user, id="lost")
    (claimed,) = await core.claims.claim("gone", Want(limit=1))
    assert claimed.id == lost.id
    await meddle(core, "UPDATE tasks SET lease_until = :past", past=LONG_AGO)
    await reach(core, user, lost.id, S.QUEUED)
    late = await submit(core, user, id="late", priority=10)
    (claimed,) = await core.claims.claim("gone", Want(limit=1))
    assert claimed.id == late.id
    await meddle(core, "UPDATE tasks SET deadline_at = :past WHERE id = 'late'", past=LONG_AGO)
    assert (await reach(core, user, late.id, S.FAILED)).error_code == "TIMEOUT"
    assert await rows(core, "SELECT lost_count FROM tasks WHERE id = 'lost'") == [(1,)]
