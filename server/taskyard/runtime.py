"""Where the core is put together. Importing it does nothing.

`open_embedded` makes a running core over a data folder, `open_deployment` one over PostgreSQL, beside others.
"""

import os
import random
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from taskyard.auth.tokens import Tokens, kept_secret
from taskyard.clock import Clock, SystemClock
from taskyard.errors import StartupError
from taskyard.events.bus import Bus, MemoryBus
from taskyard.events.hub import Hub
from taskyard.events.notify_bus import NotifyBus
from taskyard.events.redis_bus import RedisBus
from taskyard.queue.base import ReadyQueue
from taskyard.queue.entry import Entry
from taskyard.queue.memory import MemoryQueue
from taskyard.queue.redis_queue import RedisQueue
from taskyard.queue.sql import SqlQueue
from taskyard.redis_link import RedisLink
from taskyard.service.agents import AgentBook
from taskyard.service.announce import Announcer
from taskyard.service.catalog import SILENT_BEATS, Catalog
from taskyard.service.claims import ClaimService
from taskyard.service.duty import Alone, Duty, LeasedDuty
from taskyard.service.figures import FigureService
from taskyard.service.live import LiveService
from taskyard.service.maintenance import Maintenance
from taskyard.service.relay import ReadyRows, Relay
from taskyard.service.submission import Submission
from taskyard.service.tasks import TaskService
from taskyard.settings import QueueBackend, Settings
from taskyard.store.database import DATABASE_FILE, Database, DataFolder, open_sqlite
from taskyard.store.figures import FigureReader
from taskyard.store.postgres import open_postgres
from taskyard.store.postgres_url import parse_postgres_url
from taskyard.store.registry import Registry
from taskyard.store.tasks import TaskReader
from taskyard.task import Event

#: Of the connections that carry events beside the database's own; a call may take so many seconds.
BUS_SESSION = {"application_name": "taskyard bus"}
BUS_TIMEOUT = 5.0
#: Rows read at a time when the queue is filled anew.
REBUILD_SLICE = 5000


@dataclass(frozen=True, slots=True)
class Runtime:
    """A running core: what transports and workers are given."""

    settings: Settings
    clock: Clock
    tokens: Tokens
    tasks: TaskService
    claims: ClaimService
    figures: FigureService
    live: LiveService
    maintenance: Maintenance
    catalog: Catalog
    registry: Registry
    queue: ReadyQueue
    bus: Bus
    hub: Hub
    reader: TaskReader
    database: Database
    #: What a janitor asks before it works.
    duty: Duty
    #: Of a queue whose index may lose something.
    relay: Relay | None = None
    redis: RedisLink | None = None
    #: Of the embedded deployment alone.
    folder: DataFolder | None = None

    async def aclose(self) -> None:
        """Stop the streams, finish what is being written, let go of the servers and the data folder."""
        await self.hub.stop()
        await self.bus.stop()
        await self.database.close()
        if self.redis is not None:
            await self.redis.aclose()
        if self.folder is not None:
            self.folder.release()


async def open_embedded(
    settings: Settings,
    clock: Clock | None = None,
    randomness: random.Random | None = None,
    *,
    migrate: bool = True,
) -> Runtime:
    """Open the embedded deployment in its data folder, which is locked: SQLite and a queue in memory.

    With `migrate` the schema is brought up to date first; without, it must be. What an earlier process
    was running is queued again. Raises `StartupError`.
    """
    clock = clock or SystemClock()
    randomness = randomness or random.SystemRandom()
    folder = DataFolder(settings.data)
    try:
        secret = settings.jwt_secret.get_secret_value() if settings.jwt_secret else kept_secret(settings.data)
        bus = MemoryBus()
        announcer = Announcer(bus)
        database = open_sqlite(folder.database, clock, announcer, migrate=migrate)
    except BaseException:
        folder.release()
        raise
    by_sql = SqlQueue(TaskReader(database), clock, settings.starve)
    queue: ReadyQueue = by_sql if settings.queue_backend is QueueBackend.SQL else MemoryQueue(clock, settings.starve)
    announcer.index_in(queue)
    runtime = assemble(
        settings,
        secret,
        clock,
        randomness,
        database=database,
        queue=queue,
        table=by_sql,
        bus=bus,
        duty=Alone(),
        folder=folder,
    )
    try:
        await bus.start()
        await runtime.hub.start()
        await _rebuild(runtime)
        await runtime.maintenance.recover()
    except BaseException:
        await runtime.aclose()
        raise
    return runtime


@dataclass(frozen=True, slots=True)
class Store:
    """A database to look into, without anything that runs."""

    database: Database
    clock: Clock

    async def aclose(self) -> None:
        await self.database.close()


async def open_store(settings: Settings) -> Store:
    """The database that the settings name, whoever has it open as well. Raises `StartupError`."""
    if settings.database_url is not None:
        return Store(*await open_postgres(settings.database_url, _nobody))
    path = settings.data / DATABASE_FILE
    if not path.exists():
        raise StartupError(f"there is no database {path}")
    clock = SystemClock()
    return Store(open_sqlite(path, clock, _nobody, migrate=False), clock)


async def _nobody(_events: Sequence[Event]) -> None:
    """Nothing is written here that anybody would have to be told of."""


async def open_runtime(settings: Settings) -> Runtime:
    """The deployment that the settings name: DATABASE_URL, or else the data folder; its schema must be up to date."""
    if settings.database_url is None:
        return await open_embedded(settings, migrate=False)
    return await open_deployment(settings)


async def open_deployment(
    settings: Settings, clock: Clock | None = None, randomness: random.Random | None = None
) -> Runtime:
    """Open a core over the PostgreSQL of DATABASE_URL and the Redis of REDIS_URL, if there is one.

    Others may share both. The schema must be this version's. The clock is the database's unless one is given.
    Raises `StartupError`.
    """
    if settings.database_url is None:
        raise StartupError("bad setting: DATABASE_URL is not set")
    address = parse_postgres_url(settings.database_url)
    redis = None if settings.redis_url is None else RedisLink(settings.redis_url, settings.redis_prefix)
    bus = NotifyBus(partial(address.connect, BUS_SESSION, BUS_TIMEOUT)) if redis is None else RedisBus(redis)
    announcer = Announcer(bus)
    database, clock = await open_postgres(settings.database_url, announcer, clock)
    reader, registry = TaskReader(database), Registry(database, clock)
    by_sql = SqlQueue(reader, clock, settings.starve)
    queue: ReadyQueue = by_sql
    relay = None
    if redis is not None and settings.queue_backend is not QueueBackend.SQL:
        queue = index = RedisQueue(redis, by_sql, ReadyRows(reader, registry), clock, settings.starve)
        relay = Relay(reader, registry, index, clock)
    announcer.index_in(queue)
    runtime = assemble(
        settings,
        # A process that serves nobody needs none: what it might sign would be good nowhere.
        settings.jwt_secret.get_secret_value() if settings.jwt_secret else secrets.token_hex(),
        clock,
        randomness or random.SystemRandom(),
        database=database,
        queue=queue,
        table=by_sql,
        bus=bus,
        duty=LeasedDuty(registry, clock, "janitor", f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"),
        relay=relay,
        redis=redis,
    )
    try:
        if redis is not None:
            await redis.check()
        await bus.start()
        await runtime.hub.start()
    except BaseException:
        await runtime.aclose()
        raise
    return runtime


def assemble(
    settings: Settings,
    secret: str,
    clock: Clock,
    randomness: random.Random,
    *,
    database: Database,
    queue: ReadyQueue,
    table: SqlQueue,
    bus: Bus,
    duty: Duty,
    relay: Relay | None = None,
    redis: RedisLink | None = None,
    folder: DataFolder | None = None,
) -> Runtime:
    """The services over an open database, a queue and a bus; nothing is started yet.

    `table` claims what an index cannot find; it may be the queue itself.
    """
    reader = TaskReader(database)
    registry = Registry(database, clock)
    catalog = Catalog(registry, clock, settings.heartbeat)
    submission = Submission(catalog, clock, randomness.getrandbits, settings.max_retries)
    tasks = TaskService(
        reader=reader,
        writer=database.writer,
        registry=registry,
        queue=queue,
        bus=bus,
        catalog=catalog,
        submission=submission,
        agents=AgentBook(registry, strict=settings.strict_agents),
    )
    claims = ClaimService(
        reader=reader,
        writer=database.writer,
        registry=registry,
        queue=queue,
        filtered=table,
        tasks=tasks,
        catalog=catalog,
        clock=clock,
        uniform=randomness.uniform,
        lease=timedelta(seconds=settings.lease),
        task_timeout=timedelta(seconds=settings.task_timeout),
    )
    figures = FigureService(FigureReader(database), catalog, clock)
    hub = Hub(bus, reader)
    return Runtime(
        settings=settings,
        clock=clock,
        tokens=Tokens(secret, clock),
        tasks=tasks,
        claims=claims,
        figures=figures,
        live=LiveService(hub, reader, figures),
        maintenance=Maintenance(
            reader=reader,
            writer=database.writer,
            registry=registry,
            clock=clock,
            silence=timedelta(seconds=settings.heartbeat * SILENT_BEATS),
        ),
        catalog=catalog,
        registry=registry,
        queue=queue,
        bus=bus,
        hub=hub,
        reader=reader,
        database=database,
        duty=duty,
        relay=relay,
        redis=redis,
        folder=folder,
    )


async def _rebuild(runtime: Runtime) -> None:
    """Fill the queue from SQL, pauses first."""
    for instance_id, name in await runtime.registry.paused():
        await runtime.queue.set_paused(instance_id, name, True)
    seq = 0
    while ready := await runtime.reader.queued_after(seq, REBUILD_SLICE):
        await runtime.queue.add([Entry.of_task(task) for task in ready])
        seq = ready[-1].queue_seq or 0
