"""Opening PostgreSQL: what is refused and how it is told, its clock, its schema, the plans of its hot queries."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, event, text
from sqlalchemy.ext.asyncio import create_async_engine
from tests.support.clock import FakeClock
from tests.support.core import PATIENCE
from tests.support.databases import administer, with_database
from tests.support.servers import free_port
from tests.support.tasks import an_insert

from taskyard.errors import StartupError
from taskyard.lifecycle import TaskStatus
from taskyard.principal import EVERYTHING, Principal
from taskyard.runtime import open_deployment
from taskyard.settings import Settings
from taskyard.store.database import Database
from taskyard.store.indexes import metadata
from taskyard.store.listing import Page, Sort, SortField, TaskFilter
from taskyard.store.migrate import SchemaState
from taskyard.store.postgres import migrate_postgres, open_postgres
from taskyard.store.registry import Registry
from taskyard.store.tasks import TaskReader
from taskyard.store.writes import NOW, After, move
from taskyard.task import Event, NewTask

pytestmark = pytest.mark.slow

DEPLOY = Path(__file__).parents[2] / "docs/deploy.md"
#: Connections of this database that are Taskyard's.
OURS = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'taskyard%'
"""


async def committed(_events: Sequence[Event]) -> None:
    """Nobody is told."""


@asynccontextmanager
async def opened(url: str, clock: FakeClock | None = None) -> AsyncIterator[Database]:
    database, _ = await open_postgres(url, committed, clock)
    try:
        yield database
    finally:
        await database.close()


async def refusal(url: str) -> str:
    with pytest.raises(StartupError) as caught:
        await open_postgres(url, committed)
    assert "hunter2" not in str(caught.value)
    return str(caught.value)


# -- opening --------------------------------------------------------------------------------------


async def test_a_server_that_is_not_there() -> None:
    port = free_port()
    told = await refusal(f"postgresql://somebody:hunter2@127.0.0.1:{port}/things")
    assert told.startswith(f"the database 127.0.0.1:{port}/things (DATABASE_URL) cannot be reached: ")


async def test_a_database_that_does_not_exist(postgres_url: str) -> None:
    told = await refusal(with_database(postgres_url, "no_such_database"))
    assert told.endswith('(DATABASE_URL) refuses: database "no_such_database" does not exist')


async def test_a_setting_that_the_server_does_not_know(database_url: str) -> None:
    assert "unrecognized configuration parameter" in await refusal(f"{database_url}?no_such_setting=1")


async def test_a_server_that_is_not_the_kind_that_was_asked_for(database_url: str) -> None:
    mark = "&" if "?" in database_url else "?"
    told = await refusal(f"{database_url}{mark}target_session_attrs=standby")
    assert "none is what target_session_attrs asks for" in told


async def test_a_url_that_the_driver_cannot_use(database_url: str) -> None:
    told = await refusal(f"{database_url}?sslmode=hunter2")
    assert told.startswith("bad setting: DATABASE_URL: the driver cannot use it")


async def test_an_empty_database_is_migrated_first(empty_database_url: str) -> None:
    assert (await refusal(empty_database_url)).endswith("no schema of this version: run `taskyard migrate` first")
    assert await migrate_postgres(empty_database_url) is SchemaState.EMPTY
    assert await migrate_postgres(empty_database_url) is SchemaState.CURRENT
    async with opened(empty_database_url) as database:
        assert await TaskReader(database).head() == 0


async def test_processes_that_migrate_at_once(empty_database_url: str) -> None:
    await asyncio.gather(*(migrate_postgres(empty_database_url) for _ in range(3)))
    async with opened(empty_database_url) as database:
        assert await TaskReader(database).head() == 0


@pytest.mark.parametrize(
    ("revision", "told"), [("0001", "run `taskyard migrate` first"), ("9999", "newer Taskyard: start that version")]
)
async def test_a_schema_of_another_version(database_url: str, revision: str, told: str) -> None:
    await administer(database_url, f"UPDATE alembic_version SET version_num = '{revision}'")
    assert told in await refusal(database_url)
    if revision == "9999":
        with pytest.raises(StartupError, match="newer Taskyard"):
            await migrate_postgres(database_url)


async def test_a_deployment_needs_its_database() -> None:
    with pytest.raises(StartupError, match="DATABASE_URL"):
        await open_deployment(Settings())


async def test_settings_of_the_url_hold(database_url: str) -> None:
    url = f"{database_url}?application_name=mine&sslmode=disable&connect_timeout=30&channel_binding=prefer"
    async with opened(url) as database, database.read() as connection:
        shown = (await connection.exec_driver_sql("SHOW application_name")).scalar_one()
        jit = (await connection.exec_driver_sql("SHOW jit")).scalar_one()
    assert (shown, jit) == ("mine", "off")


# -- the clock ------------------------------------------------------------------------------------


async def test_the_clock_is_the_databases(database_url: str) -> None:
    database, clock = await open_postgres(database_url, committed)
    connection = await asyncpg.connect(database_url)
    try:
        before = await connection.fetchval("SELECT clock_timestamp()")
        now = clock.now()
        after = await connection.fetchval("SELECT clock_timestamp()")
    finally:
        await connection.close()
        await database.close()
    # The measurement errs by half a round trip.
    assert before - timedelta(seconds=1) <= now <= after + timedelta(seconds=1)
    assert now.tzinfo is UTC


# -- what processes write at once ------------------------------------------------------------------


async def test_processes_that_register_the_same_things(database_url: str, clock: FakeClock) -> None:
    worker = {"host": "h", "pid": 1, "status": "ALIVE", "concurrency": 2, "types": None, "queues": None}
    async with opened(database_url, clock) as one, opened(database_url, clock) as two:
        registries = [Registry(one, clock), Registry(two, clock)]
        for round_ in range(10):
            await asyncio.gather(
                *(r.add_instance(f"i{round_}") for r in registries),
                *(r.add_agent("default", f"a{round_}", "me") for r in registries),
                *(r.set_paused("default", f"q{round_}", True, "me") for r in registries),
                *(r.put_worker(f"w{round_}", worker) for r in registries),
            )
        assert len(await registries[0].workers()) == len(await registries[1].paused()) == 10


# -- schema and plans ------------------------------------------------------------------------------


async def test_no_migration_is_missing(database_url: str, empty_database_url: str) -> None:
    """A migrated database, and one made from the tables."""
    migrated, made = (
        create_async_engine(url.replace("://", "+asyncpg://")) for url in (database_url, empty_database_url)
    )
    async with migrated.connect() as is_, made.begin() as ought:
        await ought.run_sync(metadata.create_all)
        assert await is_.run_sync(_differences) == []
        assert await is_.run_sync(_fine_print) == await ought.run_sync(_fine_print)
    await migrated.dispose()
    await made.dispose()


def _differences(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_server_default": True})
    return list(compare_metadata(context, metadata))


def _fine_print(connection: Connection) -> set[str]:
    """Indexes with their conditions, and checks: what Alembic does not compare."""
    indexes = "SELECT indexdef FROM pg_indexes WHERE tablename <> 'alembic_version' AND schemaname = 'public'"
    checks = "SELECT conname || pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'c'"
    return {*connection.scalars(text(indexes)), *connection.scalars(text(checks))}


@pytest.fixture
async def filled(database_url: str, clock: FakeClock) -> AsyncIterator[Database]:
    """20,000 tasks, most of them at their end, and the statistics of it."""
    async with opened(database_url, clock) as database:
        inserts = []
        for number in range(20_000):
            status = (TaskStatus.QUEUED, TaskStatus.SCHEDULED)[number // 100 % 2] if number < 800 else None
            insert = an_insert(f"t{number:05}", status=status or TaskStatus.COMPLETED, agent_id=f"a{number % 50}")
            at = clock.now() + timedelta(seconds=number)
            values = {
                "created_at": at, "updated_at": at, "priority": number % 10 + 1, "run_at": at,
                "completed_at": None if status else at,
            }  # fmt: skip
            inserts.append(replace(insert, values={**insert.values, **values}))
        await database.writer.write_many(inserts)
        held = {"holder": "w1", "lease_until": After(timedelta(seconds=30)), "deadline_at": NOW, "started_at": NOW}
        moves = [move(f"t{n:05}", TaskStatus.PROCESSING, actor="worker:w1", values=held) for n in range(100)]
        assert None not in await database.writer.write_many(moves)
        await administer(database_url, "ANALYZE")
        yield database


class Plans:
    """Explains each statement that is read with."""

    def __init__(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.statements: list[tuple[str, Any]] = []
        self._database = database
        event.listen(database._engine.sync_engine, "before_cursor_execute", self._note)

    async def of(self, call: Any) -> str:
        self.statements.clear()
        await call
        ((statement, parameters),) = self.statements
        async with self._database.read() as connection:
            rows = await connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
            return "\n".join(row[0] for row in rows)

    def _note(self, _connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if not statement.startswith("EXPLAIN"):
            self.statements.append((statement, parameters))


async def test_hot_queries_use_their_index(
    filled: Database, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans, reader, now = Plans(filled, monkeypatch), TaskReader(filled), clock.now()
    newest = Sort(field=SortField.CREATED_AT)
    for index, call in (
        ("ix_tasks_ready", reader.ready(EVERYTHING, limit=10)),
        ("ix_tasks_ready", reader.ready(EVERYTHING, limit=10, task_types=["echo"])),
        ("ix_tasks_ready_agent", reader.ready(EVERYTHING, limit=1, agent_id="a1")),
        ("ix_tasks_ready_seq", reader.ready(EVERYTHING, limit=1, oldest_queued_before=now)),
        ("ix_tasks_ready_seq", reader.queued_after(0, 100)),
        ("ix_tasks_due", reader.due(now, 100)),
        ("ix_tasks_lease", reader.lease_expired(now, 100)),
        ("ix_tasks_deadline", reader.past_deadline(now, 100)),
        ("ix_tasks_holder", reader.held_by(["w1"], 100)),
        ("ix_tasks_created_at_id", reader.page(EVERYTHING, TaskFilter(), newest, Page())),
        ("pk_events", reader.events_after(19_000, 100)),
        ("pk_events", reader.queued_between(20_000, 20_100, 100)),
    ):
        plan = await plans.of(call)
        assert index in plan, plan
        assert "Seq Scan on tasks" not in plan, plan
        assert "Seq Scan on events" not in plan, plan


# -- connections -----------------------------------------------------------------------------------


@pytest.mark.parametrize("alone", [False, True], ids=["with Redis", "without Redis"])
async def test_a_process_opens_as_many_connections_as_the_docs_say(
    database_url: str, redis_url: str, redis_prefix: str, user: Principal, alone: bool
) -> None:
    redis = {} if alone else {"redis_url": redis_url, "redis_prefix": redis_prefix}
    runtime = await open_deployment(Settings(database_url=database_url, **redis))
    looking = await asyncpg.connect(database_url)
    try:
        await asyncio.gather(
            *(runtime.registry.types() for _ in range(100)),
            *(runtime.registry.add_instance(f"i{number}") for number in range(20)),
            *(runtime.tasks.create(user, NewTask(task_type="echo", input={})) for _ in range(20)),
        )
        said = re.search(r"up to (\d+) connections to PostgreSQL(?s:.*?)without Redis (\d+) \(", DEPLOY.read_text())
        assert said is not None
        expected = int(said[2 if alone else 1])
        async with asyncio.timeout(PATIENCE):  # the bus connects by itself
            while await looking.fetchval(OURS) < expected:
                await asyncio.sleep(0.05)
        assert await looking.fetchval(OURS) == expected
    finally:
        await looking.close()
        await runtime.aclose()


# -- side by side ---------------------------------------------------------------------------------


async def test_a_clean_up_leaves_what_is_being_retried(database_url: str) -> None:
    async with opened(database_url) as database:
        assert await database.writer.write(an_insert("t", status=TaskStatus.FAILED, completed_at=NOW)) is not None
        retrying = await asyncpg.connect(database_url)
        try:
            async with retrying.transaction():
                await retrying.execute("UPDATE tasks SET status = 'QUEUED', completed_at = NULL WHERE id = 't'")
                later = FakeClock().now().replace(year=2100)
                registry = Registry(database, FakeClock())
                async with asyncio.timeout(PATIENCE):
                    assert await registry.delete_ended(EVERYTHING, later, 10, 1000) == 0
        finally:
            await retrying.close()
        task = await TaskReader(database).get("t", EVERYTHING)
        assert task is not None
        assert task.status is TaskStatus.QUEUED
