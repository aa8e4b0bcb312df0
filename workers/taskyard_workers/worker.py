"""A worker: poller, executor, settler and heartbeat put together."""

import logging
import os
import secrets
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence

from taskyard.errors import StartupError, TaskyardError
from taskyard.lifecycle import HELD, TaskStatus
from taskyard.principal import EVERYTHING, Scope
from taskyard.processor import Processor
from taskyard.queue.entry import Want
from taskyard.runtime import Runtime
from taskyard.task import MIN_PRIORITY, WORKER_ACTOR, Event, EventKind
from taskyard_workers.executor import Executor
from taskyard_workers.heartbeat import Heartbeat
from taskyard_workers.loading import source_of
from taskyard_workers.looper import Looper
from taskyard_workers.outcome import Reason
from taskyard_workers.poller import Poller
from taskyard_workers.settler import Settler
from taskyard_workers.watchdog import BLOCKED_AFTER, Watchdog

logger = logging.getLogger(__name__)


class Worker:
    """Claims the tasks that fit and runs them: of the types that it has processors for, and as the filters say.

    `default`, or else the processor that the settings name, does the types that have none; `queues` None
    means every queue. It warns when the event loop stands still for `blocked_after` seconds; None: it does not look.
    Raises `StartupError` if a processor that wants a process of its own could not be found there.
    """

    def __init__(
        self,
        runtime: Runtime,
        processors: Mapping[str, Processor],
        *,
        queues: Sequence[str] | None = None,
        concurrency: int | None = None,
        blocked_after: float | None = BLOCKED_AFTER,
        default: Processor | None = None,
        min_priority: int = MIN_PRIORITY,
        agent_id: str | None = None,
        agent_type: str | None = None,
        scope: Scope = EVERYTHING,
    ) -> None:
        settings = runtime.settings
        self.id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._runtime = runtime
        self._processors = processors
        self._queues = queues
        self._concurrency = concurrency or settings.concurrency
        _check_isolated(processors.values())
        default = default or _default(processors, settings.default_processor)
        # With a fallback it takes any type.
        self._types = None if default else sorted(processors)
        self._executor = Executor(
            slots=self._concurrency,
            actor=WORKER_ACTOR + self.id,
            processors=processors,
            default=default,
            claims=runtime.claims,
            settler=Settler(runtime.claims, settings.lease),
            clock=runtime.clock,
            freed=self._wake,
        )
        self._poller = Poller(
            worker_id=self.id,
            want=Want(
                limit=self._concurrency,
                queues=queues,
                task_types=self._types,
                min_priority=min_priority,
                agent_id=agent_id,
                agent_type=agent_type,
                scope=scope,
            ),
            claims=runtime.claims,
            executor=self._executor,
        )
        heartbeat = Heartbeat(
            self.id,
            claims=runtime.claims,
            executor=self._executor,
            tell=self._tell,
            clock=runtime.clock,
            lease=settings.lease,
            interval=settings.heartbeat,
        )
        self._polling = Looper("poller", settings.poll, self._poller.poll)
        self._beating = Looper("heartbeat", settings.heartbeat, heartbeat.beat)
        self._watchdog = Watchdog(blocked_after) if blocked_after is not None else None
        self._status = "STOPPED"
        self._stop_listening: Callable[[], None] | None = None

    async def start(self) -> None:
        """Declare the types, then begin to claim."""
        if self._stop_listening is not None:
            return
        self._status = "ALIVE"
        self._poller.closed = False
        await self._runtime.registry.declare([found.declared() for found in self._processors.values()])
        await self._tell()
        self._runtime.catalog.expire()
        self._stop_listening = self._runtime.bus.listen(self._heard)
        if self._watchdog is not None:
            self._watchdog.start()
        self._beating.start()
        self._polling.start()

    async def stop(self) -> None:
        """Claim nothing more, wait for what runs as long as the settings say, give the rest back."""
        if self._stop_listening is None:
            return
        self._status = "DRAINING"
        self._poller.closed = True
        await self._polling.stop()
        await self._executor.drain(self._runtime.settings.drain)
        await self._beating.stop()
        if self._watchdog is not None:
            self._watchdog.stop()
        self._stop_listening()
        self._stop_listening = None
        self._status = "STOPPED"
        try:
            await self._tell()
        except TaskyardError:
            # Its heartbeat ends: the others find out.
            logger.warning("the worker could not tell that it stopped", exc_info=True)

    async def wait_idle(self) -> None:
        """Wait until a look at the queue finds nothing to claim while nothing runs."""
        await self._poller.idle.wait()
        self._poller.idle.clear()

    def _wake(self) -> None:
        self._polling.wake()

    def _heard(self, events: Sequence[Event]) -> None:
        """Wake up for new work, and stop what was cancelled or taken away.

        No events at all mean that there is something to look at.
        """
        if not events:
            self._polling.wake()
        for event in events:
            if event.kind is not EventKind.STATUS:
                continue
            if event.status is TaskStatus.QUEUED:
                self._polling.wake()
            if event.status not in HELD:
                self._executor.interrupt(event.task_id, event.attempt, Reason.LOST)

    async def _tell(self) -> None:
        await self._runtime.registry.put_worker(
            self.id,
            {
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "status": self._status,
                "queues": self._queues,
                "types": self._types,
                "concurrency": self._concurrency,
                "running": len(self._executor.running()),
                "completed": self._executor.completed,
                "failed": self._executor.failed,
            },
        )


def _check_isolated(processors: Iterable[Processor]) -> None:
    for processor in processors:
        if processor.isolated and source_of(processor) is None:
            raise StartupError(
                f"the processor {processor.name!r} is to have a process of its own, which cannot find it:"
                " it must stand at the top level of a module"
            )


def _default(processors: Mapping[str, Processor], name: str | None) -> Processor | None:
    if name is None:
        return None
    if name not in processors:
        raise StartupError(
            f"bad setting: TASKYARD_DEFAULT_PROCESSOR: no processor named {name!r} is loaded;"
            f" there are {', '.join(sorted(processors)) or 'none'}"
        )
    return processors[name]
