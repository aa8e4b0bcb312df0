"""The database's clock, with an answer that the test owns."""

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta

import pytest

from taskyard.store import database_clock
from taskyard.store.database_clock import DatabaseClock, Reading

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PATIENCE = 60.0


class Database:
    """Answers with what it was given; `asked` counts."""

    def __init__(self, *, took: float = 0.0) -> None:
        self.moment = NOON
        self.took = took
        self.fault: Exception | None = None
        self.asked = 0
        self.again = asyncio.Event()

    async def __call__(self) -> Reading:
        self.asked += 1
        self.again.set()
        if self.fault is not None:
            raise self.fault
        now = time.monotonic()
        return Reading(self.moment, now - self.took, now)

    async def asked_again(self) -> None:
        """Wait until it has been asked, and has answered."""
        self.again.clear()
        async with asyncio.timeout(PATIENCE):
            await self.again.wait()
            await asyncio.sleep(0)


def near(moment: datetime, wanted: datetime) -> bool:
    return timedelta() <= moment - wanted < timedelta(seconds=PATIENCE)


def test_half_the_round_trip_is_taken_off() -> None:
    reading = Reading(NOON, asked=10.0, answered=10.5)
    assert reading.took == 0.5
    assert reading.at(10.25) == NOON
    assert reading.at(20.25) == NOON + timedelta(seconds=10)


async def test_it_goes_by_the_database_and_not_by_the_machine() -> None:
    clock = DatabaseClock(Database())
    await clock.start()
    first = clock.now()
    assert near(first, NOON)
    assert clock.now() >= first
    await clock.stop()
    assert near(clock.now(), NOON), "what was measured still holds"


async def test_it_measures_again_and_outlives_a_fault(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    database = Database()
    clock = DatabaseClock(database, interval=0.001)
    await clock.start()
    await clock.start()  # nothing more
    database.fault = OSError("away")
    await database.asked_again()
    await database.asked_again()
    assert near(clock.now(), NOON)
    database.fault, database.moment = None, NOON + timedelta(hours=1)
    await database.asked_again()
    await database.asked_again()
    assert near(clock.now(), NOON + timedelta(hours=1))
    told = [record.message.partition(":")[0] for record in caplog.records]
    assert told == ["the database's clock cannot be read; this machine's steady clock goes on", "over"]
    await clock.stop()
    await clock.stop()
    asked = database.asked
    await asyncio.sleep(0.02)
    assert database.asked == asked


async def test_a_slow_answer_says_too_little_except_the_first() -> None:
    database = Database(took=3 * database_clock.TOO_LONG)
    clock = DatabaseClock(database)
    await clock.measure()
    assert near(clock.now(), NOON)
    database.moment = NOON + timedelta(hours=1)
    await clock.measure()
    assert near(clock.now(), NOON)
    database.took = 0
    await clock.measure()
    assert near(clock.now(), NOON + timedelta(hours=1))


async def test_it_does_not_start_without_a_first_answer() -> None:
    database = Database()
    database.fault = OSError("away")
    clock = DatabaseClock(database)
    with pytest.raises(OSError, match="away"):
        await clock.start()
    await clock.stop()


async def test_a_stop_ends_a_driver_that_answers_a_cancellation_with_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(database_clock, "STOP_BOUND", 0.05)
    asking = asyncio.Event()
    answers = [Reading(NOON, 0.0, 0.0)]

    async def ask() -> Reading:
        if answers:
            return answers.pop()
        asking.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            raise OSError("the connection was lost") from error
        raise AssertionError

    clock = DatabaseClock(ask, interval=0.001)
    await clock.start()
    async with asyncio.timeout(PATIENCE):
        await asking.wait()
        await clock.stop()
