"""Databases of PostgreSQL for tests: each test has its own, copied from a template, and made ahead of its need."""

import asyncio
import queue
import secrets
import threading
from typing import Any, Self, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import asyncpg

#: Databases that wait to be used.
AHEAD = 2
PATIENCE = 60.0

_Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class Databases:
    """Copies of a template (None: empty databases) on one server. Use as a context manager.

    A thread makes them ahead and drops those that were used, so that no test waits for either. Only databases
    that it made are dropped.
    """

    def __init__(self, url: str, template: str | None = None) -> None:
        self._url = url
        self._template = template
        self._ready: queue.Queue[Any] = queue.Queue(AHEAD)
        self._used: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="test-databases", daemon=True)

    def take(self) -> str:
        """The URL of a database that nobody has used."""
        made = self._ready.get(timeout=PATIENCE)
        if isinstance(made, BaseException):
            raise made
        return with_database(self._url, made)

    def give_back(self, url: str) -> None:
        """It is not needed any more."""
        self._used.put(urlsplit(url).path.lstrip("/"))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - raised where a database is asked for
            self._ready.put(error)

    async def _serve(self) -> None:
        """Runs in a loop of its own, in which nothing else waits: so it may block."""
        connection = await asyncpg.connect(self._url)
        try:
            while not self._closing.is_set():
                await self._offer(connection, await self._make(connection))
            while not self._ready.empty():
                self._used.put(self._ready.get())
            await self._drop_used(connection)
        finally:
            await connection.close()

    async def _make(self, connection: _Connection) -> str:
        name = f"taskyard_test_{secrets.token_hex(6)}"
        copied = f' TEMPLATE "{self._template}"' if self._template else ""
        await connection.execute(f'CREATE DATABASE "{name}"{copied}')
        return name

    async def _offer(self, connection: _Connection, name: str) -> None:
        while not self._closing.is_set():
            await self._drop_used(connection)
            try:
                self._ready.put(name, timeout=0.05)
            except queue.Full:
                continue
            return
        self._used.put(name)

    async def _drop_used(self, connection: _Connection) -> None:
        while not self._used.empty():
            await connection.execute(f'DROP DATABASE IF EXISTS "{self._used.get()}" WITH (FORCE)')


async def administer(url: str, statement: str, *values: object) -> None:
    """Run one statement on the server, on a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement, *values)
    finally:
        await connection.close()


def with_database(url: str, database: str) -> str:
    """The same server's URL for another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))
