"""What processes of a deployment share: parts that one plays at a time, and how far a reader of the log has come."""

import asyncio

import pytest
from tests.support.clock import FakeClock
from tests.support.core import claim, submit

from taskyard.principal import Principal
from taskyard.runtime import Runtime
from taskyard.service.duty import LeasedDuty
from taskyard.store.registry import Registry
from taskyard.task import LogLevel


async def test_a_lease_is_one_holders_until_it_runs_out(runtime: Runtime, clock: FakeClock) -> None:
    take = runtime.registry.take_lease
    assert await take("janitor", "one", 10)
    assert not await take("janitor", "two", 10)
    assert await take("other part", "two", 10)
    clock.advance(9)
    assert await take("janitor", "one", 10), "to renew is to take it again"
    clock.advance(10)
    assert not await take("janitor", "two", 10), "to its last moment it holds"
    clock.advance(0.001)
    assert await take("janitor", "two", 10)
    assert not await take("janitor", "one", 10)


async def test_a_lease_that_was_given_up_is_free(runtime: Runtime) -> None:
    registry = runtime.registry
    assert await registry.take_lease("janitor", "one", 10)
    await registry.give_up_lease("janitor", "two")
    assert not await registry.take_lease("janitor", "two", 10), "it was not the other's to give up"
    await registry.give_up_lease("janitor", "one")
    assert await registry.take_lease("janitor", "two", 10)


async def test_of_many_who_ask_at_once_one_gets_the_lease(runtime: Runtime) -> None:
    asked = [runtime.registry.take_lease("janitor", f"p{number}", 10) for number in range(10)]
    assert (await asyncio.gather(*asked)).count(True) == 1


async def test_a_cursor_goes_only_forward(runtime: Runtime) -> None:
    registry = runtime.registry
    assert await registry.cursor("relay") == 0
    await registry.set_cursor("relay", 7)
    await registry.set_cursor("relay", 5)
    assert await registry.cursor("relay") == 7


@pytest.mark.parametrize("limit", [1, 10])
async def test_what_came_into_a_line_in_a_part_of_the_log(runtime: Runtime, user: Principal, limit: int) -> None:
    first, second = await submit(runtime, user), await submit(runtime, user)
    await runtime.tasks.change_priority(user, second.id, 9)
    taken = await submit(runtime, user, priority=10)
    assert (await claim(runtime))[0].id == taken.id
    between = runtime.reader.queued_between

    async def found(after: int, upto: int) -> list[str]:
        return [task.id for task in await between(after, upto, limit)]

    assert await found(0, 5) == [first.id, second.id][:limit]
    assert await found(1, 5) == await found(2, 3) == await found(1, 2) == [second.id]
    assert await found(3, 5) == [], "what was claimed is not QUEUED now"
    assert await found(5, 100) == []


async def test_what_was_given_back_came_into_its_line_and_what_only_told_did_not(
    runtime: Runtime, user: Principal
) -> None:
    task = await submit(runtime, user)
    _, run = await claim(runtime)
    await runtime.claims.log(run, LogLevel.INFO, "hello")
    logged = await runtime.reader.head()
    await runtime.claims.release(run)
    between = runtime.reader.queued_between
    assert await between(logged - 1, logged, 10) == []
    assert [found.id for found in await between(logged, logged + 1, 10)] == [task.id]


async def test_who_sees_that_a_duty_is_anothers_writes_nothing(
    runtime: Runtime, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every process asks several times a second, and only one of them has it."""
    assert await runtime.registry.take_lease("janitor", "one", 10)

    async def run(*_: object) -> None:
        raise AssertionError("it wrote")

    monkeypatch.setattr(runtime.database.writer, "run", run)
    duty = LeasedDuty(runtime.registry, clock, "janitor", "two")
    assert not await duty.mine()


async def test_the_loops_of_a_process_ask_for_a_duty_once_together(
    runtime: Runtime, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    real = type(runtime.registry).is_taken

    async def is_taken(registry: Registry, name: str, holder: str) -> bool:
        asked.append(holder)
        return await real(registry, name, holder)

    monkeypatch.setattr(type(runtime.registry), "is_taken", is_taken)
    duties = [LeasedDuty(runtime.registry, clock, "janitor", holder) for holder in ("one", "two")]
    answers = [await asyncio.gather(*(duty.mine() for _ in range(4))) for duty in duties]
    assert answers == [[True] * 4, [False] * 4]
    assert asked == ["one", "two"]
