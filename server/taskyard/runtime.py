"""Where the core is put together. Importing it does nothing.

`open_embedded` makes a running core over a data folder, `open_deployment` one over PostgreSQL, beside others.
"""

import random
from dataclasses import dataclass
from datetime import timedelta

from taskyard.auth.tokens import Tokens, kept_secret
from taskyard.clock import Clock, SystemClock
from taskyard.errors import StartupError
from taskyard.events.bus import Bus, MemoryBus
from taskyard.events.hub import Hub
from taskyard.queue.base import ReadyQueue
from taskyard.queue.entry import Entry
from taskyard.queue.memory import MemoryQueue
from taskyard.queue.sql import SqlQueue
from taskyard.service.agents import AgentBook
from taskyard.service.announce import Announcer
from taskyard.service.catalog import SILENT_BEATS, Catalog
from taskyard.service.claims import ClaimService
from taskyard.service.figures import FigureService
from taskyard.service.live import LiveService
from taskyard.service.maintenance import Maintenance
from taskyard.service.submission import Submission
from taskyard.service.tasks import TaskService
from taskyard.settings import QueueBackend, Settings
from taskyard.store.database import Database, DataFolder, open_sqlite
from taskyard.store.figures import FigureReader
from taskyard.store.postgres import open_postgres
from taskyard.store.registry import Registry
from taskyard.store.tasks import TaskReader

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
    #: Of the embedded deployment alone.
    folder: DataFolder | None

    async def aclose(self) -> None:
        """Stop the streams, finish what is being written, let go of the data folder."""
        await self.hub.stop()
        await self.bus.stop()
        await self.database.close()
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
    runtime = assemble(settings, secret, clock, randomness, database=database, queue=queue, bus=bus, folder=folder)
    try:
        await bus.start()
        await runtime.hub.start()
        await _rebuild(runtime)
        await runtime.maintenance.recover()
    except BaseException:
        await runtime.aclose()
        raise
    return runtime


async def open_deployment(
    settings: Settings, clock: Clock | None = None, randomness: random.Random | None = None
) -> Runtime:
    """Open a core over the PostgreSQL of DATABASE_URL, which others may share; its schema must be this version's.

    The clock is the database's unless one is given. Raises `StartupError`.
    """
    if settings.database_url is None:
        raise StartupError("bad setting: DATABASE_URL is not set")
    if settings.jwt_secret is None:
        raise StartupError("bad setting: JWT_SECRET is not set: all processes of a deployment need the same one")
    bus = MemoryBus()
    announcer = Announcer(bus)
    database, clock = await open_postgres(settings.database_url, announcer, clock)
    queue = SqlQueue(TaskReader(database), clock, settings.starve)
    announcer.index_in(queue)
    secret, randomness = settings.jwt_secret.get_secret_value(), randomness or random.SystemRandom()
    runtime = assemble(settings, secret, clock, randomness, database=database, queue=queue, bus=bus)
    try:
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
    bus: Bus,
    folder: DataFolder | None = None,
) -> Runtime:
    """The services over an open database, a queue and a bus; nothing is started yet."""
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
        filtered=queue if isinstance(queue, SqlQueue) else SqlQueue(reader, clock, settings.starve),
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
