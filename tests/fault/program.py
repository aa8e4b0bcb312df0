"""A process of Taskyard's that is killed, stopped and continued for real. What it says goes to a file."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tests.support.process import PATIENCE, TASKYARD, clean_environment

ROOT = Path(__file__).parents[2]
#: So much of a log is shown where a test fails.
TAIL = 4000


class Program:
    """`taskyard` with these arguments, or `launcher` (a module) in its place. `ready` is what it says once it works.

    It has a process group of its own, so that nothing it starts outlives the test.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        folder: Path,
        ready: str = "Ctrl-C stops.",
        launcher: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._command = [sys.executable, "-m", *launcher] if launcher else [str(TASKYARD)]
        self._arguments = arguments
        self._ready = ready
        #: When it was told to die, by this machine's clock (`time.time`); None while it lives.
        self.died: float | None = None
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=clean_environment(env) | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
                cwd=folder,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def ready(self) -> bool:
        """Whether it lives and has said that it works."""
        return self.running and self._ready in self.output

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait_ready(self) -> None:
        """Wait until it works. Fails with what it said instead."""
        self.wait_for(self._ready)

    def wait_for(self, text: str) -> None:
        """Wait until it has said this. Fails with what it said instead."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.output:
            if not self.running or time.monotonic() > deadline:
                code = self._process.poll()
                raise AssertionError(f"{self.name} never said {text!r} (exit code {code}):\n{self.tail()}")
            time.sleep(0.05)

    def find(self, pattern: str) -> str:
        """What the first group of this pattern matches in its output."""
        found = re.search(pattern, self.output)
        assert found is not None, f"{self.name} never said {pattern!r}:\n{self.tail()}"
        return found[1]

    def tail(self) -> str:
        return self.output[-TAIL:]

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, and wait for nothing."""
        self._process.send_signal(number)

    def freeze(self) -> None:
        self.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it and all that it has started, at once."""
        if self.died is None:
            self.died = time.time()
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(timeout=PATIENCE)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; gives the exit code."""
        self.send_signal(number)
        return self.ended()

    def ended(self, within: float = PATIENCE) -> int:
        """Wait for its end, and give the exit code."""
        code = self._process.wait(timeout=within)
        if self.died is None:
            self.died = time.time()
        return code
