"""When a failed run is tried again."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter, which stays at the cap too (docs/decisions/0009).

    `base` and `cap` are seconds.
    """

    base: float = 1.0
    cap: float = 30.0

    def delay(self, retry_count: int, uniform: Callable[[float, float], float]) -> timedelta:
        """The wait before retry number `retry_count` (0 is the first).

        It lies in [0, d] with d = min(cap, base * 2^retry_count). `uniform(a, b)` gives a random
        number between a and b, as `random.Random.uniform` does.
        """
        # The exponent is bounded: 2.0 ** 1100 would overflow a float long after the cap decided.
        longest = min(self.cap, self.base * 2.0 ** min(retry_count, 64))
        return timedelta(seconds=uniform(0, longest))
