"""What every queue backend can do. The queue only suggests: a claim is made by the store."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from taskyard.queue.entry import Entry, Want

T = TypeVar("T")

#: Turns suggested entries into claims by compare-and-set, and gives those that held.
Commit = Callable[[Sequence[Entry]], Awaitable[Sequence[T]]]

#: Of so many claimed entries one is the oldest of all, if it has waited too long.
STARVE_EVERY = 16


class ReadyQueue(Protocol):
    """Ready tasks in order: highest priority first, first in first out inside a priority.

    Of every `STARVE_EVERY` claimed entries one is the oldest of all, whatever its priority, if it has
    waited over the starvation time; so nothing waits for ever.
    """

    async def add(self, entries: Sequence[Entry]) -> None:
        """Put entries in line; one of a known task replaces that task's older generation."""
        ...

    async def discard(self, entries: Sequence[Entry]) -> None:
        """Take entries out of line whose tasks are no longer ready; those that are not there are no error."""
        ...

    async def claim(self, want: Want, commit: Commit[T]) -> list[T]:
        """Take up to `want.limit` entries, best first, and give what `commit` made of them.

        It may give less although there is more, but not nothing: what came can begin before more is asked for.
        Entries that `commit` does not confirm are stale and leave the line. No entry is offered to two
        claimers at once. If `commit` raises, its entries stay in line, and the error is raised unless an
        earlier commit of this claim has given something already.
        """
        ...

    async def peek(self, want: Want) -> list[Entry]:
        """The entries that a claim would take now, in order; nothing changes."""
        ...

    async def set_paused(self, instance_id: str, queue: str, paused: bool) -> None:
        """A paused queue gives nothing to claimers."""
        ...
