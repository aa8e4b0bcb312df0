"""`taskyard workers`: who is alive, and what each one runs."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import StringIO

import orjson
from rich.console import Console
from rich.table import Table

from taskyard.runtime import open_store
from taskyard.service.catalog import SILENT_BEATS
from taskyard.settings import Settings
from taskyard.store.registry import Registry, Worker
from taskyard.store.tasks import TaskReader
from taskyard.task import Task

#: Running tasks that are shown, of all workers together.
MOST_TASKS = 10_000


@dataclass(frozen=True, slots=True)
class LivingWorker:
    """A worker, what it runs, and when it was looked at."""

    worker: Worker
    tasks: Sequence[Task]
    seen_at: datetime


async def living(settings: Settings) -> list[LivingWorker]:
    """Those that have told of themselves lately, newest first. Raises `StartupError` or `Unavailable`."""
    async with aclosing(await open_store(settings)) as store:
        now = store.clock.now()
        silence = timedelta(seconds=settings.heartbeat * SILENT_BEATS)
        workers = await Registry(store.database, store.clock).workers(now - silence)
        held = await TaskReader(store.database).held_by([worker.id for worker in workers], MOST_TASKS)
    return [LivingWorker(worker, [task for task in held if task.holder == worker.id], now) for worker in workers]


def as_lines(found: Sequence[LivingWorker]) -> str:
    """A line of JSON each."""
    return "".join(orjson.dumps(_plain(one)).decode() + "\n" for one in found)


def as_table(found: Sequence[LivingWorker]) -> str:
    """For people."""
    if not found:
        return "no worker is alive\n"
    table = Table(box=None, pad_edge=False)
    for heading in ("worker", "status", "queues", "types", "runs", "done", "failed", "last beat", "tasks"):
        table.add_column(heading, overflow="fold")
    for one in found:
        worker = one.worker
        table.add_row(
            f"{worker.id}",
            worker.status,
            _names(worker.queues),
            _names(worker.types),
            f"{len(one.tasks)}/{worker.concurrency}",
            str(worker.completed),
            str(worker.failed),
            f"{max(0.0, (one.seen_at - worker.heartbeat_at).total_seconds()):.0f} s ago",
            "\n".join(f"{task.id} {task.task_type} {task.progress:.0f} %" for task in one.tasks),
        )
    out = StringIO()
    Console(file=out, width=160).print(table)
    return out.getvalue()


def _names(names: Sequence[str] | None) -> str:
    return "any" if names is None else ", ".join(names)


def _plain(one: LivingWorker) -> dict[str, object]:
    worker = one.worker
    return {
        "id": worker.id,
        "host": worker.host,
        "pid": worker.pid,
        "status": worker.status,
        "queues": worker.queues,
        "types": worker.types,
        "concurrency": worker.concurrency,
        "completed": worker.completed,
        "failed": worker.failed,
        "startedAt": worker.started_at,
        "heartbeatAt": worker.heartbeat_at,
        "tasks": [
            {"id": task.id, "taskType": task.task_type, "attempt": task.attempt, "startedAt": task.started_at}
            for task in one.tasks
        ],
    }
