"""What the workers of a fault test run. Each begin and end of a run is a line of a file outside of Taskyard.

Loaded with `--import`. RUN_LOG names the file, DEPENDENCY_DOWN one that is there while the dependency is not.
"""

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel

from taskyard import processor
from taskyard.processor import TaskContext


class Work(BaseModel):
    """How long to work."""

    ms: float = 0


class Told(BaseModel):
    """Which run gave this."""

    attempt: int


@contextmanager
def told(ctx: TaskContext) -> Iterator[None]:
    """Write the begin and the end of a run (`x`: it was interrupted or failed)."""
    _write("b", ctx)
    try:
        yield
    except BaseException:
        _write("x", ctx)
        raise
    _write("e", ctx)


def _write(what: str, ctx: TaskContext) -> None:
    line = f"{what} {ctx.task_id} {ctx.attempt} {os.getpid()} {time.time():.6f}\n".encode()
    # One write at the end of the file: lines of several processes never mix.
    descriptor = os.open(os.environ["RUN_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


@processor("work")
async def work(order: Work, ctx: TaskContext) -> Told:
    """Take so long."""
    with told(ctx):
        await asyncio.sleep(order.ms / 1000)
        return Told(attempt=ctx.attempt)


@processor("telling")
async def telling(order: Work, ctx: TaskContext) -> Told:
    """Take so long, and tell of it on the way."""
    with told(ctx):
        for part in range(1, 4):
            await asyncio.sleep(order.ms / 3000)
            await ctx.progress(part * 30, f"part {part}")
        return Told(attempt=ctx.attempt)


@processor("poison")
async def poison(order: Work, ctx: TaskContext) -> Told:
    """End the process it runs in."""
    with told(ctx):
        await asyncio.sleep(order.ms / 1000)
        os._exit(3)


@processor("dependent", max_retries=12)
async def dependent(order: Work, ctx: TaskContext) -> Told:
    """Work that fails while the dependency is down."""
    with told(ctx):
        if Path(os.environ["DEPENDENCY_DOWN"]).exists():
            raise ConnectionError("the dependency is down")
        return Told(attempt=ctx.attempt)


@processor("spin_apart", isolation="process")
async def spin_apart(order: Work, ctx: TaskContext) -> Told:
    """The same, in a process of its own."""
    return await spin(order, ctx)


@processor("spin")
async def spin(order: Work, ctx: TaskContext) -> Told:
    """Keep the event loop from everything else."""
    with told(ctx):
        end = time.monotonic() + order.ms / 1000
        while time.monotonic() < end:
            pass
        return Told(attempt=ctx.attempt)
