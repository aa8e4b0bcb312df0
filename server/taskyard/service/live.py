"""What a caller may watch: tasks as they change, and the queue's figures."""

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import TypeAlias

from taskyard.errors import NotFound, named
from taskyard.events.hub import Hub
from taskyard.principal import Principal, Scope
from taskyard.service.figures import FigureService, QueueStatus
from taskyard.store.tasks import TaskReader
from taskyard.task import Event, EventKind, Task

#: The queue's figures are sent at most so often after a change, and at least so often without one: seconds.
FIGURES_AFTER_CHANGE = 0.25
FIGURES_EVERY = 5.0

_TASK_CHANGES = frozenset({EventKind.STATUS, EventKind.PRIORITY, EventKind.PROGRESS})

#: When it was begun, by the loop's time, and the figures.
_Reading: TypeAlias = tuple[float, "asyncio.Future[QueueStatus]"]


class LiveService:
    """Streams over the hub, cut to what the caller may see."""

    def __init__(self, hub: Hub, reader: TaskReader, figures: FigureService) -> None:
        self._hub = hub
        self._reader = reader
        self._figures = figures
        self._readings: dict[tuple[Scope, str | None], _Reading] = {}

    async def task_changes(
        self,
        principal: Principal,
        *,
        task_id: str | None = None,
        agent_id: str | None = None,
        instance_id: str | None = None,
    ) -> AsyncGenerator[Task, None]:
        """Tasks as they stood after each change, in order. With a `task_id`, how it stands now comes first.

        Raises `NotFound` if the one task asked for may not be seen.
        """
        scope = principal.scope.narrowed(instance_id)

        def wants(event: Event) -> bool:
            return (
                event.kind in _TASK_CHANGES
                and scope.allows(event.instance_id)
                and (task_id is None or event.task_id == task_id)
                and (agent_id is None or event.state["agent_id"] == agent_id)
            )

        with self._hub.subscribe(wants) as subscription:
            shown = 0
            if task_id is not None:
                task = await self._reader.get(task_id, scope, payload=False)
                if task is None or (agent_id is not None and task.agent_id != agent_id):
                    raise NotFound(f"there is no task {named(task_id)}", path=["taskId"])
                shown = task.version
                yield task
            while True:
                events = await subscription.next()
                rows = await self._reader.get_many({event.task_id for event in events}, scope)
                tasks = {task.id: task for task in rows}
                for event in events:
                    if event.task_id in tasks and event.version > shown:
                        yield tasks[event.task_id].as_of(event)

    async def queue_changes(
        self, principal: Principal, instance_id: str | None = None, queue: str | None = None
    ) -> AsyncGenerator[QueueStatus, None]:
        """The queue's figures now, soon after each change, and every few seconds."""
        scope = principal.scope.narrowed(instance_id)
        read = partial(self._figures.queue_status, principal, instance_id, queue)

        def wants(event: Event) -> bool:
            return (
                event.kind is EventKind.STATUS
                and scope.allows(event.instance_id)
                and (queue is None or event.state["queue"] == queue)
            )

        with self._hub.subscribe(wants) as subscription:
            loop = asyncio.get_running_loop()
            since = loop.time()
            while True:
                yield await self._shared((scope, queue), since, read)
                with suppress(TimeoutError):
                    async with asyncio.timeout(FIGURES_EVERY - FIGURES_AFTER_CHANGE):
                        await subscription.next()
                since = loop.time()
                await asyncio.sleep(FIGURES_AFTER_CHANGE)

    async def _shared(
        self, key: tuple[Scope, str | None], since: float, read: Callable[[], Coroutine[None, None, QueueStatus]]
    ) -> QueueStatus:
        """The figures as they stood at `since` or later; those who wait out the same change share one reading."""
        begun, reading = self._readings.get(key, (-math.inf, None))
        if reading is None or begun < since:
            loop = asyncio.get_running_loop()
            reading = asyncio.ensure_future(read())
            self._readings[key] = mine = loop.time(), reading
            # Later nobody can use it any more.
            loop.call_later(FIGURES_AFTER_CHANGE, self._forget, key, mine)
        return await asyncio.shield(reading)

    def _forget(self, key: tuple[Scope, str | None], reading: _Reading) -> None:
        if self._readings.get(key) is reading:
            del self._readings[key]
