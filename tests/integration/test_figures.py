"""Figures: the state of the queue and statistics, against what SQL counts and a clock that stands still."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from tests.support.clock import FakeClock
from tests.support.core import meddle, number, rows, submit, task_in

from taskyard.errors import Forbidden
from taskyard.lifecycle import TaskStatus
from taskyard.principal import Principal
from taskyard.runtime import Runtime
from taskyard.service.figures import StatisticsFilter
from taskyard.service.health import QueueHealth
from taskyard.task import Metrics

S = TaskStatus


async def run_for(
    runtime: Runtime, principal: Principal, clock: FakeClock, *, wait: float, run: float, **fields: Any
) -> str:
    """A task that waited and ran so many seconds and is completed."""
    metrics = fields.pop("metrics", Metrics())
    task = await submit(runtime, principal, **fields)
    clock.advance(wait)
    await runtime.claims.start(principal, task.id)
    clock.advance(run)
    await runtime.claims.complete_by_hand(principal, task.id, {}, metrics)
    return task.id


async def be_alive(runtime: Runtime, worker_id: str = "w1", **changes: Any) -> None:
    row = {"host": "h", "pid": 1, "status": "ALIVE", "concurrency": 1, "types": None, "queues": None}
    await runtime.registry.put_worker(worker_id, row | changes)
    runtime.catalog.expire()


# -- the queue's status -----------------------------------------------------------------------


async def test_every_status_is_counted_once(runtime: Runtime, user: Principal, stranger: Principal) -> None:
    for status in (*S, S.FAILED, S.CANCELLED):
        if status is not S.QUEUED:
            await task_in(runtime, user, status)
    for _ in range(3):
        await submit(runtime, user, queue="chat")
    await submit(runtime, stranger)
    found = await runtime.figures.queue_status(user)

    async def count(*statuses: S) -> int:
        names = ", ".join(f"'{status}'" for status in statuses)
        return int(
            await number(runtime, f"SELECT count(*) FROM tasks WHERE instance_id = 'default' AND status IN ({names})")
        )

    assert found.total_tasks == await count(*S) == 16
    assert found.queued_tasks == await count(S.SUBMITTED, S.SCHEDULED, S.QUEUED, S.RETRYING) == 6
    assert found.processing_tasks == await count(S.ASSIGNED, S.PLANNING, S.PROCESSING, S.REVIEW) == 4
    assert found.failed_tasks == await count(S.FAILED, S.REJECTED) == 3
    assert found.completed_tasks == await count(S.COMPLETED) == 1
    assert found.cancelled_tasks == await count(S.CANCELLED) == 2
    parts = (found.queued_tasks, found.processing_tasks, found.failed_tasks)
    assert sum(parts) + found.completed_tasks + found.cancelled_tasks == found.total_tasks
    assert (await runtime.figures.queue_status(user, queue="chat")).total_tasks == 3
    assert (await runtime.figures.queue_status(user, "default", "default")).total_tasks == 13
    assert (await runtime.figures.queue_status(user, "elsewhere")).total_tasks == 0


async def test_an_empty_queue(runtime: Runtime, user: Principal) -> None:
    found = await runtime.figures.queue_status(user)
    assert (found.total_tasks, found.average_wait_ms, found.average_processing_ms) == (0, 0.0, 0.0)
    assert found.health is QueueHealth.HEALTHY


async def test_averages_of_the_last_hour_to_the_millisecond(
    runtime: Runtime, user: Principal, clock: FakeClock
) -> None:
    await run_for(runtime, user, clock, wait=100, run=200)  # ends 300 s in: too old in the end
    clock.advance(3600)
    await run_for(runtime, user, clock, wait=1.001, run=2)
    await run_for(runtime, user, clock, wait=3.002, run=0.5, queue="chat")
    await submit(runtime, user)
    found = await runtime.figures.queue_status(user)
    assert found.average_wait_ms == (1001 + 3002) / 2
    assert found.average_processing_ms == (2000 + 500) / 2
    chat = await runtime.figures.queue_status(user, queue="chat")
    assert (chat.average_wait_ms, chat.average_processing_ms) == (3002.0, 500.0)


async def test_a_wait_counts_from_the_last_time_in_the_queue(
    runtime: Runtime, user: Principal, clock: FakeClock
) -> None:
    task = await submit(runtime, user)
    clock.advance(7)
    await runtime.claims.start(user, task.id)
    clock.advance(2)
    await runtime.claims.fail_by_hand(user, task.id, "no", retry=True)
    clock.advance(60)
    await runtime.maintenance.promote_due()
    clock.advance(4)
    await runtime.claims.start(user, task.id)
    await runtime.claims.complete_by_hand(user, task.id, {}, Metrics())
    assert (await runtime.figures.queue_status(user)).average_wait_ms == 4000.0


async def test_cancelled_while_waiting_for_another_try_is_no_wait(
    runtime: Runtime, user: Principal, clock: FakeClock
) -> None:
    task = await task_in(runtime, user, S.RETRYING)
    clock.advance(60)
    await runtime.maintenance.promote_due()
    clock.advance(5)
    await runtime.tasks.cancel(user, task.id)
    assert (await runtime.figures.queue_status(user)).average_wait_ms == 0.0
    assert (await runtime.figures.statistics(user, StatisticsFilter())).average_wait_ms is None


# -- health -----------------------------------------------------------------------------------


async def test_a_minute_of_waiting_is_critical_without_a_worker(
    runtime: Runtime, user: Principal, clock: FakeClock
) -> None:
    await submit(runtime, user)
    clock.advance(60)
    assert (await runtime.figures.queue_status(user)).health is QueueHealth.HEALTHY
    clock.advance(0.001)
    assert (await runtime.figures.queue_status(user)).health is QueueHealth.CRITICAL
    await be_alive(runtime)
    assert (await runtime.figures.queue_status(user)).health is QueueHealth.DEGRADED
    clock.advance(15.001)
    assert (await runtime.figures.queue_status(user)).health is QueueHealth.CRITICAL, "it fell silent"


@pytest.mark.parametrize(
    ("waited", "health"),
    [
        (60, QueueHealth.HEALTHY),
        (60.001, QueueHealth.DEGRADED),
        (900, QueueHealth.DEGRADED),
        (900.001, QueueHealth.CRITICAL),
    ],
)
async def test_a_long_wait(
    runtime: Runtime, user: Principal, clock: FakeClock, waited: float, health: QueueHealth
) -> None:
    await submit(runtime, user)
    clock.advance(waited)
    await submit(runtime, user)
    await be_alive(runtime)
    assert (await runtime.figures.queue_status(user)).health is health


@pytest.mark.parametrize(
    ("completed", "failed", "health"),
    [
        (0, 19, QueueHealth.HEALTHY),  # too few to mean something
        (17, 3, QueueHealth.HEALTHY),
        (16, 4, QueueHealth.DEGRADED),
        (11, 9, QueueHealth.DEGRADED),
        (10, 10, QueueHealth.CRITICAL),
    ],
)
async def test_many_failures(
    runtime: Runtime, user: Principal, clock: FakeClock, completed: int, failed: int, health: QueueHealth
) -> None:
    made = [(await submit(runtime, user)).id for _ in range(completed + failed)]
    await runtime.figures.queue_status(user)
    for task_id in made:
        await runtime.claims.start(user, task_id)
    for task_id in made[:completed]:
        await runtime.claims.complete_by_hand(user, task_id, {}, Metrics())
    for task_id in made[completed:]:
        await runtime.claims.fail_by_hand(user, task_id, "no")
    assert (await runtime.figures.queue_status(user)).health is health
    clock.advance(3601)
    assert (await runtime.figures.queue_status(user)).health is QueueHealth.HEALTHY, "an hour later it is forgotten"


async def test_workers_are_for_administrators(
    runtime: Runtime, user: Principal, admin: Principal, clock: FakeClock
) -> None:
    await be_alive(runtime, "w1", types=["echo"], queues=["chat"], concurrency=3)
    clock.advance(1)
    await be_alive(runtime, "w2", status="DRAINING")
    await be_alive(runtime, "w3", status="STOPPED")
    with pytest.raises(Forbidden):
        await runtime.figures.workers(user)
    first, second = await runtime.figures.workers(admin)
    assert (first.id, first.status, second.id, second.status) == ("w2", "DRAINING", "w1", "ALIVE")
    assert (second.types, second.queues, second.concurrency) == (["echo"], ["chat"], 3)
    assert second.started_at == clock.now() - timedelta(seconds=1)


# -- statistics -------------------------------------------------------------------------------


@pytest.fixture
async def history(runtime: Runtime, user: Principal, stranger: Principal, clock: FakeClock) -> Runtime:
    """A day of tasks, an hour apart."""
    best, fair = Metrics(actual_cost=1.5, quality_score=1.0), Metrics(actual_cost=0.25, quality_score=0.5)
    await run_for(runtime, user, clock, wait=1, run=2, agent_id="ann", metrics=best)
    clock.advance(3600 - 3)
    await run_for(runtime, user, clock, wait=2, run=4, agent_id="bob", metrics=fair)
    clock.advance(3600 - 6)
    await task_in(runtime, user, S.FAILED, agent_id="ann")
    clock.advance(3600)
    await task_in(runtime, user, S.CANCELLED, task_type="mail")
    clock.advance(3600)
    await run_for(runtime, user, clock, wait=4, run=8, task_type="mail", metrics=Metrics(actual_cost=2.0))
    await task_in(runtime, user, S.REJECTED, task_type="mail", agent_id="ann")
    await submit(runtime, user, "mail")
    await run_for(runtime, stranger, clock, wait=1000, run=1000, metrics=Metrics(actual_cost=1000.0))
    return runtime


async def test_statistics_of_everything(history: Runtime, user: Principal) -> None:
    found = await history.figures.statistics(user, StatisticsFilter())
    assert (found.total_tasks, found.completed_tasks, found.failed_tasks, found.cancelled_tasks) == (7, 3, 2, 1)
    assert found.success_rate == 3 / 5
    assert found.total_cost == 3.75
    assert found.average_quality == 0.75
    waits = [1000, 2000, 0, 4000, 0]  # completed, and the two that failed at once
    assert found.average_wait_ms == sum(waits) / len(waits)
    assert found.average_processing_ms == (2000 + 4000 + 8000) / 3


@pytest.mark.parametrize(
    ("fields", "hours", "expected"),
    [
        ({"agent_id": "ann"}, None, (3, 1, 2, 0, 1 / 3, 1.5, 1.0)),
        ({"agent_id": "bob"}, None, (1, 1, 0, 0, 1.0, 0.25, 0.5)),
        ({"agent_id": "nobody"}, None, (0, 0, 0, 0, None, 0.0, None)),
        ({"task_type": "mail"}, None, (4, 1, 1, 1, 0.5, 2.0, None)),
        ({"task_type": "mail", "agent_id": "ann"}, None, (1, 0, 1, 0, 0.0, 0.0, None)),
        ({"instance_id": "default"}, None, (7, 3, 2, 1, 0.6, 3.75, 0.75)),
        ({"instance_id": "elsewhere"}, None, (0, 0, 0, 0, None, 0.0, None)),
        ({}, (0, 1), (1, 1, 0, 0, 1.0, 1.5, 1.0)),
        ({}, (1, 3), (2, 1, 1, 0, 0.5, 0.25, 0.5)),
        ({}, (3, None), (4, 1, 1, 1, 0.5, 2.0, None)),
        ({}, (None, 3), (3, 2, 1, 0, 2 / 3, 1.75, 0.75)),
        ({"agent_id": "ann"}, (1, None), (2, 0, 2, 0, 0.0, 0.0, None)),
    ],
)
async def test_statistics_by_filter(
    history: Runtime,
    user: Principal,
    fields: dict[str, str],
    hours: Sequence[int | None] | None,
    expected: tuple[Any, ...],
) -> None:
    start, end = (
        None if hour is None else FakeClock().now() + timedelta(hours=hour) for hour in hours or (None, None)
    )
    found = await history.figures.statistics(user, StatisticsFilter(start=start, end=end, **fields))
    assert (
        found.total_tasks,
        found.completed_tasks,
        found.failed_tasks,
        found.cancelled_tasks,
        found.success_rate,
        found.total_cost,
        found.average_quality,
    ) == expected


async def test_nothing_was_run_yet(runtime: Runtime, user: Principal) -> None:
    await submit(runtime, user)
    found = await runtime.figures.statistics(user, StatisticsFilter())
    assert (found.average_wait_ms, found.average_processing_ms, found.success_rate) == (None, None, None)


async def test_figures_survive_a_clean_database(runtime: Runtime, user: Principal) -> None:
    await submit(runtime, user)
    await meddle(runtime, "DELETE FROM tasks")
    assert await rows(runtime, "SELECT id FROM tasks") == []
    assert (await runtime.figures.queue_status(user)).total_tasks == 0
