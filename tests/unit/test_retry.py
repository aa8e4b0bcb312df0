"""The law of retries: within [0, d], d = min(cap, base * 2^n)."""

import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskyard.retry import Backoff


def lowest(low: float, _high: float) -> float:
    return low


def highest(_low: float, high: float) -> float:
    return high


@pytest.mark.parametrize(
    ("retry_count", "seconds"), [(0, 1), (1, 2), (2, 4), (3, 8), (4, 16), (5, 30), (6, 30), (100, 30)]
)
def test_the_default_doubles_from_one_second_to_thirty(retry_count: int, seconds: int) -> None:
    assert Backoff().delay(retry_count, highest) == timedelta(seconds=seconds)
    assert Backoff().delay(retry_count, lowest) == timedelta()


@given(
    base=st.floats(0.001, 3600),
    cap=st.floats(0.001, 86_400),
    retry_count=st.integers(0, 40),
    seed=st.integers(),
)
def test_the_delay_lies_in_the_law(base: float, cap: float, retry_count: int, seed: int) -> None:
    longest = min(cap, base * 2**retry_count)
    delay = Backoff(base, cap).delay(retry_count, random.Random(seed).uniform)
    assert timedelta() <= delay <= timedelta(seconds=longest)


def test_the_jitter_stays_at_the_cap() -> None:
    """Without it, all that failed together would come back together."""
    uniform = random.Random(1).uniform
    delays = {Backoff().delay(50, uniform) for _ in range(1000)}
    assert len(delays) > 900
    assert min(delays) < timedelta(seconds=1)
    assert max(delays) > timedelta(seconds=29)


@pytest.mark.parametrize("retry_count", [64, 1023, 1024, 1100, 10**9])
def test_a_huge_count_is_the_cap_and_no_overflow(retry_count: int) -> None:
    assert Backoff(base=1.0, cap=30.0).delay(retry_count, highest) == timedelta(seconds=30)


def test_a_cap_below_the_base_holds_from_the_start() -> None:
    assert Backoff(base=60.0, cap=5.0).delay(0, highest) == timedelta(seconds=5)
