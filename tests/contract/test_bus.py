"""What every bus does. A bus of another kind joins as a parameter of `bus`."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack

import pytest
from tests.support.buses import PATIENCE, Heard, notify_bus, redis_bus
from tests.support.tasks import an_event

from taskyard.events.bus import Bus, MemoryBus
from taskyard.task import Event

REMOTE = [pytest.param("redis", marks=pytest.mark.slow), pytest.param("notify", marks=pytest.mark.slow)]


@pytest.fixture(params=["memory", *REMOTE])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
    async with AsyncExitStack() as stack:
        yield await opened(request.param, request, stack)


@pytest.fixture(params=REMOTE)
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Bus, Bus]]:
    """The buses of two processes."""
    async with AsyncExitStack() as stack:
        yield await opened(request.param, request, stack), await opened(request.param, request, stack)


async def opened(kind: str, request: pytest.FixtureRequest, stack: AsyncExitStack) -> Bus:
    match kind:
        case "redis":
            url, prefix = request.getfixturevalue("redis_url"), request.getfixturevalue("redis_prefix")
            return await stack.enter_async_context(redis_bus(url, prefix))
        case "notify":
            return await stack.enter_async_context(notify_bus(request.getfixturevalue("empty_database_url")))
    return MemoryBus()


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


async def test_starting_and_stopping_twice_is_once(bus: Bus) -> None:
    heard, other = Heard(), Heard()
    bus.listen(heard)
    await bus.start()
    await bus.start()
    await bus.publish([an_event(1)])
    assert await heard.until(1) == [1]
    async with asyncio.timeout(PATIENCE):
        await bus.stop()
        await bus.stop()
    bus.listen(other)
    await bus.start()
    await bus.publish([an_event(2)])
    assert await other.until(2) == [2]
    assert heard.seqs == [1, 2]


# -- between processes ----------------------------------------------------------------------------


async def test_another_process_hears_everything_once_and_in_order(pair: tuple[Bus, Bus]) -> None:
    here, there = pair
    near, far = Heard(), Heard()
    here.listen(near)
    there.listen(far)
    for seq in range(1, 200, 2):
        await here.publish([an_event(seq), an_event(seq + 1)])
    await there.publish([an_event(300)])
    assert await far.until(200) == [300, *range(1, 201)]
    assert await near.until(300) == [*range(1, 201), 300]
    # Whatever would come twice has come by the time that something later is heard.
    await here.publish([an_event(400)])
    await there.publish([an_event(401)])
    await far.until(400)
    await near.until(401)
    assert sorted(near.seqs) == sorted(far.seqs) == [*range(1, 201), 300, 400, 401]


async def test_an_event_arrives_elsewhere_as_it_was(pair: tuple[Bus, Bus]) -> None:
    here, there = pair
    came: asyncio.Future[Sequence[Event]] = asyncio.get_running_loop().create_future()
    there.listen(came.set_result)
    event = an_event(1, progress=40.5, progress_step="hälf \N{SNOWMAN}", completed_at=1_772_366_400_123)
    await here.publish([event])
    async with asyncio.timeout(PATIENCE):
        assert list(await came) == [event]


async def test_a_hint_is_told_to_the_others(pair: tuple[Bus, Bus]) -> None:
    here, there = pair
    heard = Heard()
    there.listen(heard)
    await here.publish([])
    await heard.until_hint()


async def test_what_is_too_large_for_a_message_becomes_a_hint(pair: tuple[Bus, Bus]) -> None:
    here, there = pair
    heard = Heard()
    there.listen(heard)
    await here.publish([an_event(1), an_event(2, error_message="x" * 600_000), an_event(3)])
    assert await heard.until(3) == [1, 3]
    assert heard.hints == 1


async def test_many_events_at_once_arrive_or_show_that_some_are_missing(pair: tuple[Bus, Bus]) -> None:
    """The last one always arrives, so that a hub sees what it lacks."""
    here, there = pair
    heard = Heard()
    there.listen(heard)
    await here.publish([an_event(seq) for seq in range(1, 9001)])
    seqs = await heard.until(9000)
    assert seqs == sorted(set(seqs))


async def test_more_than_may_wait_becomes_a_hint(pair: tuple[Bus, Bus]) -> None:
    here, there = pair
    heard = Heard()
    there.listen(heard)
    await here.publish([an_event(seq) for seq in range(1, 10_002)])
    await heard.until_hint()
    assert heard.seqs == []


async def test_a_message_that_cannot_be_read_is_worth_a_look(pair: tuple[Bus, Bus]) -> None:
    here, there = pair
    heard = Heard()
    there.listen(heard)
    channel = here._channel  # type: ignore[attr-defined]  # to send what no bus sends
    await channel.send(["no JSON", '{"from": "elsewhere", "events": [{"new": 1}]}'])
    await heard.until_hint(2)
    await here.publish([an_event(1)])
    assert await heard.until(1) == [1]
