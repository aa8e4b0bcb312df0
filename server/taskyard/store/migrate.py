"""The schema of a database: which revision it has, and bringing it up to date.

All functions are synchronous: with an asynchronous engine, `await connection.run_sync(upgrade)`.
Alembic is imported only by `upgrade`: asking for the state costs one query.
"""

from contextlib import nullcontext
from enum import StrEnum
from functools import cache
from pathlib import Path

from sqlalchemy import Connection, inspect, text

SCRIPTS = Path(__file__).with_name("migrations")
#: Held on PostgreSQL while migrating, so that two processes do not migrate at once.
_ADVISORY_LOCK = 0x7461736B79617264


class SchemaState(StrEnum):
    """What a database's schema is to this version of Taskyard."""

    EMPTY = "EMPTY"
    CURRENT = "CURRENT"
    OLDER = "OLDER"
    NEWER = "NEWER"


@cache
def revisions() -> tuple[str, ...]:
    """Every revision this version knows, oldest first: a migration's file is named `<revision>_<what>.py`."""
    return tuple(sorted(path.name.partition("_")[0] for path in (SCRIPTS / "versions").glob("[0-9]*_*.py")))


def head_revision() -> str:
    """The revision that this version of Taskyard needs."""
    return revisions()[-1]


def current_revision(connection: Connection) -> str | None:
    """The revision of the database, or None if Taskyard has made nothing in it yet."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def schema_state(connection: Connection) -> SchemaState:
    """Compare the database with this version. A revision that is not known is from a newer Taskyard."""
    revision = current_revision(connection)
    if revision is None:
        return SchemaState.EMPTY
    if revision == head_revision():
        return SchemaState.CURRENT
    return SchemaState.OLDER if revision in revisions() else SchemaState.NEWER


def upgrade(connection: Connection) -> None:
    """Bring the database to `head_revision`, in the caller's transaction or else in one of its own.

    Raises `alembic.util.CommandError` if a newer Taskyard made the database.
    """
    from alembic import command  # noqa: PLC0415 - slow to import, and seldom needed
    from alembic.config import Config  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    with nullcontext() if connection.in_transaction() else connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
            # Others wait behind one that waits for a table: not for ever.
            connection.execute(text("SET LOCAL lock_timeout = '30s'"))
        command.upgrade(config, "head")
