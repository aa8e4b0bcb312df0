"""Runs `taskyard` on a machine whose clock is wrong: `python -m tests.fault.skewed SECONDS worker ...`."""

import sys
import time
from datetime import datetime, timedelta

from taskyard.clock import SystemClock
from taskyard_web.cli import main


def skew(seconds: float) -> None:
    """Put the wall clock forward; what only measures time goes on as it was."""
    wall, now = time.time, SystemClock.now

    def shifted(clock: SystemClock) -> datetime:
        return now(clock) + timedelta(seconds=seconds)

    time.time = lambda: wall() + seconds
    SystemClock.now = shifted  # type: ignore[method-assign]  # that is the point


def skewed(seconds: float) -> list[str]:
    """How to start such a process, as `launcher` of a program."""
    return ["tests.fault.skewed", str(seconds)]


if __name__ == "__main__":
    _, by, *arguments = sys.argv
    skew(float(by))
    main(arguments, prog_name="taskyard")
