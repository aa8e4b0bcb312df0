"""Steering a task: cancel, retry, priority; and why it waits."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from tests.support.clock import FakeClock
from tests.support.core import claim, stored, submit, task_in

from taskyard.errors import IllegalTransition, InvalidInput, LeaseLost
from taskyard.lifecycle import ENDED, RETRYABLE, TaskStatus
from taskyard.principal import Principal
from taskyard.queue.entry import Want
from taskyard.runtime import Runtime
from taskyard.task import Metrics, WaitingReason

S = TaskStatus
NOTHING = Metrics()


# -- cancel -----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", sorted(set(S) - ENDED))
async def test_cancel_what_has_not_ended(
    runtime: Runtime, user: Principal, admin: Principal, clock: FakeClock, status: S
) -> None:
    task = await task_in(runtime, user, status)
    clock.advance(3)
    cancelled = await runtime.tasks.cancel(admin, task.id)
    assert cancelled.status is S.CANCELLED
    kept = await stored(runtime, task.id)
    assert (kept.status, kept.version, kept.completed_at) == (S.CANCELLED, task.version + 1, clock.now())
    assert (kept.holder, kept.lease_until, kept.deadline_at, kept.run_at) == (None, None, None, None)
    assert (kept.attempt, kept.retry_count) == (task.attempt, task.retry_count)
    clock.advance(10_000)
    await runtime.maintenance.promote_due()
    assert await runtime.claims.claim("w1", Want(limit=10)) == [], "nobody gets it any more"


async def test_cancelling_twice_is_no_error(runtime: Runtime, user: Principal) -> None:
    task = await task_in(runtime, user, S.CANCELLED)
    again = await runtime.tasks.cancel(user, task.id)
    assert (again.status, again.version) == (S.CANCELLED, task.version)


@pytest.mark.parametrize("status", [S.COMPLETED, S.FAILED, S.REJECTED])
async def test_what_has_ended_is_not_cancelled(runtime: Runtime, user: Principal, status: S) -> None:
    task = await task_in(runtime, user, status)
    with pytest.raises(IllegalTransition) as caught:
        await runtime.tasks.cancel(user, task.id)
    assert (caught.value.current, caught.value.wanted) == (status, "CANCELLED")
    assert caught.value.code == "ILLEGAL_TRANSITION"
    assert await stored(runtime, task.id) == task


async def test_a_cancelled_run_writes_nothing_more(runtime: Runtime, user: Principal) -> None:
    made = await submit(runtime, user)
    task, run = await claim(runtime)
    await runtime.tasks.cancel(user, made.id)
    cancelled = await stored(runtime, made.id)
    for late in (
        runtime.claims.complete(run, {"late": True}, NOTHING),
        runtime.claims.fail(run, task, "LATE", "late", retry=True),
        runtime.claims.release(run),
        runtime.claims.progress(run, 99, None),
    ):
        with pytest.raises(LeaseLost):
            await late
    after = await stored(runtime, made.id)
    assert after == replace(cancelled, version=after.version, updated_at=after.updated_at)
    told = [event.detail for event in await runtime.tasks.events(user, made.id, cancelled.version)]
    assert [detail and detail["message"] for detail in told] == [
        f"attempt 1 ended as {status} after it had lost the claim; that was thrown away"
        for status in ("COMPLETED", "RETRYING")
    ]


# -- retry ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", sorted(RETRYABLE))
async def test_retry_begins_afresh_but_counts_on(
    runtime: Runtime, user: Principal, clock: FakeClock, status: S
) -> None:
    task = await task_in(runtime, user, status)
    clock.advance(2)
    await runtime.tasks.retry(user, task.id)
    kept = await stored(runtime, task.id)
    assert (kept.status, kept.retry_count, kept.lost_count, kept.progress) == (S.QUEUED, 0, 0, 0.0)
    assert (kept.error_code, kept.error_message, kept.started_at, kept.completed_at) == (None, None, None, None)
    assert (kept.run_at, kept.queued_at, kept.processing_ms) == (None, clock.now(), None)
    assert (kept.attempt, kept.generation) == (task.attempt, task.generation + 1)
    assert kept.queue_seq == task.queue_seq, "its old place in the line"
    again, _ = await claim(runtime)
    assert (again.id, again.attempt) == (task.id, task.attempt + 1)


@pytest.mark.parametrize("status", sorted(set(S) - RETRYABLE))
async def test_what_has_not_failed_is_not_retried(runtime: Runtime, user: Principal, status: S) -> None:
    task = await task_in(runtime, user, status)
    with pytest.raises(IllegalTransition) as caught:
        await runtime.tasks.retry(user, task.id)
    assert (caught.value.current, caught.value.wanted) == (status, "QUEUED")
    assert status in caught.value.message
    assert "QUEUED" in caught.value.message
    assert await stored(runtime, task.id) == task


async def test_an_output_goes_with_a_retry(runtime: Runtime, user: Principal) -> None:
    # A result that a person rejected is the way to an output on a task that may be retried.
    task = await task_in(runtime, user, S.REJECTED)
    await runtime.tasks.retry(user, task.id)
    kept = await stored(runtime, task.id)
    assert kept.payload is not None
    assert kept.payload.output is None


# -- priority ---------------------------------------------------------------------------------


@pytest.mark.parametrize("status", sorted(set(S) - ENDED))
async def test_change_the_priority_of_what_has_not_ended(runtime: Runtime, user: Principal, status: S) -> None:
    task = await task_in(runtime, user, status)
    assert (await runtime.tasks.change_priority(user, task.id, 9)).priority == 9
    kept = await stored(runtime, task.id)
    queued = status is S.QUEUED
    assert kept == replace(
        task, priority=9, version=task.version + 1, generation=task.generation + queued, updated_at=kept.updated_at
    )


@pytest.mark.parametrize("status", sorted(ENDED))
async def test_what_has_ended_has_no_priority(runtime: Runtime, user: Principal, status: S) -> None:
    task = await task_in(runtime, user, status)
    with pytest.raises(InvalidInput) as caught:
        await runtime.tasks.change_priority(user, task.id, 9)
    assert caught.value.path == ["id"]


@pytest.mark.parametrize("priority", [0, 11])
async def test_a_priority_out_of_range(runtime: Runtime, user: Principal, priority: int) -> None:
    task = await submit(runtime, user)
    with pytest.raises(InvalidInput) as caught:
        await runtime.tasks.change_priority(user, task.id, priority)
    assert caught.value.path == ["priority"]


async def test_a_queued_task_moves_at_once_and_keeps_its_turn(runtime: Runtime, user: Principal) -> None:
    first, second, third = [await submit(runtime, user, priority=p) for p in (5, 5, 8)]
    await runtime.tasks.change_priority(user, second.id, 8)
    await runtime.tasks.change_priority(user, first.id, 8)
    await runtime.tasks.change_priority(user, third.id, 2)
    claimed = await runtime.claims.claim("w1", Want(limit=10))
    assert [task.id for task in claimed] == [first.id, second.id, third.id]


async def test_changes_at_once_are_all_made(runtime: Runtime, user: Principal) -> None:
    task = await submit(runtime, user, priority=1)
    await asyncio.gather(*(runtime.tasks.change_priority(user, task.id, p) for p in (2, 3, 4, 5, 6)))
    assert (await stored(runtime, task.id)).version == 6


# -- why it waits -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (S.SUBMITTED, WaitingReason.DEPENDENCIES),
        (S.SCHEDULED, WaitingReason.SCHEDULED),
        (S.RETRYING, WaitingReason.BACKOFF),
        (S.QUEUED, WaitingReason.NO_WORKER_FOR_TYPE),
        (S.PROCESSING, None),
        (S.COMPLETED, None),
    ],
)
async def test_why_a_task_waits(runtime: Runtime, user: Principal, status: S, reason: WaitingReason | None) -> None:
    assert await runtime.catalog.waiting_reason(await task_in(runtime, user, status)) is reason


@pytest.mark.parametrize(
    ("types", "queues", "fits"),
    [
        (None, None, True),
        (["echo"], None, True),
        (["delay"], None, False),
        (None, ["default"], True),
        (None, ["chat"], False),
        ([], None, False),
    ],
)
async def test_a_task_waits_for_a_worker_of_its_type_and_queue(
    runtime: Runtime, user: Principal, clock: FakeClock, types: Any, queues: Any, fits: bool
) -> None:
    task = await submit(runtime, user)
    row = {"host": "h", "pid": 1, "status": "ALIVE", "concurrency": 1, "types": types, "queues": queues}
    await runtime.registry.put_worker("w1", row)
    runtime.catalog.expire()
    missing = None if fits else WaitingReason.NO_WORKER_FOR_TYPE
    assert await runtime.catalog.waiting_reason(task) is missing
    clock.advance(15.001)  # three heartbeats of silence
    assert await runtime.catalog.waiting_reason(task) is WaitingReason.NO_WORKER_FOR_TYPE
