"""The hub: each event once and in order, whatever the bus does to them."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from tests.support.tasks import an_event

from taskyard.errors import Unavailable
from taskyard.events import hub as hub_module
from taskyard.events.bus import Listener, MemoryBus
from taskyard.events.hub import Hub, Subscription
from taskyard.principal import Principal
from taskyard.runtime import Runtime
from taskyard.task import Event, NewTask

#: Only so that a failing test ends.
PATIENCE = 30


class Log:
    """The table of events, in memory."""

    def __init__(self, upto: int = 0) -> None:
        self.events = [an_event(seq) for seq in range(1, upto + 1)]
        self.reads: list[int] = []
        self.faults: list[Exception] = []

    def append(self, count: int = 1) -> list[Event]:
        new = [an_event(len(self.events) + 1 + index) for index in range(count)]
        self.events += new
        return new

    async def head(self) -> int:
        return len(self.events)

    async def events_after(self, seq: int, limit: int) -> list[Event]:
        self.reads.append(seq)
        if self.faults:
            raise self.faults.pop()
        return self.events[seq : seq + limit]


class CountingBus(MemoryBus):
    """Counts who listens."""

    listeners = 0

    def listen(self, listener: Listener) -> Callable[[], None]:
        self.listeners += 1
        stop = super().listen(listener)

        def stop_counted() -> None:
            self.listeners -= 1
            stop()

        return stop_counted


@pytest.fixture
def bus() -> CountingBus:
    return CountingBus()


@pytest.fixture
def log() -> Log:
    return Log()


@asynccontextmanager
async def started(bus: MemoryBus, log: Log) -> AsyncIterator[Hub]:
    hub = Hub(bus, log)
    await hub.start()
    try:
        yield hub
    finally:
        await hub.stop()


@pytest.fixture
async def hub(bus: CountingBus, log: Log) -> AsyncIterator[Hub]:
    async with started(bus, log) as made:
        yield made


def everything(_event: Event) -> bool:
    return True


async def read(subscription: Subscription, count: int) -> list[int]:
    """The numbers of the next `count` events."""
    seqs: list[int] = []
    async with asyncio.timeout(PATIENCE):
        while len(seqs) < count:
            seqs += [event.seq for event in await subscription.next()]
    return seqs


async def ended(subscription: Subscription) -> Unavailable:
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(Unavailable) as caught:
            await subscription.next()
    return caught.value


# -- order ----------------------------------------------------------------------------------------


async def test_what_is_published_in_order_is_delivered_at_once(bus: MemoryBus, hub: Hub) -> None:
    with hub.subscribe(everything) as subscription:
        await bus.publish([an_event(1), an_event(2)])
        await bus.publish([an_event(3)])
        assert [event.seq for event in await subscription.next()] == [1, 2, 3]


async def test_messages_that_cross_are_put_in_order(bus: MemoryBus, hub: Hub) -> None:
    """Without the table, which is empty here."""
    with hub.subscribe(everything) as subscription:
        for seq in (3, 2, 5, 1, 4):
            await bus.publish([an_event(seq)])
        assert await read(subscription, 5) == [1, 2, 3, 4, 5]


async def test_what_comes_twice_is_delivered_once(bus: MemoryBus, hub: Hub) -> None:
    with hub.subscribe(everything) as subscription:
        await bus.publish([an_event(1), an_event(1), an_event(2)])
        await bus.publish([an_event(3), an_event(3)])
        await bus.publish([an_event(1), an_event(2), an_event(3), an_event(4)])
        assert await read(subscription, 4) == [1, 2, 3, 4]


async def test_a_lost_message_is_read_from_the_log(bus: MemoryBus, log: Log, hub: Hub) -> None:
    with hub.subscribe(everything) as subscription:
        *_, last = log.append(5)
        await bus.publish([last])
        assert await read(subscription, 5) == [1, 2, 3, 4, 5]
        assert log.reads == [0]


async def test_a_message_that_comes_after_its_event_was_read_is_dropped(bus: MemoryBus, log: Log, hub: Hub) -> None:
    with hub.subscribe(everything) as subscription:
        late, _, last = log.append(3)
        await bus.publish([last])
        assert await read(subscription, 3) == [1, 2, 3]
        await bus.publish([late])
        await bus.publish(log.append())
        assert await read(subscription, 1) == [4]


async def test_without_any_message_the_log_is_looked_at(
    bus: MemoryBus, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "TICK", 0.001)
    async with started(bus, log) as hub:
        with hub.subscribe(everything) as subscription:
            log.append(3)
            assert await read(subscription, 3) == [1, 2, 3]


async def test_more_than_one_read_can_hold_is_filled(
    bus: MemoryBus, log: Log, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "FILL", 3)
    with hub.subscribe(everything) as subscription:
        await bus.publish(log.append(10)[-1:])
        assert await read(subscription, 10) == list(range(1, 11))
        assert log.reads[:3] == [0, 3, 6]


async def test_a_log_that_cannot_be_read_is_read_again(
    bus: MemoryBus, log: Log, hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    log.faults = [Unavailable("away")]
    with hub.subscribe(everything) as subscription, caplog.at_level(logging.WARNING):
        await bus.publish(log.append(3)[-1:])
        assert await read(subscription, 3) == [1, 2, 3]
    assert "the event log cannot be read: away" in caplog.text


@pytest.mark.parametrize("seed", range(5))
async def test_a_bus_that_loses_doubles_and_crosses(bus: MemoryBus, log: Log, hub: Hub, seed: int) -> None:
    chance = random.Random(seed)
    with hub.subscribe(everything) as first:
        on_the_way: list[Event] = []
        for _ in range(100):
            for event in log.append(chance.randint(1, 4)):
                on_the_way += [event] * chance.choice((0, 1, 1, 1, 2))
            chance.shuffle(on_the_way)
            arriving = [on_the_way.pop() for _ in range(chance.randint(0, len(on_the_way)))]
            await bus.publish(arriving)
            await asyncio.sleep(0)
        await bus.publish(log.append())
        assert await read(first, len(log.events)) == [event.seq for event in log.events]


# -- where a subscription begins and ends ---------------------------------------------------------


async def test_a_hub_begins_at_the_head_of_the_log(bus: MemoryBus) -> None:
    log = Log(upto=7)
    async with started(bus, log) as hub:
        with hub.subscribe(everything) as subscription:
            await bus.publish([log.events[-1]])
            await bus.publish(log.append())
            assert await read(subscription, 1) == [8]


async def test_a_subscriber_gets_what_comes_after_it(bus: MemoryBus, hub: Hub) -> None:
    await bus.publish([an_event(1)])
    with hub.subscribe(everything) as subscription:
        await bus.publish([an_event(2)])
        assert await read(subscription, 1) == [2]


async def test_a_subscriber_gets_what_it_wants(bus: MemoryBus, hub: Hub) -> None:
    with (
        hub.subscribe(lambda event: event.task_id == "b") as picky,
        hub.subscribe(everything) as greedy,
    ):
        await bus.publish([an_event(1, "a"), an_event(2, "b"), an_event(3, "a"), an_event(4, "b")])
        assert await read(picky, 2) == [2, 4]
        assert await read(greedy, 4) == [1, 2, 3, 4]


async def test_a_subscriber_that_left_is_fed_no_more(bus: MemoryBus, hub: Hub) -> None:
    offered: list[int] = []
    with hub.subscribe(lambda event: offered.append(event.seq) is None):
        await bus.publish([an_event(1)])
    await bus.publish([an_event(2)])
    assert offered == [1]


async def test_next_waits_and_loses_nothing_when_it_is_given_up(bus: MemoryBus, hub: Hub) -> None:
    with hub.subscribe(everything) as subscription:
        waiting = asyncio.create_task(subscription.next())
        await asyncio.sleep(0)
        assert not waiting.done()
        await bus.publish([an_event(1)])
        waiting.cancel()  # what it would have given is there already
        await asyncio.wait([waiting])
        assert await read(subscription, 1) == [1]


async def test_a_subscriber_that_reads_too_slowly_is_cut_off_and_told_why(bus: MemoryBus, hub: Hub) -> None:
    with hub.subscribe(everything, buffer=2) as slow, hub.subscribe(everything) as quick:
        await bus.publish([an_event(1), an_event(2)])
        await bus.publish([an_event(3)])
        await bus.publish([an_event(4)])
        assert await read(slow, 2) == [1, 2]
        assert "too slowly" in (await ended(slow)).message
        assert await read(quick, 4) == [1, 2, 3, 4]


async def test_a_subscriber_that_keeps_up_is_not_cut_off(bus: MemoryBus, hub: Hub) -> None:
    with hub.subscribe(everything, buffer=2) as subscription:
        for seq in range(1, 20, 2):
            await bus.publish([an_event(seq), an_event(seq + 1)])
            assert await read(subscription, 2) == [seq, seq + 1]


async def test_an_end_is_told_as_often_as_it_is_asked_for(bus: MemoryBus, hub: Hub) -> None:
    with hub.subscribe(everything, buffer=1) as slow:
        await bus.publish([an_event(1), an_event(2)])
        assert await read(slow, 1) == [1]
        assert await ended(slow) is await ended(slow)


async def test_a_subscriber_that_cannot_choose_ends_alone(
    bus: MemoryBus, hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(event: Event) -> bool:
        if event.seq == 2:
            raise KeyError("no such field")
        return True

    # Whatever their order among the subscribers.
    with (
        hub.subscribe(everything) as one,
        hub.subscribe(fails) as failing,
        hub.subscribe(everything) as other,
        caplog.at_level(logging.ERROR),
    ):
        await bus.publish([an_event(1), an_event(2), an_event(3)])
        assert await read(one, 3) == [1, 2, 3]
        assert await read(other, 3) == [1, 2, 3]
        assert await read(failing, 1) == [1]
        with pytest.raises(KeyError):
            await failing.next()


async def test_stop_ends_every_subscription_after_what_it_has(bus: MemoryBus, hub: Hub) -> None:
    with hub.subscribe(everything) as waiting, hub.subscribe(everything) as behind:
        await bus.publish([an_event(1)])
        assert await read(waiting, 1) == [1]
        reading = asyncio.create_task(waiting.next())
        await asyncio.sleep(0)
        await hub.stop()
        with pytest.raises(Unavailable, match="stopping"):
            await reading
        assert await read(behind, 1) == [1]
        assert "stopping" in (await ended(behind)).message


async def test_a_subscription_to_a_stopped_hub_ends_at_once(hub: Hub) -> None:
    await hub.stop()
    with hub.subscribe(everything) as subscription:
        assert "stopping" in (await ended(subscription)).message


async def test_starting_and_stopping_twice_is_once(bus: CountingBus, log: Log) -> None:
    hub = Hub(bus, log)
    await hub.stop()
    await hub.start()
    await hub.start()
    assert bus.listeners == 1
    await hub.stop()
    await hub.stop()
    assert bus.listeners == 0


# -- on the real store ----------------------------------------------------------------------------


async def submit(runtime: Runtime, user: Principal, count: int) -> Sequence[str]:
    return [(await runtime.tasks.create(user, NewTask(task_type="echo", input=n))).id for n in range(count)]


async def test_commits_reach_the_subscriber_in_order(runtime: Runtime, user: Principal) -> None:
    with runtime.hub.subscribe(everything) as subscription:
        ids = await submit(runtime, user, 3)
        await asyncio.gather(*(runtime.tasks.cancel(user, task_id) for task_id in ids))
        assert await read(subscription, 6) == [1, 2, 3, 4, 5, 6]


async def test_what_the_bus_lost_comes_from_the_store(runtime: Runtime, user: Principal) -> None:
    deaf = MemoryBus()
    hub = Hub(deaf, runtime.reader)
    await submit(runtime, user, 2)
    await hub.start()
    with hub.subscribe(everything) as subscription:
        ids = await submit(runtime, user, 4)
        events: list[Event] = []
        async with asyncio.timeout(PATIENCE):
            while len(events) < 4:
                events += await subscription.next()
        assert [(event.seq, event.task_id) for event in events] == list(enumerate(ids, start=3))
        assert await runtime.reader.events_after(2, 100) == events
    await hub.stop()


# -- bounds ---------------------------------------------------------------------------------------


async def test_what_is_kept_while_an_event_is_missing_is_bounded(
    bus: MemoryBus, log: Log, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "HELD", 5)
    log.faults = [OSError("the log is away")]
    with hub.subscribe(everything) as subscription:
        new = log.append(20)
        await bus.publish(new[1:])
        assert len(hub._held) == 5
        assert await read(subscription, 20) == list(range(1, 21)), "the log has them all"


async def test_a_message_without_events_makes_it_look_into_the_log(
    bus: MemoryBus, log: Log, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "TICK", PATIENCE * 2)
    with hub.subscribe(everything) as subscription:
        await bus.publish([])  # ends the wait that has begun with the tick as it was
        log.append(2)
        await bus.publish([])
        assert await read(subscription, 2) == [1, 2]
