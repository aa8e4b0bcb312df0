"""Runs by hand: start, complete, fail; and the fences around them."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.support.clock import FakeClock
from tests.support.core import claim, stored, submit, task_in

from taskyard.errors import IllegalTransition, InvalidInput, LeaseLost
from taskyard.lifecycle import TaskStatus
from taskyard.principal import Principal, Role
from taskyard.retry import Backoff
from taskyard.runtime import Runtime
from taskyard.service.claims import Run
from taskyard.task import EventKind, Metrics, TaskTypeSpec

S = TaskStatus
NOTHING = Metrics()
AT_ONCE = Backoff(base=0, cap=0)


# -- start and complete -----------------------------------------------------------------------


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


@pytest.mark.parametrize(("attempt", "told"), [(0, 3), (1, 3), (3, 0)])
async def test_another_attempt_is_refused(runtime: Runtime, agent: Principal, attempt: int, told: int) -> None:
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
    assert after == replace(before, version=before.version + told), "only the log tells of one that was"


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


async def test_a_retry_that_was_written_and_is_told_again_is_a_success(runtime: Runtime, user: Principal) -> None:
    """Its answer was lost on the way, and the task is queued again by now."""
    await submit(runtime, user, max_retries=3)
    task, run = await claim(runtime)
    for _ in range(2):
        status = await runtime.claims.fail(run, task, "NO_LUCK", "no luck", retry=True, backoff=AT_ONCE)
        assert status is S.RETRYING
        await runtime.maintenance.promote_due()
    again = await stored(runtime, task.id)
    assert (again.status, again.retry_count) == (S.QUEUED, 1)
    told = await runtime.tasks.events(user, task.id)
    assert [event.kind for event in told if event.kind is not EventKind.STATUS] == []


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
        assert -0.001 <= wait <= longest
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


async def test_an_attempt_that_is_yet_to_begin_is_refused_and_leaves_nothing(
    runtime: Runtime, user: Principal
) -> None:
    task = await submit(runtime, user)
    with pytest.raises(LeaseLost, match="no attempt 1"):
        await runtime.claims.complete_by_hand(user, task.id, {}, NOTHING, attempt=1)
    assert [event.kind for event in await runtime.tasks.events(user, task.id)] == ["STATUS"]
