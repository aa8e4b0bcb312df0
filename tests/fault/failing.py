"""Runs `taskyard` so that it dies at the n-th pass of a point: `python -m tests.fault.failing POINT N worker ...`.

The product knows nothing of it: one method is wrapped before the command line runs.
"""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from taskyard.lifecycle import TaskStatus
from taskyard.queue.entry import Entry, Want
from taskyard.service.announce import Announcer
from taskyard.service.claims import ClaimService
from taskyard_web.cli import main

#: How it ends: as nothing of ours does by itself.
EXIT_CODE = 86


class Point:
    """Counts the passes, and ends the process at the chosen one: nothing is flushed, closed or told."""

    def __init__(self, number: int) -> None:
        self._left = number

    def passed(self) -> None:
        self._left -= 1
        if self._left <= 0:
            os.write(2, b"the failpoint is reached\n")
            os._exit(EXIT_CODE)


def before_the_commit_of_a_claim(point: Point) -> None:
    """Redis has handed the entries out, SQL knows nothing of it."""
    from taskyard.queue.redis_queue import RedisQueue  # noqa: PLC0415 - only where it is to fail

    real = RedisQueue.claim

    async def claim(queue: Any, want: Want, commit: Callable[[Sequence[Entry]], Any]) -> Any:
        async def dying(entries: Sequence[Entry]) -> Any:
            if entries:
                point.passed()
            return await commit(entries)

        return await real(queue, want, dying)

    RedisQueue.claim = claim  # type: ignore[method-assign, assignment]  # that is the point


def before_the_index(point: Point) -> None:
    """SQL has committed tasks, Redis and the bus have not heard of them."""
    real = Announcer.__call__

    async def announce(announcer: Announcer, events: Sequence[Any]) -> None:
        if any(event.status is TaskStatus.QUEUED for event in events):
            point.passed()
        await real(announcer, events)

    Announcer.__call__ = announce  # type: ignore[method-assign]  # that is the point


def after_the_end_of_a_run(point: Point) -> None:
    """SQL has the result, and the worker does not know yet."""
    real = ClaimService.complete

    async def complete(claims: ClaimService, *arguments: Any) -> None:
        await real(claims, *arguments)
        point.passed()

    ClaimService.complete = complete  # type: ignore[method-assign, assignment]  # that is the point


POINTS = {
    "claimed": before_the_commit_of_a_claim,
    "committed": before_the_index,
    "finished": after_the_end_of_a_run,
}


def failing(point: str, number: int) -> list[str]:
    """How to start such a process, as `launcher` of a program."""
    assert point in POINTS
    return ["tests.fault.failing", point, str(number)]


if __name__ == "__main__":
    _, chosen, passes, *arguments = sys.argv
    POINTS[chosen](Point(int(passes)))
    main(arguments, prog_name="taskyard")
