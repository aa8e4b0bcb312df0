"""What every writer does, on a real database."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select, update
from tests.support.clock import FakeClock
from tests.support.tasks import an_insert

from taskyard.clock import to_millis
from taskyard.errors import Unavailable
from taskyard.lifecycle import HELD, TRANSITIONS, TaskStatus, can_move
from taskyard.principal import EVERYTHING
from taskyard.store.database import DATABASE_FILE, Database, open_sqlite
from taskyard.store.postgres import open_postgres
from taskyard.store.tables import counters, events, tasks
from taskyard.store.tasks import TaskReader
from taskyard.store.writes import NOW, After, Change, DeadlineAfter, StepWrite, Write, Writer, move
from taskyard.task import STATE_FIELDS, Event, EventKind, Step, StepStatus, Task

S = TaskStatus
LEASE = timedelta(seconds=30)


class Hook:
    """The `committed` of a writer: remembers, and can be held up."""

    def __init__(self) -> None:
        self.told: list[Event] = []
        self.called = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, new: Sequence[Event]) -> None:
        self.told += new
        self.called.set()
        await self.open.wait()


@dataclass
class Store:
    """A database with its writer, and a way to look into it."""

    database: Database
    hook: Hook
    #: A place in line that was meant for what was then refused is given to the next. PostgreSQL, whose processes
    #: take places without waiting for each other, leaves it out.
    steady_places: bool
    reader: TaskReader = field(init=False)

    def __post_init__(self) -> None:
        self.reader = TaskReader(self.database)

    @property
    def writer(self) -> Writer:
        return self.database.writer

    async def add(self, task_id: str = "t", **values: Any) -> Event:
        event = await self.writer.write(an_insert(task_id, **values))
        assert event is not None
        return event

    async def claim(self, task_id: str = "t") -> Event:
        """Take a queued task: attempt 1, version 2 for a new one."""
        event = await self.writer.write(
            move(
                task_id,
                S.PROCESSING,
                actor="worker:w1",
                raised=frozenset({"attempt"}),
                values={"holder": "w1", "lease_until": After(LEASE)},
            )
        )
        assert event is not None
        return event

    async def task(self, task_id: str = "t") -> Task:
        task = await self.reader.get(task_id, EVERYTHING)
        assert task is not None
        return task

    def next_places(self, last: int, events: Sequence[Event]) -> bool:
        """Whether these got the places after `last`, one after the other."""
        places = [event.state["queue_seq"] for event in events]
        if self.steady_places:
            return places == list(range(last + 1, last + 1 + len(events)))
        return [last, *places] == sorted({last, *places})

    async def log(self) -> list[Event]:
        return await self.reader.events_after(0, 10_000)

    async def steps(self, task_id: str = "t") -> list[Step]:
        return await self.reader.steps(task_id, EVERYTHING)

    async def number_of_tasks(self) -> int:
        async with self.database.read() as connection:
            return int((await connection.execute(select(func.count()).select_from(tasks))).scalar_one())


@pytest.fixture
async def store(place: Path | str, clock: FakeClock) -> AsyncIterator[Store]:
    hook = Hook()
    if isinstance(place, Path):
        opened = Store(open_sqlite(place / DATABASE_FILE, clock, hook, migrate=False), hook, steady_places=True)
    else:
        database, _ = await open_postgres(place, hook, clock)
        opened = Store(database, hook, steady_places=False)
    yield opened
    hook.open.set()
    await opened.database.close()


def a_change(task_id: str = "t", *, statuses: frozenset[S] = frozenset(S), **options: Any) -> Change:
    """A log line: a change that no guard stops unless one is given."""
    return Change(task_id=task_id, kind=EventKind.LOG, actor="worker:w1", statuses=statuses, **options)


#: Each breaks a rule of the database or cannot be stored, in another statement of the item.
BAD: dict[str, dict[str, Any]] = {
    "the change": {"values": {"owner": None}},
    "the step": {"step": StepWrite("s", "NO SUCH STATUS", None)},  # type: ignore[arg-type]  # bad on purpose
    "the event": {"detail": {"thing": object()}},
}


# -- inserts --------------------------------------------------------------------------------------


async def test_an_insert_makes_one_event_of_version_one(store: Store, clock: FakeClock) -> None:
    event = await store.add(actor="alice", priority=8, input={"text": "hi"})
    task = await store.task()
    assert await store.log() == [event]
    assert (event.seq, event.version, event.attempt, event.kind) == (1, 1, 0, EventKind.STATUS)
    assert (event.task_id, event.instance_id, event.actor, event.at) == ("t", "default", "alice", clock.now())
    assert event.status is S.QUEUED
    assert task.version == 1
    assert task.payload is not None
    assert task.payload.input == {"text": "hi"}
    assert task.created_at == task.updated_at == task.queued_at == clock.now()


async def test_an_event_carries_the_state_that_the_row_has(store: Store) -> None:
    await store.add(agent_id="a1", priority=8)
    event = await store.claim()
    task = await store.task()
    row = {name: getattr(task, name) for name in STATE_FIELDS}
    assert event.state == {
        name: to_millis(value) if isinstance(value, datetime) else value for name, value in row.items()
    }
    assert (event.state["status"], event.state["holder"], event.state["agent_id"]) == ("PROCESSING", "w1", "a1")


async def test_a_taken_id_gives_none_and_leaves_nothing(store: Store) -> None:
    await store.add("t", input="first")
    assert await store.writer.write(an_insert("t", input="second")) is None
    after = await store.add("u")
    assert after.seq == 2
    assert store.next_places(1, [after])
    task = await store.task("t")
    assert task.payload is not None
    assert (task.payload.input, task.version) == ("first", 1)
    assert [event.task_id for event in await store.log()] == ["t", "u"]


async def test_a_used_idempotency_key_gives_none_and_leaves_nothing(store: Store) -> None:
    await store.add("t", idempotency_key="k")
    assert await store.writer.write(an_insert("u", idempotency_key="k")) is None
    elsewhere = await store.add("v", idempotency_key="k", instance_id="elsewhere")
    without = await store.add("w")
    also_without = await store.add("x")
    assert [event.seq for event in (elsewhere, without, also_without)] == [2, 3, 4]
    assert store.next_places(1, [elsewhere, without, also_without])
    assert await store.reader.get("u", EVERYTHING) is None


async def test_a_conflict_inside_one_group(store: Store) -> None:
    first, second, third = await store.writer.write_many(
        [an_insert("t", idempotency_key="k"), an_insert("u", idempotency_key="k"), an_insert("t")]
    )
    assert first is not None
    assert (second, third) == (None, None)
    assert await store.log() == [first]


# -- the order of events --------------------------------------------------------------------------


async def test_events_are_gapless_whatever_is_refused_or_fails(store: Store) -> None:
    chance = random.Random(7)
    await store.add("known")
    write, write_many, write_atomic = store.writer.write, store.writer.write_many, store.writer.write_atomic
    ways: list[Callable[[int], Coroutine[Any, Any, Any]]] = [
        lambda n: write(an_insert(f"t{n}")),
        lambda n: write_many([an_insert(f"m{n}"), a_change("known")]),
        lambda n: write_atomic([an_insert(f"a{n}"), a_change("known")]),
        lambda n: write_atomic([an_insert(f"none{n}"), an_insert("known")]),
        lambda n: write_atomic([an_insert(f"none{n}"), a_change("known", **BAD["the event"])]),
        lambda _: write(an_insert("known")),
        lambda _: write(a_change("known", attempt=99)),
        lambda _: write(a_change("nobody")),
        lambda _: write(a_change("known", **BAD["the change"])),
        lambda _: write(a_change("known", **BAD["the step"])),
    ]
    calls = [(chance.choice(ways), number) for number in range(150)]
    outcomes = await asyncio.gather(*(call(number) for call, number in calls), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} > {Event, type(None), list}
    assert any(isinstance(outcome, Exception) for outcome in outcomes)
    log = await store.log()
    assert [event.seq for event in log] == list(range(1, len(log) + 1))
    assert store.hook.told == log
    assert all(outcome in log for outcome in outcomes if isinstance(outcome, Event))
    assert not [event for event in log if event.task_id.startswith("none")]
    known = [event.version for event in log if event.task_id == "known"]
    assert known == list(range(1, len(known) + 1))
    assert (await store.task("known")).version == len(known)


async def test_two_changes_of_one_task_in_one_group_come_in_order(store: Store) -> None:
    await store.add()
    told_before = len(store.hook.told)
    written = await store.writer.write_many([a_change(detail={"n": n}) for n in range(3)])
    assert [(event.seq, event.version) for event in written if event] == [(2, 2), (3, 3), (4, 4)]
    assert [event.detail for event in await store.log()] == [None, {"n": 0}, {"n": 1}, {"n": 2}]
    assert store.hook.told[told_before:] == written


async def test_a_change_sees_what_an_earlier_one_of_its_group_did(store: Store) -> None:
    first, second, third = await store.writer.write_many(
        [
            an_insert("t"),
            move("t", S.CANCELLED, actor="a", version=1),
            move("t", S.CANCELLED, actor="b", version=1),
        ]
    )
    assert first is not None
    assert second is not None
    assert third is None
    assert (await store.task()).status is S.CANCELLED
    assert [event.actor for event in await store.log()] == ["user-1", "a"]


async def test_places_in_line_are_given_in_order_and_kept(store: Store) -> None:
    await store.writer.write_many(
        [an_insert("a"), an_insert("waiting", status=S.SCHEDULED), an_insert("b"), an_insert("a"), an_insert("c")]
    )
    assert [(await store.task(name)).queue_seq for name in ("a", "b", "c", "waiting")] == [1, 2, 3, None]
    await store.claim("a")
    await store.writer.write(move("a", S.QUEUED, actor="system:janitor"))
    promoted = await store.writer.write(move("waiting", S.QUEUED, actor="system:scheduler"))
    assert promoted is not None
    assert store.next_places(3, [promoted, await store.add("d")])
    again = await store.task("a")
    assert (again.queue_seq, again.generation, again.attempt) == (1, 2, 1)
    assert (await store.task("waiting")).generation == 1


async def test_a_refused_entry_takes_no_place(store: Store) -> None:
    await store.add("waiting", status=S.SCHEDULED)
    assert await store.writer.write(move("waiting", S.QUEUED, actor="a", version=9)) is None
    assert store.next_places(0, [await store.add("next")])


# -- guards ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("guard", "right", "wrong"),
    [
        ("statuses", frozenset({S.PROCESSING}), frozenset(S) - {S.PROCESSING}),
        ("statuses", HELD, frozenset()),
        ("attempt", 1, 0),
        ("attempt", 1, 2),
        ("generation", 1, 0),
        ("generation", 1, 2),
        ("instance_id", "default", "other"),
        ("version", 2, 1),
        ("version", 2, 3),
        ("lease_before", LEASE + timedelta(milliseconds=1), LEASE),
        ("lease_before", timedelta(days=1), timedelta()),
    ],
)
async def test_each_guard_by_itself(store: Store, clock: FakeClock, guard: str, right: Any, wrong: Any) -> None:
    await store.add()
    await store.claim()
    before, log = await store.task(), await store.log()
    if guard == "lease_before":
        right, wrong = clock.now() + right, clock.now() + wrong
    values = {"progress": 50.0}
    assert (
        await store.writer.write(
            a_change(values=values, step=StepWrite("s", StepStatus.RUNNING, None), **{guard: wrong})
        )
        is None
    )
    assert await store.task() == before
    assert await store.log() == log
    assert await store.steps() == []
    written = await store.writer.write(a_change(values=values, **{guard: right}))
    assert written is not None
    assert written.version == before.version + 1
    assert (await store.task()).progress == 50.0


async def test_a_lease_that_nobody_holds_has_not_run_out(store: Store, clock: FakeClock) -> None:
    await store.add()
    assert await store.writer.write(a_change(lease_before=clock.now() + timedelta(days=1))) is None


async def test_a_task_that_does_not_exist_is_not_changed(store: Store) -> None:
    assert await store.writer.write(a_change("nobody")) is None
    assert await store.log() == []


async def test_of_many_claimers_one_gets_the_task(store: Store) -> None:
    await store.add()
    claims = [
        move("t", S.PROCESSING, actor=f"worker:{n}", generation=1, raised=frozenset({"attempt"})) for n in range(20)
    ]
    written = await asyncio.gather(*(store.writer.write(claim) for claim in claims))
    (won,) = [event for event in written if event is not None]
    assert (await store.task()).attempt == 1
    assert [event.actor for event in await store.log()] == ["user-1", won.actor]


# -- what a change sets ---------------------------------------------------------------------------


async def test_raised_columns_rise_by_one_and_no_others(store: Store) -> None:
    await store.add(retry_count=4)
    before = await store.task()
    await store.writer.write(a_change(raised=frozenset({"retry_count", "lost_count"})))
    after = await store.task()
    assert (after.retry_count, after.lost_count) == (5, 1)
    assert (after.attempt, after.generation, after.version) == (before.attempt, before.generation, 2)


async def test_times_are_the_databases_own(store: Store, clock: FakeClock) -> None:
    await store.add("own", timeout_ms=1500)
    await store.add("without")
    clock.advance(10)
    for task_id in ("own", "without"):
        await store.writer.write(
            a_change(
                task_id,
                values={
                    "lease_until": After(timedelta(seconds=30)),
                    "started_at": NOW,
                    "completed_at": clock.now() + timedelta(days=1),
                    "deadline_at": DeadlineAfter(timedelta(minutes=5)),
                },
            )
        )
    own, without = await store.task("own"), await store.task("without")
    assert own.lease_until == clock.now() + timedelta(seconds=30)
    assert own.started_at == own.updated_at == clock.now()
    assert own.completed_at == clock.now() + timedelta(days=1)
    assert own.deadline_at == clock.now() + timedelta(seconds=1.5)
    assert without.deadline_at == clock.now() + timedelta(minutes=5)
    assert own.created_at == clock.now() - timedelta(seconds=10)


async def test_an_output_is_stored_as_it_is(store: Store) -> None:
    await store.add()
    for output in ({"a": [1, 2.0, None]}, "text", 0, False, [], "Grüße ☃"):
        await store.writer.write(a_change(values={"output": output}))
        task = await store.task()
        assert task.payload is not None
        assert task.payload.output == output
        assert type(task.payload.output) is type(output)


async def test_steps_are_written_in_the_order_they_came(store: Store, clock: FakeClock) -> None:
    await store.add()
    await store.claim()
    began = clock.now()
    for name, status, output in (
        ("plan", StepStatus.RUNNING, None),
        ("write", StepStatus.PENDING, None),
        ("plan", StepStatus.COMPLETED, {"pages": 3}),
    ):
        written = await store.writer.write(a_change(step=StepWrite(name, status, output)))
        assert written is not None
        clock.advance(1)
    plan, write = await store.steps()
    assert (plan.name, plan.position, plan.status, plan.output) == ("plan", 1, StepStatus.COMPLETED, {"pages": 3})
    assert (plan.started_at, plan.finished_at) == (began, began + timedelta(seconds=2))
    assert (write.name, write.position, write.status, write.started_at) == ("write", 2, StepStatus.PENDING, None)
    assert (plan.attempt, write.attempt) == (1, 1)


# -- one transaction ------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", BAD)
async def test_a_bad_item_is_undone_whole_and_alone(store: Store, bad: str) -> None:
    await store.add("t")
    await store.add("u")
    before = await store.task("t")
    with pytest.raises(Exception) as caught:  # noqa: PT011 - each database has its own error
        await store.writer.write_many(
            [
                a_change("u", values={"progress": 10.0}),
                a_change("t", **{"values": {"progress": 99.0}} | BAD[bad]),
                a_change("u", values={"progress": 20.0}),
            ]
        )
    assert not isinstance(caught.value, Unavailable)
    assert await store.task("t") == before
    assert await store.steps("t") == []
    assert (await store.task("u")).progress == 20.0
    log = await store.log()
    assert [(event.seq, event.task_id, event.version) for event in log] == [
        (1, "t", 1),
        (2, "u", 1),
        (3, "u", 2),
        (4, "u", 3),
    ]
    assert store.hook.told == log


async def test_no_change_without_its_event(store: Store) -> None:
    """The event of version 2 stands there already: so it cannot be written, and the change is not either."""
    await store.add()
    before = await store.task()
    row = {
        "seq": 1000, "task_id": "t", "instance_id": "default", "version": 2, "attempt": 0, "kind": "LOG",
        "actor": "somebody", "at": before.created_at, "state": {},
    }  # fmt: skip
    await store.writer.run(lambda connection: connection.execute(insert(events).values(row)).close())
    with pytest.raises(Exception):  # noqa: B017, PT011 - each database has its own error
        await store.writer.write(a_change(values={"progress": 50.0}, step=StepWrite("s", StepStatus.RUNNING, None)))
    assert await store.task() == before
    assert await store.steps() == []
    assert (await store.add("u")).seq == 2


async def test_change_event_version_and_actor_appear_together(store: Store) -> None:
    """Whoever looks from outside sees the row and its event, or neither."""
    await store.add()
    seen: set[tuple[tuple[str, int], ...]] = set()
    looked, stop = asyncio.Event(), asyncio.Event()
    both = (
        select(tasks.c.version, tasks.c.holder, events.c.version, events.c.actor)
        .select_from(tasks.outerjoin(events, events.c.task_id == tasks.c.id))
        .order_by(events.c.version.desc())
        .limit(1)
    )

    async def look() -> None:
        while not stop.is_set():
            async with store.database.read() as connection:
                version, holder, event_version, actor = (await connection.execute(both)).one()
            seen.add(((holder or "user-1", version), (actor, event_version)))
            looked.set()

    looking = asyncio.create_task(look())
    for number in range(30):
        looked.clear()
        await store.writer.write(
            Change(
                task_id="t",
                kind=EventKind.LOG,
                actor=f"a{number}",
                statuses=frozenset(S),
                values={"holder": f"a{number}"},
            )
        )
        await looked.wait()
    stop.set()
    await looking
    assert len(seen) > 2
    assert [pair for pair in seen if pair[0] != pair[1]] == []


async def test_an_atomic_set_is_written_together(store: Store) -> None:
    written = await store.writer.write_atomic([an_insert("a"), an_insert("b"), move("a", S.CANCELLED, actor="x")])
    assert [event.seq for event in written if event] == [1, 2, 3]
    assert await store.log() == written
    assert store.hook.told == written


@pytest.mark.parametrize(
    "refused", [an_insert("known"), a_change("nobody"), a_change("known", version=7)], ids=["id", "gone", "version"]
)
async def test_an_atomic_set_with_a_refusal_writes_nothing(store: Store, refused: Write) -> None:
    await store.add("known")
    log = await store.log()
    first, second, third = await store.writer.write_atomic([an_insert("a"), refused, an_insert("b")])
    assert (first is None, second is None, third is None) == (False, True, False)
    assert await store.number_of_tasks() == 1
    assert await store.log() == log == store.hook.told
    after = await store.add("c")
    assert after.seq == 2
    assert store.next_places(1, [after])


@pytest.mark.parametrize("bad", BAD)
async def test_an_atomic_set_with_a_bad_item_writes_nothing(store: Store, bad: str) -> None:
    await store.add("known")
    with pytest.raises(Exception) as caught:  # noqa: PT011 - each database has its own error
        await store.writer.write_atomic([an_insert("a"), a_change("known", **BAD[bad]), an_insert("b")])
    assert not isinstance(caught.value, Unavailable)
    assert await store.number_of_tasks() == 1
    assert (await store.add("c")).seq == 2
    assert len(store.hook.told) == 2


async def test_a_job_is_a_transaction(store: Store) -> None:
    await store.add()

    def job(connection: Any) -> str:
        connection.execute(update(tasks).values(priority=9))
        return "answer"

    def fails(connection: Any) -> None:
        connection.execute(update(tasks).values(priority=1))
        raise ValueError("a fault of its own")

    assert await store.writer.run(job) == "answer"
    with pytest.raises(ValueError, match="a fault of its own"):
        await store.writer.run(fails)
    assert (await store.task()).priority == 9
    assert len(await store.log()) == 1


# -- the hook -------------------------------------------------------------------------------------


async def test_the_hook_is_told_after_the_commit_and_before_the_caller(store: Store) -> None:
    store.hook.open.clear()
    one = asyncio.create_task(store.writer.write(an_insert("a")))
    two = asyncio.create_task(store.writer.write(an_insert("b")))
    await store.hook.called.wait()
    assert [event.task_id for event in store.hook.told] == ["a", "b"]
    assert await store.log() == store.hook.told
    assert not one.done()
    assert not two.done()
    store.hook.open.set()
    assert [await one, await two] == store.hook.told


async def test_the_hook_is_told_in_the_order_of_the_events(store: Store) -> None:
    """Groups and atomic sets go different ways."""
    await asyncio.gather(
        *(store.writer.write(an_insert(f"w{n}")) for n in range(20)),
        *(store.writer.write_atomic([an_insert(f"a{n}"), an_insert(f"b{n}")]) for n in range(20)),
        *(store.writer.write_many([an_insert(f"m{n}"), an_insert(f"n{n}")]) for n in range(20)),
    )
    assert [event.seq for event in store.hook.told] == list(range(1, 101))


async def test_the_hook_is_not_told_what_was_refused(store: Store) -> None:
    await store.add()
    await store.writer.write_many([an_insert("t"), a_change(attempt=9), a_change("nobody")])
    assert [event.seq for event in store.hook.told] == [1]


async def test_a_caller_that_gives_up_does_not_keep_its_write_from_being_told(store: Store) -> None:
    store.hook.open.clear()
    single = asyncio.create_task(store.writer.write(an_insert("a")))
    await store.hook.called.wait()
    store.hook.called.clear()
    several = asyncio.create_task(store.writer.write_atomic([an_insert("b"), an_insert("c")]))
    await asyncio.sleep(0)  # it is on its way to the database
    single.cancel()
    several.cancel()
    await asyncio.wait([single, several])
    await store.hook.called.wait()
    store.hook.open.set()
    assert (single.cancelled(), several.cancelled()) == (True, True)
    assert [event.task_id for event in store.hook.told] == ["a", "b", "c"]
    assert await store.log() == store.hook.told


# -- the end --------------------------------------------------------------------------------------


async def test_close_waits_for_what_was_asked_and_refuses_the_rest(store: Store) -> None:
    asked = [asyncio.create_task(store.writer.write(an_insert(f"t{n}"))) for n in range(10)]
    asked.append(
        asyncio.create_task(store.writer.run(lambda connection: len(connection.execute(select(counters)).all())))
    )
    await asyncio.sleep(0)  # they have begun
    await store.writer.close()
    assert [type(result) for result in await asyncio.gather(*asked)] == [Event] * 10 + [int]
    late = an_insert("late")
    for call in (
        lambda: store.writer.write(late),
        lambda: store.writer.write_many([late]),
        lambda: store.writer.write_atomic([late]),
        lambda: store.writer.run(lambda connection: connection.execute(select(counters)).all()),
    ):
        with pytest.raises(Unavailable, match="stopping"):
            await call()
    await store.writer.close()


# -- move() ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", S)
@pytest.mark.parametrize("current", S)
def test_a_move_goes_only_where_the_lifecycle_does(current: S, wanted: S) -> None:
    if can_move(current, wanted):
        assert move("t", wanted, actor="a", statuses=frozenset({current})).statuses == {current}
        return
    with pytest.raises(ValueError, match=f"no way from .*{current}.* to {wanted}"):
        move("t", wanted, actor="a", statuses=frozenset({current}))


@pytest.mark.parametrize("wanted", S)
def test_a_move_is_allowed_from_where_the_lifecycle_says(wanted: S) -> None:
    assert move("t", wanted, actor="a").statuses == {status for status in S if wanted in TRANSITIONS[status]}


async def test_a_move_out_of_a_run_lets_go_of_the_claim(store: Store, clock: FakeClock) -> None:
    await store.add()
    await store.claim()
    held = await store.task()
    assert (held.holder, held.lease_until) == ("w1", clock.now() + LEASE)
    await store.writer.write(move("t", S.FAILED, actor="worker:w1", attempt=1))
    failed = await store.task()
    assert (failed.holder, failed.lease_until, failed.deadline_at) == (None, None, None)


async def test_a_move_into_the_queue_is_a_new_generation(store: Store, clock: FakeClock) -> None:
    await store.add("t", status=S.SCHEDULED, run_at=clock.now())
    clock.advance(5)
    await store.writer.write(move("t", S.QUEUED, actor="system:scheduler", raised=frozenset({"lost_count"})))
    task = await store.task()
    assert (task.generation, task.lost_count, task.run_at, task.queued_at) == (1, 1, None, clock.now())
