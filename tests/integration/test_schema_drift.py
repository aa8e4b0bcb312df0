"""schema.prisma, tables.py, the migrations and a migrated database say the same thing."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import CheckConstraint, Connection, Table, create_engine, inspect, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError
from sqlalchemy.schema import CreateIndex, CreateTable
from tools.make_schema import ROOT, SCHEMA, pending_changes, run_prisma

from taskyard.lifecycle import TaskStatus
from taskyard.store import migrate
from taskyard.store.database import writing_engine
from taskyard.store.indexes import AT_AN_END, DUE, HAS_DEADLINE, HAS_HOLDER, LEASED, READY, metadata
from taskyard.store.migrate import SchemaState, current_revision, head_revision, schema_state, upgrade
from taskyard.store.tables import agents, counters, instances, task_status, tasks


@pytest.fixture
def empty() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.fixture
def migrated(empty: Connection) -> Connection:
    upgrade(empty)
    return empty


@pytest.mark.slow
def test_tables_are_what_prisma_generates(tmp_path: Path) -> None:
    schema = tmp_path / SCHEMA.name
    shutil.copy(SCHEMA, schema)
    run_prisma("format", "generate", schema=schema)
    made = Path("server", "taskyard", "store", "tables.py")
    assert (tmp_path / made).read_bytes() == (ROOT / made).read_bytes(), "run make schema"
    assert schema.read_text() == SCHEMA.read_text(), "run make schema: it is not formatted"


def test_no_migration_is_missing() -> None:
    assert pending_changes() == []


def test_a_new_value_of_an_enum_is_seen_as_a_missing_migration(monkeypatch: pytest.MonkeyPatch) -> None:
    check = next(
        each
        for each in tasks.constraints
        if isinstance(each, CheckConstraint) and each.name == "ck_tasks_task_status"
    )
    monkeypatch.setattr(check, "sqltext", text("status IN ('QUEUED', 'PONDERING')"))
    changes = pending_changes()
    assert [change.partition(":")[0] for change in changes] == [
        "in the tables only",
        "in the migrations only",
    ]
    assert "PONDERING" in changes[0]


def test_a_changed_column_is_seen_as_a_missing_migration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.c.progress_step, "nullable", False)
    assert any("modify_nullable" in change and "progress_step" in change for change in pending_changes())


def test_a_migrated_database_has_every_column(migrated: Connection) -> None:
    inspector = inspect(migrated)
    assert set(inspector.get_table_names()) == {*metadata.tables, "alembic_version"}
    for table in metadata.tables.values():
        columns = {column["name"]: column["nullable"] for column in inspector.get_columns(table.name)}
        assert columns == {column.name: column.nullable for column in table.columns}
        assert inspector.get_pk_constraint(table.name)["constrained_columns"] == [c.name for c in table.primary_key]


def test_a_migrated_database_has_its_first_rows(migrated: Connection) -> None:
    assert migrated.scalars(select(instances.c.id)).all() == ["default"]
    assert set(migrated.execute(select(counters))) == {("event", 0), ("queue", 0), ("relay", 0)}


def test_the_database_refuses_a_status_that_does_not_exist(migrated: Connection) -> None:
    row = "INSERT INTO agents (instance_id, id, name, type, status, owner, created_at, updated_at) VALUES"
    with pytest.raises(IntegrityError, match="ck_agents_agent_status"):
        migrated.execute(text(f"{row} ('default', 'a', 'a', 'a', 'ASLEEP', 'me', 0, 0)"))
    migrated.execute(text(f"{row} ('default', 'a', 'a', 'a', 'BUSY', 'me', 0, 0)"))
    assert migrated.scalar(select(agents.c.capabilities)) == []


def test_states_of_a_schema(empty: Connection) -> None:
    assert schema_state(empty) is SchemaState.EMPTY
    assert current_revision(empty) is None
    upgrade(empty)
    assert schema_state(empty) is SchemaState.CURRENT
    assert current_revision(empty) == head_revision()
    empty.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert schema_state(empty) is SchemaState.NEWER
    with pytest.raises(CommandError):
        upgrade(empty)


def test_a_schema_before_the_newest_is_older(migrated: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    known = migrate.revisions()
    monkeypatch.setattr(migrate, "revisions", lambda: (*known, "9999"))
    assert schema_state(migrated) is SchemaState.OLDER


def test_an_upgrade_joins_the_transaction_of_the_caller_or_commits_its_own(tmp_path: Path) -> None:
    engine = writing_engine(tmp_path / "taskyard.db")
    with engine.connect() as connection, connection.begin() as transaction:
        upgrade(connection)
        transaction.rollback()
    with engine.connect() as connection:
        assert schema_state(connection) is SchemaState.EMPTY
    with engine.connect() as connection:
        upgrade(connection)
    with engine.connect() as connection:
        assert schema_state(connection) is SchemaState.CURRENT
        upgrade(connection)
    engine.dispose()


def test_revisions_told_by_file_names_are_those_of_alembic() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrate.SCRIPTS).replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    assert list(migrate.revisions()) == [script.revision for script in scripts.walk_revisions()][::-1]
    assert scripts.get_heads() == [head_revision()]


@pytest.mark.parametrize("table", metadata.sorted_tables, ids=lambda table: table.name)
def test_every_table_compiles_for_postgresql(table: Table) -> None:
    statement = str(CreateTable(table).compile(dialect=postgresql.dialect()))
    assert "SERIAL" not in statement
    assert "TIMESTAMP WITH" not in statement
    for index in table.indexes:
        assert str(CreateIndex(index).compile(dialect=postgresql.dialect()))


@pytest.mark.parametrize(
    ("condition", "order", "index"),
    [
        (READY & (tasks.c.queue == "q"), (tasks.c.priority.desc(), tasks.c.queue_seq), "ready"),
        (READY, (tasks.c.priority.desc(), tasks.c.queue_seq), "ready"),
        (DUE & (tasks.c.run_at <= text("5")), (tasks.c.run_at,), "due"),
        (LEASED & (tasks.c.lease_until <= text("5")), (tasks.c.lease_until,), "lease"),
        (HAS_DEADLINE & (tasks.c.deadline_at <= text("5")), (tasks.c.deadline_at,), "deadline"),
        (AT_AN_END & (tasks.c.completed_at <= text("5")), (tasks.c.completed_at,), "finished"),
        (HAS_HOLDER & (tasks.c.holder == "w"), (), "holder"),
    ],
)
def test_a_query_that_says_the_condition_uses_the_partial_index(
    migrated: Connection, condition: object, order: tuple[object, ...], index: str
) -> None:
    query = select(tasks.c.id).where(condition).order_by(*order).compile(dialect=migrated.dialect)
    values = tuple(query.params[name] for name in query.positiontup or ())
    plan = "\n".join(row[3] for row in migrated.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", values))
    assert f"ix_tasks_{index}" in plan.split()
    assert "TEMP B-TREE" not in plan


def test_the_enum_of_the_database_is_that_of_the_code() -> None:
    assert task_status.enums == [status.value for status in TaskStatus]
