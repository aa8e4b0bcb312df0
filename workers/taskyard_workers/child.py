"""A process that does one run: `python -m taskyard_workers.child`, started by `isolation`.

It reads messages from its standard input and writes them to what was its standard output; whatever the
processor prints goes to standard error. It ends when its input does: no run outlives its worker.
"""

import asyncio
import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from typing import BinaryIO

from taskyard.clock import SystemClock
from taskyard.errors import InvalidInput, LeaseLost, TaskyardError, Unavailable
from taskyard.processor import Processor
from taskyard.task import ErrorCode, Json, LogLevel, StepStatus
from taskyard_workers.context import RunContext
from taskyard_workers.invocation import invoke
from taskyard_workers.loading import load_from
from taskyard_workers.message import (
    FROM_RUN,
    LENGTH,
    TO_RUN,
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
from taskyard_workers.outcome import Failed, Outcome

_FAULTS: dict[str, type[TaskyardError]] = {error.code: error for error in (LeaseLost, Unavailable, InvalidInput)}


class Pipe:
    """Both directions, moved away from where a processor could write to them by a `print`."""

    def __init__(self) -> None:
        sys.stdout.flush()
        self._in: BinaryIO = os.fdopen(os.dup(0), "rb")
        self._out: BinaryIO = os.fdopen(os.dup(1), "wb", buffering=0)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        # A copy that outlives this process would keep from the worker that it has died.
        os.register_at_fork(after_in_child=self._close)
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(line_buffering=True)  # what it printed is seen even if it is killed

    def _close(self) -> None:
        # By number: the objects may be locked by a thread that the copy does not have.
        os.close(self._in.fileno())
        os.close(self._out.fileno())

    def read(self) -> Start | Stop | Answer | None:
        """The next message, or None when the worker has gone."""
        header = self._in.read(LENGTH.size)
        if len(header) < LENGTH.size:
            return None
        body = self._in.read(size(header))
        return decode(body, TO_RUN)

    def send(self, frame: bytes) -> None:
        rest = memoryview(frame)
        while rest:
            rest = rest[self._out.write(rest) :]


class PipeTeller:
    """`Teller` over the pipe: each word waits for its answer."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Fault | None]] = {}

    async def progress(self, percent: float, step: str | None) -> None:
        await self._tell(lambda number: Progress(number, percent, step))

    async def step(self, name: str, status: StepStatus, output: Json) -> None:
        await self._tell(lambda number: StepChange(number, name, status, output))

    async def log(self, level: LogLevel, message: str) -> None:
        await self._tell(lambda number: LogLine(number, level, message))

    def answered(self, answer: Answer) -> None:
        waiting = self._waiting.get(answer.number)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer.fault)

    async def _tell(self, make: Callable[[int], Telling]) -> None:
        number = next(self._numbers)
        frame = encode(make(number))
        waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._pipe.send(frame)
            fault = await waiting
        finally:
            del self._waiting[number]
        if fault is not None:
            raise _FAULTS.get(fault.code, TaskyardError)(fault.message)


class Child:
    """The run, and the thread that hears the worker even while the processor spins."""

    def __init__(self, pipe: Pipe, start: Start) -> None:
        self._pipe = pipe
        self._start = start
        self._teller = PipeTeller(pipe)
        self._context = RunContext(start.identity, self._teller)
        self._work: asyncio.Task[Outcome] | None = None

    def run(self) -> None:
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            threading.Thread(target=self._listen, args=[loop], name="pipe", daemon=True).start()
            runner.run(self._run())

    async def _run(self) -> None:
        outcome: Outcome
        try:
            processor = load_from(self._start.source, self._start.processor)
        except TaskyardError as error:
            message = f"it could not be loaded in a process of its own: {error.message}"
            outcome = Failed(ErrorCode.PROCESSOR_ERROR, message, retry=True, processing_ms=0)
        else:
            outcome = await self._outcome(processor)
        sys.stdout.flush()
        sys.stderr.flush()
        self._pipe.send(_last_word(outcome))
        # The worker ends this process, with all that the processor has started and left.
        threading.Event().wait()

    async def _outcome(self, processor: Processor) -> Outcome:
        self._work = asyncio.create_task(
            invoke(processor, self._start.input, self._context, SystemClock()),
            name=f"task {self._context.task_id} ({processor.name})",
        )
        if self._context.cancelled:
            self._work.cancel()
        try:
            return await self._work
        except asyncio.CancelledError:
            # It stopped as it was told to: there is nothing more to say.
            sys.stdout.flush()
            _end()
            raise

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while (message := self._pipe.read()) is not None:
                loop.call_soon_threadsafe(self._heard, message)
        finally:
            _end()

    def _heard(self, message: Start | Stop | Answer) -> None:
        match message:
            case Answer():
                self._teller.answered(message)
            case Stop():
                self._context.cancelled = True
                if self._work is not None:
                    self._work.cancel()


def _last_word(outcome: Outcome) -> bytes:
    """The frame of an outcome; one that the worker could not read is no result."""
    try:
        frame = encode(Ended(outcome))
        decode(frame[LENGTH.size :], FROM_RUN)
    except (InvalidInput, BadMessage) as error:
        return encode(Ended(Failed(ErrorCode.INVALID_OUTPUT, str(error), retry=False, processing_ms=0)))
    return frame


def _end() -> None:
    """End this process and all that it has started, at once."""
    with suppress(ProcessLookupError):  # started by hand, it leads no group
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def main() -> None:
    """Do the run that comes first through the pipe."""
    pipe = Pipe()
    start = pipe.read()
    if isinstance(start, Start):
        sys.path[:] = start.path
        Child(pipe, start).run()


if __name__ == "__main__":
    main()
