"""The library over PostgreSQL and Redis, which other processes use as well."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import pytest
from tests.support.core import LONG_AGO, PATIENCE, meddle, new, number
from tests.support.redis_lines import flush, queue_of_core
from tests.support.servers import RedisServer
from tests.support.working import soon

from taskyard import TaskContext, TaskManager, TaskQueue
from taskyard.errors import Unavailable
from taskyard.lifecycle import TaskStatus
from taskyard.queue.entry import Entry
from taskyard.queue.redis_lines import RedisLines
from taskyard.service.relay import LAST_SEQ

pytestmark = pytest.mark.slow

S = TaskStatus
Open = Callable[[], AbstractAsyncContextManager[TaskQueue]]


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as started:
        yield started


@pytest.fixture
def one_more(database_url: str, server: RedisServer) -> Open:
    """Opens a queue over the same servers, as another process would."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[TaskQueue]:
        async with TaskQueue.open(database_url, redis_url=server.url, drain=PATIENCE) as queue:
            yield queue

    return opened


@pytest.fixture
async def queues(one_more: Open) -> AsyncIterator[list[TaskQueue]]:
    """Three of them."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(one_more()) for _ in range(3)]


@pytest.fixture
async def queue(queues: list[TaskQueue]) -> TaskQueue:
    return queues[0]


async def work(value: int, ctx: TaskContext) -> int:
    return value + 1


async def is_whole(queue: TaskQueue) -> bool:
    """Whether Redis is there and the index has been built."""
    assert queue.runtime.redis is not None
    try:
        epoch, _ = await RedisLines(queue.runtime.redis).known()
    except Unavailable:
        return False
    return epoch is not None


async def built(queue: TaskQueue) -> None:
    """Wait until a manager has built the index."""
    async with asyncio.timeout(PATIENCE):
        while not await is_whole(queue):
            await asyncio.sleep(0.05)


async def in_line(queue: TaskQueue) -> list[Entry]:
    return await queue_of_core(queue.runtime).between(0, LAST_SEQ, 1000)


async def on_duty(queues: list[TaskQueue]) -> TaskQueue:
    """The one of whom the lease says that it does the janitor's work."""
    holder = await number(queues[0].runtime, "SELECT holder FROM leases WHERE name = 'janitor'")
    (busy,) = [
        queue
        for queue in queues
        if queue.runtime.duty._holder == holder  # type: ignore[attr-defined]  # nobody else asks for it
    ]
    return busy


# -- the janitors of managers ---------------------------------------------------------------------


async def test_one_manager_at_a_time_looks_after_what_time_brings_and_builds_the_index(
    queues: list[TaskQueue], server: RedisServer
) -> None:
    async with AsyncExitStack() as stack:
        managers = {id(queue): await stack.enter_async_context(TaskManager(queue, work)) for queue in queues}
        while queues:
            await built(queues[0])
            busy = await on_duty(queues)
            await managers[id(busy)].drain()
            queues = [queue for queue in queues if queue is not busy]
            await flush(server.url)


async def test_what_is_due_and_what_was_lost_is_done_by_whichever_manager_looks(queues: list[TaskQueue]) -> None:
    first, second, third = queues
    lost = await first.enqueue("sum", 1)
    assert [task.id for task in await first.dequeue()] == [lost.id]
    await meddle(first.runtime, "UPDATE tasks SET lease_until = :then", then=LONG_AGO)
    later = await first.enqueue("sum", 2, scheduled_for=first.runtime.clock.now().replace(year=2100))
    await meddle(first.runtime, "UPDATE tasks SET run_at = :then WHERE status = 'SCHEDULED'", then=LONG_AGO)
    async with TaskManager(second, work), TaskManager(third, work):
        async with asyncio.timeout(PATIENCE):
            while {(await first.get_task(task.id)).status for task in (lost, later)} != {S.COMPLETED}:
                await asyncio.sleep(0.05)
    assert (await first.get_task(lost.id)).lost_count == 1


# -- claims and the index -------------------------------------------------------------------------


async def ids_in_line(queue: TaskQueue, expected: set[str]) -> None:
    """Wait until the entries of these tasks are in line and no others: what was claimed leaves a moment later."""
    async with asyncio.timeout(PATIENCE):
        while {entry.task_id for entry in await in_line(queue)} != expected:
            await asyncio.sleep(0.02)


async def test_queues_and_managers_share_the_work_and_each_task_is_done_once(queues: list[TaskQueue]) -> None:
    runs: Counter[str] = Counter()
    every_one_began = asyncio.Barrier(4)

    def worker() -> Callable[[int, TaskContext], Awaitable[int]]:
        first = True

        async def work(value: int, ctx: TaskContext) -> int:
            nonlocal first
            runs[ctx.task_id] += 1
            if first:
                first = False
                await soon(every_one_began.wait())
            return value + 1

        return work

    made = [
        task
        for start, queue in enumerate(queues)
        for task in await queue.enqueue([new("sum", input=100 * start + n) for n in range(100)])
    ]
    elsewhere = await TaskQueue(queues[0].runtime, instance_id="elsewhere").enqueue("sum", 1, priority=10)
    # Two of them are over one queue.
    managers = [TaskManager(queue, worker(), max_concurrent=4) for queue in (*queues, queues[0])]
    await soon(asyncio.gather(*(manager.run_until_idle() for manager in managers)))
    assert runs == {task.id: 1 for task in made}
    done = [await queues[0].get_task(task.id) for task in made]
    assert {(task.status, task.attempt) for task in done} == {(S.COMPLETED, 1)}
    assert [task.payload and task.payload.output for task in done] == list(range(1, 301))
    await ids_in_line(queues[0], {elsewhere.id})


async def test_claims_come_from_the_index_that_some_manager_keeps(queues: list[TaskQueue]) -> None:
    keeping, queue, other = queues
    order: list[int] = []

    async def note(value: int, ctx: TaskContext) -> None:
        order.append(value)

    async with TaskManager(keeping, work, task_types=["none"]):
        await built(queue)
        for value in range(4):
            await other.enqueue("sum", value)
        await meddle(queue.runtime, "UPDATE tasks SET priority = 10 WHERE input IN ('2', '3')")
        assert [task.payload and task.payload.input for task in await queue.dequeue()] == [0]
        manager = TaskManager(queue, note, max_concurrent=1)
        await manager.start()
        async with asyncio.timeout(PATIENCE):
            while len(order) < 3:
                await asyncio.sleep(0.01)
        await manager.drain()
    assert order == [1, 2, 3], "the table alone would have given 2, 3, 1"


async def test_what_is_enqueued_is_in_the_index_at_once(queue: TaskQueue) -> None:
    assert await queue_of_core(queue.runtime).mend()
    one = await queue.enqueue("sum", 1)
    many = await queue.enqueue([new("sum", input=n, queue="other", priority=8) for n in range(3)])
    assert {entry.task_id: (entry.queue, entry.priority) for entry in await in_line(queue)} == {
        one.id: ("default", 5),
        **{task.id: ("other", 8) for task in many},
    }


async def test_without_any_janitor_there_is_no_index_and_the_table_does_everything(queues: list[TaskQueue]) -> None:
    queue, other, _ = queues
    first, second, third = [await queue.enqueue("sum", n) for n in range(3)]
    await meddle(queue.runtime, "UPDATE tasks SET priority = 10 WHERE id = :id", id=second.id)
    assert [task.id for task in await other.peek(3)] == [second.id, first.id, third.id]
    assert [task.id for task in await other.dequeue()] == [second.id], "as it stands in the table"
    await ids_in_line(queue, {first.id, third.id})
    assert not await is_whole(queue)
    # The first manager builds it.
    async with TaskManager(queue, work, task_types=["none"]):
        await built(queue)
    assert [task.id for task in await other.dequeue()] == [first.id]


async def test_what_the_index_has_missed_is_found_although_nobody_mends_it(queue: TaskQueue) -> None:
    assert await queue_of_core(queue.runtime).mend()
    first, second = [await queue.enqueue("sum", n) for n in range(2)]
    await queue_of_core(queue.runtime).discard(await in_line(queue))
    assert [task.id for task in await queue.peek(9)] == [first.id, second.id]
    assert [task.id for task in await queue.dequeue(status=S.ASSIGNED)] == [first.id]
    assert [task.id for task in await queue.dequeue(9)] == [second.id]
    assert await queue.dequeue() == []


async def test_while_redis_is_away_work_goes_on_by_the_table(queues: list[TaskQueue], server: RedisServer) -> None:
    queue, other, _ = queues
    async with TaskManager(queue, work, task_types=["sum"]) as manager, TaskManager(other, work, task_types=["sum"]):
        await built(queue)
        server.kill()
        during = [await other.enqueue("sum", n) for n in range(20)]
        await soon(manager.run_until_idle())
        assert {(await queue.get_task(task.id)).status for task in during} == {S.COMPLETED}
        held = await other.enqueue("by-hand", 1)
        assert [task.id for task in await queue.dequeue(task_types=["by-hand"])] == [held.id]
        waiting = await other.enqueue("by-hand", 2)
        server.start()
        await built(queue)
        await ids_in_line(queue, {waiting.id})
        after = await other.enqueue("sum", 1)
        await soon(manager.run_until_idle())
        assert (await queue.get_task(after.id)).attempt == 1
