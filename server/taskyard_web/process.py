"""What every process has in common: it starts in order, waits for a signal, and stops in order."""

import asyncio
import gc
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Protocol

from taskyard.runtime import Runtime
from taskyard.settings import Settings, effective
from taskyard_web.ending import stop_signal
from taskyard_workers.janitor import Janitor
from taskyard_workers.worker import Worker

Say = Callable[[str], None]


class Serving(Protocol):
    """The web of a process that has one: `taskyard_web.server.Server`, which a worker does not load."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


async def run(
    runtime: Runtime, greeting: str, say: Say, *, server: Serving | None = None, worker: Worker | None = None
) -> None:
    """Start in order, wait for a signal, stop in order: what runs ends before the streams and the server."""
    stopped = asyncio.ensure_future(stop_signal())
    janitor = Janitor(runtime.maintenance, runtime.duty, runtime.relay)
    try:
        if worker is not None:
            await worker.start()
        janitor.start()
        if server is not None:
            await server.start()
        # What was made until now stays: no collection need look at it again, while somebody waits.
        gc.collect()
        gc.freeze()
        say(greeting)
        await stopped
        say("stopping: running tasks have a moment to end (press Ctrl-C again to stop at once)")
    finally:
        stopped.cancel()
        async with AsyncExitStack() as stopping:
            if server is not None:
                stopping.push_async_callback(server.stop)
            stopping.push_async_callback(runtime.hub.stop)
            stopping.push_async_callback(janitor.stop)
            if worker is not None:
                stopping.push_async_callback(worker.stop)


def where(settings: Settings) -> str:
    """Where the tasks are, without a password."""
    if settings.database_url is None:
        return f"data in {settings.data.resolve()}"
    shown = effective(settings)
    return f"data in {shown['DATABASE_URL']}" + (f", queue in {shown['REDIS_URL']}" if settings.redis_url else "")
