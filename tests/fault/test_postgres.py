"""PostgreSQL fails under a writer: nothing acknowledged is lost, nobody hangs, and it goes on by itself."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from sqlalchemy import select, text
from tests.support.clock import FakeClock
from tests.support.core import PATIENCE
from tests.support.databases import administer
from tests.support.servers import PostgresServer
from tests.support.tasks import an_insert

from taskyard.errors import Unavailable
from taskyard.lifecycle import TaskStatus
from taskyard.principal import EVERYTHING
from taskyard.store import postgres
from taskyard.store.database import Database
from taskyard.store.postgres import migrate_postgres, open_postgres
from taskyard.store.tables import counters, tasks
from taskyard.store.tasks import TaskReader
from taskyard.store.writes import Change
from taskyard.task import Event, EventKind

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server of this test's own, which it may crash."""
    with PostgresServer() as started:
        asyncio.run(migrate_postgres(started.url()))
        yield started


@asynccontextmanager
async def opened(url: str, clock: FakeClock | None = None) -> AsyncIterator[Database]:
    async def committed(_events: Any) -> None: ...

    database, _ = await open_postgres(url, committed, clock)
    try:
        yield database
    finally:
        async with asyncio.timeout(PATIENCE):
            await database.close()


async def _ids(database: Database) -> set[str]:
    async with database.read() as connection:
        return set(await connection.scalars(select(tasks.c.id)))


class Stream:
    """Callers that write one after the other, each by itself, and try again when the database is away."""

    def __init__(self, database: Database, callers: int = 10) -> None:
        self._database = database
        self.acknowledged: set[str] = set()
        self.refused = 0
        self._more = asyncio.Condition()
        self._stopping = False
        self._tasks = [asyncio.create_task(self._write(caller)) for caller in range(callers)]

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE), self._more:
            await self._more.wait_for(holds)

    async def goes_on(self, writes: int = 50) -> None:
        wanted = len(self.acknowledged) + writes
        await self.until(lambda: len(self.acknowledged) >= wanted)

    async def stop(self) -> None:
        self._stopping = True
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*self._tasks)

    async def _write(self, caller: int) -> None:
        number = 0
        while not self._stopping:
            number += 1
            name = f"{caller}-{number}"
            try:
                await self._database.writer.write(an_insert(name))
            except Unavailable:
                self.refused += 1
                await asyncio.sleep(0.01)  # as a caller would
            else:
                self.acknowledged.add(name)
            async with self._more:
                self._more.notify_all()


async def _nothing_lost(database: Database, stream: Stream) -> None:
    assert await _ids(database) >= stream.acknowledged
    log: list[Event] = []
    while more := await TaskReader(database).events_after(log[-1].seq if log else 0, 5000):
        log += more
    assert [event.seq for event in log] == list(range(1, len(log) + 1))
    assert {event.task_id for event in log} >= stream.acknowledged


async def test_the_server_crashes(server: PostgresServer) -> None:
    async with opened(server.url()) as database:
        stream = Stream(database)
        for _ in range(2):
            await stream.goes_on()
            refused = stream.refused
            await asyncio.to_thread(server.crash)
            await stream.until(lambda refused=refused: stream.refused > refused)
            with pytest.raises(Unavailable):
                await _ids(database)
            with pytest.raises(Unavailable):
                await database.writer.run(lambda connection: connection.execute(select(counters)).all())
            with pytest.raises(Unavailable):
                await database.writer.write_atomic([an_insert("not now")])
            await asyncio.to_thread(server.start)
            await stream.goes_on()
        await stream.stop()
        await _nothing_lost(database, stream)


async def test_the_first_read_after_a_crash_is_answered(server: PostgresServer) -> None:
    """The connections of the pool are dead."""
    async with opened(server.url()) as database:
        assert await _ids(database) == set()
        await asyncio.to_thread(server.crash)
        await asyncio.to_thread(server.start)
        assert await _ids(database) == set()


async def test_sessions_are_cut(database_url: str) -> None:
    async with opened(database_url) as database:
        stream = Stream(database)
        for _ in range(5):
            await stream.goes_on()
            async with _session(database_url) as session:
                await session.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
        await stream.goes_on()
        await stream.stop()
        await _nothing_lost(database, stream)


async def test_a_close_after_the_server_has_gone(server: PostgresServer) -> None:
    async with opened(server.url()) as database:
        await database.writer.write(an_insert("a"))
        await database.writer.run(lambda connection: connection.execute(select(counters)).all())
        assert await _ids(database) == {"a"}
        await asyncio.to_thread(server.crash)


async def test_a_migration_comes_by(database_url: str) -> None:
    """Plans of another schema are made anew, by the groups, by jobs and by reads."""
    async with opened(database_url) as database:
        reader = TaskReader(database)
        for number in range(3):
            await database.writer.write(an_insert(f"w{number}"))
            await database.writer.write_atomic([an_insert(f"a{number}")])
            found = await database.writer.run(lambda connection: connection.execute(text("TABLE tasks")).all())
            assert len(found) == 2 * number + 2
            try:
                await reader.get_many(["w0"], EVERYTHING, payload=True)
            except Unavailable:  # once
                await reader.get_many(["w0"], EVERYTHING, payload=True)
            await administer(database_url, f"ALTER TABLE tasks ADD COLUMN more{number} text")


async def test_another_session_holds_the_lock(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(postgres._WRITER, "lock_timeout", "200ms")
    async with opened(database_url) as database:
        await database.writer.write(an_insert("held"))
        note = Change(task_id="held", kind=EventKind.LOG, actor="a", statuses=frozenset(TaskStatus))
        async with _session(database_url) as session:
            lock = session.transaction()
            await lock.start()
            await session.execute("SELECT FROM tasks WHERE id = 'held' FOR UPDATE")
            async with asyncio.timeout(PATIENCE):
                with pytest.raises(Unavailable):
                    await database.writer.write(note)
                with pytest.raises(Unavailable):
                    await database.writer.write_atomic([note])
            await lock.rollback()
        written = await database.writer.write(note)
        assert written is not None
        assert written.version == 2


async def test_a_close_while_the_server_stands_still(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot end is cut off: the callers are told, and the close has a bound."""
    monkeypatch.setattr("taskyard.store.postgres_writer.CLOSE_BOUND", 0.5)
    async with _session(database_url) as session, opened(database_url) as database:
        await database.writer.write(an_insert("held"))
        lock = session.transaction()
        await lock.start()
        await session.execute("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
        calls = [
            asyncio.create_task(database.writer.write(an_insert("a"))),
            asyncio.create_task(database.writer.write_atomic([an_insert("b")])),
            asyncio.create_task(
                database.writer.run(lambda connection: connection.execute(text("TABLE tasks")).all())
            ),
        ]
        await _waits_for_a_lock(session)
        async with asyncio.timeout(PATIENCE):
            await database.close()
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
        await lock.rollback()


async def test_writers_of_several_processes_wait_for_each_other_in_no_ring(database_url: str) -> None:
    """Each has the same tasks in another order; a deadlock would take a second to be seen, and would be seen."""
    async with opened(database_url) as one, opened(database_url) as two:
        names = [f"t{number}" for number in range(40)]
        await one.writer.write_many([an_insert(name) for name in names])
        notes = [
            Change(task_id=name, kind=EventKind.LOG, actor="a", statuses=frozenset(TaskStatus)) for name in names
        ]
        for _ in range(20):
            await asyncio.gather(one.writer.write_many(notes), two.writer.write_many(notes[::-1]))
        async with _session(database_url) as session:
            query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
            assert await session.fetchval(query) == 0
        (task,) = await TaskReader(two).get_many(["t7"], EVERYTHING)
        assert task.version == 41
        log = await TaskReader(one).events_after(0, 10_000)
        assert [event.seq for event in log] == list(range(1, 40 * 41 + 1))


@asynccontextmanager
async def _session(url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def _waits_for_a_lock(session: Any) -> None:
    """Until the writer and the job are both stuck."""
    query = "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()"
    async with asyncio.timeout(PATIENCE):
        while await session.fetchval(query) < 2:
            await asyncio.sleep(0.02)
