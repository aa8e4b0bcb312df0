"""What a deployment has left behind: its tables, and the run log outside. The oracle judges it."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import asyncpg
from tests.fault.runlog import RunLine, read_runs

from taskyard.lifecycle import ENDED

_TASKS = """SELECT id, status, task_type, version, attempt, lost_count, retry_count, generation, priority, queue_seq,
  idempotency_key, error_code, created_at, completed_at FROM tasks"""
_EVENTS = """SELECT seq, task_id, version, attempt, kind, actor, at, state->>'status' AS status,
  state->>'run_at' AS run_at, (state->>'priority')::int AS priority, (state->>'queue_seq')::bigint AS queue_seq,
  detail FROM events ORDER BY seq"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """A row of the table of tasks."""

    id: str
    status: str
    task_type: str
    version: int
    attempt: int
    lost_count: int
    retry_count: int
    generation: int
    priority: int
    queue_seq: int | None
    idempotency_key: str | None
    error_code: str | None
    created_at: datetime
    completed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """A row of the table of events, with what the oracle needs of its state."""

    seq: int
    task_id: str
    version: int
    attempt: int
    kind: str
    actor: str
    at: datetime
    status: str
    run_at: str | None
    priority: int
    queue_seq: int | None
    detail: Any


@dataclass(frozen=True)
class History:
    """Everything that was written, read once at the end."""

    tasks: Mapping[str, TaskRow]
    #: In the order of `seq`.
    events: Sequence[EventRow]
    #: By task, in the order of their begins.
    runs: Mapping[str, Sequence[RunLine]] = field(default_factory=dict)

    @cached_property
    def by_task(self) -> Mapping[str, Sequence[EventRow]]:
        """The events of each task, in the order of `seq`."""
        found: defaultdict[str, list[EventRow]] = defaultdict(list)
        for event in self.events:
            found[event.task_id].append(event)
        return found

    @cached_property
    def claims(self) -> Sequence[EventRow]:
        """The events by which a worker took a task."""
        return [event for event in self.events if event.kind == "STATUS" and event.status == "PROCESSING"]

    @cached_property
    def thrown_away(self) -> Sequence[EventRow]:
        """Ends of runs that came too late and were refused."""
        return [event for event in self.events if event.kind == "LOG" and "thrown away" in _text(event.detail)]

    @property
    def run_count(self) -> int:
        return sum(map(len, self.runs.values()))


def read_history(database_url: str, run_log: Path) -> History:
    """Read it all, past the service."""

    async def read() -> tuple[list[Any], list[Any]]:
        connection = await asyncpg.connect(database_url)
        try:
            return await connection.fetch(_TASKS), await connection.fetch(_EVENTS)
        finally:
            await connection.close()

    tasks, events = asyncio.run(read())
    return History(
        {row["id"]: TaskRow(**dict(row)) for row in tasks},
        [EventRow(**dict(row)) for row in events],
        read_runs(run_log),
    )


def query(database_url: str, statement: str, *values: Any) -> list[Any]:
    """The rows of one statement, past the service."""

    async def fetch() -> list[Any]:
        connection = await asyncpg.connect(database_url)
        try:
            return list(await connection.fetch(statement, *values))
        finally:
            await connection.close()

    return asyncio.run(fetch())


def unended(database_url: str, resting: Sequence[str] = ("waiting",)) -> int:
    """How many tasks have not come to an end, but for those of types that rest because no worker runs them."""
    ((count,),) = query(
        database_url,
        "SELECT count(*) FROM tasks WHERE status::text <> ALL($1) AND task_type <> ALL($2)",
        [str(status) for status in ENDED],
        list(resting),
    )
    return int(count)


def _text(detail: Any) -> str:
    return "" if detail is None else str(detail)
