"""Whose turn it is: of every `STARVE_EVERY` claimed entries one is the oldest of those that waited too long."""

from collections.abc import Sequence

from taskyard.queue.base import STARVE_EVERY
from taskyard.queue.entry import Entry


def turns(claimed: int, limit: int) -> list[int]:
    """Which of the next `limit` places go to the oldest, after so many claimed entries."""
    return [place for place in range(limit) if (claimed + place + 1) % STARVE_EVERY == 0]


def in_turn(best: Sequence[Entry], starved: Sequence[Entry], places: Sequence[int], limit: int) -> list[Entry]:
    """The best entries, with the oldest starved one that is left at each of these places."""
    chosen = list(best)
    for place in places:
        entry = next((entry for entry in starved if entry not in chosen[:place]), None)
        if entry is None:
            break
        rest = [other for other in chosen if other != entry]
        chosen = [*rest[:place], entry, *rest[place:]]
    return chosen[:limit]
