"""The rules of a queue's health, at their edges."""

from datetime import timedelta
from typing import Any

import pytest

from taskyard.service.health import QueueHealth, queue_health

WELL = {"oldest_wait": timedelta(), "ended": 100, "failed": 0, "workers": 1}
INSTANT = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("figures", "health"),
    [
        ({}, "HEALTHY"),
        # How long the oldest has waited.
        ({"oldest_wait": timedelta(minutes=1)}, "HEALTHY"),
        ({"oldest_wait": timedelta(minutes=1) + INSTANT}, "DEGRADED"),
        ({"oldest_wait": timedelta(minutes=15)}, "DEGRADED"),
        ({"oldest_wait": timedelta(minutes=15) + INSTANT}, "CRITICAL"),
        # How many ends were failures.
        ({"ended": 100, "failed": 19}, "HEALTHY"),
        ({"ended": 100, "failed": 20}, "DEGRADED"),
        ({"ended": 100, "failed": 49}, "DEGRADED"),
        ({"ended": 100, "failed": 50}, "CRITICAL"),
        ({"ended": 100, "failed": 100}, "CRITICAL"),
        # A rate of few ends means nothing.
        ({"ended": 19, "failed": 19}, "HEALTHY"),
        ({"ended": 20, "failed": 20}, "CRITICAL"),
        ({"ended": 20, "failed": 4}, "DEGRADED"),
        ({"ended": 20, "failed": 3}, "HEALTHY"),
        ({"ended": 0, "failed": 0}, "HEALTHY"),
        # Who is there to work.
        ({"workers": 0}, "HEALTHY"),
        ({"workers": 0, "oldest_wait": timedelta(minutes=1)}, "HEALTHY"),
        ({"workers": 0, "oldest_wait": timedelta(minutes=1) + INSTANT}, "CRITICAL"),
        # The worst rule holds.
        ({"oldest_wait": timedelta(minutes=2), "failed": 60}, "CRITICAL"),
        ({"oldest_wait": timedelta(minutes=20), "failed": 20}, "CRITICAL"),
    ],
)
def test_the_health_of_a_queue(figures: dict[str, Any], health: str) -> None:
    assert queue_health(**(WELL | figures)) is QueueHealth(health)
