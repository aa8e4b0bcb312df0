"""Ways to bring a core and its tasks where a test needs them: over the real services and the real store."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import TextClause, bindparam, text

from taskyard.clock import Clock
from taskyard.lifecycle import TaskStatus
from taskyard.principal import EVERYTHING, Principal
from taskyard.queue.entry import Want
from taskyard.runtime import Runtime, open_deployment, open_embedded
from taskyard.service.claims import Run
from taskyard.settings import Settings
from taskyard.store.types import UtcDateTime
from taskyard.store.writes import NOW, After, move
from taskyard.task import Metrics, NewTask, Task

#: A bound for what should take a moment: these machines are slow at times.
PATIENCE = 60.0
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@asynccontextmanager
async def opened(place: Path | str, clock: Clock | None = None, **settings: Any) -> AsyncIterator[Runtime]:
    """A core over this folder, or PostgreSQL by its URL, with these settings and the given clock (its own)."""
    if isinstance(place, Path):
        runtime = await open_embedded(Settings(data=place, **settings), clock, random.Random(1))
    else:
        runtime = await open_deployment(Settings(database_url=place, **settings), clock, random.Random(1))
    try:
        yield runtime
    finally:
        await runtime.aclose()


def new(task_type: str = "echo", **fields: Any) -> NewTask:
    """What is submitted, with everything that is not to the point filled in."""
    return NewTask(task_type=task_type, **({"input": {}} | fields))


async def submit(runtime: Runtime, principal: Principal, task_type: str = "echo", **fields: Any) -> Task:
    return await runtime.tasks.create(principal, new(task_type, **fields))


async def claim(runtime: Runtime, worker_id: str = "w1", **want: Any) -> tuple[Task, Run]:
    """The best ready task, claimed by a worker, with its run."""
    (task,) = await runtime.claims.claim(worker_id, Want(limit=1, **want))
    return task, Run(task.id, task.attempt, f"worker:{worker_id}")


async def stored(runtime: Runtime, task_id: str) -> Task:
    """The task as it stands in the database."""
    task = await runtime.reader.get(task_id, EVERYTHING)
    assert task is not None
    return task


async def rows(runtime: Runtime, statement: str, **values: Any) -> Sequence[Any]:
    """What a plain SQL query gives."""
    async with runtime.database.read() as connection:
        return (await connection.execute(_bound(statement, values))).all()


async def number(runtime: Runtime, statement: str, **values: Any) -> Any:
    """The one value that a plain SQL query gives."""
    ((value,),) = await rows(runtime, statement, **values)
    return value


async def meddle(runtime: Runtime, statement: str, **values: Any) -> None:
    """Change the database behind the back of the services: nobody is told."""
    await runtime.database.writer.run(lambda connection: connection.execute(_bound(statement, values)).close())


def _bound(statement: str, values: dict[str, Any]) -> TextClause:
    """Times are bound as each database stores them."""
    types = {name: UtcDateTime() if isinstance(value, datetime) else None for name, value in values.items()}
    return text(statement).bindparams(*(bindparam(name, values[name], types[name]) for name in values))


async def reach(runtime: Runtime, principal: Principal, task_id: str, status: TaskStatus) -> Task:
    """Wait until a task has this status, and give it as it stood then."""
    async with asyncio.timeout(PATIENCE):
        async for task in runtime.live.task_changes(principal, task_id=task_id):
            if task.status is status:
                return task
    raise AssertionError(f"the stream of {task_id} ended")


async def task_in(runtime: Runtime, principal: Principal, status: TaskStatus, **fields: Any) -> Task:
    """A new task of this principal that has come to be in this status; it must be the only ready one."""
    later = {"scheduled_for": runtime.clock.now().replace(year=2100)} if status is TaskStatus.SCHEDULED else {}
    task = await submit(runtime, principal, **(later | fields))
    match status:
        case TaskStatus.SUBMITTED:
            await meddle(runtime, "UPDATE tasks SET status = 'SUBMITTED' WHERE id = :id", id=task.id)
        case TaskStatus.ASSIGNED:
            (assigned,) = await runtime.claims.dequeue(principal, Want(limit=1))
            assert assigned.id == task.id
        case TaskStatus.PLANNING:
            holding = {"holder": principal.subject, "lease_until": After(), "started_at": NOW}
            await _move(runtime, task, status, values=holding, raised=frozenset({"attempt"}))
        case TaskStatus.CANCELLED:
            await runtime.tasks.cancel(principal, task.id)
        case TaskStatus.SCHEDULED | TaskStatus.QUEUED:
            pass
        case _:
            await runtime.claims.start(principal, task.id)
            await _end_run(runtime, principal, task, status)
    found = await stored(runtime, task.id)
    assert found.status is status
    return found


async def _end_run(runtime: Runtime, principal: Principal, task: Task, status: TaskStatus) -> None:
    match status:
        case TaskStatus.COMPLETED:
            await runtime.claims.complete_by_hand(principal, task.id, {}, Metrics())
        case TaskStatus.FAILED | TaskStatus.RETRYING:
            retry = status is TaskStatus.RETRYING
            await runtime.claims.fail_by_hand(principal, task.id, "no luck", retry=retry)
        case TaskStatus.REVIEW | TaskStatus.REJECTED:
            await _move(runtime, task, TaskStatus.REVIEW)
    if status is TaskStatus.REJECTED:
        await _move(runtime, task, status, values={"completed_at": NOW})


async def _move(runtime: Runtime, task: Task, to: TaskStatus, **changes: Any) -> None:
    assert await runtime.database.writer.write(move(task.id, to, actor="test", **changes)) is not None
