"""What goes wrong around a claim: nothing is stranded, blamed or begun in vain."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.support.clock import FakeClock
from tests.support.core import PATIENCE, claim, meddle, opened, reach, stored, submit

from taskyard.errors import IllegalTransition, Unavailable
from taskyard.lifecycle import TaskStatus
from taskyard.principal import Principal
from taskyard.processor import TaskContext, marked, processor
from taskyard.queue.entry import Want
from taskyard.runtime import Runtime
from taskyard.service.claims import ClaimService
from taskyard.store.tasks import TaskReader
from taskyard.task import LogLevel, TaskTypeSpec
from taskyard_workers.worker import Worker

S = TaskStatus


@asynccontextmanager
async def working(runtime: Runtime, *functions: Any) -> AsyncIterator[Worker]:
    found = [marked(function) for function in functions]
    worker = Worker(runtime, {one.name: one for one in found if one is not None})
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop()


@pytest.fixture
async def core(data_folder: Path) -> AsyncIterator[Runtime]:
    """A core on the machine's clock whose workers, but for wake-ups, never poll."""
    async with opened(data_folder, heartbeat=0.1, poll=60, drain=PATIENCE) as runtime:
        yield runtime


class FailingRead:
    """Fails the read of what was claimed, once; until then and afterwards the reader is as it was."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int = 1) -> None:
        self.calls = 0
        real = TaskReader.get_many

        async def get_many(reader: TaskReader, *arguments: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls == at:
                raise Unavailable("the database does not answer")
            return await real(reader, *arguments, **options)

        monkeypatch.setattr(TaskReader, "get_many", get_many)


async def test_a_claim_that_cannot_be_read_is_given_back(
    runtime: Runtime, user: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Too large to come with the claim, whatever the database.
    task = await submit(runtime, user, input={"text": secrets.token_hex(4000)})
    FailingRead(monkeypatch)
    with pytest.raises(Unavailable):
        await claim(runtime)
    back = await stored(runtime, task.id)
    assert (back.status, back.attempt, back.retry_count, back.lost_count) == (S.QUEUED, 1, 0, 0)
    again, run = await claim(runtime)
    assert (again.id, run.attempt) == (task.id, 2)


async def test_what_was_claimed_before_a_fault_is_run(
    embedded: Runtime, user: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await submit(embedded, user)
    gone = await submit(embedded, user)
    last = await submit(embedded, user)
    # A stale entry makes the claim go round a second time; that round fails.
    await meddle(embedded, "UPDATE tasks SET generation = 9 WHERE id = :id", id=gone.id)
    FailingRead(monkeypatch, at=2)
    claimed = await embedded.claims.claim("w1", Want(limit=2))
    assert [task.id for task in claimed] == [first.id]
    assert (await stored(embedded, last.id)).status is S.QUEUED


async def test_a_task_cancelled_behind_its_claim_is_not_begun(
    core: Runtime, user: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []

    @processor("begun")
    async def begin(value: Any, ctx: TaskContext) -> None:
        begun.append(ctx.task_id)

    real = type(core.claims).claim

    async def cancelled_behind(claims: ClaimService, *arguments: Any) -> Any:
        claimed = await real(claims, *arguments)
        if claimed and not begun:
            await core.tasks.cancel(user, first.id)
        return claimed

    first = await submit(core, user, "begun")
    monkeypatch.setattr(type(core.claims), "claim", cancelled_behind)
    second = await submit(core, user, "begun")
    async with working(core, begin):
        await reach(core, user, second.id, S.COMPLETED)
    assert begun == [second.id]
    assert (await stored(core, first.id)).status is S.CANCELLED


async def test_a_run_that_reports_all_the_while_can_be_cancelled_and_moved_up(core: Runtime, user: Principal) -> None:
    begun = asyncio.Event()

    @processor("chatty")
    async def chatty(value: Any, ctx: TaskContext) -> None:
        while True:
            await ctx.progress(50)
            begun.set()

    async with working(core, chatty):
        task = await submit(core, user, "chatty")
        async with asyncio.timeout(PATIENCE):
            await begun.wait()
        assert (await core.tasks.change_priority(user, task.id, 9)).priority == 9
        assert (await core.tasks.cancel(user, task.id)).status is S.CANCELLED


async def test_the_time_out_of_a_type_holds_for_tasks_submitted_before_it_was_declared(
    core: Runtime, user: Principal
) -> None:
    early = await submit(core, user, "later")
    assert early.timeout_ms is None

    @processor("later", timeout=0.2)
    async def later(value: Any, ctx: TaskContext) -> None:
        await asyncio.sleep(60)

    async with working(core, later):
        failed = await reach(core, user, early.id, S.FAILED)
    assert failed.error_code == "TIMEOUT"
    started = await reach(core, user, (await submit(core, user, "other")).id, S.QUEUED)
    await core.registry.declare([TaskTypeSpec(name="other", timeout=timedelta(seconds=7))])
    core.catalog.expire()
    running = await core.claims.start(user, started.id)
    assert running.deadline_at is not None
    assert running.started_at is not None
    assert running.deadline_at - running.started_at == timedelta(seconds=7)


async def test_a_store_that_takes_no_report_costs_no_retry(
    core: Runtime, user: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []

    @processor("reporting", max_retries=0)
    async def reporting(value: Any, ctx: TaskContext) -> int:
        runs.append(ctx.attempt)
        if len(runs) == 1:
            raise Unavailable("the database cannot be written now")
        return len(runs)

    async with working(core, reporting):
        done = await reach(core, user, (await submit(core, user, "reporting")).id, S.COMPLETED)
    assert (runs, done.retry_count, done.lost_count) == ([1, 2], 0, 0)


async def test_a_run_that_ends_while_it_is_told_to_stop_is_completed(data_folder: Path, user: Principal) -> None:
    begun = asyncio.Event()

    @processor("finishing")
    async def finishing(value: Any, ctx: TaskContext) -> str:
        try:
            begun.set()
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            pass
        return "all the same"

    async with opened(data_folder, drain=0) as core:
        async with working(core, finishing):
            task = await submit(core, user, "finishing")
            async with asyncio.timeout(PATIENCE):
                await begun.wait()
        done = await stored(core, task.id)
    assert done.status is S.COMPLETED
    assert done.payload is not None
    assert done.payload.output == "all the same"


async def test_a_resumed_queue_wakes_its_worker(core: Runtime, user: Principal, admin: Principal) -> None:
    @processor("quick")
    async def quick(value: Any, ctx: TaskContext) -> None:
        """Nothing to do."""

    await core.tasks.set_paused(admin, "default", True, None)
    async with working(core, quick):
        task = await submit(core, user, "quick")
        await core.tasks.set_paused(admin, "default", False, None)
        await reach(core, user, task.id, S.COMPLETED)  # long before the next poll


async def test_a_worker_can_be_started_again(core: Runtime, user: Principal) -> None:
    @processor("quick")
    async def quick(value: Any, ctx: TaskContext) -> None:
        """Nothing to do."""

    async with working(core, quick) as worker:
        await worker.stop()
        task = await submit(core, user, "quick")
        await worker.start()
        await reach(core, user, task.id, S.COMPLETED)


async def test_a_worker_stops_although_it_cannot_tell(
    core: Runtime, user: Principal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with working(core):

        async def put_worker(*_: Any) -> None:
            raise Unavailable("the disk is full")

        monkeypatch.setattr(core.registry.__class__, "put_worker", put_worker)
    assert "could not tell that it stopped" in caplog.text


async def test_recovery_does_not_believe_the_clock(data_folder: Path, user: Principal) -> None:
    clock = FakeClock()
    async with opened(data_folder, clock) as core:
        worker = Worker(core, {})
        await worker._tell()
        task = await submit(core, user)
        await core.claims.claim(worker.id, Want(limit=1))
    before = FakeClock(clock.now() - timedelta(days=3))
    async with opened(data_folder, before) as core:
        back = await stored(core, task.id)
    assert (back.status, back.lost_count) == (S.QUEUED, 1)


async def test_a_recovery_that_was_cut_short_is_made_good(data_folder: Path, user: Principal) -> None:
    async with opened(data_folder) as core:
        worker = Worker(core, {})
        await worker._tell()
        task = await submit(core, user)
        await core.claims.claim(worker.id, Want(limit=1))
        await core.registry.stop_workers(None)
    async with opened(data_folder) as core:
        assert (await stored(core, task.id)).status is S.QUEUED


async def test_starting_twice_says_that_it_has_begun(runtime: Runtime, user: Principal) -> None:
    task = await submit(runtime, user)
    await runtime.claims.start(user, task.id)
    with pytest.raises(IllegalTransition, match="it has begun already"):
        await runtime.claims.start(user, task.id)


async def test_logs_of_a_lost_run_are_refused_and_leave_nothing(runtime: Runtime, user: Principal) -> None:
    task = await submit(runtime, user)
    _, run = await claim(runtime)
    await runtime.tasks.cancel(user, task.id)
    before = await runtime.tasks.events(user, task.id)
    with pytest.raises(Exception, match="no longer holds"):
        await runtime.claims.log(run, LogLevel.INFO, "too late")
    assert await runtime.tasks.events(user, task.id) == before
