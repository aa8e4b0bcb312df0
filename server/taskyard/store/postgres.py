"""Opening a PostgreSQL database: connections and their settings, pools, the check of its schema."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from weakref import WeakSet

import asyncpg
import orjson
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from taskyard.clock import Clock
from taskyard.errors import StartupError
from taskyard.store.database import READ_TIMEOUT, Database, dump_json
from taskyard.store.database_clock import DatabaseClock, Reading
from taskyard.store.migrate import SchemaState, schema_state, upgrade
from taskyard.store.postgres_errors import is_outage
from taskyard.store.postgres_url import COMMAND_TIMEOUT, Driver, PostgresAddress, cannot_connect, parse_postgres_url
from taskyard.store.postgres_writer import PostgresWriter
from taskyard.store.writes import Committed

#: Connections for reads, and for jobs off the hot path.
READERS = 10
JOBS = 2
#: Seconds that closing a pool may take before its connections are cut.
CLOSE_BOUND = 5.0

#: Settings of every session: nothing waits for ever, and nothing that is left behind holds a lock for long.
_SESSION = {
    "application_name": "taskyard",
    "timezone": "UTC",
    "lock_timeout": "10s",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "30s",
    "tcp_user_timeout": "20s",
    "jit": "off",
}
#: The writer's statement finds every row by its key. A plan that was made while the tables were small, or for another
#: state of them, could read them whole.
_WRITER = _SESSION | {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
}
#: A migration may take its time; a server that is not there is still noticed.
_MIGRATION = {"application_name": "taskyard migrate", "timezone": "UTC", "tcp_user_timeout": "20s"}
#: Seconds that one statement of a migration may take, on a large table.
MIGRATION_TIMEOUT = 3600.0
#: What a start may end with: refusals of the server, of the network, and of the driver (no host fits, a bad URL).
_CANNOT_START = (DBAPIError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, ValueError)


class _Pool:
    """An engine over connections of one kind, which can be closed within a bound.

    With `autocommit` each statement is a transaction of its own.
    """

    def __init__(
        self,
        address: PostgresAddress,
        settings: Mapping[str, str],
        size: int,
        *,
        autocommit: bool = False,
        command_timeout: float = COMMAND_TIMEOUT,
    ) -> None:
        self._address = address
        self._settings = settings
        self._command_timeout = command_timeout
        self._open: WeakSet[Driver] = WeakSet()
        self.engine: AsyncEngine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self._connect,
            json_serializer=dump_json,
            json_deserializer=orjson.loads,
            pool_size=size,
            max_overflow=0,
            pool_timeout=READ_TIMEOUT,
            # A read is one round trip then: without a BEGIN before it and a ROLLBACK after it.
            **({"isolation_level": "AUTOCOMMIT"} if autocommit else {}),
        )
        event.listen(self.engine.sync_engine, "checkout", _refuse_closed)

    async def close(self) -> None:
        """Close the idle connections in good order and cut the others."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_BOUND):
                await self.engine.dispose()
        for connection in list(self._open):
            if not connection.is_closed():
                connection.terminate()

    async def _connect(self) -> Driver:
        connection = await self._address.connect(self._settings, self._command_timeout)
        self._open.add(connection)
        return connection


def _refuse_closed(connection: Any, _record: object, _proxy: object) -> None:
    """A connection that the server has ended is not given out: the pool makes a new one."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError


async def open_postgres(
    url: str, committed: Committed, clock: Clock | None = None, *, readers: int = READERS
) -> tuple[Database, Clock]:
    """Open the database that this DATABASE_URL names, and its clock (or use the one that is given).

    The database's `close` stops both. Raises `StartupError` if it cannot be reached, or if its schema is not the
    one of this version.
    """
    address = parse_postgres_url(url)
    reading = _Pool(address, _SESSION, readers, autocommit=True)
    jobs = _Pool(address, _SESSION, JOBS)
    measured: DatabaseClock | None = None
    try:
        try:
            async with reading.engine.connect() as connection:
                _check(address, await connection.run_sync(schema_state))
            if clock is None:
                clock = measured = DatabaseClock(lambda: _read_clock(reading.engine))
                await measured.start()
        except _CANNOT_START as error:
            raise _startup_error(address, error) from _cause(error)
        writer = PostgresWriter(lambda: address.connect(_WRITER), jobs.engine, clock, committed)
    except BaseException:
        await _close(measured, reading, jobs)
        raise
    return Database(reading.engine, writer, is_outage, lambda: _close(measured, reading, jobs)), clock


async def migrate_postgres(url: str) -> SchemaState:
    """Bring the schema up to date in one transaction, and give its state before. Raises `StartupError`."""
    address = parse_postgres_url(url)
    pool = _Pool(address, _MIGRATION, 1, command_timeout=MIGRATION_TIMEOUT)
    try:
        async with pool.engine.begin() as connection:
            before = await connection.run_sync(schema_state)
            if before is SchemaState.NEWER:
                _check(address, before)
            await connection.run_sync(upgrade)
    except _CANNOT_START as error:
        raise _startup_error(address, error) from _cause(error)
    finally:
        await pool.close()
    return before


async def _close(clock: DatabaseClock | None, *pools: _Pool) -> None:
    if clock is not None:
        await clock.stop()
    for pool in pools:
        await pool.close()


def _check(address: PostgresAddress, state: SchemaState) -> None:
    match state:
        case SchemaState.NEWER:
            raise StartupError(f"the database {address.place} was made by a newer Taskyard: start that version")
        case SchemaState.EMPTY | SchemaState.OLDER:
            raise StartupError(
                f"the database {address.place} has no schema of this version: run `taskyard migrate` first"
            )


async def _read_clock(engine: AsyncEngine) -> Reading:
    async with engine.connect() as connection:
        asked = time.monotonic()
        moment: datetime = (await connection.execute(text("SELECT clock_timestamp()"))).scalar_one()
        return Reading(moment.astimezone(UTC), asked, time.monotonic())


def _cause(error: Exception) -> Exception | None:
    """What may be shown in a traceback: the driver repeats parts of a URL that it cannot read."""
    return None if isinstance(error, ValueError) else error


def _startup_error(address: PostgresAddress, error: Exception) -> StartupError:
    original: BaseException = error
    while original.__cause__ is not None:  # SQLAlchemy wraps what the driver says
        original = original.__cause__
    return cannot_connect(address, original if isinstance(original, Exception) else error)
