"""Rows that change seldom: instances, agents, task types, queues, workers, leases, cursors."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, or_, select, tuple_, update

from taskyard.clock import Clock
from taskyard.lifecycle import HELD
from taskyard.principal import Scope
from taskyard.store.database import Database
from taskyard.store.indexes import AT_AN_END
from taskyard.store.listing import within
from taskyard.store.tables import (
    agents,
    counters,
    events,
    instances,
    leases,
    queues,
    steps,
    task_types,
    tasks,
    workers,
)
from taskyard.store.upsert import add_missing, put
from taskyard.task import AgentSummary, TaskTypeSpec

# Of loops. Made once: to make a statement takes longer than to run it.
_FREE = or_(leases.c.holder == bindparam("taker"), leases.c.until < bindparam("now"))
_LEASE = select(leases.c.holder, leases.c.until).where(leases.c.name == bindparam("name"))
_PAUSED = select(queues.c.instance_id, queues.c.name).where(queues.c.paused)
_MOVE_CURSOR = (
    update(counters)
    .where(counters.c.name == bindparam("of"), counters.c.value < bindparam("to"))
    .values(value=bindparam("to"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker as it last told of itself. `types` None: it runs any."""

    id: str
    host: str
    pid: int
    status: str
    queues: Sequence[str] | None
    types: Sequence[str] | None
    concurrency: int
    running: int
    completed: int
    failed: int
    started_at: datetime
    heartbeat_at: datetime


class Registry:
    """Reads and writes of those rows. Writes go through the one writer, off the hot path."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    # -- instances and agents -----------------------------------------------------------------

    async def add_instance(self, instance_id: str) -> None:
        """Register an instance unless it is known."""
        row = {"id": instance_id, "name": instance_id, "created_at": self._clock.now()}
        await self._database.writer.run(lambda connection: add_missing(connection, instances, row))

    async def agent(self, instance_id: str, agent_id: str) -> AgentSummary | None:
        statement = select(agents.c.id, agents.c.name, agents.c.type).where(
            agents.c.instance_id == instance_id, agents.c.id == agent_id
        )
        async with self._database.read() as connection:
            row = (await connection.execute(statement)).first()
        return None if row is None else AgentSummary(*row)

    async def add_agent(self, instance_id: str, agent_id: str, owner: str) -> None:
        """Register an agent under its id unless it is known."""
        now = self._clock.now()
        row = {
            "instance_id": instance_id,
            "id": agent_id,
            "name": agent_id,
            "type": "generic",
            "owner": owner,
            "created_at": now,
            "updated_at": now,
        }
        await self._database.writer.run(lambda connection: add_missing(connection, agents, row))

    async def put_agent(self, instance_id: str, agent: AgentSummary, owner: str) -> None:
        """Register an agent with its name and type, or change those of one that is known."""
        now = self._clock.now()
        key = {"instance_id": instance_id, "id": agent.id}
        row = {"name": agent.name, "type": agent.type, "updated_at": now}
        first = {"owner": owner, "created_at": now}
        await self._database.writer.run(lambda connection: put(connection, agents, key, row, first=first))

    # -- task types ---------------------------------------------------------------------------

    async def declare(self, specs: Sequence[TaskTypeSpec]) -> None:
        """Store what a worker declares; the newest declaration of a type holds."""
        now = self._clock.now()

        def job(connection: Connection) -> None:
            # In the order of their names: two workers that declare the same types wait for each other in no ring.
            for spec in sorted(specs, key=lambda spec: spec.name):
                row = {
                    "description": spec.description,
                    "input_schema": spec.input_schema,
                    "output_schema": spec.output_schema,
                    "timeout_ms": None if spec.timeout is None else round(spec.timeout.total_seconds() * 1000),
                    "max_retries": spec.max_retries,
                    "capabilities": list(spec.capabilities),
                    "updated_at": now,
                }
                put(connection, task_types, {"name": spec.name}, row, first={"declared_at": now})

        await self._database.writer.run(job)

    async def types(self) -> list[TaskTypeSpec]:
        async with self._database.read() as connection:
            rows = (await connection.execute(select(task_types).order_by(task_types.c.name))).all()
        return [
            TaskTypeSpec(
                name=row.name,
                description=row.description,
                input_schema=row.input_schema,
                output_schema=row.output_schema,
                timeout=None if row.timeout_ms is None else timedelta(milliseconds=row.timeout_ms),
                max_retries=row.max_retries,
                capabilities=tuple(row.capabilities),
            )
            for row in rows
        ]

    # -- queues -------------------------------------------------------------------------------

    async def set_paused(self, instance_id: str, name: str, paused: bool, actor: str) -> None:
        key = {"instance_id": instance_id, "name": name}
        row = {"paused": paused, "updated_by": actor, "updated_at": self._clock.now()}
        await self._database.writer.run(lambda connection: put(connection, queues, key, row))

    async def paused(self) -> frozenset[tuple[str, str]]:
        """Instance and name of every paused queue."""
        async with self._database.read() as connection:
            return frozenset((row.instance_id, row.name) for row in await connection.execute(_PAUSED))

    # -- workers ------------------------------------------------------------------------------

    async def put_worker(self, worker_id: str, values: Mapping[str, Any]) -> None:
        """Store a worker's row or change it, and note that it is alive."""
        now = self._clock.now()
        row, first = {**values, "heartbeat_at": now}, {"started_at": now}
        await self._database.writer.run(
            lambda connection: put(connection, workers, {"id": worker_id}, row, first=first)
        )

    async def workers(self, alive_since: datetime | None = None) -> list[Worker]:
        """Workers, newest first; with a time, those that told of themselves since then and have not stopped."""
        statement = select(workers).order_by(workers.c.started_at.desc())
        if alive_since is not None:
            statement = statement.where(workers.c.status != "STOPPED", workers.c.heartbeat_at >= alive_since)
        async with self._database.read() as connection:
            rows = (await connection.execute(statement)).mappings().all()
        return [Worker(**row) for row in rows]

    async def stop_workers(self, silent_since: datetime | None) -> int:
        """Mark those that fell silent before then as stopped (None: all of them), and say how many."""
        stopping = update(workers).where(workers.c.status != "STOPPED").values(status="STOPPED", running=0)
        if silent_since is not None:
            stopping = stopping.where(workers.c.heartbeat_at < silent_since)
        return await self._database.writer.run(lambda connection: connection.execute(stopping).rowcount)

    async def forget_workers(self, silent_since: datetime) -> None:
        """Remove stopped workers that have been silent since before then."""
        gone = delete(workers).where(workers.c.status == "STOPPED", workers.c.heartbeat_at < silent_since)
        await self._database.writer.run(lambda connection: connection.execute(gone).close())

    async def renew(
        self, holder: str, runs: Collection[tuple[str, int]], until: datetime
    ) -> frozenset[tuple[str, int]]:
        """Renew the leases of these runs, by task id and attempt, and give those that the holder still has."""
        held = and_(
            tuple_(tasks.c.id, tasks.c.attempt).in_(sorted(runs)),
            tasks.c.holder == holder,
            tasks.c.status.in_(sorted(HELD)),
        )
        # Locked in the order of their ids, as the groups of the writer are.
        locked = select(tasks.c.id).where(held).order_by(tasks.c.id).with_for_update().correlate(None)
        renewal = (
            update(tasks)
            .where(tasks.c.id.in_(locked), held)
            .values(lease_until=until)
            .returning(tasks.c.id, tasks.c.attempt)
        )

        def job(connection: Connection) -> frozenset[tuple[str, int]]:
            return frozenset((row.id, row.attempt) for row in connection.execute(renewal))

        return await self._database.writer.run(job)

    # -- ends ---------------------------------------------------------------------------------

    async def delete_ended(self, scope: Scope, before: datetime, limit: int, max_events: int) -> int:
        """Delete up to `limit` tasks that ended before then, with their steps and events, and say how many.

        Together they have at most `max_events` events, or else it is one task alone.
        """
        old = (
            select(tasks.c.id, tasks.c.version)
            .where(within(scope), AT_AN_END, tasks.c.completed_at < before)
            .order_by(tasks.c.completed_at)
            .limit(limit)
            # Until they are gone nobody retries them; what is being retried now stays. (SQLite has one writer.)
            .with_for_update(skip_locked=True)
        )

        def job(connection: Connection) -> int:
            rows = connection.execute(old).all()
            # Each event raised its task's version by one.
            counts = accumulate(row.version for row in rows)
            ids = [row.id for row, count in zip(rows, counts, strict=True) if count <= max_events or row is rows[0]]
            for table, column in ((steps, steps.c.task_id), (events, events.c.task_id), (tasks, tasks.c.id)):
                connection.execute(delete(table).where(column.in_(ids)))
            return len(ids)

        return await self._database.writer.run(job)

    # -- what processes share -----------------------------------------------------------------

    async def take_lease(self, name: str, holder: str, seconds: float) -> bool:
        """Take a part that one process plays at a time, or keep it; says whether the holder has it now."""
        now = self._clock.now()
        row = {"holder": holder, "until": now + timedelta(seconds=seconds)}
        given = {"taker": holder, "now": now}
        return await self._database.writer.run(
            lambda connection: put(connection, leases, {"name": name}, row, where=_FREE, given=given)
        )

    async def is_taken(self, name: str, holder: str) -> bool:
        """Whether another plays that part now. It writes nothing: most who want a part find that it is taken."""
        async with self._database.read() as connection:
            known = (await connection.execute(_LEASE, {"name": name})).first()
        return known is not None and known.holder != holder and known.until >= self._clock.now()

    async def give_up_lease(self, name: str, holder: str) -> None:
        """Leave a part to others, if it is the holder's."""
        gone = delete(leases).where(leases.c.name == name, leases.c.holder == holder)
        await self._database.writer.run(lambda connection: connection.execute(gone).close())

    async def cursor(self, name: str) -> int:
        """How far a reader of the log has come: the `seq` of the last event that it has dealt with."""
        statement = select(counters.c.value).where(counters.c.name == name)
        async with self._database.read() as connection:
            return int((await connection.execute(statement)).scalar_one())

    async def set_cursor(self, name: str, value: int) -> None:
        """Note how far a reader has come; one that is behind another does not take it back."""
        further = {"of": name, "to": value}
        await self._database.writer.run(lambda connection: connection.execute(_MOVE_CURSOR, further).close())
