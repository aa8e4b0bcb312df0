"""Runs a coroutine over a queue: for programs that use Taskyard as a library."""

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, Unpack

from taskyard.library import TaskQueue
from taskyard.processor import marked, processor_of
from taskyard.queue.entry import Filters, check_filters
from taskyard.store.listing import TaskFilter
from taskyard.task import MIN_PRIORITY
from taskyard_workers.janitor import Janitor
from taskyard_workers.worker import Worker


class TaskManager:
    """Runs `work`, an async function of an input and a `TaskContext`, over the tasks that fit.

    At most `max_concurrent` run at once, best first. `work` does every type, or those in `task_types`; a
    `@processor` does its own, with its time-out, retries and backoff. As a context manager it runs from
    entry to exit, which drains it.
    """

    def __init__(
        self, queue: TaskQueue, work: Callable[..., Any], max_concurrent: int = 4, **filters: Unpack[Filters]
    ) -> None:
        if max_concurrent < 1:
            raise ValueError("a manager needs at least one slot")
        check_filters(filters)
        found = marked(work)
        task_types = filters.get("task_types")
        if found is not None and task_types is None:
            task_types = [found.name]
        found = found or processor_of(work, getattr(work, "__name__", "work"))
        # The very one that is marked, where the name is its own: another process finds that, and no copy of it.
        processors = {name: found if name == found.name else replace(found, name=name) for name in task_types or ()}
        queues, min_priority = filters.get("queues"), filters.get("min_priority", MIN_PRIORITY)
        agent_id, agent_type = filters.get("agent_id"), filters.get("agent_type")
        self._queue = queue
        self._fitting = TaskFilter(
            task_types=task_types,
            queues=queues,
            min_priority=min_priority,
            agent_ids=None if agent_id is None else [agent_id],
            agent_types=None if agent_type is None else [agent_type],
        )
        self._worker = Worker(
            queue.runtime,
            processors,
            queues=queues,
            concurrency=max_concurrent,
            default=found if task_types is None else None,
            min_priority=min_priority,
            agent_id=agent_id,
            agent_type=agent_type,
            scope=queue.principal.scope,
        )
        self._janitor = Janitor(queue.runtime.maintenance, queue.runtime.duty, queue.runtime.relay)
        self._started = False

    async def start(self) -> None:
        """Begin to claim, and to look after what time brings."""
        await self._worker.start()
        self._janitor.start()
        self._started = True

    async def drain(self) -> None:
        """Claim nothing more, wait for what runs as long as `TASKYARD_DRAIN_SECONDS` (20), give back the rest."""
        try:
            await self._worker.stop()
        finally:
            await self._janitor.stop()
            self._started = False

    async def run_until_idle(self) -> None:
        """Run until no task that fits is waiting for its turn or its next try, or being run here or elsewhere.

        What is scheduled for later, waits for a person, or stands in a paused queue is not waited for.
        """
        async with nullcontext() if self._started else self:
            await self._worker.wait_idle()
            while await self._queue.runtime.tasks.unfinished(self._queue.principal, self._fitting):
                await self._worker.wait_idle()

    async def run_forever(self) -> None:
        """Run until cancelled; then drain."""
        async with self:
            await asyncio.Event().wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.drain()
