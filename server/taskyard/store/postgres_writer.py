"""The writer of PostgreSQL: a connection of its own, one statement and one commit a group.

(docs/decisions/0006-postgresql-one-statement-a-group.md)
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import asyncpg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine

from taskyard.clock import Clock, from_millis, to_millis
from taskyard.errors import Unavailable
from taskyard.stopping import end
from taskyard.store.group_commit import GroupCommit
from taskyard.store.postgres_errors import is_crossed, is_outage
from taskyard.store.postgres_group import MAX_GROUP, Group, keys_of, numbered, parts_of
from taskyard.store.postgres_text import APPLY, NUMBER, WRITE
from taskyard.store.postgres_url import Driver
from taskyard.store.writes import Committed, NotAllTaken, Write
from taskyard.task import Event

T = TypeVar("T")

logger = logging.getLogger(__name__)

#: How often what met another transaction is tried.
TRIES = 5
#: Seconds that a close waits for what was asked; what takes longer is cut off.
CLOSE_BOUND = 10.0
_STOPPING = "the service is stopping"


class PostgresWriter:
    """`Writer` for PostgreSQL. `committed` gets the events of each transaction after its commit.

    `connect` makes the connection of the groups; jobs run on `jobs`. A reply that is lost with its connection is
    `Unavailable`, although its write may stand: callers who try again do so by compare-and-set.
    """

    def __init__(
        self, connect: Callable[[], Awaitable[Driver]], jobs: AsyncEngine, clock: Clock, committed: Committed
    ) -> None:
        self._connect = connect
        self._jobs = jobs
        self._clock = clock
        self._committed = committed
        self._turn = asyncio.Lock()
        self._connection: Driver | None = None
        self._closing = False
        self._closed = False
        self._under_way: set[asyncio.Task[Any]] = set()
        self._group: GroupCommit[Write, Event | None] = GroupCommit(self._flush, max_batch=MAX_GROUP, keys=keys_of)

    async def write(self, item: Write) -> Event | None:
        return await self._group.write(item)

    async def write_many(self, items: Sequence[Write]) -> list[Event | None]:
        return await self._group.write_all(items)

    async def write_atomic(self, items: Sequence[Write]) -> list[Event | None]:
        try:
            return await self._to_its_end(self._flush_atomic(items))
        except NotAllTaken as refused:
            return refused.results

    async def run(self, job: Callable[[Connection], T]) -> T:
        return await self._to_its_end(self._run(job))

    async def close(self) -> None:
        self._closing = True
        group = asyncio.create_task(self._group.close(), name="writer-close")
        await asyncio.wait({group, *self._under_way}, timeout=CLOSE_BOUND)
        self._closed = True  # what waits for the connection from now on is refused
        if self._connection is not None and not self._turn.locked():
            await _close(self._connection)
        self._drop()
        await asyncio.gather(*(end(task) for task in [*self._under_way]))
        await asyncio.wait({group}, timeout=CLOSE_BOUND)  # without its connection the group fails

    async def _to_its_end(self, work: Coroutine[Any, Any, T]) -> T:
        """In a task of its own: a caller that gives up must not keep what was committed from being announced."""
        if self._closing:
            work.close()
            raise Unavailable(_STOPPING)
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if task.cancelled() and caller is not None and not caller.cancelling():
                # It was the close that ended it, and not the caller who gave up.
                raise Unavailable(_STOPPING) from None
            raise

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # of a caller that gave up: nobody is left who would look

    # -- groups -------------------------------------------------------------------------------

    async def _flush(self, items: Sequence[Write]) -> list[Event | None]:
        async def write(connection: Driver) -> list[Event | None]:
            group = self._group_of(items)
            return group.results(await connection.fetch(WRITE, *group.parameters()))

        return await self._told(await self._with_connection(write))

    async def _flush_atomic(self, items: Sequence[Write]) -> list[Event | None]:
        async def write(connection: Driver) -> list[Event | None]:
            async with connection.transaction():
                return await self._apply_all(connection, items)

        return await self._told(await self._with_connection(write))

    async def _apply_all(self, connection: Driver, items: Sequence[Write]) -> list[Event | None]:
        results: list[Event | None] = []
        for part in parts_of(items):
            group = self._group_of(part)
            results += group.results(await connection.fetch(APPLY, *group.parameters()))
        applied = [event for event in results if event is not None]
        if len(applied) < len(results):
            raise NotAllTaken(results)
        numbers: list[int] = []
        for start in range(0, len(applied), MAX_GROUP):
            events = applied[start : start + MAX_GROUP]
            rows = await connection.fetch(NUMBER, events[0].at, numbered(events))
            numbers += sorted(row["seq"] for row in rows)
        return [replace(event, seq=seq) for event, seq in zip(applied, numbers, strict=True)]

    def _group_of(self, items: Sequence[Write]) -> Group:
        return Group(items, from_millis(to_millis(self._clock.now())))

    async def _told(self, results: list[Event | None]) -> list[Event | None]:
        # What only the claimer needs is not kept by those who wait to tell it on.
        told = (event if event.rest is None else replace(event, rest=None) for event in results if event is not None)
        await self._committed(sorted(told, key=lambda event: event.seq))
        return results

    async def _with_connection(self, work: Callable[[Driver], Awaitable[T]]) -> T:
        """Do it on the one connection, which is made anew if it was lost. Raises `Unavailable`, or for a bad item."""
        async with self._turn:
            try:
                return await _untangled(lambda: self._attempt(work))
            except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
                if not is_outage(error):
                    raise
                self._drop()
                raise Unavailable("the database cannot be written now") from error
            except asyncio.CancelledError:
                self._drop()  # it is not known how far it has come
                raise

    async def _attempt(self, work: Callable[[Driver], Awaitable[T]]) -> T:
        self._check_open()
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect()
            self._check_open()  # a close may have come meanwhile
        return await work(self._connection)

    def _check_open(self) -> None:
        if self._closed:
            self._drop()
            raise Unavailable(_STOPPING)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            connection.terminate()

    # -- jobs ---------------------------------------------------------------------------------

    async def _run(self, job: Callable[[Connection], T]) -> T:
        async def attempt() -> T:
            async with self._jobs.begin() as connection:
                return await connection.run_sync(job)

        try:
            return await _untangled(attempt)
        except (DBAPIError, PoolTimeout, OSError) as error:
            if not is_outage(error):
                raise
            raise Unavailable("the database cannot be written now") from error


async def _untangled(attempt: Callable[[], Awaitable[T]]) -> T:
    """Try again what met another transaction in a ring of locks: it has written nothing."""
    for _ in range(TRIES - 1):
        try:
            return await attempt()
        except (DBAPIError, asyncpg.PostgresError) as error:
            if not is_crossed(error):
                raise
            logger.info("tried again: %s", error)
    return await attempt()


async def _close(connection: Driver) -> None:
    try:
        await connection.close(timeout=5)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        logger.debug("the writer's connection was cut", exc_info=error)
