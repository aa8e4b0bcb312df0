"""A real worker for tests: processors that wait at a gate, and ways to wait for what it does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.support.core import PATIENCE

from taskyard.processor import Processor, TaskContext, marked, processor
from taskyard.runtime import Runtime
from taskyard_workers.worker import Worker


def by_name(*functions: Callable[..., Any]) -> dict[str, Processor]:
    found = [marked(function) for function in functions]
    return {one.name: one for one in found if one is not None}


@asynccontextmanager
async def working(runtime: Runtime, *functions: Callable[..., Any], **options: Any) -> AsyncIterator[Worker]:
    worker = Worker(runtime, by_name(*functions), **options)
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop()


class Gate:
    """Runs that begin, and wait until they are let go."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[TaskContext] = asyncio.Queue()
        self.open = asyncio.Event()
        self.inside = 0
        self.most = 0
        self.interrupted: asyncio.Queue[str] = asyncio.Queue()

    async def __call__(self, value: Any, ctx: TaskContext) -> Any:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.begun.put_nowait(ctx)
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.interrupted.put_nowait(ctx.task_id)
            raise
        finally:
            self.inside -= 1
        return value

    def processor(self, name: str = "gated", **options: Any) -> Callable[..., Any]:
        @processor(name, **options)
        async def gated(value: Any, ctx: TaskContext) -> Any:
            return await self(value, ctx)

        return gated


async def soon(awaitable: Any) -> Any:
    async with asyncio.timeout(PATIENCE):
        return await awaitable


async def until(check: Callable[[], bool]) -> None:
    """Wait for what nobody announces."""
    async with asyncio.timeout(PATIENCE):
        while not check():
            await asyncio.sleep(0.01)


async def row_of(runtime: Runtime, worker: Worker) -> Any:
    (row,) = [one for one in await runtime.registry.workers() if one.id == worker.id]
    return row


async def until_row(runtime: Runtime, worker: Worker, **expected: Any) -> Any:
    """Wait until a beat has told this of the worker."""
    async with asyncio.timeout(PATIENCE):
        while True:
            row = await row_of(runtime, worker)
            if all(getattr(row, name) == value for name, value in expected.items()):
                return row
            await asyncio.sleep(0.02)
