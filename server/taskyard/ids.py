"""Identifiers: UUIDs of version 7, which sort by the time they were made (RFC 9562, 5.7)."""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from taskyard.clock import to_millis


def new_id(now: datetime, random_bits: Callable[[int], int]) -> str:
    """A UUIDv7 in its usual form.

    `random_bits(n)` gives n random bits, as `random.Random.getrandbits` does.
    """
    value = (to_millis(now) & (1 << 48) - 1) << 80
    value |= 0x7 << 76 | random_bits(12) << 64
    value |= 0b10 << 62 | random_bits(62)
    return str(UUID(int=value))
