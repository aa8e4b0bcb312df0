"""Processors for workers under test: they write what they do to the file that TEST_RUN_LOG names."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from taskyard import TaskContext, processor


@processor("logged", timeout=60)
async def logged(value: dict[str, Any], ctx: TaskContext) -> dict[str, int]:
    """Run for so many seconds, and leave a line at the begin and at the end."""
    _note("begin", ctx)
    await asyncio.sleep(value.get("seconds", 0))
    _note("end", ctx)
    return {"attempt": ctx.attempt}


def _note(what: str, ctx: TaskContext) -> None:
    # One write in append mode: lines of several processes do not mix.
    with Path(os.environ["TEST_RUN_LOG"]).open("a") as log:
        log.write(f"{what} {ctx.task_id} {ctx.attempt} {os.getpid()} {time.time()}\n")
