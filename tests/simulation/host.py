"""A process of a simulated deployment: the real services, worker and janitor over links that may fail."""

import asyncio
import contextvars
import random
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

from tests.simulation.index import Index
from tests.simulation.link import HostClock, Link
from tests.simulation.oracle import Oracle
from tests.simulation.store import MemoryStore, Row

from taskyard.events.bus import Listener
from taskyard.lifecycle import TaskStatus
from taskyard.principal import Scope
from taskyard.processor import Processor
from taskyard.queue.base import Commit
from taskyard.queue.entry import Entry, Want
from taskyard.queue.sql import SqlQueue
from taskyard.runtime import Runtime
from taskyard.service.agents import AgentBook
from taskyard.service.announce import Announcer
from taskyard.service.catalog import SILENT_BEATS, Catalog
from taskyard.service.claims import ClaimService
from taskyard.service.maintenance import Maintenance
from taskyard.service.submission import Submission
from taskyard.service.tasks import TaskService
from taskyard.settings import Settings
from taskyard.store.group_commit import GroupCommit
from taskyard.store.registry import Worker as WorkerRow
from taskyard.store.writes import Change, Write
from taskyard.task import Event, Task, TaskTypeSpec
from taskyard_workers.janitor import Janitor
from taskyard_workers.worker import Worker

T = TypeVar("T")

#: What takes a guard out of a change, to see whether the oracle notices.
Mutate = Callable[[Change], Change]

#: The host that the running asyncio task belongs to: tasks that it starts inherit it.
HOST: contextvars.ContextVar["Host"] = contextvars.ContextVar("host")

SETTINGS = Settings(
    concurrency=4, lease=3, heartbeat=1, poll=0.5, drain=1, task_timeout=6, max_retries=3, starve=3600
)


@dataclass(frozen=True, slots=True)
class Servers:
    """What all hosts share."""

    store: MemoryStore
    index: Index
    hosts: list["Host"]
    oracle: Oracle
    mutate: Mutate | None


class Host:
    """One process. Its worker is optional: a web process has none."""

    def __init__(
        self, name: str, servers: Servers, dice: random.Random, skew: float, processors: Mapping[str, Processor]
    ) -> None:
        self.name = name
        self.link = Link(dice)
        self.clock = HostClock(skew)
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.listeners: list[Listener] = []
        self._dice = dice
        self._servers = servers
        queue, bus = HostQueue(self, servers.index), HostBus(self, servers.hosts)
        announcer = Announcer(bus)
        announcer.index_in(queue)
        # It has what is asked of each of the three; the services know no more of them.
        self._store = HostStore(self, servers, announcer)
        store = cast("Any", self._store)
        filtered = SqlQueue(store, self.clock, SETTINGS.starve)
        catalog = Catalog(store, self.clock, SETTINGS.heartbeat)
        self.service = TaskService(
            reader=store,
            writer=store,
            registry=store,
            queue=queue,
            bus=bus,
            catalog=catalog,
            submission=Submission(catalog, self.clock, dice.getrandbits, SETTINGS.max_retries),
            agents=AgentBook(store, strict=False),
        )
        self.claims = ClaimService(
            reader=store,
            writer=store,
            registry=store,
            queue=queue,
            filtered=filtered,
            tasks=self.service,
            catalog=catalog,
            clock=self.clock,
            uniform=dice.uniform,
            lease=timedelta(seconds=SETTINGS.lease),
            task_timeout=timedelta(seconds=SETTINGS.task_timeout),
        )
        self.maintenance = Maintenance(
            reader=store,
            writer=store,
            registry=store,
            clock=self.clock,
            silence=timedelta(seconds=SETTINGS.heartbeat * SILENT_BEATS),
        )
        self._janitor = Janitor(self.maintenance)
        self.worker = Worker(
            cast("Runtime", _Core(SETTINGS, self.clock, self.claims, catalog, self._store, bus)), processors
        )
        self.has_worker = bool(processors)

    def spawn(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Run this in the process: it ends with it."""
        context = contextvars.copy_context()
        context.run(HOST.set, self)
        return asyncio.get_running_loop().create_task(work, context=context)

    async def start(self) -> None:
        """Begin to work. A server that does not answer is asked again, as a supervisor would."""
        self._servers.hosts.append(self)
        if not self.has_worker:
            return
        self._janitor.start()
        started = False
        while not started:
            try:
                await self.worker.start()
                started = True
            except Exception:  # noqa: BLE001 - a start that fails is tried again
                await asyncio.sleep(0.2)

    async def stop(self) -> None:
        """End as at a SIGTERM."""
        await self.worker.stop()
        await self._janitor.stop()
        self.kill()

    def kill(self) -> None:
        """End as at a SIGKILL: nothing more of it reaches anybody."""
        self.link.dead = True
        if self in self._servers.hosts:
            self._servers.hosts.remove(self)
        for task in list(self.tasks):
            task.cancel()

    async def pause(self, seconds: float) -> None:
        """Let time pass for a processor; a frozen host does not go on."""
        await asyncio.sleep(seconds)
        if self.link.dead or self.link.frozen is not None:
            await self.link.flow()

    def hear(self, events: Sequence[Event]) -> None:
        if self.link.dead or self.link.frozen is not None or self.link.cut:
            return
        if self.link.lost_events and self._dice.random() < self.link.lost_events:
            return
        for listener in list(self.listeners):
            listener(events)


@dataclass(frozen=True, slots=True)
class _Core:
    """The part of a `Runtime` that a worker uses."""

    settings: Settings
    clock: HostClock
    claims: ClaimService
    catalog: Catalog
    registry: "HostStore"
    bus: "HostBus"


class HostBus:
    """`Bus` of one host: carries events to all of them, one after the other, some not."""

    def __init__(self, host: Host, hosts: Sequence[Host]) -> None:
        self._host = host
        self._hosts = hosts

    async def publish(self, events: Sequence[Event]) -> None:
        if self._host.link.dead or self._host.link.cut:
            return
        loop = asyncio.get_running_loop()
        for number, host in enumerate(self._hosts):
            loop.call_later(0.001 + 0.001 * number, host.hear, events)

    async def start(self) -> None:
        """It is there as long as its host."""

    async def stop(self) -> None:
        """It ends with its host."""

    def listen(self, listener: Listener) -> Callable[[], None]:
        self._host.listeners.append(listener)
        return lambda: self._host.listeners.remove(listener)


class HostQueue:
    """`TaskQueue` of one host: the index of the deployment, as long as the host lives."""

    def __init__(self, host: Host, index: Index) -> None:
        self._link = host.link
        self._index = index

    async def add(self, entries: Sequence[Entry]) -> None:
        await self._link.flow()
        if not self._link.cut:
            await self._index.add(entries)

    async def discard(self, entries: Sequence[Entry]) -> None:
        await self._link.flow()
        if not self._link.cut:
            await self._index.discard(entries)

    async def claim(self, want: Want, commit: Commit[T]) -> list[T]:
        await self._link.flow()
        return await self._index.claim(want, commit)

    async def peek(self, want: Want) -> list[Entry]:
        await self._link.flow()
        return await self._index.peek(want)

    async def set_paused(self, instance_id: str, queue: str, paused: bool) -> None:
        await self._index.set_paused(instance_id, queue, paused)


class HostStore:
    """`TaskReader`, `Registry` and `Writer` of one host, with the real group commit."""

    def __init__(self, host: Host, servers: Servers, announcer: Announcer) -> None:
        self._host = host
        self._link = host.link
        self._store = servers.store
        self._mutate = servers.mutate
        self._announcer = announcer
        self._group: GroupCommit[Write, Event | None] = GroupCommit(self._flush)

        def witness(before: Row | None, after: Row, event: Event) -> None:
            servers.oracle.saw(host, before, after, event)

        self._witness = witness
        self._renewed = servers.oracle.renewed

    async def _call(self, work: Callable[[], T], *, write: bool = False) -> T:
        await self._link.request(write=write)
        result = work()
        await self._link.reply()
        return result

    # -- Writer -------------------------------------------------------------------------------

    async def write(self, item: Write) -> Event | None:
        return await self._group.write(item)

    async def write_many(self, items: Sequence[Write]) -> list[Event | None]:
        return await self._group.write_all(items)

    async def _flush(self, items: Sequence[Write]) -> list[Event | None]:
        if self._link.stuck is not None:
            await self._link.stuck.wait()
        if self._mutate is not None:
            items = [self._mutate(item) if isinstance(item, Change) else item for item in items]
        events = await self._call(lambda: self._store.apply(items, self._witness), write=True)
        await self._announcer([event for event in events if event is not None])
        return events

    # -- TaskReader ---------------------------------------------------------------------------

    async def get(self, task_id: str, scope: Scope, *, payload: bool = True) -> Task | None:
        return await self._call(lambda: self._store.get(task_id, scope))

    async def get_many(self, task_ids: Sequence[str], scope: Scope, *, payload: bool = False) -> list[Task]:
        return await self._call(lambda: self._store.get_many(task_ids, scope)) if task_ids else []

    async def statuses_written(self, task_id: str, attempt: int, actor: str) -> frozenset[TaskStatus]:
        return await self._call(lambda: self._store.statuses_written(task_id, attempt, actor))

    async def find_submitted(
        self, instance_id: str, *, task_id: str, idempotency_key: str | None
    ) -> tuple[Task, str] | None:
        return await self._call(lambda: self._store.find_submitted(task_id))

    async def ready(self, scope: Scope, *, limit: int, **_filters: Any) -> list[Task]:
        return await self._call(lambda: self._store.ready(scope, limit))

    async def due(self, now: datetime, limit: int) -> list[Task]:
        return await self._call(lambda: self._store.due(now, limit))

    async def lease_expired(self, now: datetime, limit: int) -> list[Task]:
        return await self._call(lambda: self._store.lease_expired(now, limit))

    async def past_deadline(self, before: datetime, limit: int) -> list[Task]:
        return await self._call(lambda: self._store.past_deadline(before, limit))

    async def started_before(self, scope: Scope, moment: datetime, limit: int) -> list[Task]:
        return await self._call(lambda: self._store.started_before(moment, limit))

    # -- Registry -----------------------------------------------------------------------------

    async def add_instance(self, instance_id: str) -> None:
        """Nothing refers to it here."""

    async def declare(self, specs: Sequence[TaskTypeSpec]) -> None:
        await self._call(lambda: self._store.declare(specs))

    async def types(self) -> list[TaskTypeSpec]:
        return await self._call(self._store.types)

    async def set_paused(self, instance_id: str, name: str, paused: bool, actor: str) -> None:
        await self._call(lambda: self._store.set_paused(instance_id, name, paused))

    async def paused(self) -> frozenset[tuple[str, str]]:
        return await self._call(self._store.paused)

    async def put_worker(self, worker_id: str, values: Mapping[str, Any]) -> None:
        await self._call(lambda: self._store.put_worker(worker_id, values))

    async def workers(self, alive_since: datetime | None = None) -> list[WorkerRow]:
        return await self._call(lambda: self._store.workers(alive_since))

    async def stop_workers(self, silent_since: datetime | None) -> int:
        return await self._call(lambda: self._store.stop_workers(silent_since))

    async def forget_workers(self, silent_since: datetime) -> None:
        """None has been silent for so long."""

    async def renew(
        self, holder: str, runs: Collection[tuple[str, int]], until: datetime
    ) -> frozenset[tuple[str, int]]:
        wanted = sorted(runs)

        def work() -> frozenset[tuple[str, int]]:
            before = {task_id: self._store.rows[task_id] for task_id, _ in wanted}
            kept = self._store.renew(holder, wanted, until)
            self._renewed(before, {task_id: self._store.rows[task_id] for task_id in before}, holder, dict(wanted))
            return kept

        return await self._call(work, write=True)
