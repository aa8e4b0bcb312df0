"""The writer of SQLite: one connection in one thread, one transaction a group.

SQLite has a single writer anyway. A thread of our own makes a whole group cost one hop, and plain
driver calls cost a tenth of what they cost through an asynchronous driver one by one
(docs/decisions/0004-group-commit-and-the-writer.md).
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar

import orjson
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from taskyard.clock import Clock, from_millis, to_millis
from taskyard.errors import Unavailable
from taskyard.store.group_commit import GroupCommit
from taskyard.store.tables import tasks
from taskyard.store.writes import After, Change, Committed, DeadlineAfter, Insert, NotAllTaken, StepWrite, Write
from taskyard.task import STATE_FIELDS, Event, EventKind

T = TypeVar("T")

_COLUMNS = tuple(column.name for column in tasks.columns)
_JSON_COLUMNS = frozenset({"input", "output"})
_RETURNING = f" RETURNING instance_id, version, {', '.join(STATE_FIELDS)}"
_GUARDS = ("attempt = ?", "generation = ?", "version = ?", "lease_until < ?", "instance_id = ?")
_ATTEMPT = STATE_FIELDS.index("attempt")

_INSERT_TASK = (
    f"INSERT INTO tasks ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
    " ON CONFLICT DO NOTHING" + _RETURNING
)
_INSERT_EVENT = (
    "INSERT INTO events (seq, task_id, instance_id, version, attempt, kind, actor, at, state, detail)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_UPSERT_STEP = (
    "INSERT INTO steps (task_id, name, position, attempt, status, output, started_at, finished_at)"
    " VALUES (:task, :name, (SELECT count(*) + 1 FROM steps WHERE task_id = :task), :attempt, :status,"
    " :output, iif(:status = 'PENDING', NULL, :now), iif(:ended, :now, NULL))"
    " ON CONFLICT (task_id, name) DO UPDATE SET status = excluded.status, attempt = excluded.attempt,"
    " output = coalesce(excluded.output, steps.output), finished_at = excluded.finished_at,"
    " started_at = iif(steps.attempt = excluded.attempt, coalesce(steps.started_at, excluded.started_at),"
    " excluded.started_at)"
)


class SqliteWriter:
    """`Writer` for SQLite. `committed` gets the events of each transaction after its commit."""

    def __init__(self, engine: Engine, clock: Clock, committed: Committed) -> None:
        self._engine = engine
        self._clock = clock
        self._committed = committed
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite-writer")
        self._closed = False
        self._connection: Connection | None = None
        self._group: GroupCommit[Write, Event | None] = GroupCommit(self._flush)

    async def write(self, item: Write) -> Event | None:
        return await self._group.write(item)

    async def write_many(self, items: Sequence[Write]) -> list[Event | None]:
        return await self._group.write_all(items)

    async def write_atomic(self, items: Sequence[Write]) -> list[Event | None]:
        # A task of its own: a caller that gives up must not keep what was committed from being announced.
        flush = asyncio.create_task(self._flush(items, atomic=True))
        try:
            return await asyncio.shield(flush)
        except NotAllTaken as refused:
            return refused.results

    async def run(self, job: Callable[[Connection], T]) -> T:
        return await self._in_thread(lambda: self._run(job))

    async def close(self) -> None:
        await self._group.close()
        if not self._closed:
            disconnected = self._submit(self._disconnect)
            self._closed = True
            self._thread.shutdown(wait=False)  # it takes no more, and ends after what it has
            await disconnected

    async def _flush(self, items: Sequence[Write], atomic: bool = False) -> list[Event | None]:
        events = await self._in_thread(lambda: self._run(lambda c: self._apply(c, items, atomic)))
        await self._committed([event for event in events if event is not None])
        return events

    async def _in_thread(self, call: Callable[[], T]) -> T:
        # Shielded: a caller that gives up must not leave the thread's outcome unseen.
        return await asyncio.shield(self._submit(call))

    def _submit(self, call: Callable[[], T]) -> "asyncio.Future[T]":
        if self._closed:
            raise Unavailable("the service is stopping")
        return asyncio.get_running_loop().run_in_executor(self._thread, call)

    # -- in the thread ------------------------------------------------------------------------

    def _run(self, job: Callable[[Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = self._engine.connect()
            with self._connection.begin():
                return job(self._connection)
        except (sqlite3.OperationalError, OperationalError) as error:
            raise Unavailable("the database cannot be written now") from error

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._engine.dispose()

    def _apply(self, connection: Connection, items: Sequence[Write], atomic: bool) -> list[Event | None]:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        transaction = _Transaction(driver.cursor(), self._clock.now())
        results = [transaction.write(item) for item in items]
        transaction.finish()
        if atomic and None in results:
            raise NotAllTaken(results)
        return results


class _Transaction:
    """The statements of one group, in one transaction of the thread's connection."""

    def __init__(self, cursor: sqlite3.Cursor, now: datetime) -> None:
        self._cursor = cursor
        self._millis = to_millis(now)
        self._now = from_millis(self._millis)
        counters = dict(cursor.execute("SELECT name, value FROM counters").fetchall())
        self._seq: int = counters["event"]
        self._queue_seq: int = counters["queue"]

    def write(self, item: Write) -> Event | None:
        row = self._insert(item) if isinstance(item, Insert) else self._change(item)
        if row is None:
            return None
        if isinstance(item, Change) and item.step is not None:
            self._write_step(item.task_id, item.step, row[2 + _ATTEMPT])
        kind = EventKind.STATUS if isinstance(item, Insert) else item.kind
        return self._event(item, kind, row)

    def finish(self) -> None:
        self._cursor.executemany(
            "UPDATE counters SET value = ? WHERE name = ?",
            [(self._seq, "event"), (self._queue_seq, "queue")],
        )

    def _insert(self, item: Insert) -> tuple[Any, ...] | None:
        values = dict(item.values)
        if values["status"] == "QUEUED":
            values["queue_seq"] = self._queue_seq + 1
        row: tuple[Any, ...] | None = self._cursor.execute(
            _INSERT_TASK, [self._bound(name, values.get(name)) for name in _COLUMNS]
        ).fetchone()
        if row is not None and values["status"] == "QUEUED":
            self._queue_seq += 1
        return row

    def _change(self, item: Change) -> tuple[Any, ...] | None:
        entering = item.values.get("status") == "QUEUED"
        guards = (item.attempt, item.generation, item.version, item.lease_before, item.instance_id)
        text = _update_text(
            tuple(item.values),
            tuple(type(value) is DeadlineAfter for value in item.values.values()),
            item.raised,
            item.statuses,
            tuple(text for text, value in zip(_GUARDS, guards, strict=True) if value is not None),
            entering,
        )
        bound: list[Any] = [self._millis]
        bound += [self._bound(name, value) for name, value in item.values.items()]
        if entering:
            bound.append(self._queue_seq + 1)
        bound.append(item.task_id)
        bound += [self._bound("", guard) for guard in guards if guard is not None]
        row: tuple[Any, ...] | None = self._cursor.execute(text, bound).fetchone()
        if row is not None and entering and row[2 + STATE_FIELDS.index("queue_seq")] == self._queue_seq + 1:
            self._queue_seq += 1
        return row

    def _bound(self, name: str, value: Any) -> Any:
        if isinstance(value, After):
            return self._millis + round(value.delay.total_seconds() * 1000)
        if isinstance(value, DeadlineAfter):
            return round(value.default.total_seconds() * 1000)
        if isinstance(value, datetime):
            return to_millis(value)
        if name in _JSON_COLUMNS and value is not None:
            return orjson.dumps(value).decode()
        return value

    def _write_step(self, task_id: str, step: StepWrite, attempt: int) -> None:
        self._cursor.execute(
            _UPSERT_STEP,
            {
                "task": task_id,
                "name": step.name,
                "attempt": attempt,
                "status": step.status,
                "output": None if step.output is None else orjson.dumps(step.output).decode(),
                "now": self._millis,
                "ended": step.status in ("COMPLETED", "FAILED", "SKIPPED"),
            },
        )

    def _event(self, item: Write, kind: EventKind, row: tuple[Any, ...]) -> Event:
        self._seq += 1
        instance_id, version, *fields = row
        state = dict(zip(STATE_FIELDS, fields, strict=True))
        event = Event(
            seq=self._seq,
            task_id=item.task_id,
            instance_id=instance_id,
            version=version,
            attempt=state["attempt"],
            kind=kind,
            actor=item.actor,
            at=self._now,
            state=state,
            detail=item.detail,
        )
        self._cursor.execute(
            _INSERT_EVENT,
            (
                event.seq,
                event.task_id,
                instance_id,
                version,
                event.attempt,
                kind,
                event.actor,
                self._millis,
                orjson.dumps(state).decode(),
                None if event.detail is None else orjson.dumps(event.detail).decode(),
            ),
        )
        return event


@lru_cache(maxsize=256)
def _update_text(
    names: tuple[str, ...],
    is_deadline: tuple[bool, ...],
    raised: frozenset[str],
    statuses: frozenset[str],
    guards: tuple[str, ...],
    entering: bool,
) -> str:
    """The statement of one shape of change; its parameters come in the order of the arguments."""
    sets = ["updated_at = ?1", "version = version + 1"]
    for name, deadline in zip(names, is_deadline, strict=True):
        sets.append(f"{name} = ?1 + coalesce(timeout_ms, ?)" if deadline else f"{name} = ?")
    sets += [f"{name} = {name} + 1" for name in sorted(raised)]
    if entering:
        sets.append("queue_seq = coalesce(queue_seq, ?)")
    where = ["id = ?", f"status || '' IN ({', '.join(repr(str(s)) for s in sorted(statuses))})"]
    where += guards
    return f"UPDATE tasks SET {', '.join(sets)} WHERE {' AND '.join(where)}" + _RETURNING
