"""Steering by hand: cancel, retry, priority, start, complete, fail, dequeue; and the fences around them."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.support.clock import FakeClock
from tests.support.core import claim, opened, stored, submit, task_in

from taskyard.errors import Forbidden, IllegalTransition, InvalidInput, LeaseLost
from taskyard.lifecycle import ENDED, RETRYABLE, TaskStatus
from taskyard.principal import Principal, Role
from taskyard.queue.entry import Want
from taskyard.runtime import Runtime
from taskyard.service.claims import Run
from taskyard.task import Metrics, TaskTypeSpec, WaitingReason

S = TaskStatus
NOTHING = Metrics()


@pytest.fixture
def agent() -> Principal:
    return Principal("agent-9", Role.AGENT, frozenset({"default"}))


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


# -- by hand ----------------------------------------------------------------------------------


async def test_start_and_complete_by_hand(runtime: Runtime, agent: Principal, clock: FakeClock) -> None:
    made = await submit(runtime, agent, timeout=timedelta(seconds=90))
    clock.advance(1)
    started = await runtime.claims.start(agent, made.id)
    kept = await stored(runtime, made.id)
    assert (started.status, kept.attempt, kept.holder, kept.started_at) == (S.PROCESSING, 1, "agent-9", clock.now())
    assert kept.lease_until == kept.deadline_at == clock.now() + timedelta(seconds=90)
    clock.advance(2.5)
    done = await runtime.claims.complete_by_hand(
        agent, made.id, {"text": "ho"}, Metrics(actual_cost=1.5, quality_score=0.75)
    )
    assert done == await stored(runtime, made.id)
    assert (done.status, done.progress, done.completed_at) == (S.COMPLETED, 100.0, clock.now())
    assert (done.actual_cost, done.quality_score, done.processing_ms) == (1.5, 0.75, 2500)
    assert (done.holder, done.lease_until, done.deadline_at) == (None, None, None)
    assert done.payload is not None
    assert done.payload.output == {"text": "ho"}


async def test_the_lease_of_a_run_without_time_out_is_the_longest_run(runtime: Runtime, agent: Principal) -> None:
    made = await submit(runtime, agent)
    await runtime.claims.start(agent, made.id)
    assert (await stored(runtime, made.id)).lease_until == runtime.clock.now() + timedelta(hours=1)


async def test_a_given_time_is_kept(runtime: Runtime, agent: Principal) -> None:
    task = await task_in(runtime, agent, S.PROCESSING)
    done = await runtime.claims.complete_by_hand(agent, task.id, None, Metrics(processing_ms=7))
    assert done.processing_ms == 7


@pytest.mark.parametrize("status", sorted(set(S) - {S.QUEUED, S.ASSIGNED}))
async def test_only_what_is_ready_is_started(runtime: Runtime, agent: Principal, status: S) -> None:
    task = await task_in(runtime, agent, status)
    with pytest.raises(IllegalTransition) as caught:
        await runtime.claims.start(agent, task.id)
    assert (caught.value.current, caught.value.wanted) == (status, "PROCESSING")
    assert await stored(runtime, task.id) == task


async def test_one_of_many_starters_gets_it(runtime: Runtime, user: Principal) -> None:
    task = await submit(runtime, user)
    agents = [Principal(f"agent-{n}", Role.AGENT, frozenset({"default"})) for n in range(8)]
    outcomes = await asyncio.gather(*(runtime.claims.start(a, task.id) for a in agents), return_exceptions=True)
    won = [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
    assert len(won) == 1
    assert sum(isinstance(outcome, IllegalTransition) for outcome in outcomes) == 7
    assert (await stored(runtime, task.id)).attempt == 1


async def test_another_may_not_end_it_but_an_administrator_who_names_the_attempt(
    runtime: Runtime, user: Principal, agent: Principal, admin: Principal
) -> None:
    task = await task_in(runtime, agent, S.PROCESSING)
    for call in (
        runtime.claims.complete_by_hand(user, task.id, {}, NOTHING),
        runtime.claims.complete_by_hand(user, task.id, {}, NOTHING, attempt=1),
        runtime.claims.fail_by_hand(user, task.id, "no"),
        runtime.claims.fail_by_hand(user, task.id, "no", attempt=1, retry=True),
        runtime.claims.complete_by_hand(admin, task.id, {}, NOTHING),
    ):
        with pytest.raises(LeaseLost) as caught:
            await call
        assert caught.value.code == "LEASE_LOST"
    assert await stored(runtime, task.id) == task
    done = await runtime.claims.complete_by_hand(admin, task.id, {}, NOTHING, attempt=1)
    assert done.status is S.COMPLETED


@pytest.mark.parametrize("attempt", [0, 1, 3])
async def test_another_attempt_is_refused(runtime: Runtime, agent: Principal, attempt: int) -> None:
    task = await task_in(runtime, agent, S.FAILED)
    await runtime.tasks.retry(agent, task.id)
    await runtime.claims.start(agent, task.id)  # attempt 2
    before = await stored(runtime, task.id)
    for call in (
        runtime.claims.complete_by_hand(agent, task.id, {}, NOTHING, attempt=attempt),
        runtime.claims.fail_by_hand(agent, task.id, "no", attempt=attempt),
        runtime.claims.fail_by_hand(agent, task.id, "no", attempt=attempt, retry=True),
    ):
        with pytest.raises(LeaseLost):
            await call
    after = await stored(runtime, task.id)
    assert after == replace(before, version=before.version + 3), "only the log tells of it"


async def test_ending_the_same_attempt_again_is_a_success(runtime: Runtime, agent: Principal) -> None:
    task = await task_in(runtime, agent, S.PROCESSING)
    first = await runtime.claims.complete_by_hand(agent, task.id, {"n": 1}, NOTHING, attempt=1)
    again = await runtime.claims.complete_by_hand(agent, task.id, {"n": 2}, NOTHING, attempt=1)
    assert again == first, "the first result holds"
    with pytest.raises(LeaseLost):
        await runtime.claims.fail_by_hand(agent, task.id, "no", attempt=1)
    with pytest.raises(IllegalTransition) as caught:
        await runtime.claims.complete_by_hand(agent, task.id, {}, NOTHING)
    assert caught.value.current == "COMPLETED"


async def test_failing_the_same_attempt_again_is_a_success(runtime: Runtime, agent: Principal) -> None:
    task = await task_in(runtime, agent, S.PROCESSING)
    first = await runtime.claims.fail_by_hand(agent, task.id, "first", attempt=1)
    again = await runtime.claims.fail_by_hand(agent, task.id, "second", attempt=1)
    assert again == first
    assert first.error_message == "first"


async def test_a_late_end_after_the_lease_ran_out_is_refused(
    runtime: Runtime, user: Principal, agent: Principal, clock: FakeClock
) -> None:
    made = await submit(runtime, user, timeout=timedelta(seconds=10))
    await runtime.claims.start(agent, made.id)
    clock.advance(10.001)
    assert await runtime.maintenance.reap_leases() == 1
    for attempt in (None, 1):
        with pytest.raises((LeaseLost, IllegalTransition)):
            await runtime.claims.complete_by_hand(agent, made.id, {"late": True}, NOTHING, attempt=attempt)
    await runtime.tasks.retry(user, made.id)
    await runtime.claims.start(user, made.id)
    for attempt in (None, 1):
        with pytest.raises(LeaseLost):
            await runtime.claims.complete_by_hand(agent, made.id, {"late": True}, NOTHING, attempt=attempt)
    done = await runtime.claims.complete_by_hand(user, made.id, {"in": "time"}, NOTHING)
    assert done.payload is not None
    assert (done.attempt, done.lost_count, done.payload.output) == (2, 0, {"in": "time"})


@pytest.mark.parametrize(
    ("metrics", "field"),
    [
        (Metrics(quality_score=1.5), "qualityScore"),
        (Metrics(quality_score=-0.1), "qualityScore"),
        (Metrics(quality_score=float("nan")), "qualityScore"),
        (Metrics(actual_cost=-1.0), "actualCost"),
        (Metrics(actual_cost=float("nan")), "actualCost"),
        (Metrics(actual_cost=float("inf")), "actualCost"),
        (Metrics(processing_ms=-1), "processingTimeMs"),
    ],
)
async def test_figures_out_of_range(runtime: Runtime, agent: Principal, metrics: Metrics, field: str) -> None:
    task = await task_in(runtime, agent, S.PROCESSING)
    with pytest.raises(InvalidInput) as caught:
        await runtime.claims.complete_by_hand(agent, task.id, {}, metrics)
    assert caught.value.path == ["metrics", field]
    assert await stored(runtime, task.id) == task


async def test_the_result_is_checked_by_the_declared_schema(runtime: Runtime, agent: Principal) -> None:
    schema = {"type": "object", "required": ["sent"], "properties": {"sent": {"type": "boolean"}}}
    await runtime.registry.declare([TaskTypeSpec(name="echo", output_schema=schema)])
    runtime.catalog.expire()
    task = await task_in(runtime, agent, S.PROCESSING)
    for output, path in (({}, ["outputData", "sent"]), ({"sent": 1}, ["outputData", "sent"])):
        with pytest.raises(InvalidInput) as caught:
            await runtime.claims.complete_by_hand(agent, task.id, output, NOTHING)
        assert caught.value.path == path
    done = await runtime.claims.complete_by_hand(agent, task.id, {"sent": True}, NOTHING)
    assert done.status is S.COMPLETED


async def test_a_result_that_cannot_be_stored(runtime: Runtime, agent: Principal) -> None:
    task = await task_in(runtime, agent, S.PROCESSING)
    for output in ("a\0b", "x" * (1 << 20), {"a": object()}):
        with pytest.raises(InvalidInput) as caught:
            await runtime.claims.complete_by_hand(agent, task.id, output, NOTHING)
        assert caught.value.path == ["outputData"]


# -- fail -------------------------------------------------------------------------------------


async def test_fail_for_good(runtime: Runtime, agent: Principal, clock: FakeClock) -> None:
    task = await task_in(runtime, agent, S.PROCESSING)
    failed = await runtime.claims.fail_by_hand(agent, task.id, "no paper", code="OUT_OF_PAPER")
    assert (failed.status, failed.error_code, failed.error_message) == (S.FAILED, "OUT_OF_PAPER", "no paper")
    assert (failed.retry_count, failed.completed_at, failed.holder) == (0, clock.now(), None)
    other = await task_in(runtime, agent, S.PROCESSING)
    assert (await runtime.claims.fail_by_hand(agent, other.id, "no")).error_code == "FAILED_BY_CALLER"


@pytest.mark.parametrize("code", ["", "x" * 101, "a\0b"])
async def test_a_code_that_cannot_be_stored(runtime: Runtime, agent: Principal, code: str) -> None:
    task = await task_in(runtime, agent, S.PROCESSING)
    with pytest.raises(InvalidInput) as caught:
        await runtime.claims.fail_by_hand(agent, task.id, "no", code=code)
    assert caught.value.path == ["errorCode"]


@pytest.mark.parametrize("status", sorted(set(S) - {S.ASSIGNED, S.PLANNING, S.PROCESSING}))
async def test_only_what_is_held_is_failed(runtime: Runtime, agent: Principal, status: S) -> None:
    task = await task_in(runtime, agent, status)
    with pytest.raises(IllegalTransition) as caught:
        await runtime.claims.fail_by_hand(agent, task.id, "no")
    assert (caught.value.current, caught.value.wanted) == (status, "FAILED")


@pytest.mark.parametrize("status", [S.ASSIGNED, S.PLANNING])
async def test_what_is_held_may_fail_before_it_is_processed(runtime: Runtime, agent: Principal, status: S) -> None:
    task = await task_in(runtime, agent, status)
    assert (await runtime.claims.fail_by_hand(agent, task.id, "no")).status is S.FAILED


async def test_what_is_only_assigned_is_neither_completed_nor_tried_again(runtime: Runtime, agent: Principal) -> None:
    task = await task_in(runtime, agent, S.ASSIGNED)
    with pytest.raises(IllegalTransition) as caught:
        await runtime.claims.complete_by_hand(agent, task.id, {}, NOTHING)
    assert (caught.value.current, caught.value.wanted) == ("ASSIGNED", "COMPLETED")
    with pytest.raises(IllegalTransition) as caught:
        await runtime.claims.fail_by_hand(agent, task.id, "no", retry=True)
    assert (caught.value.current, caught.value.wanted) == ("ASSIGNED", "RETRYING")


async def test_fail_with_retry_follows_the_law(runtime: Runtime, agent: Principal, clock: FakeClock) -> None:
    made = await submit(runtime, agent, max_retries=7)
    waits = []
    for count in range(7):
        await runtime.claims.start(agent, made.id)
        failed = await runtime.claims.fail_by_hand(agent, made.id, "no luck", retry=True)
        assert (failed.status, failed.retry_count, failed.completed_at) == (S.RETRYING, count + 1, None)
        assert failed.run_at is not None
        wait = (failed.run_at - clock.now()).total_seconds()
        longest = min(30.0, 2.0**count)
        assert longest / 2 - 0.001 <= wait <= longest
        waits.append(wait / longest)
        clock.advance(wait - 0.001)
        assert await runtime.maintenance.promote_due() == 0
        clock.advance(0.001)
        assert await runtime.maintenance.promote_due() == 1
    assert len({round(share, 2) for share in waits}) > 3, "the wait is drawn, at the cap too"
    await runtime.claims.start(agent, made.id)
    last = await runtime.claims.fail_by_hand(agent, made.id, "no luck", retry=True)
    assert (last.status, last.attempt, last.retry_count) == (S.FAILED, 8, 7)


async def test_without_retries_the_first_failure_is_the_last(runtime: Runtime, agent: Principal) -> None:
    task = await task_in(runtime, agent, S.PROCESSING, max_retries=0)
    assert (await runtime.claims.fail_by_hand(agent, task.id, "no", retry=True)).status is S.FAILED


# -- dequeue ----------------------------------------------------------------------------------


async def test_an_agent_never_gets_the_tasks_of_another(runtime: Runtime, user: Principal, agent: Principal) -> None:
    tasks = [await submit(runtime, user, agent_id=name, priority=p) for name in "xyx" for p in (2, 9)]
    await submit(runtime, user, priority=10)
    want = Want(limit=10, agent_id="x")
    expected = [tasks[1].id, tasks[5].id, tasks[0].id, tasks[4].id]
    assert [task.id for task in await runtime.claims.peek(agent, want)] == expected
    assert [task.id for task in await runtime.claims.dequeue(agent, want)] == expected
    assert await runtime.claims.dequeue(agent, want) == []
    rest = await runtime.claims.claim("w1", Want(limit=10))
    assert {task.agent_id for task in rest} == {"y", None}, "what was dequeued is not handed out again"


@pytest.mark.parametrize("by_agent", [False, True])
async def test_dequeue_filters(runtime: Runtime, user: Principal, agent: Principal, by_agent: bool) -> None:
    fields: dict[str, Any] = {"agent_id": "x"} if by_agent else {}
    for number, (task_type, queue, priority) in enumerate(
        [("a", "q1", 3), ("a", "q2", 5), ("b", "q1", 8), ("b", "q2", 10), ("c", "q1", 10)]
    ):
        await submit(runtime, user, task_type, id=f"t{number}", queue=queue, priority=priority, **fields)

    async def peek(**want: Any) -> list[str]:
        return [task.id for task in await runtime.claims.peek(agent, Want(limit=10, **(want | fields)))]

    assert await peek() == ["t3", "t4", "t2", "t1", "t0"]
    assert await peek(task_types=["a", "b"]) == ["t3", "t2", "t1", "t0"]
    assert await peek(queues=["q1"]) == ["t4", "t2", "t0"]
    assert await peek(min_priority=5) == ["t3", "t4", "t2", "t1"]
    assert await peek(task_types=["b"], queues=["q1"], min_priority=8) == ["t2"]
    assert await peek(task_types=[]) == []
    taken = await runtime.claims.dequeue(agent, Want(limit=2, task_types=["a", "b"], min_priority=5, **fields))
    assert [task.id for task in taken] == ["t3", "t2"]
    assert await peek() == ["t4", "t1", "t0"]


async def test_dequeued_is_assigned_until_started(
    runtime: Runtime, user: Principal, agent: Principal, clock: FakeClock
) -> None:
    made = await submit(runtime, user, input={"n": 1}, timeout=timedelta(seconds=100))
    (task,) = await runtime.claims.dequeue(agent, Want(limit=1))
    assert (task.status, task.holder, task.attempt, task.started_at) == (S.ASSIGNED, "agent-9", 1, None)
    assert task.lease_until == clock.now() + timedelta(seconds=30)
    assert task.payload is not None
    assert task.payload.input == {"n": 1}
    with pytest.raises(IllegalTransition) as caught:
        await runtime.claims.start(user, made.id)
    assert "another holds it" in caught.value.message
    clock.advance(20)
    await runtime.claims.start(agent, made.id)
    kept = await stored(runtime, made.id)
    assert (kept.status, kept.attempt, kept.holder) == (S.PROCESSING, 1, "agent-9")
    assert kept.lease_until == clock.now() + timedelta(seconds=100)


async def test_an_assigned_task_is_queued_again_when_its_lease_runs_out(
    runtime: Runtime, user: Principal, agent: Principal, clock: FakeClock
) -> None:
    made = await submit(runtime, user)
    await runtime.claims.dequeue(agent, Want(limit=1))
    clock.advance(30)
    assert await runtime.maintenance.reap_leases() == 0
    clock.advance(0.001)
    assert await runtime.maintenance.reap_leases() == 1
    with pytest.raises(LeaseLost):
        await runtime.claims.fail_by_hand(agent, made.id, "late", attempt=1)
    (again,) = await runtime.claims.dequeue(user, Want(limit=1))
    assert (again.id, again.attempt, again.lost_count, again.retry_count) == (made.id, 2, 1, 0)


async def test_a_short_time_out_does_not_end_what_is_only_assigned(
    runtime: Runtime, user: Principal, agent: Principal, clock: FakeClock
) -> None:
    made = await submit(runtime, user, timeout=timedelta(seconds=1))
    await runtime.claims.dequeue(agent, Want(limit=1))
    clock.advance(10)
    assert await runtime.maintenance.enforce_deadlines() == 0
    started = await runtime.claims.start(agent, made.id)
    assert started.status is S.PROCESSING


async def test_peek_changes_nothing(runtime: Runtime, user: Principal) -> None:
    tasks = [await submit(runtime, user, priority=p) for p in (5, 9)]
    for _ in range(3):
        peeked = await runtime.claims.peek(user, Want(limit=10))
        assert [task.id for task in peeked] == [tasks[1].id, tasks[0].id]
    kept = [await stored(runtime, task.id) for task in tasks]
    assert [replace(task, payload=None) for task in kept] == tasks


@pytest.mark.parametrize("limit", [0, 101, -1])
async def test_limits(runtime: Runtime, user: Principal, limit: int) -> None:
    for call in (runtime.claims.dequeue, runtime.claims.peek):
        with pytest.raises(InvalidInput) as caught:
            await call(user, Want(limit=limit))
        assert caught.value.path == ["limit"]


async def test_concurrent_dequeues_share_nothing(runtime: Runtime, user: Principal) -> None:
    for _ in range(40):
        await submit(runtime, user, agent_id="x")
    agents = [Principal(f"agent-{n}", Role.AGENT, frozenset({"default"})) for n in range(8)]
    taken = await asyncio.gather(
        *(runtime.claims.dequeue(a, Want(limit=5, agent_id="x" if n % 2 else None)) for n, a in enumerate(agents))
    )
    ids = [task.id for tasks in taken for task in tasks]
    assert len(ids) == len(set(ids)) == 40


# -- pause ------------------------------------------------------------------------------------


async def test_a_paused_queue_gives_nothing(
    runtime: Runtime, user: Principal, admin: Principal, stranger: Principal
) -> None:
    mine = await submit(runtime, user, queue="chat")
    theirs = await submit(runtime, stranger, queue="chat")
    with pytest.raises(Forbidden):
        await runtime.tasks.set_paused(user, "chat", True, None)
    with pytest.raises(Forbidden):
        await runtime.tasks.set_paused(admin, "chat", True, "elsewhere")
    assert await runtime.tasks.set_paused(admin, "chat", True, None) == "default"
    assert await runtime.catalog.waiting_reason(mine) is WaitingReason.PAUSED
    for agent_id in (None, "x"):
        assert await runtime.claims.dequeue(user, Want(limit=10, agent_id=agent_id)) == []
    assert [task.id for task in await runtime.claims.claim("w1", Want(limit=10))] == [theirs.id]
    await runtime.tasks.set_paused(admin, "chat", False, None)
    assert [task.id for task in await runtime.claims.claim("w1", Want(limit=10))] == [mine.id]


async def test_a_pause_outlives_the_process(
    data_folder: Path, clock: FakeClock, user: Principal, admin: Principal
) -> None:
    async with opened(data_folder, clock) as runtime:
        task = await submit(runtime, user, queue="chat")
        await runtime.tasks.set_paused(admin, "chat", True, None)
    async with opened(data_folder, clock) as runtime:
        assert await runtime.claims.claim("w1", Want(limit=10)) == []
        await runtime.tasks.set_paused(admin, "chat", False, None)
        assert [found.id for found in await runtime.claims.claim("w1", Want(limit=10))] == [task.id]


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


async def test_a_run_is_fenced_by_its_attempt(runtime: Runtime, user: Principal, clock: FakeClock) -> None:
    made = await submit(runtime, user)
    task, old = await claim(runtime)
    clock.advance(31)
    await runtime.maintenance.reap_leases()
    _, new = await claim(runtime, "w1")  # the same worker
    assert (old, new) == (Run(made.id, 1, "worker:w1"), Run(made.id, 2, "worker:w1"))
    for late in (
        runtime.claims.complete(old, {}, NOTHING),
        runtime.claims.fail(old, task, "X", "x", retry=True),
        runtime.claims.release(old),
    ):
        with pytest.raises(LeaseLost):
            await late
    await runtime.claims.complete(new, {"by": 2}, NOTHING)
    assert (await stored(runtime, made.id)).attempt == 2


@pytest.mark.parametrize("queue", ["", "no name", "nul\0", "q" * 101])
async def test_only_what_can_be_a_queue_is_paused(runtime: Runtime, admin: Principal, queue: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await runtime.tasks.set_paused(admin, queue, True, None)
    assert caught.value.path == ["queue"]
    assert await runtime.registry.paused() == frozenset()
