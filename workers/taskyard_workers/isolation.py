"""A run in a process of its own, which can be killed: the worker's side of it."""

import asyncio
import logging
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress

from taskyard.clock import Clock
from taskyard.errors import TaskyardError
from taskyard.processor import Processor
from taskyard.task import ErrorCode, Json
from taskyard_workers.context import RunContext, Teller
from taskyard_workers.message import (
    FROM_RUN,
    LENGTH,
    Answer,
    BadMessage,
    Ended,
    Fault,
    LogLine,
    Progress,
    Start,
    StepChange,
    Stop,
    Telling,
    decode,
    encode,
    size,
)
from taskyard_workers.outcome import Completed, Failed, Outcome

logger = logging.getLogger(__name__)

#: A run that is told to stop has so many seconds to clean up; then its process is killed. Short, so that a
#: time-out is written by its worker, and not by the janitor while the process still lives.
GRACE = 1.0
#: Seconds for what follows at once, on a slow machine too: an exit, the last bytes of a pipe.
MOMENT = 3.0


async def run_isolated(
    processor: Processor, source: str, raw: Json, context: RunContext, clock: Clock, *, suspect: bool
) -> Outcome:
    """As `invoke`, in a new process that imports the processor from `source`; it is gone at the end.

    A process that dies by itself is a failed run, or with `suspect` the proof that the task is poison.
    Raises `CancelledError` alone.
    """
    started = clock.monotonic()
    start = Start(source, [str(entry) for entry in sys.path], processor.name, context.identity, raw)
    try:
        process = await asyncio.create_subprocess_exec(
            # Without -P a file of the working folder could stand in for a module of the library.
            *(sys.executable, "-P", "-m", "taskyard_workers.child"),
            stdin=PIPE,
            stdout=PIPE,
            start_new_session=True,
        )
    except OSError as error:
        message = f"no process could be started for it: {error}"
        return Failed(ErrorCode.PROCESS_DIED, message, retry=True, processing_ms=0)
    child = _Child(process, context.teller)
    outcome = await child.run(start)
    if outcome is not None:
        return outcome
    elapsed = round((clock.monotonic() - started) * 1000)
    how = _how(process.returncode)
    if suspect:
        message = f"its claim was lost twice or more, and then the process that ran it alone {how}"
        return Failed(ErrorCode.POISON, message, retry=False, processing_ms=elapsed)
    return Failed(ErrorCode.PROCESS_DIED, f"its process {how}", retry=True, processing_ms=elapsed)


class _Child:
    """The process, from its start to its certain end."""

    def __init__(self, process: Process, teller: Teller) -> None:
        self._process = process
        self._teller = teller

    async def run(self, start: Start) -> Outcome | None:
        """The outcome, or None if the process ended without one."""
        talk = asyncio.create_task(self._talk())
        gone = asyncio.create_task(self._process.wait())
        try:
            self._say(start)
            await asyncio.wait({talk})
            if talk.result() is None:
                # Its pipe closed because it is about to end: by itself, for its exit code.
                await asyncio.wait({gone}, timeout=MOMENT)
            return talk.result()
        except asyncio.CancelledError:
            self._say(Stop())
            await asyncio.wait({talk}, timeout=GRACE)
            if talk.done() and isinstance(finished := talk.result(), Completed):
                return finished
            raise
        finally:
            # With what it has started and left behind.
            self._kill()
            talk.cancel()
            await asyncio.wait({talk, gone}, timeout=MOMENT)

    async def _talk(self) -> Outcome | None:
        """Write what it tells, and answer, until it says how it ended."""
        try:
            while (message := await self._read()) is not None:
                if isinstance(message, Ended):
                    return message.outcome
                self._say(Answer(message.number, await self._write(message)))
        except BadMessage:
            logger.exception("the process %d of a run does not speak as it should and is ended", self._process.pid)
        return None

    async def _read(self) -> Telling | Ended | None:
        assert self._process.stdout is not None
        try:
            length = size(await self._process.stdout.readexactly(LENGTH.size))
            return decode(await self._process.stdout.readexactly(length), FROM_RUN)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def _write(self, message: Telling) -> Fault | None:
        try:
            match message:
                case Progress():
                    await self._teller.progress(message.percent, message.step)
                case StepChange():
                    await self._teller.step(message.name, message.status, message.output)
                case LogLine():
                    await self._teller.log(message.level, message.message)
        except TaskyardError as error:
            return Fault(error.code, error.message)
        except Exception as error:
            logger.exception("what a run told could not be written")
            return Fault(TaskyardError.code, f"it could not be written: {type(error).__name__}")
        return None

    def _say(self, message: Start | Answer | Stop) -> None:
        assert self._process.stdin is not None
        # It may have died just now: then the end of its output tells.
        with suppress(OSError, RuntimeError):
            self._process.stdin.write(encode(message))

    def _kill(self) -> None:
        """End the process and all that it has started; nothing if they are gone."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        name = next((known.name for known in signal.Signals if known == -code), f"the signal {-code}")
        return f"was killed by {name}"
    with_code = "" if code is None else f" with the exit code {code}"
    return f"ended{with_code} before it gave a result"
