"""Group commit: who shares a flush with whom, and who is told what."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

import pytest

from taskyard.errors import Unavailable
from taskyard.store.group_commit import GroupCommit


class Flushes:
    """A flush that can be held up; remembers the batches, and fails those with something bad in them."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.began = asyncio.Event()
        self.bad: dict[Any, BaseException] = {}

    async def __call__(self, items: Sequence[Any]) -> Sequence[str]:
        self.batches.append(list(items))
        self.began.set()
        await self.open.wait()
        for item in items:
            if item in self.bad:
                raise self.bad[item]
        return [f"done {item}" for item in items]


@pytest.fixture
def flushes() -> Flushes:
    return Flushes()


@pytest.fixture
async def group(flushes: Flushes) -> AsyncIterator[GroupCommit[Any, str]]:
    made: GroupCommit[Any, str] = GroupCommit(flushes, max_batch=5)
    yield made
    flushes.open.set()
    await made.close()


Start = Callable[[Coroutine[Any, Any, Any]], "asyncio.Task[Any]"]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts callers, and ends those that are left over."""
    tasks: list[asyncio.Task[Any]] = []

    def begin(call: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        tasks.append(asyncio.create_task(call))
        return tasks[-1]

    yield begin
    for task in tasks:
        task.cancel()
        with suppress(BaseException):
            await task


async def hold(group: GroupCommit[Any, str], flushes: Flushes, start: Start) -> "asyncio.Task[Any]":
    """A first caller whose flush is in flight until `flushes.open` is set."""
    flushes.open.clear()
    first = start(group.write("first"))
    await flushes.began.wait()
    return first


async def settle() -> None:
    """Let every task that is ready run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_an_idle_caller_is_flushed_at_once_and_alone(group: GroupCommit[Any, str], flushes: Flushes) -> None:
    assert await group.write("a") == "done a"
    assert await group.write("b") == "done b"
    assert flushes.batches == [["a"], ["b"]]


async def test_callers_that_are_ready_together_share_a_flush(group: GroupCommit[Any, str], flushes: Flushes) -> None:
    assert await asyncio.gather(*(group.write(n) for n in range(4))) == [f"done {n}" for n in range(4)]
    assert flushes.batches == [[0, 1, 2, 3]]


async def test_what_arrives_during_a_flush_goes_in_the_next(
    group: GroupCommit[Any, str], flushes: Flushes, start: Start
) -> None:
    first = await hold(group, flushes, start)
    others = [start(group.write(n)) for n in range(3)]
    await settle()
    assert flushes.batches == [["first"]]
    assert not any(task.done() for task in (first, *others))
    flushes.open.set()
    assert await asyncio.gather(first, *others) == ["done first", "done 0", "done 1", "done 2"]
    assert flushes.batches == [["first"], [0, 1, 2]]


async def test_a_batch_has_a_limit(group: GroupCommit[Any, str], flushes: Flushes, start: Start) -> None:
    await hold(group, flushes, start)
    others = [start(group.write(n)) for n in range(12)]
    await settle()
    flushes.open.set()
    await asyncio.gather(*others)
    assert flushes.batches == [["first"], [0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]


async def test_callers_are_answered_in_the_order_they_came(group: GroupCommit[Any, str]) -> None:
    answered: list[int] = []

    async def call(number: int) -> None:
        await group.write(number)
        answered.append(number)

    await asyncio.gather(*(call(number) for number in range(17)))
    assert answered == list(range(17))


async def test_no_more_wait_than_there_is_room_for(flushes: Flushes, start: Start) -> None:
    narrow: GroupCommit[Any, str] = GroupCommit(flushes, max_waiting=2)
    flushes.open.clear()
    callers = [start(narrow.write(n)) for n in range(5)]
    await flushes.began.wait()
    await settle()
    flushes.open.set()
    assert await asyncio.gather(*callers) == [f"done {n}" for n in range(5)]
    assert max(len(batch) for batch in flushes.batches) == 2


# -- failures -------------------------------------------------------------------------------------


async def test_a_bad_item_fails_by_itself(group: GroupCommit[Any, str], flushes: Flushes) -> None:
    flushes.bad = {1: ValueError("bad 1"), 3: ValueError("bad 3")}
    results = await asyncio.gather(*(group.write(n) for n in range(5)), return_exceptions=True)
    assert [str(result) for result in results] == ["done 0", "bad 1", "done 2", "bad 3", "done 4"]
    assert results[1] is flushes.bad[1]
    assert flushes.batches == [[0, 1, 2, 3, 4], [0, 1], [0], [1], [2, 3, 4], [2], [3, 4], [3], [4]]


async def test_a_bad_item_alone_is_not_tried_twice(group: GroupCommit[Any, str], flushes: Flushes) -> None:
    flushes.bad = {"bad": ValueError("bad")}
    with pytest.raises(ValueError, match="bad"):
        await group.write("bad")
    assert flushes.batches == [["bad"]]
    assert await group.write("good") == "done good"


async def test_when_the_database_is_away_all_fail_and_nothing_is_tried_again(
    group: GroupCommit[Any, str], flushes: Flushes
) -> None:
    flushes.bad = {1: Unavailable("away")}
    results = await asyncio.gather(*(group.write(n) for n in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [Unavailable] * 3
    assert flushes.batches == [[0, 1, 2]]
    flushes.bad = {}
    assert await group.write("later") == "done later"


async def test_write_all_tries_everything_and_raises_the_first_failure(
    group: GroupCommit[Any, str], flushes: Flushes
) -> None:
    flushes.bad = {2: ValueError("two"), 6: ValueError("six")}
    with pytest.raises(ValueError, match="two"):
        await group.write_all(range(7))
    assert flushes.batches == [[0, 1, 2, 3, 4], [0, 1], [2, 3, 4], [2], [3, 4], [5, 6], [5], [6]]


async def test_write_all_keeps_the_order(group: GroupCommit[Any, str], flushes: Flushes) -> None:
    assert await group.write_all(range(7)) == [f"done {n}" for n in range(7)]
    assert flushes.batches == [[0, 1, 2, 3, 4], [5, 6]]
    assert await group.write_all([]) == []


@pytest.mark.parametrize("death", [asyncio.CancelledError(), "too few results"], ids=str)
async def test_a_runner_that_dies_leaves_nobody_hanging(flushes: Flushes, start: Start, death: object) -> None:
    async def dying(items: Sequence[Any]) -> Sequence[str]:
        await flushes(items)
        if isinstance(death, BaseException):
            raise death
        return []

    group: GroupCommit[Any, str] = GroupCommit(dying, max_batch=2)
    flushes.open.clear()
    callers = [start(group.write(n)) for n in range(5)]
    await flushes.began.wait()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)  # what ended the runner is logged: not to the point here
    flushes.open.set()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(result) for result in results] == [Unavailable] * 5
    assert flushes.batches == [[0, 1]]
    # The next caller gets a new runner, and its own answer.
    with pytest.raises(Unavailable):
        await group.write("later")
    assert flushes.batches == [[0, 1], ["later"]]


# -- giving up ------------------------------------------------------------------------------------


async def test_a_caller_that_gave_up_before_its_flush_is_dropped(
    group: GroupCommit[Any, str], flushes: Flushes, start: Start
) -> None:
    await hold(group, flushes, start)
    impatient, patient = start(group.write("impatient")), start(group.write("patient"))
    await settle()
    impatient.cancel()
    await asyncio.wait([impatient])
    flushes.open.set()
    assert await patient == "done patient"
    assert flushes.batches == [["first"], ["patient"]]


async def test_write_all_given_up_before_its_flush_is_dropped(
    group: GroupCommit[Any, str], flushes: Flushes, start: Start
) -> None:
    await hold(group, flushes, start)
    impatient, patient = start(group.write_all(["x", "y"])), start(group.write("patient"))
    await settle()
    impatient.cancel()
    await asyncio.wait([impatient])
    flushes.open.set()
    assert await patient == "done patient"
    assert flushes.batches == [["first"], ["patient"]]


async def test_giving_up_after_the_flush_began_undoes_nothing(
    group: GroupCommit[Any, str], flushes: Flushes, start: Start
) -> None:
    flushes.open.clear()
    impatient, patient = start(group.write("impatient")), start(group.write("patient"))
    await flushes.began.wait()
    impatient.cancel()
    await asyncio.wait([impatient])
    assert impatient.cancelled()
    flushes.open.set()
    assert await patient == "done patient"
    assert flushes.batches == [["impatient", "patient"]]


# -- closing --------------------------------------------------------------------------------------


async def test_close_waits_for_what_is_queued_and_refuses_what_is_new(
    group: GroupCommit[Any, str], flushes: Flushes, start: Start
) -> None:
    first = await hold(group, flushes, start)
    queued = [start(group.write(n)) for n in range(7)]
    await settle()
    closing = start(group.close())
    await settle()
    assert not closing.done()
    for refused in (lambda: group.write("new"), lambda: group.write_all(["new"])):
        with pytest.raises(Unavailable, match="stopping"):
            await refused()
    flushes.open.set()
    await closing
    assert [task.done() for task in (first, *queued)] == [True] * 8
    assert await asyncio.gather(*queued) == [f"done {n}" for n in range(7)]
    assert flushes.batches == [["first"], [0, 1, 2, 3, 4], [5, 6]]


async def test_close_refuses_those_that_wait_for_room(flushes: Flushes, start: Start) -> None:
    narrow: GroupCommit[Any, str] = GroupCommit(flushes, max_waiting=1)
    flushes.open.clear()
    inside, outside = start(narrow.write("inside")), start(narrow.write("outside"))
    await flushes.began.wait()
    closing = start(narrow.close())
    await settle()
    flushes.open.set()
    await closing
    assert await inside == "done inside"
    with pytest.raises(Unavailable, match="stopping"):
        await outside
    assert flushes.batches == [["inside"]]


async def test_closing_twice_or_idle_is_no_error(flushes: Flushes) -> None:
    group: GroupCommit[Any, str] = GroupCommit(flushes)
    await group.close()
    await group.close()
    assert flushes.batches == []


async def test_items_that_share_a_key_do_not_share_a_flush() -> None:
    flushes: list[list[str]] = []

    async def flush(items: Sequence[str]) -> list[str]:
        flushes.append(list(items))
        return [item.upper() for item in items]

    group: GroupCommit[str, str] = GroupCommit(flush, keys=lambda item: item.split("+"))
    results = await group.write_all(["a1", "a+b", "c", "b", "a", "d", "b+d"])
    assert results == ["A1", "A+B", "C", "B", "A", "D", "B+D"]
    assert flushes == [["a1", "a+b", "c", "d"], ["b", "a"], ["b+d"]]
    await group.close()


async def test_what_waits_for_its_key_keeps_its_place_among_all_that_wait() -> None:
    flushes: list[list[str]] = []

    async def flush(items: Sequence[str]) -> list[str]:
        flushes.append(list(items))
        return list(items)

    group: GroupCommit[str, str] = GroupCommit(flush, keys=lambda item: item[:1], max_batch=2)
    await group.write_all(["a1", "a2", "b1", "a3", "b2"])
    assert flushes == [["a1"], ["a2", "b1"], ["a3", "b2"]]
    await group.close()
