"""Reading tasks, steps and events. Every read takes the `Scope` that it may see."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Integer,
    Row,
    Select,
    and_,
    bindparam,
    func,
    not_,
    or_,
    select,
    tuple_,
)

from taskyard.lifecycle import HELD, TaskStatus
from taskyard.principal import EVERYTHING, Scope
from taskyard.store.database import Database
from taskyard.store.indexes import DUE, HAS_HOLDER, IS_HELD, READY
from taskyard.store.listing import Page, Sort, TaskFilter, TaskPage, cut, matching, paged, within
from taskyard.store.tables import agents, counters, events, queues, steps, tasks
from taskyard.task import AgentSummary, Event, EventKind, Payload, Ready, Step, StepStatus, Task

_LARGE = frozenset({"input", "output", "request_hash"})
_FIELDS = tuple(column.name for column in tasks.columns if column.name not in _LARGE)
_WITH_AGENT = tasks.outerjoin(
    agents, and_(agents.c.instance_id == tasks.c.instance_id, agents.c.id == tasks.c.agent_id)
)
_SELECT = select(
    *(tasks.c[name] for name in _FIELDS), agents.c.name.label("agent_name"), agents.c.type.label("agent_type")
)
_IN_A_PAUSED_QUEUE = tuple_(tasks.c.instance_id, tasks.c.queue).in_(
    select(queues.c.instance_id, queues.c.name).where(queues.c.paused)
)
_WITHOUT_PAYLOAD = _SELECT.select_from(_WITH_AGENT)
_WITH_PAYLOAD = _SELECT.add_columns(tasks.c.input, tasks.c.output).select_from(_WITH_AGENT)

# Of claims and loops. Made once: to make a statement takes longer than to run it.
_LIMIT = bindparam("limit", type_=Integer)
_MOMENT: BindParameter[datetime] = bindparam("moment")
#: The read of a claim that was not given everything, whether with the payload.
_BY_ID: dict[bool, Select[Any]] = {
    payload: statement.where(tasks.c.id.in_(bindparam("ids", expanding=True)))
    for payload, statement in ((False, _WITHOUT_PAYLOAD), (True, _WITH_PAYLOAD))
}
_DUE = _WITHOUT_PAYLOAD.where(DUE, tasks.c.run_at <= _MOMENT).order_by(tasks.c.run_at).limit(_LIMIT)
_LEASE_EXPIRED = _WITHOUT_PAYLOAD.where(IS_HELD, tasks.c.lease_until < _MOMENT).limit(_LIMIT)
_PAST_DEADLINE = _WITHOUT_PAYLOAD.where(IS_HELD, tasks.c.deadline_at < _MOMENT).limit(_LIMIT)
_READY = select(*(tasks.c[name] for name in Ready._fields)).where(READY).order_by(tasks.c.queue_seq).limit(_LIMIT)
_READY_AFTER = _READY.where(tasks.c.queue_seq > bindparam("after"))
_LOG_AFTER = select(events).where(events.c.seq > bindparam("after")).order_by(events.c.seq).limit(_LIMIT)
_READY_BETWEEN = _READY.where(
    tasks.c.id.in_(
        select(events.c.task_id).where(
            events.c.seq > bindparam("after"),
            events.c.seq <= bindparam("upto"),
            events.c.kind.in_([EventKind.STATUS, EventKind.PRIORITY]),
        )
    )
)
_HEAD = select(counters.c.value).where(counters.c.name == "event")


class TaskReader:
    """Reads over tasks and what hangs on them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, task_id: str, scope: Scope, *, payload: bool = True) -> Task | None:
        found = await self.get_many([task_id], scope, payload=payload)
        return found[0] if found else None

    async def get_many(self, task_ids: Iterable[str], scope: Scope, *, payload: bool = False) -> list[Task]:
        """Those that exist and may be seen, in no order."""
        ids = list(task_ids)
        if not ids:
            return []
        statement = _BY_ID[payload]
        if scope != EVERYTHING:
            statement = statement.where(within(scope))
        return [_task(row, payload) for row in await self._rows(statement, ids=ids)]

    async def payloads(self, task_ids: Sequence[str], scope: Scope) -> dict[str, Payload]:
        """The large parts by task id."""
        statement = select(tasks.c.id, tasks.c.input, tasks.c.output).where(tasks.c.id.in_(task_ids), within(scope))
        async with self._database.read() as connection:
            return {row.id: Payload(row.input, row.output) for row in await connection.execute(statement)}

    async def find_submitted(
        self, instance_id: str, *, task_id: str | None, idempotency_key: str | None
    ) -> tuple[Task, str] | None:
        """The task that stands in the way of an insert, with the digest of what was submitted."""
        ways = [tasks.c.id == task_id] if task_id is not None else []
        if idempotency_key is not None:
            ways.append(tasks.c.idempotency_key == idempotency_key)
        statement = _WITH_PAYLOAD.add_columns(tasks.c.request_hash).where(
            tasks.c.instance_id == instance_id, or_(*ways)
        )
        if idempotency_key is not None:
            # The id may name one task and the key another: then it is the key that was used before.
            statement = statement.order_by(func.coalesce(tasks.c.idempotency_key, "") != idempotency_key)
        async with self._database.read() as connection:
            row = (await connection.execute(statement)).first()
        return None if row is None else (_task(row, True), row.request_hash)

    async def page(
        self, scope: Scope, wanted: TaskFilter, sort: Sort, page: Page, *, payload: bool = False
    ) -> TaskPage:
        statement = (_WITH_PAYLOAD if payload else _WITHOUT_PAYLOAD).where(matching(scope, wanted))
        async with self._database.read() as connection:
            rows = (await connection.execute(paged(statement, sort, page))).all()
        return cut([_task(row, payload) for row in rows], page)

    async def count(self, scope: Scope, wanted: TaskFilter) -> int:
        statement = select(func.count()).select_from(tasks).where(matching(scope, wanted))
        async with self._database.read() as connection:
            return int((await connection.execute(statement)).scalar_one())

    async def ready(
        self,
        scope: Scope,
        *,
        limit: int,
        queue_names: Sequence[str] | None = None,
        task_types: Sequence[str] | None = None,
        min_priority: int = 1,
        agent_id: str | None = None,
        agent_type: str | None = None,
        oldest_queued_before: datetime | None = None,
    ) -> list[Task]:
        """The best ready tasks that fit, in queues that are not paused.

        With `oldest_queued_before`: those that entered a queue before then, oldest first whatever
        their priority.
        """
        wanted = TaskFilter(
            queues=queue_names,
            task_types=task_types,
            min_priority=min_priority,
            agent_ids=None if agent_id is None else [agent_id],
            agent_types=None if agent_type is None else [agent_type],
        )
        where = [READY, matching(scope, wanted), not_(_IN_A_PAUSED_QUEUE)]
        order = [tasks.c.priority.desc(), tasks.c.queue_seq]
        if oldest_queued_before is not None:
            where.append(tasks.c.queued_at < oldest_queued_before)
            order = [tasks.c.queue_seq]
        return await self._select(and_(*where), False, order=order, limit=limit)

    async def unfinished(self, scope: Scope, wanted: TaskFilter) -> bool:
        """Whether any that fits is held, waits out a backoff, or is ready in a queue that is not paused."""
        # One statement, and so one moment: a task that moves on meanwhile is seen in one of these states.
        going_on = tasks.c.status.in_(sorted(HELD | {TaskStatus.QUEUED, TaskStatus.RETRYING}))
        asleep = and_(READY, _IN_A_PAUSED_QUEUE)
        statement = select(tasks.c.id).where(matching(scope, wanted), going_on, not_(asleep)).limit(1)
        async with self._database.read() as connection:
            return (await connection.execute(statement)).first() is not None

    async def queued_after(self, queue_seq: int, limit: int) -> list[Ready]:
        """Everything that is QUEUED, in the order of its sequence: for filling an index anew."""
        return [Ready._make(row) for row in await self._rows(_READY_AFTER, after=queue_seq, limit=limit)]

    async def queued_between(self, after_seq: int, upto_seq: int, limit: int) -> list[Ready]:
        """What is QUEUED now and has come into its line, or moved in it, by an event in this part of the log."""
        rows = await self._rows(_READY_BETWEEN, after=after_seq, upto=upto_seq, limit=limit)
        return [Ready._make(row) for row in rows]

    async def due(self, now: datetime, limit: int) -> list[Task]:
        """Waiting tasks whose time has come, longest due first."""
        return [_task(row, False) for row in await self._rows(_DUE, moment=now, limit=limit)]

    async def lease_expired(self, now: datetime, limit: int) -> list[Task]:
        """Held tasks whose claim ran out."""
        return [_task(row, False) for row in await self._rows(_LEASE_EXPIRED, moment=now, limit=limit)]

    async def past_deadline(self, before: datetime, limit: int) -> list[Task]:
        """Held tasks that should have ended before then."""
        return [_task(row, False) for row in await self._rows(_PAST_DEADLINE, moment=before, limit=limit)]

    async def held_by(self, holders: Sequence[str], limit: int) -> list[Task]:
        """Tasks that these workers hold."""
        return await self._select(and_(tasks.c.holder.in_(holders), IS_HELD), False, limit=limit)

    async def started_before(self, scope: Scope, moment: datetime, limit: int) -> list[Task]:
        """Held tasks whose run began before then; one that is only assigned has no run yet."""
        return await self._select(
            and_(within(scope), HAS_HOLDER, IS_HELD, tasks.c.started_at < moment),
            False,
            limit=limit,
        )

    async def steps(self, task_id: str, scope: Scope) -> list[Step]:
        """The plan of a task, in its order."""
        return (await self.steps_of([task_id], scope)).get(task_id, [])

    async def steps_of(self, task_ids: Sequence[str], scope: Scope) -> dict[str, list[Step]]:
        """The plans of those of these tasks that have one, each in its order."""
        statement = (
            select(steps)
            .join(tasks, tasks.c.id == steps.c.task_id)
            .where(steps.c.task_id.in_(task_ids), within(scope))
            .order_by(steps.c.position)
        )
        found: dict[str, list[Step]] = defaultdict(list)
        async with self._database.read() as connection:
            for row in (await connection.execute(statement)).mappings():
                found[row["task_id"]].append(Step(**{**row, "status": StepStatus(row["status"])}))
        return found

    async def events_of(
        self, task_ids: Sequence[str], scope: Scope, after_version: int, limit: int
    ) -> dict[str, list[Event]]:
        """What happened to each of these tasks, in order: up to `limit` events after that version."""
        # The versions of a task have no gaps: so their number is known without a limit for each.
        first = max(after_version, 0)
        statement = (
            select(events)
            .join(tasks, tasks.c.id == events.c.task_id)
            .where(events.c.task_id.in_(task_ids), within(scope))
            .where(events.c.version > first, events.c.version <= first + limit)
            .order_by(events.c.version)
        )
        found: dict[str, list[Event]] = defaultdict(list)
        async with self._database.read() as connection:
            for row in await connection.execute(statement):
                found[row.task_id].append(_event(row))
        return found

    async def statuses_written(self, task_id: str, attempt: int, actor: str) -> frozenset[TaskStatus]:
        """What this actor made of a task during an attempt, as the log tells, whatever came after it."""
        statement = select(events).where(
            events.c.task_id == task_id,
            events.c.attempt == attempt,
            events.c.actor == actor,
            events.c.kind == EventKind.STATUS,
        )
        async with self._database.read() as connection:
            return frozenset(_event(row).status for row in await connection.execute(statement))

    async def events_after(self, seq: int, limit: int) -> list[Event]:
        """The log of the whole deployment from a cursor on, in order."""
        return [_event(row) for row in await self._rows(_LOG_AFTER, after=seq, limit=limit)]

    async def head(self) -> int:
        """`seq` of the newest event; 0 before the first. It stays when old events are deleted."""
        ((value,),) = await self._rows(_HEAD)
        return int(value)

    async def _rows(self, statement: Select[Any], **given: Any) -> Sequence[Row[Any]]:
        async with self._database.read() as connection:
            rows: Sequence[Row[Any]] = (await connection.execute(statement, given)).all()
        return rows

    async def _select(
        self,
        where: ColumnElement[bool],
        payload: bool,
        *,
        order: Sequence[ColumnElement[Any]] = (),
        limit: int | None = None,
    ) -> list[Task]:
        statement = (_WITH_PAYLOAD if payload else _WITHOUT_PAYLOAD).where(where)
        if order:
            statement = statement.order_by(*order)
        async with self._database.read() as connection:
            rows = (await connection.execute(statement.limit(limit))).all()
        return [_task(row, payload) for row in rows]


def _task(row: Row[Any], payload: bool) -> Task:
    values = dict(zip(_FIELDS, row, strict=False))
    values["status"] = TaskStatus(values["status"])
    agent_id, name = values["agent_id"], row.agent_name
    return Task(
        **values,
        agent=AgentSummary(agent_id, name, row.agent_type) if name is not None else None,
        payload=Payload(row.input, row.output) if payload else None,
    )


def _event(row: Row[Any]) -> Event:
    return Event(
        seq=row.seq,
        task_id=row.task_id,
        instance_id=row.instance_id,
        version=row.version,
        attempt=row.attempt,
        kind=EventKind(row.kind),
        actor=row.actor,
        at=row.at,
        state=row.state,
        detail=row.detail,
    )
