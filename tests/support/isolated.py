"""Processors for runs in a process of their own, which imports this module: nothing heavy is imported here."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from taskyard import PermanentError, TaskContext, processor
from taskyard.errors import LeaseLost
from taskyard.retry import Backoff
from taskyard.task import LogLevel, StepStatus

QUICK = Backoff(base=0.02, cap=0.04)


class Page(BaseModel):
    """An input and an output that are checked."""

    number: int = Field(ge=1)


@processor("apart", isolation="process", max_retries=0)
async def apart(what: str, ctx: TaskContext) -> Any:
    """Do one of many things that a processor may do."""
    match what:
        case "pid":
            return os.getpid()
        case "who":
            return [ctx.task_id, ctx.instance_id, ctx.agent_id, ctx.attempt, ctx.idempotency_key, ctx.cancelled]
        case "print":
            print("printed", flush=True)
            sys.stderr.write("complained\n")
            subprocess.run(["echo", "echoed"], check=True)
            os.write(1, b"written\n")
            return sys.stdin.read()
        case "tell":
            await ctx.progress(40, "reading \udcff")
            await ctx.step("read")
            await ctx.step("read", StepStatus.COMPLETED, {"pages": 2})
            await ctx.log("slow", LogLevel.WARNING)
            ctx.report(actual_cost=2.0, quality_score=0.5)
            return "told"
        case "permanent":
            raise PermanentError("never", code="NO_SUCH_PAGE")
        case "error":
            raise ValueError("no \udcff luck")
        case "exit":
            sys.exit(3)
        case "large":
            return "x" * (17 << 20)
        case "nul":
            return "nul \0"
        case "half":
            return "\udcff"
        case "boast":
            ctx.report(quality_score="much")  # type: ignore[arg-type]
        case "refused":
            try:
                await ctx.step("s", output={"text": "nul \0"})
            except Exception as error:  # noqa: BLE001 - its type is what is asked for
                return type(error).__name__
        case "odd":
            try:
                await ctx.step("s", output={1j})
            except Exception as error:  # noqa: BLE001
                return type(error).__name__
    return None


@processor("paged-apart", isolation="process", max_retries=5)
async def paged(page: Page, ctx: TaskContext) -> Page:
    """Give what is not of the declared type for one number."""
    return {"number": 0} if page.number == 13 else page  # type: ignore[return-value]


@processor("dying", isolation="process", max_retries=1, backoff=QUICK)
async def dying(how: str, ctx: TaskContext) -> None:
    """End the process."""
    match how:
        case "exit":
            os._exit(7)
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "fork":
            # A copy keeps all pipes open, as a server that was started by the way might.
            if os.fork() == 0:
                signal.pause()
            os._exit(7)


@processor("spinning", isolation="process")
async def spinning(folder: str, ctx: TaskContext) -> None:
    """Hold the processor's own loop for ever, with a process beside it; the pids are in files."""
    beside = subprocess.Popen(["sleep", "600"])
    (Path(folder) / "beside").write_text(str(beside.pid))
    (Path(folder) / "pid").write_text(str(os.getpid()))
    await ctx.progress(1)
    while True:
        pass


@processor("tidy", isolation="process")
async def tidy(folder: str, ctx: TaskContext) -> str:
    """Wait, clean up when told to stop, and say what was seen then."""
    await ctx.progress(1)
    try:
        await asyncio.sleep(600)
    finally:
        lost = False
        try:
            await ctx.progress(2)
        except LeaseLost:
            lost = True
        (Path(folder) / "tidied").write_text(f"cancelled={ctx.cancelled} lost={lost}")
    return "never"


@processor("careless")
async def careless(folder: str, ctx: TaskContext) -> int:
    """Declared to run among others; say where it ran, or die when the file `die` is there."""
    if (Path(folder) / "die").exists():
        os._exit(9)
    return os.getpid()
