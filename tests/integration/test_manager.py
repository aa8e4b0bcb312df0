"""The manager: a coroutine over a queue, with so many slots, until there is nothing left or for ever."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from tests.support import isolated
from tests.support.core import LONG_AGO, PATIENCE, meddle, new
from tests.support.working import Gate, soon

from taskyard import TaskContext, TaskManager, TaskQueue, processor
from taskyard.errors import InvalidInput
from taskyard.lifecycle import TaskStatus
from taskyard.queue.entry import Want
from taskyard.retry import Backoff

S = TaskStatus


@pytest.fixture
async def queue(place: Path | str) -> AsyncIterator[TaskQueue]:
    """It beats quickly, and polls so seldom that only wake-ups serve a test."""
    async with TaskQueue.open(place, heartbeat=0.1, poll=10 * PATIENCE, drain=PATIENCE) as found:
        yield found


async def statuses(queue: TaskQueue) -> Counter[TaskStatus]:
    return Counter(task.status for task in await queue.find(limit=100))


@pytest.mark.slow
async def test_a_thousand_tasks_each_once_and_never_more_at_once_than_there_are_slots(queue: TaskQueue) -> None:
    made = [
        task
        for start in range(0, 1000, 100)
        for task in await queue.enqueue([new("sum", input=n) for n in range(start, start + 100)])
    ]
    inside, most, runs = 0, 0, Counter[str]()

    async def work(value: int, ctx: TaskContext) -> int:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        runs[ctx.task_id] += 1
        await asyncio.sleep(0.001)
        inside -= 1
        return value + 1

    await TaskManager(queue, work, max_concurrent=8).run_until_idle()
    assert most == 8
    assert runs == {task.id: 1 for task in made}
    done = [await queue.get_task(task.id) for task in made]
    assert {task.status for task in done} == {S.COMPLETED}
    assert [task.payload and task.payload.output for task in done] == list(range(1, 1001))


async def test_priorities_in_order(queue: TaskQueue) -> None:
    order: list[int] = []

    async def work(value: int, ctx: TaskContext) -> None:
        order.append(value)

    for number, priority in enumerate((2, 10, 5, 8, 5, 10, 1)):
        await queue.enqueue("any", number, priority=priority)
    await TaskManager(queue, work, max_concurrent=1).run_until_idle()
    assert order == [1, 5, 3, 2, 4, 0, 6]


async def test_only_what_fits(queue: TaskQueue) -> None:
    await queue.register_agent("ed", "editor")
    for task_type, line, priority, agent_id in [
        ("a", "q1", 9, "ed"),
        ("b", "q1", 9, "ed"),
        ("a", "q2", 9, "ed"),
        ("a", "q1", 7, "ed"),
        ("a", "q1", 9, "ann"),
        ("a", "q1", 9, None),
    ]:
        await queue.enqueue(task_type, {}, queue=line, priority=priority, agent_id=agent_id)
    elsewhere = TaskQueue(queue.runtime, instance_id="elsewhere")
    foreign = await elsewhere.enqueue("a", {}, queue="q1", priority=10)
    done: list[str | None] = []

    async def work(value: Any, ctx: TaskContext) -> None:
        done.append(ctx.agent_id)

    fitting: dict[str, Any] = {"queues": ["q1"], "task_types": ["a"], "min_priority": 8}
    await TaskManager(queue, work, 2, **fitting, agent_type="editor").run_until_idle()
    assert done == ["ed"]
    await TaskManager(queue, work, 2, **fitting, agent_id="ann").run_until_idle()
    assert done == ["ed", "ann"]
    await TaskManager(queue, work, 2, **fitting).run_until_idle()
    assert done == ["ed", "ann", None]
    assert await statuses(queue) == {S.COMPLETED: 3, S.QUEUED: 3}
    await TaskManager(queue, work).run_until_idle()
    assert await statuses(queue) == {S.COMPLETED: 6}
    assert (await elsewhere.get_task(foreign.id)).status is S.QUEUED


async def test_a_processor_does_its_own_type_by_its_own_law(queue: TaskQueue) -> None:
    class Order(BaseModel):
        words: int

    @processor("count", max_retries=2, backoff=Backoff(0.01, 0.01))
    async def count(order: Order, ctx: TaskContext) -> int:
        if ctx.attempt < 3:
            raise RuntimeError("not yet")
        return order.words

    early = await queue.enqueue("count", {"words": "many"}, max_retries=0)
    other = await queue.enqueue("other", {})
    async with TaskManager(queue, count) as manager:
        with pytest.raises(InvalidInput) as caught:
            await queue.enqueue("count", {"words": "many"})
        assert caught.value.path == ["inputData", "words"]
        made = await queue.enqueue("count", {"words": 3})
        # It waits out the backoffs, and the manager goes on afterwards.
        await manager.run_until_idle()
        done = await queue.get_task(made.id)
        assert (done.status, done.attempt, done.retry_count) == (S.COMPLETED, 3, 2)
        assert done.payload is not None
        assert done.payload.output == 3
        more = await queue.enqueue("count", {"words": 4})
        await manager.run_until_idle()
        assert (await queue.get_task(more.id)).status is S.COMPLETED
    assert (await queue.get_task(early.id)).error_code == "INVALID_INPUT"
    assert (await queue.get_task(other.id)).status is S.QUEUED


async def test_until_idle_waits_for_what_others_run_and_not_for_what_is_paused_or_scheduled(
    queue: TaskQueue,
) -> None:
    tasks, owner = queue.runtime.tasks, queue.principal
    await tasks.set_paused(owner, "asleep", True, None)
    paused = await queue.enqueue("any", {}, queue="asleep")
    later = await queue.enqueue("any", {}, scheduled_for=queue.runtime.clock.now().replace(year=2100))
    theirs = await queue.enqueue("any", {})
    await queue.runtime.claims.claim("another", Want(limit=1))

    async def work(value: Any, ctx: TaskContext) -> str:
        return "here"

    running = asyncio.create_task(TaskManager(queue, work).run_until_idle())
    here = await queue.enqueue("any", {})
    async with asyncio.timeout(PATIENCE):
        while (await queue.get_task(here.id)).status is not S.COMPLETED:
            await asyncio.sleep(0.01)
    assert not running.done()
    # The other one died: its claim runs out, and the task is done here.
    await meddle(queue.runtime, "UPDATE tasks SET lease_until = :then", then=LONG_AGO)
    await soon(running)
    done = await queue.get_task(theirs.id)
    assert (done.status, done.attempt, done.lost_count) == (S.COMPLETED, 2, 1)
    assert [(await queue.get_task(task.id)).status for task in (paused, later)] == [S.QUEUED, S.SCHEDULED]


async def test_a_drain_lets_what_runs_end_and_takes_no_more(queue: TaskQueue) -> None:
    gate = Gate()
    made = [await queue.enqueue("any", n) for n in range(6)]

    async def work(value: Any, ctx: TaskContext) -> Any:
        return await gate(value, ctx)

    manager = TaskManager(queue, work, max_concurrent=4)
    await manager.start()
    await manager.start()  # nothing more
    for _ in range(4):
        await soon(gate.begun.get())
    draining = asyncio.create_task(manager.drain())
    async with asyncio.timeout(PATIENCE):
        while [worker.status for worker in await queue.runtime.registry.workers()] != ["DRAINING"]:
            await asyncio.sleep(0.01)
    assert not draining.done()
    gate.open.set()
    await soon(draining)
    await manager.drain()
    assert [(await queue.get_task(task.id)).status for task in made] == [S.COMPLETED] * 4 + [S.QUEUED] * 2
    assert gate.most == 4
    # It can begin again.
    await soon(manager.run_until_idle())
    assert await statuses(queue) == {S.COMPLETED: 6}


async def test_cancelled_it_gives_back_what_will_not_end(data_folder: Path) -> None:
    gate = Gate()

    async def work(value: Any, ctx: TaskContext) -> Any:
        return await gate(value, ctx)

    async with TaskQueue.open(data_folder, drain=0.02) as queue:
        made = await queue.enqueue("any", {})
        running = asyncio.create_task(TaskManager(queue, work).run_forever())
        await soon(gate.begun.get())
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await soon(running)
        assert gate.interrupted.get_nowait() == made.id
        kept = await queue.get_task(made.id)
        assert (kept.status, kept.retry_count, kept.lost_count) == (S.QUEUED, 0, 0)


async def test_what_a_manager_refuses(queue: TaskQueue) -> None:
    async def work(value: Any, ctx: TaskContext) -> None: ...

    async def too_few(value: Any) -> None: ...

    with pytest.raises(ValueError, match="at least one slot"):
        TaskManager(queue, work, max_concurrent=0)
    with pytest.raises(TypeError, match="an input and a context"):
        TaskManager(queue, too_few)
    with pytest.raises(TypeError, match="must be an async function"):
        TaskManager(queue, os.getpid)


@pytest.mark.slow
async def test_a_processor_with_a_process_of_its_own_has_it_here_too(queue: TaskQueue) -> None:
    async with TaskManager(queue, isolated.apart) as manager:
        task = await queue.enqueue(new("apart", input="pid"))
        await soon(manager.run_until_idle())
    done = await queue.get_task(task.id)
    assert done.status is S.COMPLETED
    assert done.payload is not None
    assert done.payload.output != os.getpid()
