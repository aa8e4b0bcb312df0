"""Counts and averages over tasks, as SQL. Durations are milliseconds."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, and_, func, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from taskyard.lifecycle import ENDED, TaskStatus
from taskyard.principal import Scope
from taskyard.store.database import Database
from taskyard.store.listing import within
from taskyard.store.tables import tasks


class elapsed_ms(FunctionElement[int]):  # noqa: N801 - a SQL function
    """Milliseconds from the first time to the second."""

    type = BigInteger()
    inherit_cache = True
    name = "elapsed_ms"


@compiles(elapsed_ms, "sqlite")
def _on_sqlite(element: elapsed_ms, compiler: SQLCompiler, **options: Any) -> str:
    start, end = (compiler.process(clause, **options) for clause in element.clauses)
    return f"({end} - {start})"


@compiles(elapsed_ms, "postgresql")
def _on_postgresql(element: elapsed_ms, compiler: SQLCompiler, **options: Any) -> str:
    start, end = (compiler.process(clause, **options) for clause in element.clauses)
    return f"(extract(epoch from {end} - {start}) * 1000)"


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """The raw figures behind a queue's status."""

    by_status: Mapping[TaskStatus, int]
    average_wait_ms: float | None
    average_processing_ms: float | None
    oldest_queued_at: datetime | None
    #: Ends since the time asked for, by status.
    recent_ends: Mapping[TaskStatus, int]


@dataclass(frozen=True, slots=True)
class TaskTotals:
    """The raw figures behind statistics."""

    by_status: Mapping[TaskStatus, int]
    average_wait_ms: float | None
    average_processing_ms: float | None
    total_cost: float
    average_quality: float | None


class FigureReader:
    """Reads the figures of the tasks in a scope."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def queue_counts(self, scope: Scope, queue: str | None, since: datetime) -> QueueCounts:
        """Counts of all tasks; averages and ends of those that ended since then."""
        where = within(scope) if queue is None else and_(within(scope), tasks.c.queue == queue)
        recent = and_(where, tasks.c.status.in_(sorted(ENDED)), tasks.c.completed_at >= since)
        async with self._database.read() as connection:
            counted = await connection.execute(
                select(tasks.c.status, func.count()).where(where).group_by(tasks.c.status)
            )
            by_status = {TaskStatus(status): number for status, number in counted}
            ended = await connection.execute(
                select(tasks.c.status, func.count()).where(recent).group_by(tasks.c.status)
            )
            recent_ends = {TaskStatus(status): number for status, number in ended}
            wait, run = (await connection.execute(select(*_averages()).where(recent))).one()
            oldest = (
                await connection.execute(
                    select(func.min(tasks.c.queued_at)).where(where, tasks.c.status == TaskStatus.QUEUED)
                )
            ).scalar()
        return QueueCounts(by_status, _number(wait), _number(run), oldest, recent_ends)

    async def totals(
        self,
        scope: Scope,
        *,
        agent_id: str | None,
        task_type: str | None,
        start: datetime | None,
        end: datetime | None,
    ) -> TaskTotals:
        """Over the tasks created from `start` to before `end`."""
        where = [within(scope)]
        if agent_id is not None:
            where.append(tasks.c.agent_id == agent_id)
        if task_type is not None:
            where.append(tasks.c.task_type == task_type)
        if start is not None:
            where.append(tasks.c.created_at >= start)
        if end is not None:
            where.append(tasks.c.created_at < end)
        async with self._database.read() as connection:
            counted = await connection.execute(
                select(tasks.c.status, func.count()).where(*where).group_by(tasks.c.status)
            )
            by_status = {TaskStatus(status): number for status, number in counted}
            wait, run, cost, quality = (
                await connection.execute(
                    select(*_averages(), func.sum(tasks.c.actual_cost), func.avg(tasks.c.quality_score)).where(*where)
                )
            ).one()
        return TaskTotals(by_status, _number(wait), _number(run), float(cost or 0), _number(quality))


def _averages() -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """Average wait (from entering the queue to the start) and run, each over the tasks that have it."""
    return func.avg(elapsed_ms(tasks.c.queued_at, tasks.c.started_at)), func.avg(tasks.c.processing_ms)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
