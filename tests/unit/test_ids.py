"""Identifiers are UUIDs of version 7 (RFC 9562, 5.7)."""

import random
from datetime import UTC, datetime, timedelta
from uuid import RFC_4122, UUID

from hypothesis import given
from hypothesis import strategies as st

from taskyard.clock import to_millis
from taskyard.ids import new_id

NOON = datetime(2026, 3, 1, 12, 0, 0, 123_000, tzinfo=UTC)
moments = st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - Hypothesis wants naive bounds


@given(moment=moments, seed=st.integers())
def test_the_form(moment: datetime, seed: int) -> None:
    text = new_id(moment, random.Random(seed).getrandbits)
    value = UUID(text)
    assert str(value) == text
    assert value.version == 7
    assert value.variant == RFC_4122
    assert value.int >> 80 == to_millis(moment)


def test_the_example_of_the_rfc() -> None:
    """RFC 9562, appendix A.6."""
    parts = {12: 0xCC3, 62: 0x18C4DC0C0C07398F}
    moment = datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)
    assert new_id(moment, parts.__getitem__) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


@given(moment=moments, later=st.timedeltas(timedelta(milliseconds=1), timedelta(days=365)), seed=st.integers())
def test_ids_sort_by_the_time_they_were_made(moment: datetime, later: timedelta, seed: int) -> None:
    bits = random.Random(seed).getrandbits
    if moment.year < 9990:
        assert new_id(moment, bits) < new_id(moment + later, bits)


def test_ids_of_one_moment_differ() -> None:
    bits = random.Random(1).getrandbits
    assert len({new_id(NOON, bits) for _ in range(10_000)}) == 10_000
