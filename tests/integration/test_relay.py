"""The relay makes the index in Redis what the database says, whatever it was before."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest
from tests.support.core import claim, submit

from taskyard.errors import Unavailable
from taskyard.lifecycle import TaskStatus
from taskyard.principal import Principal
from taskyard.queue.entry import Entry, Want
from taskyard.queue.redis_queue import RedisQueue
from taskyard.queue.sql import SqlQueue
from taskyard.redis_link import RedisLink
from taskyard.runtime import Runtime
from taskyard.service.relay import ReadyRows, Relay
from taskyard.store.tasks import TaskReader

pytestmark = pytest.mark.slow


@dataclass(frozen=True, slots=True)
class Indexed:
    """A core whose tasks are indexed in Redis by the relay alone."""

    runtime: Runtime
    index: RedisQueue
    relay: Relay

    async def line(self) -> list[Entry]:
        """Everything in line."""
        return await self.index.between(1, 2**43 - 1, 1000)


@pytest.fixture
async def indexed(runtime: Runtime, redis_url: str, redis_prefix: str) -> AsyncIterator[Indexed]:
    link = RedisLink(redis_url, redis_prefix)
    table = SqlQueue(runtime.reader, runtime.clock)
    index = RedisQueue(link, table, ReadyRows(runtime.reader, runtime.registry), runtime.clock)
    yield Indexed(runtime, index, Relay(runtime.reader, runtime.registry, index, runtime.clock))
    await link.aclose()


async def test_a_line_holds_what_is_ready_and_nothing_else(indexed: Indexed, user: Principal) -> None:
    runtime, relay = indexed.runtime, indexed.relay
    ready = await submit(runtime, user)
    await relay.round()
    assert await indexed.line() == [Entry.of_task(ready)]
    gone = await submit(runtime, user, "of_no_worker")
    taken = await submit(runtime, user, priority=9)
    await indexed.index.add([Entry.of_task(gone), Entry.of_task(taken)])
    await runtime.tasks.cancel(user, gone.id)
    assert (await claim(runtime))[0].id == taken.id
    assert len(await indexed.line()) == 3
    await a_walk_later(indexed)
    assert await indexed.line() == [Entry.of_task(ready)]


async def test_an_entry_of_an_instance_that_had_the_id_before_is_stale(indexed: Indexed, user: Principal) -> None:
    task = Entry.of_task(await submit(indexed.runtime, user))
    await indexed.index.add([replace(task, instance_id="another")])
    await indexed.relay.round()
    await a_walk_later(indexed)
    await a_walk_later(indexed)
    assert await indexed.line() == [task]


async def test_an_entry_of_an_older_time_in_line_is_stale(indexed: Indexed, user: Principal) -> None:
    runtime = indexed.runtime
    first = await submit(runtime, user)
    task, run = await claim(runtime)
    await runtime.claims.release(run)
    again = await runtime.tasks.get(user, task.id)
    assert (again.status, again.generation) == (TaskStatus.QUEUED, first.generation + 1)
    await indexed.index.add([Entry.of_task(first)])
    await a_walk_later(indexed)
    assert await indexed.line() == [Entry.of_task(again)]


async def test_an_entry_of_a_task_that_there_is_not_is_stale(indexed: Indexed, user: Principal) -> None:
    ready = await submit(indexed.runtime, user)
    await indexed.index.add([replace(Entry.of_task(ready), task_id="unheard-of", seq=7000)])
    await a_walk_later(indexed)
    assert await indexed.line() == [Entry.of_task(ready)]


async def test_what_a_pause_keeps_back_is_compared_too(indexed: Indexed, user: Principal, admin: Principal) -> None:
    runtime, relay = indexed.runtime, indexed.relay
    task = await submit(runtime, user)
    await runtime.tasks.set_paused(admin, task.queue, True, None)
    await relay.round()
    # A claim parks what it must not take.
    assert await indexed.index.peek(Want(limit=1)) == []
    assert await indexed.line() == [Entry.of_task(task)]
    await runtime.tasks.cancel(user, task.id)
    await a_walk_later(indexed)
    assert await indexed.line() == []


async def test_a_pause_in_the_middle_of_a_round_ends_nothing(
    indexed: Indexed, user: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, relay = indexed.runtime, indexed.relay
    await relay.round()
    task = await submit(runtime, user)
    real = type(runtime.reader).head

    async def head(reader: TaskReader) -> int:
        relay.pause()
        return await real(reader)

    monkeypatch.setattr(type(runtime.reader), "head", head)
    # The first sees how far the log has come, the second follows it.
    await relay.round()
    await relay.round()
    assert await indexed.line() == [Entry.of_task(task)]


async def a_walk_later(indexed: Indexed) -> None:
    """One round of the relay, in which it walks; as with a process that begins now."""
    runtime = indexed.runtime
    await Relay(runtime.reader, runtime.registry, indexed.index, runtime.clock).round()


async def test_a_long_way_behind_is_made_good_round_by_round(
    indexed: Indexed, user: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round that fails does not take back what those before it have done."""
    monkeypatch.setattr("taskyard.service.relay.ROUND", 2)
    monkeypatch.setattr("taskyard.service.relay.WALK_EVERY", 1000.0)
    relay, index = indexed.relay, indexed.index
    await relay.round()
    expected = [Entry.of_task(await submit(indexed.runtime, user)) for _ in range(5)]
    await relay.round()
    await relay.round()
    assert len(await indexed.line()) == 2
    with monkeypatch.context() as broken:

        async def add(*_: object) -> None:
            raise Unavailable("Redis does not answer")

        broken.setattr(index, "add", add)
        with pytest.raises(Unavailable):
            await relay.round()
    await relay.round()
    assert len(await indexed.line()) == 4
    await relay.round()
    assert sorted(await indexed.line(), key=lambda entry: entry.seq) == expected
