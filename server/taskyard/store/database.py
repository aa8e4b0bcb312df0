"""Opening a database: engines, the lock of a data folder, the check of its schema."""

import fcntl
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any

import orjson
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from taskyard.clock import Clock
from taskyard.errors import StartupError, Unavailable
from taskyard.outage import Outage
from taskyard.store.migrate import SchemaState, schema_state, upgrade
from taskyard.store.sqlite import SqliteWriter
from taskyard.store.writes import Committed, Writer

DATABASE_FILE = "taskyard.db"
#: Connections for reads, and how long a read waits for one: seconds.
READERS = 8
READ_TIMEOUT = 10


class Database:
    """Reads through a pool, writes through one `Writer`.

    `is_outage` says which errors mean that the database is away; `let_go`, if given, closes the engine instead of
    a plain dispose.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        writer: Writer,
        is_outage: Callable[[Exception], bool],
        let_go: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._engine = engine
        self._is_outage = is_outage
        self._let_go = let_go or engine.dispose
        self._outage = Outage("the database cannot be read")
        self.writer = writer

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection to read with. Raises `Unavailable` when the database does not answer."""
        try:
            async with self._engine.connect() as connection:
                yield connection
            self._outage.over()
        except (DBAPIError, PoolTimeout, OSError) as error:
            if not self._is_outage(error):
                raise
            self._outage.failed(error)
            raise Unavailable("the database does not answer") from error

    async def close(self) -> None:
        await self.writer.close()
        await self._let_go()


class DataFolder:
    """The folder that holds an embedded deployment, locked for the life of this object."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock: IO[str] | None = (path / "lock").open("a")
        except OSError as error:
            raise StartupError(f"the data folder {path} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise StartupError(
                f"the data folder {path} is in use by another Taskyard: stop it, or choose another with --data"
            ) from error

    @property
    def database(self) -> Path:
        return self.path / DATABASE_FILE

    def release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def open_sqlite(path: Path, clock: Clock, committed: Committed, *, migrate: bool) -> Database:
    """Open the database file; with `migrate`, bring its schema up to date first.

    Raises `StartupError` if a newer Taskyard made it, if it is older and must not be migrated, or if it
    is no database.
    """
    engine = prepared_engine(path, migrate=migrate)
    return Database(_reading_engine(path), SqliteWriter(engine, clock, committed), _is_outage)


def prepared_engine(path: Path, *, migrate: bool) -> Engine:
    """The writing engine over a database whose schema is the one of this version; raises as `open_sqlite`."""
    engine = writing_engine(path)
    try:
        with engine.begin() as connection:
            state = schema_state(connection)
            if state is SchemaState.NEWER:
                raise StartupError(
                    f"the database {path} was made by a newer Taskyard: start that version, or choose another folder"
                )
            if state is not SchemaState.CURRENT:
                if not migrate:
                    raise StartupError(
                        f"the database {path} has no schema of this version: run `taskyard migrate` first"
                    )
                upgrade(connection)
    except DBAPIError as error:
        raise StartupError(f"the database {path} cannot be opened: {error.orig}") from error
    return engine


def writing_engine(path: Path) -> Engine:
    """A synchronous engine whose transactions take the write lock at once: a deferred one could fail later."""
    engine = create_engine(
        f"sqlite:///{path}",
        connect_args={"check_same_thread": False, "isolation_level": None},
        json_serializer=dump_json,
        json_deserializer=orjson.loads,
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _record: Any) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _reading_engine(path: Path) -> AsyncEngine:
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{path}",
        connect_args={"isolation_level": None},
        json_serializer=dump_json,
        json_deserializer=orjson.loads,
        pool_size=READERS,
        max_overflow=0,
        pool_timeout=READ_TIMEOUT,
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        for pragma in ("busy_timeout=5000", "query_only=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine


def _is_outage(error: Exception) -> bool:
    return isinstance(error, OperationalError | InterfaceError | PoolTimeout | OSError)


def dump_json(value: Any) -> str:
    """JSON text, as every engine stores it."""
    return orjson.dumps(value).decode()
