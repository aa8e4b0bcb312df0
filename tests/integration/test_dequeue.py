"""What remote agents are given: dequeue, peek, and queues that are paused."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.support.clock import FakeClock
from tests.support.core import opened, stored, submit

from taskyard.errors import Forbidden, IllegalTransition, InvalidInput, LeaseLost
from taskyard.lifecycle import TaskStatus
from taskyard.principal import Principal, Role
from taskyard.queue.entry import Want
from taskyard.runtime import Runtime
from taskyard.task import AgentSummary, WaitingReason

S = TaskStatus


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


async def test_an_agent_type_is_asked_for_whatever_claims(
    runtime: Runtime, user: Principal, admin: Principal, agent: Principal
) -> None:
    for name in ("ed", "eve"):
        await runtime.tasks.register_agent(admin, AgentSummary(name, name.title(), "editor"))
    tasks = [
        await submit(runtime, user, agent_id=name, priority=p)
        for p, name in enumerate(("ed", "writer", None, "eve", "ed"), start=3)
    ]
    want = Want(limit=1, agent_type="editor")
    assert [task.id for task in await runtime.claims.peek(agent, replace(want, limit=9))] == [
        tasks[4].id,
        tasks[3].id,
        tasks[0].id,
    ]
    (first,) = await runtime.claims.claim("w1", want)
    (second,) = await runtime.claims.dequeue(agent, replace(want, agent_id="ed"))
    assert (first.id, second.id) == (tasks[4].id, tasks[0].id)
    assert first.agent == AgentSummary("ed", "Ed", "editor")
    await runtime.tasks.register_agent(admin, AgentSummary("eve", "Eve", "writer"))
    assert await runtime.claims.dequeue(agent, want) == []
    assert {task.id for task in await runtime.claims.claim("w1", Want(limit=9))} == {task.id for task in tasks[1:4]}


async def test_what_a_registered_agent_must_be(
    runtime: Runtime, user: Principal, admin: Principal, stranger: Principal
) -> None:
    with pytest.raises(Forbidden):
        await runtime.tasks.register_agent(user, AgentSummary("ed", "Ed", "editor"))
    with pytest.raises(Forbidden):
        await runtime.tasks.register_agent(admin, AgentSummary("ed", "Ed", "editor"), "elsewhere")
    for wrong, path in (
        (AgentSummary("", "Ed", "editor"), "id"),
        (AgentSummary("ed", "", "editor"), "name"),
        (AgentSummary("ed", "Ed", "an editor"), "type"),
    ):
        with pytest.raises(InvalidInput) as caught:
            await runtime.tasks.register_agent(admin, wrong)
        assert caught.value.path == [path]
    assert await runtime.registry.agent("default", "ed") is None


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


@pytest.mark.parametrize("queue", ["", "no name", "nul\0", "q" * 101])
async def test_only_what_can_be_a_queue_is_paused(runtime: Runtime, admin: Principal, queue: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await runtime.tasks.set_paused(admin, queue, True, None)
    assert caught.value.path == ["queue"]
    assert await runtime.registry.paused() == frozenset()
