"""What every queue does, over a real store. One of another kind joins as a parameter of `settings`."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace

import pytest
from tests.support.clock import FakeClock
from tests.support.lines import ROOT, Line
from tests.support.tasks import an_insert

from taskyard.lifecycle import TaskStatus
from taskyard.principal import Scope
from taskyard.queue.entry import Entry, Want
from taskyard.queue.redis_queue import RedisQueue
from taskyard.runtime import Runtime, open_deployment, open_embedded
from taskyard.settings import Settings
from taskyard.store.writes import move

#: Over the age at which a task of low priority gets its turn, and under it: seconds.
LONG, SHORT = 61, 59
#: Only so that a failing test ends.
PATIENCE = 60


@pytest.fixture(
    params=[
        *("memory", "sql"),
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("postgresql", "redis", "valkey")),
    ]
)
def settings(request: pytest.FixtureRequest) -> Settings:
    """A queue of each kind, over the database that goes with it."""
    match request.param:
        case "memory" | "sql":
            return Settings(data=request.getfixturevalue("data_folder"), queue_backend=request.param)
        case "postgresql":
            return Settings(database_url=request.getfixturevalue("database_url"))
        case server:
            return Settings(
                database_url=request.getfixturevalue("database_url"),
                redis_url=request.getfixturevalue(f"{server}_url"),
                redis_prefix=request.getfixturevalue("redis_prefix"),
            )


async def opened(settings: Settings, clock: FakeClock) -> Runtime:
    if settings.database_url is None:
        return await open_embedded(settings, clock, random.Random(1))
    core = await open_deployment(settings, clock, random.Random(1))
    if isinstance(core.queue, RedisQueue):
        await core.queue.mend()
    return core


@pytest.fixture
async def core(settings: Settings, clock: FakeClock) -> AsyncIterator[Runtime]:
    core = await opened(settings, clock)
    yield core
    if isinstance(core.queue, RedisQueue):
        assert core.redis is not None
        assert not core.queue.lost.is_set(), "it would have claimed from the table"
        assert not core.redis.away
    await core.aclose()


@pytest.fixture
def line(core: Runtime) -> Line:
    return Line(core)


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}-{number:03}" for number in range(count)]


# -- order ----------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_thousand_tasks_come_in_exact_order(line: Line) -> None:
    chance = random.Random(3)
    tasks = [(name, chance.randint(1, 10)) for name in names("t", 1000)]
    await line.core.database.writer.write_many([an_insert(name, priority=priority) for name, priority in tasks])
    in_order = [name for name, _ in sorted(tasks, key=lambda task: -task[1])]  # sorted() keeps the order of equals
    assert await line.peek(1000) == in_order
    assert await line.drain(by=37) == in_order


async def test_inside_a_priority_first_in_is_first_out(line: Line) -> None:
    await line.put(*names("a", 5))
    await line.put(*reversed(names("b", 5)))
    assert await line.drain(by=3) == [*names("a", 5), *reversed(names("b", 5))]


async def test_a_higher_priority_goes_before_an_earlier_task(line: Line) -> None:
    await line.put("low", priority=1)
    await line.put("normal", priority=5)
    await line.put("urgent", priority=10)
    assert await line.drain() == ["urgent", "normal", "low"]


async def test_a_task_that_comes_back_takes_its_old_place(line: Line) -> None:
    await line.put("a", "b", "c")
    assert await line.claim() == ["a"]
    await line.core.database.writer.write(move("a", TaskStatus.QUEUED, actor="system:janitor"))
    assert await line.drain() == ["a", "b", "c"]


async def test_the_limit_is_respected(line: Line) -> None:
    await line.put(*names("t", 5))
    assert await line.claim(0) == []
    assert await line.peek(0) == []
    assert await line.claim(2) == names("t", 5)[:2]
    assert await line.claim(100) == names("t", 5)[2:]
    assert await line.claim(100) == []
    assert [len(batch) for batch in line.offered] == [2, 3]


async def test_an_empty_line_asks_for_no_commit(line: Line) -> None:
    assert await line.claim(5) == []
    assert await line.peek() == []
    assert line.offered == []


# -- nobody starves -------------------------------------------------------------------------------


@pytest.mark.parametrize("by", [1, 7, 20, 40])
async def test_every_sixteenth_is_the_oldest_if_it_has_waited_too_long(line: Line, clock: FakeClock, by: int) -> None:
    await line.put("old-1", "old-2", "old-3", priority=1)
    clock.advance(LONG)
    await line.put(*names("new", 37), priority=9)
    new = names("new", 37)
    assert await line.drain(by) == [*new[:15], "old-1", *new[15:30], "old-2", *new[30:], "old-3"]


async def test_before_that_age_priority_alone_decides(line: Line, clock: FakeClock) -> None:
    await line.put("old", priority=1)
    clock.advance(SHORT)
    await line.put(*names("new", 20), priority=9)
    assert await line.drain(by=7) == [*names("new", 20), "old"]


@pytest.mark.parametrize(("seconds", "place"), [(60, 20), (60.001, 15)])
async def test_the_age_is_over_a_minute(line: Line, clock: FakeClock, seconds: float, place: int) -> None:
    await line.put("old", priority=1)
    clock.advance(seconds)
    await line.put(*names("new", 20), priority=9)
    assert (await line.drain(by=6)).index("old") == place


@pytest.mark.parametrize("by", [1, 20])
async def test_the_turn_goes_to_the_oldest_of_those_left(line: Line, clock: FakeClock, by: int) -> None:
    """One that has waited longer still, but whose priority brought it out before, uses up no turn."""
    await line.put("older", priority=9)
    await line.put("old", priority=1)
    clock.advance(LONG)
    await line.put(*names("new", 18), priority=9)
    assert await line.drain(by) == ["older", *names("new", 18)[:14], "old", *names("new", 18)[14:]]


async def test_claimers_side_by_side_share_the_turns(line: Line, clock: FakeClock) -> None:
    """Twenty at once, again and again: the count must not pass over the sixteenth."""
    await line.put("old", priority=1)
    clock.advance(LONG)
    await line.put(*names("new", 100), priority=9)
    claimed = [name for batch in await asyncio.gather(*(line.claim() for _ in range(20))) for name in batch]
    assert len(claimed) == 20
    assert "old" in claimed


async def test_the_turn_is_for_what_the_claimer_can_run(line: Line, clock: FakeClock) -> None:
    await line.put("other", priority=1, task_type="other")
    clock.advance(LONG)
    await line.put(*names("new", 20), priority=9)
    assert await line.drain(task_types=["echo"]) == names("new", 20)
    assert await line.claim() == ["other"]


# -- side by side ---------------------------------------------------------------------------------


@pytest.mark.slow
async def test_twenty_claimers_take_five_thousand_tasks_once_each(line: Line) -> None:
    chance = random.Random(5)
    every = [f"t{number}" for number in range(5000)]
    await line.core.database.writer.write_many([an_insert(name, priority=chance.randint(1, 10)) for name in every])
    shares = await asyncio.gather(*(line.drain(by=50) for _ in range(20)))
    claimed = [name for share in shares for name in share]
    assert len(claimed) == len(set(claimed)) == 5000
    assert set(claimed) == set(every)
    assert await line.peek() == []


async def test_no_entry_is_offered_to_two_claimers_at_once(line: Line) -> None:
    await line.put(*names("t", 12))
    under_way: set[str] = set()

    async def commit(entries: Sequence[Entry]) -> list[str]:
        mine = {entry.task_id for entry in entries}
        assert not mine & under_way
        under_way.update(mine)
        await asyncio.sleep(0)
        claimed = await line.commit(entries)
        under_way.difference_update(mine)
        return claimed

    shares = await asyncio.gather(*(line.queue.claim(Want(limit=3), commit) for _ in range(6)))
    assert sorted(name for share in shares for name in share) == names("t", 12)


# -- stale entries --------------------------------------------------------------------------------


async def test_a_raised_priority_overtakes(line: Line) -> None:
    await line.put("a", "b", "c")
    await line.core.tasks.change_priority(ROOT, "c", 9)
    assert await line.drain(by=2) == ["c", "a", "b"]


async def test_a_lowered_priority_falls_behind(line: Line) -> None:
    await line.put("a", "b", "c")
    await line.core.tasks.change_priority(ROOT, "a", 2)
    assert await line.drain(by=2) == ["b", "c", "a"]


async def test_a_task_whose_priority_went_up_and_down_is_claimed_once(line: Line) -> None:
    await line.put("a", "b")
    for priority in (9, 1, 7, 5):
        await line.core.tasks.change_priority(ROOT, "b", priority)
    assert await line.peek() == ["a", "b"]
    assert await line.drain() == ["a", "b"]
    assert [entry.generation for batch in line.offered for entry in batch if entry.task_id == "b"] == [5]


async def test_a_cancelled_task_is_not_claimed_and_leaves_its_place_to_others(line: Line) -> None:
    await line.put(*names("t", 8))
    for name in names("t", 8)[:5]:
        await line.core.tasks.cancel(ROOT, name)
    assert await line.claim(3) == names("t", 8)[5:]
    assert await line.claim(3) == []


async def test_a_task_that_is_retried_is_claimed_once_under_its_new_generation(line: Line) -> None:
    await line.put("a", "b")
    await line.core.tasks.cancel(ROOT, "a")
    await line.core.tasks.retry(ROOT, "a")
    assert await line.peek() == ["a", "b"]
    assert await line.drain(by=5) == ["a", "b"]
    assert [entry.generation for batch in line.offered for entry in batch if entry.task_id == "a"] == [2]


async def test_an_older_entry_that_comes_late_changes_nothing(line: Line) -> None:
    await line.put("a", "b")
    old = next(entry for entry in await line.queue.peek(Want(limit=2)) if entry.task_id == "b")
    await line.core.tasks.change_priority(ROOT, "b", 2)
    await line.queue.add([replace(old, priority=10), old])
    assert await line.drain() == ["a", "b"]


async def test_an_entry_that_is_added_again_is_one_entry(line: Line) -> None:
    await line.put("a", "b")
    entries = await line.queue.peek(Want(limit=2))
    await line.queue.add(entries)
    await line.queue.add(entries)
    assert await line.peek() == ["a", "b"]
    assert await line.drain(by=5) == ["a", "b"]


async def test_a_stale_entry_that_comes_after_the_claim_is_not_claimed(line: Line) -> None:
    await line.put("a")
    entries = await line.queue.peek(Want(limit=1))
    assert await line.claim() == ["a"]
    await line.queue.add(entries)
    assert await line.claim() == []


async def test_a_commit_that_refuses_everything_ends(line: Line) -> None:
    await line.put("a", "b")
    offered: list[str] = []

    async def commit(entries: Sequence[Entry]) -> list[str]:
        offered.extend(entry.task_id for entry in entries)
        await asyncio.sleep(0)
        return []

    async with asyncio.timeout(PATIENCE):
        assert await line.queue.claim(Want(limit=2), commit) == []
    assert offered == ["a", "b"]


# -- commits that fail ----------------------------------------------------------------------------


async def test_a_commit_that_raises_leaves_its_entries_in_line(line: Line) -> None:
    await line.put("a", "b", "c")
    await line.put("urgent", priority=10)

    async def commit(_entries: Sequence[Entry]) -> list[str]:
        raise ConnectionError("the database went away")

    with pytest.raises(ConnectionError):
        await line.queue.claim(Want(limit=3), commit)
    assert await line.peek() == ["urgent", "a", "b", "c"]
    assert await line.drain(by=3) == ["urgent", "a", "b", "c"]


async def test_a_commit_that_raises_uses_up_no_turn(line: Line, clock: FakeClock) -> None:
    await line.put("old", priority=1)
    clock.advance(LONG)
    await line.put(*names("new", 20), priority=9)

    async def commit(_entries: Sequence[Entry]) -> list[str]:
        raise ConnectionError("the database went away")

    for _ in range(3):
        with pytest.raises(ConnectionError):
            await line.queue.claim(Want(limit=5), commit)
    assert (await line.drain(by=6)).index("old") == 15


async def test_a_claimer_that_gives_up_leaves_its_entries_in_line(line: Line) -> None:
    await line.put("a", "b")
    began = asyncio.Event()

    async def commit(_entries: Sequence[Entry]) -> list[str]:
        began.set()
        await asyncio.Event().wait()
        raise AssertionError

    claimer = asyncio.create_task(line.queue.claim(Want(limit=2), commit))
    await began.wait()
    claimer.cancel()
    await asyncio.wait([claimer])
    assert claimer.cancelled()
    assert await line.drain(by=2) == ["a", "b"]


async def test_a_task_that_changed_during_a_failed_commit_keeps_its_new_entry(line: Line) -> None:
    await line.put("a", "b")

    async def commit(_entries: Sequence[Entry]) -> list[str]:
        await line.core.tasks.change_priority(ROOT, "b", 9)
        raise ConnectionError("the database went away")

    with pytest.raises(ConnectionError):
        await line.queue.claim(Want(limit=2), commit)
    assert await line.drain() == ["b", "a"]


# -- what a claimer chooses -----------------------------------------------------------------------


async def test_a_claimer_gets_its_queues(line: Line) -> None:
    await line.put("a", queue="one")
    await line.put("b", queue="two")
    await line.put("c", queue="three")
    assert await line.peek(queues=["three", "one"]) == ["a", "c"]
    assert await line.claim(5, queues=["two"]) == ["b"]
    assert await line.claim(5, queues=[]) == []
    assert await line.claim(5, queues=["unheard of"]) == []
    assert await line.claim(5) == ["a", "c"]


async def test_a_claimer_gets_its_types(line: Line) -> None:
    await line.put("a", task_type="x")
    await line.put("b", task_type="y", priority=9)
    await line.put("c", task_type="z", priority=10)
    assert await line.peek(task_types=["x", "y"]) == ["b", "a"]
    assert await line.claim(5, task_types=["x"]) == ["a"]
    assert await line.claim(5, task_types=[]) == []
    assert await line.claim(5) == ["c", "b"]


async def test_a_claimer_gets_what_is_important_enough(line: Line) -> None:
    for priority in range(1, 11):
        await line.put(f"p{priority}", priority=priority)
    assert await line.claim(20, min_priority=8) == ["p10", "p9", "p8"]
    assert await line.claim(20, min_priority=8) == []
    assert await line.claim(3, min_priority=1) == ["p7", "p6", "p5"]


async def test_a_claimer_gets_what_it_may_see(line: Line) -> None:
    await line.put("a", instance_id="one")
    await line.put("b", instance_id="two", priority=9)
    await line.put("c", instance_id="three", priority=10)
    assert await line.peek(scope=Scope(frozenset({"one", "two"}))) == ["b", "a"]
    assert await line.claim(5, scope=Scope(frozenset())) == []
    assert await line.claim(5, scope=Scope(frozenset({"one"}))) == ["a"]
    assert await line.claim(5) == ["c", "b"]


async def test_all_choices_hold_together(line: Line) -> None:
    await line.put("right", instance_id="i", queue="q", task_type="x", priority=8)
    await line.put("instance", instance_id="j", queue="q", task_type="x", priority=8)
    await line.put("queue", instance_id="i", queue="r", task_type="x", priority=8)
    await line.put("type", instance_id="i", queue="q", task_type="y", priority=8)
    await line.put("priority", instance_id="i", queue="q", task_type="x", priority=7)
    want = {"queues": ["q"], "task_types": ["x"], "min_priority": 8, "scope": Scope(frozenset({"i"}))}
    assert await line.drain(by=5, **want) == ["right"]


# -- the scope of a claimer -----------------------------------------------------------------------


ONE = Scope(frozenset({"one"}))
#: More foreign entries than an index passes over before it gives up.
MANY = 450


@pytest.mark.parametrize("by", [1, 7, 60])
async def test_inside_a_scope_the_order_is_that_of_all(line: Line, by: int) -> None:
    chance = random.Random(by)
    tasks = [(name, chance.randint(1, 10), chance.choice(["one", "two", "three"])) for name in names("t", 60)]
    for name, priority, instance_id in tasks:
        kind, queue = chance.choice("xyz"), chance.choice("qr")
        await line.put(name, priority=priority, instance_id=instance_id, task_type=kind, queue=queue)
    in_order = sorted(tasks, key=lambda task: -task[1])
    mine = [name for name, _, instance_id in in_order if instance_id != "three"]
    scope = Scope(frozenset({"one", "two"}))
    assert await line.peek(scope=scope) == mine
    assert await line.drain(by, scope=scope) == mine
    assert {entry.instance_id for batch in line.offered for entry in batch} == {"one", "two"}
    assert await line.drain(by) == [name for name, _, instance_id in in_order if instance_id == "three"]


@pytest.mark.parametrize("foreign", [150, MANY])
@pytest.mark.parametrize("by", [1, 4])
async def test_what_stands_behind_foreign_entries_is_found(line: Line, foreign: int, by: int) -> None:
    """In front of all, and again between the second and the third; in two queues, one of which is foreign."""
    inserts = [an_insert(name, priority=9, instance_id="two") for name in names("in-front", foreign)]
    await line.core.database.writer.write_many(inserts)
    await line.put("elsewhere", priority=10, instance_id="two", queue="other")
    await line.put("mine-1", "mine-2", priority=5, instance_id="one")
    inserts = [an_insert(name, priority=5, instance_id="two") for name in names("between", foreign)]
    await line.core.database.writer.write_many(inserts)
    await line.put("mine-3", "mine-4", priority=5, instance_id="one")
    mine = ["mine-1", "mine-2", "mine-3", "mine-4"]
    assert await line.peek(scope=ONE) == mine
    assert await line.drain(by, scope=ONE) == mine
    assert await line.peek(1) == ["elsewhere"], "the others have stayed in line"
    assert len(await line.drain(by=100)) == 1 + 2 * foreign


async def test_with_a_scope_and_without_side_by_side_each_task_is_claimed_once(line: Line) -> None:
    mine, theirs = names("mine", 40), names("theirs", 40)
    for name, other in zip(mine, theirs, strict=True):
        await line.put(name, instance_id="one")
        await line.put(other, instance_id="two")
    scopes: list[dict[str, Scope]] = [{"scope": ONE}, {"scope": ONE}, {}]
    shares = await asyncio.gather(*(line.drain(by=3, **scope) for scope in scopes))
    assert set(shares[0] + shares[1]) <= set(mine)
    assert sorted(name for share in shares for name in share) == sorted(mine + theirs)


@pytest.mark.parametrize("by", [1, 7, 40])
async def test_inside_a_scope_nobody_starves(line: Line, clock: FakeClock, by: int) -> None:
    """Foreign tasks that have waited for longer use up no turn."""
    await line.put(*names("foreign", 5), priority=1, instance_id="two")
    await line.put("old-1", "old-2", priority=1, instance_id="one")
    clock.advance(LONG)
    new = names("new", 37)
    await line.put(*new, priority=9, instance_id="one")
    in_turn = [*new[:15], "old-1", *new[15:30], "old-2", *new[30:]]
    assert await line.peek(32, scope=ONE) == in_turn[:32]
    assert await line.drain(by, scope=ONE) == in_turn
    assert await line.peek() == names("foreign", 5)


@pytest.mark.parametrize("by", [1, 7])
@pytest.mark.parametrize("priority", [1, 9])
async def test_behind_many_foreign_entries_nobody_starves(
    line: Line, clock: FakeClock, by: int, priority: int
) -> None:
    """They stand before the old task alone, or before everything."""
    inserts = [an_insert(name, priority=priority, instance_id="two") for name in names("foreign", MANY)]
    await line.core.database.writer.write_many(inserts)
    await line.put("old", priority=1, instance_id="one")
    clock.advance(LONG)
    await line.put(*names("new", 37), priority=9, instance_id="one")
    claimed = await line.drain(by, scope=ONE)
    assert [name for name in claimed if name != "old"] == names("new", 37)
    # Turns that the index has counted and those of the table are not added up.
    assert claimed.index("old") <= 30


# -- peek -----------------------------------------------------------------------------------------


async def test_peek_claims_nothing_and_shows_the_order_of_the_claim(line: Line, clock: FakeClock) -> None:
    await line.put("old", priority=1)
    clock.advance(LONG)
    await line.put(*names("new", 25), priority=9)
    seen = await line.peek(20)
    assert seen.index("old") == 15
    assert await line.peek(20) == seen
    assert await line.claim(20) == seen
    assert await line.peek(20) == names("new", 25)[19:]


async def test_a_peek_does_not_move_the_turns(line: Line, clock: FakeClock) -> None:
    await line.put("old", priority=1)
    clock.advance(LONG)
    await line.put(*names("new", 20), priority=9)
    for _ in range(3):
        await line.peek(5)
    assert (await line.drain(by=6)).index("old") == 15


# -- pause ----------------------------------------------------------------------------------------


Pause = Callable[[bool], Awaitable[None]]


@pytest.fixture
def pause(line: Line) -> Pause:
    """Pauses, or resumes, the queue `q` of the instance `one`."""

    async def set_paused(paused: bool) -> None:
        await line.core.tasks.set_paused(ROOT, "q", paused, "one")

    return set_paused


async def test_a_paused_queue_gives_nothing_until_it_is_resumed(line: Line, pause: Pause) -> None:
    await line.put("a", "b", instance_id="one", queue="q")
    await pause(True)
    await line.put("c", instance_id="one", queue="q")
    assert await line.claim(5) == []
    assert await line.peek() == []
    await pause(False)
    assert await line.claim(5) == ["a", "b", "c"]


async def test_a_pause_is_for_one_queue_of_one_instance(line: Line, pause: Pause) -> None:
    await line.put("paused", instance_id="one", queue="q", priority=10)
    await line.put("other-queue", instance_id="one", queue="r")
    await line.put("other-instance", instance_id="two", queue="q")
    await pause(True)
    assert await line.claim(5) == ["other-queue", "other-instance"]
    assert await line.claim(5, queues=["q"]) == []
    await pause(False)
    assert await line.claim(5) == ["paused"]


async def test_pausing_and_resuming_twice_is_once(line: Line, pause: Pause) -> None:
    await line.put("a", instance_id="one", queue="q")
    await pause(True)
    await pause(True)
    await pause(False)
    await pause(False)
    assert await line.claim(5) == ["a"]


async def test_a_paused_queue_uses_up_no_turn(line: Line, clock: FakeClock, pause: Pause) -> None:
    await line.put("paused", instance_id="one", queue="q", priority=1)
    await line.put("old", priority=1)
    clock.advance(LONG)
    await line.put(*names("new", 20), priority=9)
    await pause(True)
    assert (await line.drain(by=6)).index("old") == 15


async def test_a_pause_holds_inside_a_scope(line: Line, pause: Pause) -> None:
    await line.put("paused", instance_id="one", queue="q", priority=10)
    await line.put("mine", instance_id="one", queue="r")
    await line.put("foreign", instance_id="two", queue="q")
    await pause(True)
    assert await line.peek(scope=ONE) == ["mine"]
    assert await line.claim(5, scope=ONE) == ["mine"]
    assert await line.claim(5, scope=ONE) == []
    await pause(False)
    assert await line.claim(5, scope=ONE) == ["paused"]
    assert await line.claim(5) == ["foreign"]


async def test_what_is_paused_elsewhere_keeps_nobody_back(line: Line, pause: Pause) -> None:
    inserts = [an_insert(name, priority=9, instance_id="one", queue="q") for name in names("paused", MANY)]
    await line.core.database.writer.write_many(inserts)
    await line.put("foreign", priority=8, instance_id="three", queue="q")
    await line.put("mine", instance_id="two", queue="q")
    await pause(True)
    scope = Scope(frozenset({"two"}))
    assert await line.peek(scope=scope) == ["mine"]
    assert await line.claim(5, scope=scope) == ["mine"]
    await pause(False)
    assert await line.claim(1) == names("paused", 1)


# -- a new process --------------------------------------------------------------------------------


async def test_a_new_process_finds_the_line_as_it_was(
    core: Runtime, line: Line, clock: FakeClock, pause: Pause
) -> None:
    await line.put("paused", instance_id="one", queue="q", priority=10)
    await line.put("a", "b", "cancelled")
    await line.put("urgent", priority=9)
    await line.core.tasks.change_priority(ROOT, "b", 7)
    await line.core.tasks.cancel(ROOT, "cancelled")
    await pause(True)
    await core.aclose()
    again = Line(await opened(core.settings, clock))
    try:
        assert await again.drain(by=2) == ["urgent", "b", "a"]
        await again.core.tasks.set_paused(ROOT, "q", False, "one")
        assert await again.drain() == ["paused"]
    finally:
        await again.core.aclose()


# -- what leaves the line by other ways -------------------------------------------------------------


async def test_what_was_taken_away_is_not_shown(line: Line) -> None:
    await line.put(*names("gone", 30), priority=9)
    await line.put(*names("kept", 5))
    for name in names("gone", 30):
        await line.core.tasks.cancel(ROOT, name)
    assert await line.peek(5) == names("kept", 5)
    assert await line.claim(5) == names("kept", 5)
    assert line.offered == [line.offered[0]], "nothing stale was offered"


async def test_discarding_what_is_not_there_is_no_error(line: Line) -> None:
    await line.put("a")
    (entry,) = await line.queue.peek(Want(limit=1))
    await line.queue.discard([replace(entry, task_id="nobody"), replace(entry, generation=0)])
    assert await line.drain() == ["a"]
