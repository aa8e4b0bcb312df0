"""What every bus does. A bus of another kind joins as a parameter of `bus`."""

import asyncio
import logging
from collections.abc import Callable, Sequence

import pytest
from tests.support.tasks import an_event

from taskyard.events.bus import Bus, MemoryBus
from taskyard.task import Event

#: Only so that a failing test ends.
PATIENCE = 30


@pytest.fixture(params=["memory"])
async def bus(request: pytest.FixtureRequest) -> Bus:
    return MemoryBus()


class Heard:
    """A listener that remembers; a message may take its time."""

    def __init__(self) -> None:
        self.seqs: list[int] = []
        self._came = asyncio.Event()

    def __call__(self, events: Sequence[Event]) -> None:
        self.seqs += [event.seq for event in events]
        self._came.set()

    async def until(self, seq: int) -> list[int]:
        async with asyncio.timeout(PATIENCE):
            while seq not in self.seqs:
                self._came.clear()
                await self._came.wait()
        return self.seqs


async def test_every_listener_hears_everything_in_order(bus: Bus) -> None:
    one, other = Heard(), Heard()
    bus.listen(one)
    bus.listen(other)
    await bus.publish([an_event(1), an_event(2)])
    await bus.publish([an_event(3)])
    assert await one.until(3) == [1, 2, 3]
    assert await other.until(3) == [1, 2, 3]


async def test_an_event_arrives_as_it_was(bus: Bus) -> None:
    came: asyncio.Future[Sequence[Event]] = asyncio.get_running_loop().create_future()
    bus.listen(came.set_result)
    event = an_event(1, progress=40.5, progress_step="half", completed_at=1_772_366_400_123)
    await bus.publish([event])
    async with asyncio.timeout(PATIENCE):
        assert list(await came) == [event]


async def test_publishing_to_nobody_is_no_error(bus: Bus) -> None:
    await bus.publish([an_event(1)])
    late = Heard()
    bus.listen(late)
    await bus.publish([an_event(2)])
    assert await late.until(2) == [2]


async def test_a_listener_that_fails_does_not_stop_the_others(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    def fails(_events: Sequence[Event]) -> None:
        raise ValueError("a fault of its own")

    before, after = Heard(), Heard()
    bus.listen(before)
    bus.listen(fails)
    bus.listen(after)
    with caplog.at_level(logging.ERROR):
        await bus.publish([an_event(1)])
        await bus.publish([an_event(2)])
        assert await before.until(2) == [1, 2]
        assert await after.until(2) == [1, 2]
    assert "a fault of its own" in caplog.text


async def test_a_listener_that_stopped_hears_no_more(bus: Bus) -> None:
    leaving, staying = Heard(), Heard()
    stop = bus.listen(leaving)
    bus.listen(staying)
    await bus.publish([an_event(1)])
    await leaving.until(1)
    stop()
    stop()
    await bus.publish([an_event(2)])
    await staying.until(2)
    assert leaving.seqs == [1]


async def test_a_listener_may_stop_itself_while_it_is_called(bus: Bus) -> None:
    heard, other = Heard(), Heard()
    stops: list[Callable[[], None]] = []

    def once(events: Sequence[Event]) -> None:
        heard(events)
        stops.pop()()

    stops.append(bus.listen(once))
    bus.listen(other)
    await bus.publish([an_event(1)])
    await bus.publish([an_event(2)])
    assert await other.until(2) == [1, 2]
    assert heard.seqs == [1]
