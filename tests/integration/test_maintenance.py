"""What time brings: leases, deadlines, due tasks, old rows; and the start after a crash."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.support.clock import FakeClock
from tests.support.core import LONG_AGO, claim, meddle, number, opened, rows, stored, submit, task_in

from taskyard.errors import Forbidden, InvalidInput, LeaseLost, StartupError
from taskyard.lifecycle import ENDED, HELD, TaskStatus
from taskyard.principal import EVERY_INSTANCE, Principal, Role
from taskyard.queue.entry import Want
from taskyard.runtime import Runtime
from taskyard.service import maintenance
from taskyard.service.maintenance import Maintenance
from taskyard.settings import QueueBackend
from taskyard.store.database import DATABASE_FILE
from taskyard.store.tasks import TaskReader
from taskyard.task import LogLevel, Metrics, StepStatus, Task

S = TaskStatus
WORKER = {"host": "h", "pid": 1, "status": "ALIVE", "concurrency": 2, "types": None, "queues": None}


async def hold(runtime: Runtime, worker_id: str) -> None:
    await runtime.registry.put_worker(worker_id, WORKER)


# -- leases -----------------------------------------------------------------------------------


async def test_a_lease_that_ran_out_puts_the_task_back(runtime: Runtime, user: Principal, clock: FakeClock) -> None:
    first, second = await submit(runtime, user, max_retries=0), await submit(runtime, user)
    _, run = await claim(runtime)
    await runtime.claims.progress(run, 50, "half")
    clock.advance(30)
    assert await runtime.maintenance.reap_leases() == 0, "to its last moment it holds"
    clock.advance(0.001)
    assert await runtime.maintenance.reap_leases() == 1
    assert await runtime.maintenance.reap_leases() == 0
    kept = await stored(runtime, first.id)
    assert (kept.status, kept.lost_count, kept.retry_count, kept.attempt) == (S.QUEUED, 1, 0, 1)
    assert (kept.holder, kept.lease_until, kept.deadline_at, kept.started_at) == (None, None, None, None)
    assert (kept.progress, kept.progress_step, kept.queued_at) == (0.0, None, clock.now())
    claimed = await runtime.claims.claim("w2", Want(limit=2))
    assert [task.id for task in claimed] == [first.id, second.id], "in its old place"


async def test_a_renewed_lease_holds(runtime: Runtime, user: Principal, clock: FakeClock) -> None:
    made = await submit(runtime, user)
    await claim(runtime)
    for _ in range(5):
        clock.advance(20)
        assert await runtime.claims.renew("w1", {(made.id, 1)}) == {(made.id, 1)}
        assert await runtime.maintenance.reap_leases() == 0
    assert (await stored(runtime, made.id)).lease_until == clock.now() + timedelta(seconds=30)


async def test_only_what_a_worker_still_holds_is_renewed(runtime: Runtime, user: Principal, clock: FakeClock) -> None:
    kept, cancelled, done, lost, foreign = [(await submit(runtime, user)).id for _ in range(5)]
    runs = {}
    for worker in ("w1", "w1", "w1", "w1", "w2"):
        task, run = await claim(runtime, worker)
        runs[task.id] = run
    await runtime.tasks.cancel(user, cancelled)
    await runtime.claims.complete(runs[done], {}, Metrics())
    await runtime.claims.release(runs[lost])
    await claim(runtime, "w1")  # again, as attempt 2, which the worker does not run
    running = {(task_id, 1) for task_id in (kept, cancelled, done, lost, foreign)}
    assert await runtime.claims.renew("w1", running) == {(kept, 1)}
    assert await runtime.claims.renew("w1", set()) == set()


async def test_a_claim_that_nobody_runs_runs_out(runtime: Runtime, user: Principal, clock: FakeClock) -> None:
    ran, forgotten = [(await submit(runtime, user)).id for _ in range(2)]
    await runtime.claims.claim("w1", Want(limit=2))
    clock.advance(20)
    await runtime.claims.renew("w1", {(ran, 1)})
    clock.advance(20)
    assert await runtime.maintenance.reap_leases() == 1
    assert (await stored(runtime, ran)).status is S.PROCESSING
    assert (await stored(runtime, forgotten)).status is S.QUEUED


async def test_a_lease_renewed_after_the_sweep_looked_is_not_reaped(
    runtime: Runtime, user: Principal, clock: FakeClock
) -> None:
    renewed, dead = [(await submit(runtime, user)).id for _ in range(2)]
    await runtime.claims.claim("w1", Want(limit=2))
    clock.advance(31)

    class RacingReader(TaskReader):
        """The worker's beat comes between the look and the write."""

        async def lease_expired(self, now: datetime, limit: int) -> list[Task]:
            found = await super().lease_expired(now, limit)
            assert {task.id for task in found} == {renewed, dead}
            await runtime.claims.renew("w1", {(renewed, 1)})
            return found

    sweep = Maintenance(
        reader=RacingReader(runtime.database),
        writer=runtime.database.writer,
        registry=runtime.registry,
        clock=clock,
        silence=timedelta(seconds=15),
    )
    assert await sweep.reap_leases() == 1
    assert (await stored(runtime, renewed)).status is S.PROCESSING
    assert (await stored(runtime, dead)).status is S.QUEUED


async def test_an_attempt_claimed_after_the_sweep_looked_is_not_reaped(
    runtime: Runtime, user: Principal, clock: FakeClock
) -> None:
    made = await submit(runtime, user)
    await claim(runtime)
    clock.advance(31)

    class RacingReader(TaskReader):
        """Another sweep and another worker come between the look and the write."""

        async def lease_expired(self, now: datetime, limit: int) -> list[Task]:
            found = await super().lease_expired(now, limit)
            await runtime.maintenance.reap_leases()
            await claim(runtime, "w2")
            # Even with a lease as short as this one it is another attempt's.
            await meddle(runtime, "UPDATE tasks SET lease_until = :past", past=LONG_AGO)
            return found

    sweep = Maintenance(
        reader=RacingReader(runtime.database),
        writer=runtime.database.writer,
        registry=runtime.registry,
        clock=clock,
        silence=timedelta(seconds=15),
    )
    assert await sweep.reap_leases() == 0
    kept = await stored(runtime, made.id)
    assert (kept.status, kept.attempt, kept.holder, kept.lost_count) == (S.PROCESSING, 2, "w2", 1)


@pytest.mark.parametrize("status", sorted(HELD))
async def test_every_held_status_is_reaped(runtime: Runtime, user: Principal, clock: FakeClock, status: S) -> None:
    task = await task_in(runtime, user, status, timeout=timedelta(seconds=20))
    clock.advance(31)
    assert await runtime.maintenance.reap_leases() == 1
    reaped = await stored(runtime, task.id)
    # A run that was begun by hand holds its claim for its time-out: where the one ends, the other has passed.
    timed_out = status is S.PROCESSING
    assert (reaped.status, reaped.error_code) == ((S.FAILED, "TIMEOUT") if timed_out else (S.QUEUED, None))
    assert reaped.lost_count == (0 if timed_out else 1)


# -- deadlines --------------------------------------------------------------------------------


async def test_a_run_past_its_deadline_fails(runtime: Runtime, user: Principal, clock: FakeClock) -> None:
    made = await submit(runtime, user, timeout=timedelta(seconds=60), max_retries=5)
    _, run = await claim(runtime)
    for _ in range(62):
        clock.advance(1)
        await runtime.claims.renew("w1", {(made.id, 1)})
        assert await runtime.maintenance.enforce_deadlines() == 0
    clock.advance(0.001)
    assert await runtime.maintenance.enforce_deadlines() == 1
    kept = await stored(runtime, made.id)
    assert (kept.status, kept.error_code, kept.completed_at) == (S.FAILED, "TIMEOUT", clock.now())
    assert (kept.retry_count, kept.holder, kept.deadline_at) == (0, None, None)
    with pytest.raises(LeaseLost):
        await runtime.claims.complete(run, {"late": True}, Metrics())


async def test_time_out_what_is_stale(
    runtime: Runtime, user: Principal, admin: Principal, stranger: Principal, clock: FakeClock
) -> None:
    old = await task_in(runtime, user, S.PROCESSING)
    assigned = await task_in(runtime, user, S.ASSIGNED)
    theirs = await task_in(runtime, stranger, S.PROCESSING)
    review = await task_in(runtime, user, S.REVIEW)
    clock.advance(60)
    young = await task_in(runtime, user, S.PROCESSING)
    await runtime.tasks.change_priority(user, old.id, 9)  # a change is not a new beginning
    with pytest.raises(Forbidden):
        await runtime.maintenance.time_out_stale(user, timedelta(seconds=30))
    assert await runtime.maintenance.time_out_stale(admin, timedelta(seconds=60)) == 0
    assert await runtime.maintenance.time_out_stale(admin, timedelta(seconds=59)) == 1
    kept = await stored(runtime, old.id)
    assert (kept.status, kept.error_code, kept.completed_at) == (S.FAILED, "TIMEOUT", clock.now())
    assert (await runtime.tasks.events(user, old.id))[-1].actor == "admin-1"
    for task in (assigned, young, theirs, review):
        assert (await stored(runtime, task.id)).status is task.status


@pytest.mark.parametrize("seconds", [0, -1, 4e9])
async def test_an_age_that_makes_no_sense(runtime: Runtime, admin: Principal, seconds: float) -> None:
    with pytest.raises(InvalidInput) as caught:
        await runtime.maintenance.time_out_stale(admin, timedelta(seconds=seconds))
    assert caught.value.path == ["timeoutMs"]


# -- what is due ------------------------------------------------------------------------------


async def test_due_tasks_are_queued_in_the_order_of_their_time(
    runtime: Runtime, user: Principal, clock: FakeClock
) -> None:
    late, early, never = [
        (await submit(runtime, user, scheduled_for=clock.now() + timedelta(seconds=s))).id for s in (20, 10, 999)
    ]
    clock.advance(20)
    assert await runtime.maintenance.promote_due() == 2
    claimed = await runtime.claims.claim("w1", Want(limit=10))
    assert [task.id for task in claimed] == [early, late]
    assert (await stored(runtime, never)).status is S.SCHEDULED


async def test_a_task_cancelled_after_the_sweep_looked_stays_cancelled(
    runtime: Runtime, user: Principal, clock: FakeClock
) -> None:
    made = await submit(runtime, user, scheduled_for=clock.now() + timedelta(seconds=1))
    clock.advance(1)

    class RacingReader(TaskReader):
        async def due(self, now: datetime, limit: int) -> list[Task]:
            found = await super().due(now, limit)
            await runtime.tasks.cancel(user, made.id)
            return found

    sweep = Maintenance(
        reader=RacingReader(runtime.database),
        writer=runtime.database.writer,
        registry=runtime.registry,
        clock=clock,
        silence=timedelta(seconds=15),
    )
    assert await sweep.promote_due() == 0
    assert (await stored(runtime, made.id)).status is S.CANCELLED


# -- old rows ---------------------------------------------------------------------------------


async def test_clean_up_removes_what_ended_long_ago_with_all_that_hangs_on_it(
    runtime: Runtime, user: Principal, admin: Principal, stranger: Principal, clock: FakeClock
) -> None:
    old = [(await task_in(runtime, user, status)).id for status in sorted(ENDED)]
    busy = await task_in(runtime, user, S.PROCESSING)
    await runtime.claims.complete_by_hand(user, busy.id, {}, Metrics())
    await runtime.tasks.cancel(stranger, (await submit(runtime, stranger, id="theirs")).id)
    alive = [(await task_in(runtime, user, status)).id for status in sorted(set(S) - ENDED - {S.QUEUED})]
    waiting = await submit(runtime, user)
    _, run = await claim(runtime)
    await runtime.claims.step(run, "s", StepStatus.RUNNING, None)
    await runtime.claims.log(run, LogLevel.INFO, "hello")
    await runtime.claims.complete(run, {}, Metrics())
    clock.advance(7 * 86_400)
    young = await task_in(runtime, user, S.CANCELLED)
    with pytest.raises(Forbidden):
        await runtime.maintenance.clean_up(user, timedelta(days=7))
    assert await runtime.maintenance.clean_up(admin, timedelta(days=7)) == 0, "7 days are not over 7 days"
    clock.advance(0.001)
    assert await runtime.maintenance.clean_up(admin, timedelta(days=7)) == len([*old, busy, waiting])
    left = {row.id for row in await rows(runtime, "SELECT id FROM tasks")}
    assert left == {*alive, young.id, "theirs"}
    for table in ("events", "steps"):
        orphans = f"SELECT count(*) FROM {table} WHERE task_id NOT IN (SELECT id FROM tasks)"
        assert await number(runtime, orphans) == 0
    assert await number(runtime, "SELECT count(*) FROM events") > 0
    everywhere = Principal("root", Role.ADMIN, frozenset({EVERY_INSTANCE}))
    assert await runtime.maintenance.clean_up(everywhere, timedelta(days=7)) == 1


async def test_clean_up_goes_on_over_many_slices(
    runtime: Runtime, user: Principal, admin: Principal, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskyard.service.maintenance.SLICE", 2)
    for _ in range(5):
        await task_in(runtime, user, S.CANCELLED)
    clock.advance(1)
    assert await runtime.maintenance.clean_up(admin, timedelta()) == 5


async def test_a_slice_of_a_clean_up_is_bounded_by_its_events(
    runtime: Runtime, user: Principal, admin: Principal, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "CLEANUP_EVENTS", 10)
    real = runtime.registry.delete_ended
    slices: list[int] = []

    async def counted(*arguments: Any) -> int:
        slices.append(await real(*arguments))
        return slices[-1]

    monkeypatch.setattr(type(runtime.registry), "delete_ended", lambda _, *arguments: counted(*arguments))
    for extra in (20, 0, 0, 0):
        await submit(runtime, user)
        _, run = await claim(runtime)
        for percent in range(extra):
            await runtime.claims.progress(run, percent, None)
        await runtime.claims.complete(run, {}, Metrics())
        clock.advance(1)
    clock.advance(10)
    assert await runtime.maintenance.clean_up(admin, timedelta(seconds=1)) == 4
    assert slices == [1, 3, 0], "one with 23 events, then three with 3 each"


async def test_time_out_goes_on_over_many_slices(
    runtime: Runtime, user: Principal, admin: Principal, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskyard.service.maintenance.SLICE", 2)
    for _ in range(5):
        await task_in(runtime, user, S.PROCESSING)
    clock.advance(1)
    assert await runtime.maintenance.time_out_stale(admin, timedelta(milliseconds=1)) == 5


async def test_time_out_ends_when_others_end_everything_first(
    runtime: Runtime, user: Principal, admin: Principal, clock: FakeClock
) -> None:
    made = await task_in(runtime, user, S.PROCESSING)
    clock.advance(60)

    class StaleReader(TaskReader):
        """Shows for ever what it saw first."""

        async def started_before(self, *_: object) -> list[Task]:
            return [made]

    await runtime.tasks.cancel(user, made.id)
    sweep = Maintenance(
        reader=StaleReader(runtime.database),
        writer=runtime.database.writer,
        registry=runtime.registry,
        clock=clock,
        silence=timedelta(seconds=15),
    )
    assert await sweep.time_out_stale(admin, timedelta(seconds=1)) == 0
    assert (await stored(runtime, made.id)).status is S.CANCELLED


@pytest.mark.parametrize("days", [-1, 40_000, 999_999_999])
async def test_a_retention_that_makes_no_sense(runtime: Runtime, admin: Principal, days: int) -> None:
    with pytest.raises(InvalidInput) as caught:
        await runtime.maintenance.clean_up(admin, timedelta(days=days))
    assert caught.value.path == ["olderThanDays"]


# -- workers, and the start after a crash -----------------------------------------------------


async def test_silent_workers_are_marked_and_then_forgotten(runtime: Runtime, clock: FakeClock) -> None:
    async def told() -> Sequence[tuple[str, str]]:
        return [(worker.id, worker.status) for worker in await runtime.registry.workers()]

    await hold(runtime, "w1")
    clock.advance(10)
    await hold(runtime, "w2")
    clock.advance(5)
    assert await runtime.maintenance.reap_workers() == 0
    clock.advance(0.001)
    assert await runtime.maintenance.reap_workers() == 1
    assert await told() == [("w2", "ALIVE"), ("w1", "STOPPED")]
    assert [worker.running for worker in await runtime.registry.workers()] == [0, 0]
    await hold(runtime, "w1")
    assert await told() == [("w2", "ALIVE"), ("w1", "ALIVE")], "it was only slow"
    clock.advance(3600)
    assert await runtime.maintenance.reap_workers() == 2
    clock.advance(86_400 - 3600)
    await runtime.maintenance.reap_workers()
    assert len(await told()) == 1
    clock.advance(86_400)
    await runtime.maintenance.reap_workers()
    assert await told() == []


async def test_what_a_crash_left_is_queued_again_at_the_next_start(
    data_folder: Path, clock: FakeClock, user: Principal
) -> None:
    async with opened(data_folder, clock) as runtime:
        tasks = [(await submit(runtime, user, priority=p)).id for p in (9, 8, 7, 6, 5)]
        await hold(runtime, "w1")
        _, run = await claim(runtime)
        await runtime.claims.progress(run, 30, "begun")
        _, finished = await claim(runtime)
        await runtime.claims.complete(finished, {}, Metrics())
        by_hand = await runtime.claims.start(user, tasks[2])
        # No word of a stop: the process is gone.
    async with opened(data_folder, clock) as runtime:
        kept = [await stored(runtime, task_id) for task_id in tasks]
        assert [task.status for task in kept] == [S.QUEUED, S.COMPLETED, S.PROCESSING, S.QUEUED, S.QUEUED]
        assert (kept[0].lost_count, kept[0].retry_count, kept[0].progress) == (1, 0, 0.0)
        assert kept[2].holder == by_hand.holder, "a remote agent goes on"
        assert [worker.status for worker in await runtime.registry.workers()] == ["STOPPED"]
        claimed = await runtime.claims.claim("w2", Want(limit=10))
        assert [task.id for task in claimed] == [tasks[0], tasks[3], tasks[4]], "in order, without a lease's wait"
        assert claimed[0].attempt == 2
        with pytest.raises(LeaseLost):
            await runtime.claims.complete(run, {"late": True}, Metrics())
        assert await runtime.maintenance.recover() == 0


async def test_the_queue_is_filled_anew_in_slices(
    data_folder: Path, clock: FakeClock, user: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskyard.runtime.REBUILD_SLICE", 2)
    async with opened(data_folder, clock) as runtime:
        made = [(await submit(runtime, user)).id for _ in range(5)]
    async with opened(data_folder, clock) as runtime:
        assert [task.id for task in await runtime.claims.claim("w1", Want(limit=10))] == made


async def test_the_queue_straight_from_sql(data_folder: Path, clock: FakeClock, user: Principal) -> None:
    async with opened(data_folder, clock, queue_backend=QueueBackend.SQL) as runtime:
        made = [(await submit(runtime, user, priority=p)).id for p in (2, 9)]
        assert [task.id for task in await runtime.claims.claim("w1", Want(limit=10))] == made[::-1]


# -- opening ----------------------------------------------------------------------------------


async def test_a_folder_serves_one_process(embedded: Runtime, data_folder: Path, clock: FakeClock) -> None:
    with pytest.raises(StartupError, match="in use by another Taskyard"):
        async with opened(data_folder, clock):
            pass


async def test_a_folder_that_cannot_be_made(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match="cannot be used"):
        async with opened(tmp_path / "file" / "data", clock):
            pass


async def test_a_file_that_is_no_database(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / DATABASE_FILE).write_text("certainly no database, but long enough to be looked at" * 100)
    for _ in range(2):  # the lock of the folder was let go
        with pytest.raises(StartupError, match="cannot be opened"):
            async with opened(tmp_path, clock):
                pass


async def test_a_database_of_a_newer_taskyard(data_folder: Path, clock: FakeClock) -> None:
    async with opened(data_folder, clock) as runtime:
        await meddle(runtime, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StartupError, match="newer Taskyard"):
        async with opened(data_folder, clock):
            pass


async def test_an_empty_folder_is_set_up(tmp_path: Path, clock: FakeClock, user: Principal) -> None:
    async with opened(tmp_path / "new" / "data", clock) as runtime:
        await submit(runtime, user)
        assert (tmp_path / "new" / "data").stat().st_mode & 0o777 == 0o700
