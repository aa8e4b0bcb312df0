"""An event loop that stands still is noticed; its worker loses its claims, and its late words are refused."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.core import PATIENCE, opened, reach, submit
from tests.support.working import by_name, soon, until

from taskyard.events.bus import MemoryBus
from taskyard.lifecycle import TaskStatus
from taskyard.principal import Principal
from taskyard.processor import TaskContext, processor
from taskyard.runtime import Runtime
from taskyard_workers.janitor import Janitor
from taskyard_workers.watchdog import Watchdog
from taskyard_workers.worker import Worker

S = TaskStatus
OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "taskyard_workers.watchdog"]


def spin_until(check: Callable[[], bool]) -> None:
    """Hold the loop that calls this."""
    end = time.monotonic() + PATIENCE
    while not check():
        assert time.monotonic() < end
        time.sleep(0.001)


# -- the watchdog -----------------------------------------------------------------------------


async def test_a_blockade_is_told_of_once_and_at_its_end(caplog: pytest.LogCaptureFixture) -> None:
    watchdog = Watchdog(0.05)
    watchdog.start()
    watchdog.start()  # nothing more
    try:

        async def hold() -> None:
            spin_until(lambda: len(warnings(caplog)) == 1)
            time.sleep(0.3)  # several times its patience: it has nothing to add

        await asyncio.create_task(hold(), name="task t1 (processor holding)")
        await until(lambda: len(warnings(caplog)) == 2)
        begun, ended = warnings(caplog)
        assert begun.startswith("the event loop has been blocked for 0.1 s by task t1 (processor holding)")
        assert "in spin_until" in begun
        assert float(ended.removeprefix("the event loop runs again after it was blocked for ").split()[0]) >= 0.3
        # The next one is told of anew.
        asyncio.get_running_loop().call_soon(lambda: spin_until(lambda: len(warnings(caplog)) == 3))
        await until(lambda: len(warnings(caplog)) == 4)
        assert "by a callback" in warnings(caplog)[2]
    finally:
        watchdog.stop()
        watchdog.stop()


async def test_a_stopped_watchdog_ends(caplog: pytest.LogCaptureFixture) -> None:
    def watching() -> bool:
        return any(thread.name == "watchdog" for thread in threading.enumerate())

    await until(lambda: not watching())  # those of earlier tests
    watchdog = Watchdog(0.05)
    watchdog.start()
    assert watching()
    watchdog.stop()
    await until(lambda: not watching())
    time.sleep(0.2)
    assert warnings(caplog) == []


# -- two workers on one store -----------------------------------------------------------------


class Far:
    """A service whose event loop is another thread's: what a worker of another process sees of the store."""

    def __init__(self, service: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._service = service
        self._loop = loop

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*arguments: Any, **named: Any) -> Any:
            work = getattr(self._service, name)(*arguments, **named)
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

        return call


@asynccontextmanager
async def far_worker(runtime: Runtime, *functions: Callable[..., Any]) -> AsyncIterator[None]:
    """A worker with an event loop of its own, which may stand still while the store goes on."""
    here = asyncio.get_running_loop()
    services: Any = {name: Far(getattr(runtime, name), here) for name in ("claims", "registry")}
    far = replace(runtime, bus=MemoryBus(), **services)
    stopping = threading.Event()

    async def run() -> None:
        worker = Worker(far, by_name(*functions), concurrency=1, blocked_after=0.3)
        await worker.start()
        await asyncio.to_thread(stopping.wait)
        await worker.stop()

    running = asyncio.create_task(asyncio.to_thread(asyncio.run, run()))
    try:
        yield
    finally:
        stopping.set()
        await soon(running)


@pytest.mark.slow
async def test_a_blocked_worker_loses_its_claim_and_its_result_is_refused(
    place: Path | str, user: Principal, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    completed = threading.Event()
    blocked = threading.Event()

    @processor("spinning", timeout=600)
    async def spinning(value: Any, ctx: TaskContext) -> str:
        if ctx.attempt == 1:
            blocked.set()
            spin_until(completed.is_set)
        return f"of attempt {ctx.attempt}"

    async with opened(place, lease=1, heartbeat=0.2, poll=0.1, drain=PATIENCE) as runtime:
        janitor = Janitor(runtime.maintenance)
        janitor.start()
        near = Worker(runtime, by_name(spinning), concurrency=1, blocked_after=None)
        try:
            async with far_worker(runtime, spinning):
                task = await submit(runtime, user, "spinning")
                await until(blocked.is_set)
                await near.start()
                try:
                    done = await reach(runtime, user, task.id, S.COMPLETED)
                finally:
                    completed.set()
        finally:
            await near.stop()
            await janitor.stop()
        assert (done.attempt, done.lost_count, done.retry_count) == (2, 1, 0)
        assert (await runtime.tasks.payloads(user, [task.id]))[task.id].output == "of attempt 2"
        notes = [event.detail for event in await runtime.tasks.events(user, task.id) if event.kind == "LOG"]
    assert [note and note["message"] for note in notes] == [
        "attempt 1 ended as COMPLETED after it had lost the claim; that was thrown away"
    ]
    begun, ended = warnings(caplog)
    for line in (begun, ended):
        assert line.split("blocked for")[0] + "blocked for" in OPERATIONS.read_text()
    assert f"by task {task.id} (processor spinning)" in begun
    assert "runs again" in ended
