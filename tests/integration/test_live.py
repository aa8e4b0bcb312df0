"""Watching: what a subscriber sees, in order, once, and nothing that is not its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, TypeVar

import pytest
from tests.support.core import PATIENCE, claim, meddle, submit, task_in

from taskyard.errors import NotFound, Unavailable
from taskyard.lifecycle import TaskStatus
from taskyard.principal import EVERY_INSTANCE, Principal, Role
from taskyard.runtime import Runtime
from taskyard.service import live
from taskyard.service.figures import QueueStatus
from taskyard.task import LogLevel, Metrics, StepStatus, Task

T = TypeVar("T")
S = TaskStatus


async def take(stream: AsyncIterator[T], count: int) -> list[T]:
    """The next values of a stream."""
    async with asyncio.timeout(PATIENCE):
        return [await anext(stream) for _ in range(count)]


async def watch(runtime: Runtime, principal: Principal, **wanted: Any) -> "Watching":
    """A stream whose subscription has begun."""
    stream = runtime.live.task_changes(principal, **wanted)
    before = len(runtime.hub._subscribers)
    first = asyncio.ensure_future(anext(aiter(stream)))
    async with asyncio.timeout(PATIENCE):
        while len(runtime.hub._subscribers) == before:
            await asyncio.sleep(0)
    return Watching(stream, first)


class Watching:
    """A running stream of tasks."""

    def __init__(self, stream: AsyncIterator[Task], first: "asyncio.Future[Task]") -> None:
        self._stream = stream
        self._first: asyncio.Future[Task] | None = first

    async def take(self, count: int) -> list[Task]:
        async with asyncio.timeout(PATIENCE):
            taken = []
            if self._first is not None:
                taken.append(await self._first)
                self._first = None
            return taken + [await anext(self._stream) for _ in range(count - len(taken))]

    async def close(self) -> None:
        if self._first is not None:
            self._first.cancel()
            await asyncio.wait([self._first])
        await self._stream.aclose()  # type: ignore[attr-defined]


def told(tasks: list[Task]) -> list[tuple[str, int, str, float]]:
    return [(task.id, task.version, str(task.status), task.progress) for task in tasks]


async def test_one_task_snapshot_first_then_each_change_once(runtime: Runtime, user: Principal) -> None:
    made = await submit(runtime, user)
    await runtime.tasks.change_priority(user, made.id, 7)
    async with aclosing(runtime.live.task_changes(user, task_id=made.id)) as stream:
        assert [(task.version, task.priority) for task in await take(stream, 1)] == [(2, 7)]
        await submit(runtime, user)  # another: not shown
        _, run = await claim(runtime)
        await runtime.claims.progress(run, 50, "half")
        await runtime.claims.log(run, LogLevel.INFO, "not a change of the task")
        await runtime.claims.step(run, "s", StepStatus.RUNNING, None)
        await runtime.tasks.change_priority(user, made.id, 8)
        await runtime.claims.complete(run, {"ok": True}, Metrics())
        assert told(await take(stream, 4)) == [
            (made.id, 3, "PROCESSING", 0.0),
            (made.id, 4, "PROCESSING", 50.0),
            (made.id, 7, "PROCESSING", 50.0),
            (made.id, 8, "COMPLETED", 100.0),
        ]


async def test_changes_while_the_snapshot_is_read_are_not_doubled(runtime: Runtime, user: Principal) -> None:
    made = await submit(runtime, user)
    _, run = await claim(runtime)

    async def keep_writing() -> None:
        while True:
            await runtime.claims.progress(run, 10, None)

    writing = asyncio.create_task(keep_writing())
    for _ in range(20):
        # Writes and the first read race each other: whatever wins, no version comes twice or is left out.
        async with aclosing(runtime.live.task_changes(user, task_id=made.id)) as stream:
            seen = await take(stream, 5)
        assert [task.version for task in seen] == list(range(seen[0].version, seen[0].version + 5))
    writing.cancel()
    await asyncio.wait({writing})


async def test_all_tasks_in_order_and_never_a_foreign_one(
    runtime: Runtime, user: Principal, stranger: Principal
) -> None:
    mine, theirs = await watch(runtime, user), await watch(runtime, stranger)
    both = await watch(runtime, Principal("x", Role.ADMIN, frozenset({EVERY_INSTANCE})))
    expected: dict[str, list[tuple[str, int]]] = {"user-1": [], "user-2": []}
    for _ in range(5):
        for principal in (user, stranger):
            task = await submit(runtime, principal)
            await runtime.tasks.cancel(principal, task.id)
            expected[principal.subject] += [(task.id, 1), (task.id, 2)]
    for watching, subject in ((mine, "user-1"), (theirs, "user-2")):
        seen = await watching.take(10)
        assert [(task.id, task.version) for task in seen] == expected[subject]
        assert {task.owner for task in seen} == {subject}
    assert len({(task.id, task.version) for task in await both.take(20)}) == 20
    for watching in (mine, theirs, both):
        await watching.close()


async def test_an_older_change_is_shown_as_it_was(runtime: Runtime, user: Principal) -> None:
    watching = await watch(runtime, user)
    made = await submit(runtime, user, priority=1)
    await asyncio.gather(*(runtime.tasks.change_priority(user, made.id, p) for p in (3, 4)))
    await runtime.tasks.cancel(user, made.id)
    seen = await watching.take(4)
    assert [task.version for task in seen] == [1, 2, 3, 4]
    assert [task.status for task in seen] == [S.QUEUED, S.QUEUED, S.QUEUED, S.CANCELLED]
    assert seen[0].priority == 1
    assert {seen[1].priority, seen[2].priority} == {3, 4}
    assert [task.completed_at is None for task in seen] == [True, True, True, False]
    await watching.close()


async def test_the_tasks_of_one_agent(runtime: Runtime, user: Principal) -> None:
    watching = await watch(runtime, user, agent_id="ann")
    await submit(runtime, user, agent_id="bob")
    await submit(runtime, user)
    first = await submit(runtime, user, agent_id="ann")
    second = await submit(runtime, user, agent_id="ann")
    assert [task.id for task in await watching.take(2)] == [first.id, second.id]
    await watching.close()


async def test_the_tasks_of_one_instance(runtime: Runtime, user: Principal, stranger: Principal) -> None:
    anywhere = Principal("x", Role.ADMIN, frozenset({EVERY_INSTANCE}))
    watching = await watch(runtime, anywhere, instance_id="elsewhere")
    foreign = await watch(runtime, stranger, instance_id="default")
    await submit(runtime, user)
    theirs = await submit(runtime, stranger)
    assert [task.id for task in await watching.take(1)] == [theirs.id]
    assert foreign._first is not None
    assert not foreign._first.done(), "an instance that is not the caller's shows nothing"
    await watching.close()
    await foreign.close()


@pytest.mark.parametrize(
    "wanted",
    [{"task_id": "no-such"}, {"task_id": "mine", "agent_id": "ann"}, {"task_id": "mine", "instance_id": "elsewhere"}],
)
async def test_what_may_not_be_seen_is_not_found(runtime: Runtime, user: Principal, wanted: dict[str, str]) -> None:
    await submit(runtime, user, id="mine", agent_id="bob")
    stream = runtime.live.task_changes(user, **wanted)  # type: ignore[arg-type]
    with pytest.raises(NotFound) as caught:
        await take(stream, 1)
    assert caught.value.path == ["taskId"]
    assert runtime.hub._subscribers == set(), "nothing is left behind"


async def test_a_task_that_is_gone_is_passed_over(runtime: Runtime, user: Principal) -> None:
    watching = await watch(runtime, user)
    gone = await submit(runtime, user)
    await watching.take(1)
    await runtime.tasks.cancel(user, gone.id)
    await meddle(runtime, "DELETE FROM tasks")
    left = await submit(runtime, user)
    assert [task.id for task in await watching.take(1)] == [left.id]
    await watching.close()


async def test_streams_end_with_the_service(runtime: Runtime, user: Principal) -> None:
    watching = await watch(runtime, user)
    await runtime.hub.stop()
    with pytest.raises(Unavailable):
        await watching.take(1)


async def test_a_stream_that_is_closed_leaves_nothing(runtime: Runtime, user: Principal) -> None:
    made = await submit(runtime, user)
    stream = runtime.live.task_changes(user, task_id=made.id)
    await take(stream, 1)
    assert len(runtime.hub._subscribers) == 1
    await stream.aclose()  # type: ignore[attr-defined]
    assert runtime.hub._subscribers == set()


# -- figures of the queue ---------------------------------------------------------------------


async def until(stream: AsyncIterator[QueueStatus], total: int) -> QueueStatus:
    """The first figures that count so many tasks."""
    async with asyncio.timeout(PATIENCE):
        async for status in stream:
            if status.total_tasks == total:
                return status
    raise AssertionError("the stream ended")


async def test_figures_now_and_after_a_change(
    runtime: Runtime, user: Principal, stranger: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So rare that only the change can be what brought the second figures.
    monkeypatch.setattr(live, "FIGURES_EVERY", 2 * PATIENCE)
    await submit(runtime, user)
    await submit(runtime, stranger)
    async with aclosing(runtime.live.queue_changes(user)) as stream:
        (now,) = await take(stream, 1)
        assert now == await runtime.figures.queue_status(user)
        assert (now.total_tasks, now.queued_tasks) == (1, 1)
        task = await submit(runtime, user)
        status = await until(stream, 2)
        assert status.queued_tasks == 2
        await runtime.tasks.cancel(user, task.id)
        (status,) = await take(stream, 1)
        assert (status.queued_tasks, status.cancelled_tasks) == (1, 1)


async def test_figures_of_one_queue(runtime: Runtime, user: Principal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "FIGURES_EVERY", 2 * PATIENCE)
    async with aclosing(runtime.live.queue_changes(user, "default", "chat")) as stream:
        assert [status.total_tasks for status in await take(stream, 1)] == [0]
        await submit(runtime, user)
        await submit(runtime, user, queue="chat")
        assert (await until(stream, 1)).queued_tasks == 1


async def test_figures_without_a_change(runtime: Runtime, user: Principal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "FIGURES_EVERY", 0.02)
    monkeypatch.setattr(live, "FIGURES_AFTER_CHANGE", 0.01)
    await task_in(runtime, user, S.PROCESSING)
    async with aclosing(runtime.live.queue_changes(user)) as stream:
        assert [status.processing_tasks for status in await take(stream, 3)] == [1, 1, 1]


async def test_those_who_watch_the_same_share_one_reading(
    runtime: Runtime, user: Principal, admin: Principal, stranger: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "FIGURES_AFTER_CHANGE", 0.05)
    readings: list[str] = []
    real = runtime.figures.queue_status

    async def counted(principal: Principal, *wanted: Any) -> QueueStatus:
        readings.append(principal.subject)
        return await real(principal, *wanted)

    monkeypatch.setattr(type(runtime.figures), "queue_status", lambda _, *arguments: counted(*arguments))
    streams = [runtime.live.queue_changes(principal) for principal in (user, admin, user, stranger)]
    try:
        for stream in streams:
            await take(stream, 1)
        waiting = [asyncio.ensure_future(anext(stream)) for stream in streams[:3]]
        await asyncio.sleep(0)
        readings.clear()
        await submit(runtime, user)
        async with asyncio.timeout(PATIENCE):
            figures = await asyncio.gather(*waiting)
        assert [one.queued_tasks for one in figures] == [1, 1, 1]
        assert len(readings) == 1
        await take(streams[3], 1)
        assert readings[1:] == ["user-2"], "another instance is another reading"
    finally:
        for stream in streams:
            await stream.aclose()
