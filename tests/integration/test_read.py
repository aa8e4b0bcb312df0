"""Reading: one task, lists of them, their plans and audit trails; and that a foreign one is not found."""

import base64
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from tests.support.clock import FakeClock
from tests.support.core import claim, number, stored, submit, task_in

from taskyard.errors import InvalidInput, LeaseLost, NotFound
from taskyard.lifecycle import TaskStatus
from taskyard.principal import EVERY_INSTANCE, Principal, Role
from taskyard.queue.entry import Want
from taskyard.runtime import Runtime
from taskyard.service.claims import Run
from taskyard.service.figures import StatisticsFilter
from taskyard.store.listing import Page, Sort, SortField, TaskFilter, encode_cursor
from taskyard.task import AgentSummary, EventKind, LogLevel, Metrics, Priority, StepStatus, Task

EVERY = TaskFilter()
NEWEST = Sort()

Call = Callable[[Runtime, Principal, str], Awaitable[Any]]


async def _watch(runtime: Runtime, principal: Principal, task_id: str) -> Task:
    return await anext(aiter(runtime.live.task_changes(principal, task_id=task_id)))


#: Every method that takes the id of a task.
CALLS: dict[str, Call] = {
    "get": lambda r, p, i: r.tasks.get(p, i),
    "steps": lambda r, p, i: r.tasks.steps(p, i),
    "events": lambda r, p, i: r.tasks.events(p, i),
    "cancel": lambda r, p, i: r.tasks.cancel(p, i),
    "retry": lambda r, p, i: r.tasks.retry(p, i),
    "change_priority": lambda r, p, i: r.tasks.change_priority(p, i, 9),
    "start": lambda r, p, i: r.claims.start(p, i),
    "complete": lambda r, p, i: r.claims.complete_by_hand(p, i, {}, Metrics()),
    "complete attempt 1": lambda r, p, i: r.claims.complete_by_hand(p, i, {}, Metrics(), 1),
    "fail": lambda r, p, i: r.claims.fail_by_hand(p, i, "no"),
    "fail attempt 1": lambda r, p, i: r.claims.fail_by_hand(p, i, "no", attempt=1, retry=True),
    "watch": _watch,
}


@pytest.mark.parametrize("role", [Role.USER, Role.ADMIN])
@pytest.mark.parametrize("status", [TaskStatus.QUEUED, TaskStatus.PROCESSING, TaskStatus.FAILED])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_foreign_task_is_not_found(
    runtime: Runtime, user: Principal, call: Call, status: TaskStatus, role: Role
) -> None:
    task = await task_in(runtime, user, status)
    foreign = Principal("user-1", role, frozenset({"elsewhere", "elsewhere-2"}))
    nobody = Principal("user-1", role, frozenset())
    said = []
    for principal, task_id in ((foreign, task.id), (foreign, "no-such"), (nobody, task.id)):
        with pytest.raises(NotFound) as caught:
            await call(runtime, principal, task_id)
        said.append(caught.value.message.replace(task_id, "ID"))
    assert len(set(said)) == 1, "what is foreign is not told from what does not exist"
    assert await stored(runtime, task.id) == task, "nothing was changed"


async def test_what_is_foreign_is_in_no_list_or_figure(
    runtime: Runtime, user: Principal, stranger: Principal
) -> None:
    task = await submit(runtime, user, agent_id="a")
    assert await runtime.tasks.payloads(stranger, [task.id]) == {}
    _, run = await claim(runtime)
    await runtime.claims.step(run, "secret", StepStatus.RUNNING, None)
    await runtime.claims.release(run)
    assert await runtime.tasks.steps_of(stranger, [task.id]) == {}
    assert await runtime.tasks.events_of(stranger, [task.id]) == {}
    for wanted in (EVERY, TaskFilter(instance_id="default"), TaskFilter(search=task.id)):
        assert (await runtime.tasks.list(stranger, wanted, NEWEST, Page())).tasks == []
        assert await runtime.tasks.count(stranger, wanted) == 0
    for instance_id in (None, "default"):
        for agent_id in (None, "a"):
            want = Want(limit=10, instance_id=instance_id, agent_id=agent_id)
            assert await runtime.claims.peek(stranger, want) == []
            assert await runtime.claims.dequeue(stranger, want) == []
        assert (await runtime.figures.queue_status(stranger, instance_id)).total_tasks == 0
        totals = await runtime.figures.statistics(stranger, StatisticsFilter(instance_id=instance_id))
        assert totals.total_tasks == 0


async def test_who_may_see_several_instances(runtime: Runtime, user: Principal, stranger: Principal) -> None:
    mine, theirs = await submit(runtime, user), await submit(runtime, stranger)
    both = Principal("b", Role.USER, frozenset({"default", "elsewhere"}))
    anywhere = Principal("b", Role.ADMIN, frozenset({EVERY_INSTANCE}))
    for principal in (both, anywhere):
        assert await runtime.tasks.count(principal, EVERY) == 2
        page = await runtime.tasks.list(principal, TaskFilter(instance_id="elsewhere"), NEWEST, Page())
        assert [task.id for task in page.tasks] == [theirs.id]
        assert (await runtime.tasks.get(principal, mine.id)).id == mine.id


async def test_large_parts_are_read_where_they_are_asked_for(runtime: Runtime, user: Principal) -> None:
    task = await submit(runtime, user, input={"n": 1})
    (plain,) = (await runtime.tasks.list(user, EVERY, NEWEST, Page())).tasks
    (full,) = (await runtime.tasks.list(user, EVERY, NEWEST, Page(), payload=True)).tasks
    assert plain.payload is None
    assert full.payload == (await runtime.tasks.payloads(user, [task.id, "other"]))[task.id]
    assert full == await runtime.tasks.get(user, task.id)


# -- filters ----------------------------------------------------------------------------------

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
async def shelf(runtime: Runtime, user: Principal, admin: Principal, clock: FakeClock) -> Runtime:
    """Seven tasks, a second apart, named 0 to 6; the agent bob is an editor."""
    await runtime.tasks.register_agent(admin, AgentSummary("bob", "Bob", "editor"))
    await submit(runtime, user, "echo", id="task-0", priority=1, input={"text": "Tide Pools"})
    clock.advance(1)
    await submit(runtime, user, "delay", id="task-1", priority=4, agent_id="ann", input={"rate": "100%"})
    clock.advance(1)
    await submit(runtime, admin, "echo", id="task-2", priority=5, agent_id="bob", queue="chat", input={"a_b": 1})
    clock.advance(1)
    await submit(runtime, admin, "delay", id="task-3", priority=8, queue="chat", input={"axb": "ÜBER"})
    clock.advance(1)
    await submit(runtime, user, "echo", id="task-4", priority=9, agent_id="ann", input={})
    await runtime.tasks.cancel(user, "task-4")
    clock.advance(1)
    await submit(runtime, user, "mail", id="task-5", priority=10, input={})
    await runtime.claims.start(user, "task-5")
    await runtime.claims.fail_by_hand(user, "task-5", "The Mailbox is full")
    clock.advance(1)
    await submit(runtime, user, "mail", id="task-6", priority=7, input={}, agent_id="bob")
    await runtime.claims.start(user, "task-6")
    clock.advance(1)
    return runtime


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (TaskFilter(), "0123456"),
        (TaskFilter(statuses=[TaskStatus.CANCELLED]), "4"),
        (TaskFilter(statuses=[TaskStatus.CANCELLED, TaskStatus.PROCESSING]), "46"),
        (TaskFilter(priorities=[Priority.LOW]), "01"),
        (TaskFilter(priorities=[Priority.NORMAL]), "26"),
        (TaskFilter(priorities=[Priority.HIGH]), "34"),
        (TaskFilter(priorities=[Priority.URGENT]), "5"),
        (TaskFilter(priorities=[Priority.LOW, Priority.URGENT]), "015"),
        (TaskFilter(task_types=["delay"]), "13"),
        (TaskFilter(task_types=["delay", "mail", "none"]), "1356"),
        (TaskFilter(agent_ids=["ann"]), "14"),
        (TaskFilter(agent_ids=["ann", "bob"]), "1246"),
        (TaskFilter(agent_types=["editor"]), "26"),
        (TaskFilter(agent_types=["generic"]), "14"),
        (TaskFilter(agent_types=["generic", "editor"], task_types=["echo"]), "24"),
        (TaskFilter(agent_types=["none"]), ""),
        (TaskFilter(agent_types=[]), ""),
        (TaskFilter(min_priority=8), "345"),
        (TaskFilter(min_priority=8, agent_types=["generic"]), "4"),
        (TaskFilter(queues=["chat"]), "23"),
        (TaskFilter(owners=["admin-1"]), "23"),
        (TaskFilter(instance_id="default"), "0123456"),
        (TaskFilter(instance_id="elsewhere"), ""),
        (TaskFilter(created_from=START + timedelta(seconds=5)), "56"),
        (TaskFilter(created_before=START + timedelta(seconds=2)), "01"),
        (TaskFilter(created_from=START + timedelta(seconds=1), created_before=START + timedelta(seconds=3)), "12"),
        (TaskFilter(search="TASK-3"), "3"),
        (TaskFilter(search="mai"), "56"),
        (TaskFilter(search="mailbox IS"), "5"),
        (TaskFilter(search="tide pools"), "0"),
        (TaskFilter(search="100%"), "1"),
        (TaskFilter(search="a_b"), "2"),
        (TaskFilter(search="ÜBER"), "3"),
        (TaskFilter(search="nowhere"), ""),
        (TaskFilter(search="' OR 1=1 --"), ""),
        (TaskFilter(search=""), "0123456"),
        (TaskFilter(task_types=["echo"], agent_ids=["ann"], statuses=[TaskStatus.CANCELLED]), "4"),
        (TaskFilter(task_types=["echo"], agent_ids=["ann"], statuses=[TaskStatus.QUEUED]), ""),
        (TaskFilter(queues=["chat"], search="echo", owners=["admin-1", "user-1"]), "2"),
    ],
)
async def test_filters(shelf: Runtime, user: Principal, wanted: TaskFilter, numbers: str) -> None:
    page = await shelf.tasks.list(user, wanted, Sort(descending=False), Page(limit=100))
    assert "".join(task.id[-1] for task in page.tasks) == numbers
    assert await shelf.tasks.count(user, wanted) == len(numbers)


async def test_a_search_is_bounded(runtime: Runtime, user: Principal) -> None:
    wanted = TaskFilter(search="x" * 100_000)
    for call in (runtime.tasks.list(user, wanted, NEWEST, Page()), runtime.tasks.count(user, wanted)):
        with pytest.raises(InvalidInput) as caught:
            await call
        assert caught.value.path == ["search"]


# -- order and pages --------------------------------------------------------------------------


def in_order(tasks: list[Task], sort: Sort) -> list[str]:
    """The ids in the order asked for, worked out anew."""
    never = datetime(1970, 1, 1, tzinfo=UTC)
    keys = {task.id: (getattr(task, sort.field) or never, task.id) for task in tasks}
    return sorted(keys, key=keys.__getitem__, reverse=sort.descending)


async def walk(runtime: Runtime, principal: Principal, sort: Sort, *, backward: bool, limit: int = 2) -> list[str]:
    """The ids of all pages, by cursors, in the order of the list."""
    seen: list[str] = []
    cursor = None
    while True:
        place = {"before": cursor, "backward": True} if backward else {"after": cursor}
        page = await runtime.tasks.list(principal, EVERY, sort, Page(limit=limit, **place))
        ids = [task.id for task in page.tasks]
        seen = [*ids, *seen] if backward else [*seen, *ids]
        assert (page.has_next if backward else page.has_previous) is (cursor is not None)
        if not (page.has_previous if backward else page.has_next):
            return seen
        cursor = encode_cursor(page.tasks[0] if backward else page.tasks[-1], sort)


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("field", SortField)
async def test_every_order_by_page_and_by_cursor(
    shelf: Runtime, user: Principal, field: SortField, descending: bool
) -> None:
    # Two that are equal in everything but the id.
    for name in ("twin-b", "twin-a"):
        await submit(shelf, user, id=name, priority=8)
    sort = Sort(field=field, descending=descending)
    everything = (await shelf.tasks.list(user, EVERY, NEWEST, Page(limit=100))).tasks
    expected = in_order(everything, sort)
    assert len(expected) == 9
    pages = [await shelf.tasks.list(user, EVERY, sort, Page(limit=4, number=n)) for n in (1, 2, 3, 4)]
    assert [task.id for page in pages for task in page.tasks] == expected
    assert [page.has_next for page in pages] == [True, True, False, False]
    assert [page.has_previous for page in pages] == [False, True, True, True]
    assert await walk(shelf, user, sort, backward=False) == expected
    assert await walk(shelf, user, sort, backward=True) == expected


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("field", [SortField.CREATED_AT, SortField.PRIORITY])
async def test_cursors_hold_while_tasks_arrive(
    runtime: Runtime, user: Principal, clock: FakeClock, field: SortField, descending: bool, backward: bool
) -> None:
    sort = Sort(field=field, descending=descending)
    for number_ in range(12):
        await submit(runtime, user, priority=1 + number_ % 10)
        clock.advance(0.001 * (number_ % 2))  # some at the same millisecond
    before = [task.id for task in (await runtime.tasks.list(user, EVERY, sort, Page(limit=100))).tasks]
    seen: list[str] = []
    cursor = None
    while True:
        place = {"before": cursor, "backward": True} if backward else {"after": cursor}
        page = await runtime.tasks.list(user, EVERY, sort, Page(limit=3, **place))
        ids = [task.id for task in page.tasks]
        seen = [*ids, *seen] if backward else [*seen, *ids]
        if not (page.has_previous if backward else page.has_next):
            break
        cursor = encode_cursor(page.tasks[0] if backward else page.tasks[-1], sort)
        if len(seen) < 9:  # a walk towards the new ones must come to its end
            await submit(runtime, user, priority=1)
            await submit(runtime, user, priority=10)
            clock.advance(0.001)
    assert len(seen) == len(set(seen)), "no task twice"
    assert [task_id for task_id in seen if task_id in set(before)] == before, "none lost, the order kept"


async def test_a_window_between_two_cursors(shelf: Runtime, user: Principal) -> None:
    sort = Sort(descending=False)
    one, five = await shelf.tasks.get(user, "task-1"), await shelf.tasks.get(user, "task-5")
    page = Page(limit=10, after=encode_cursor(one, sort), before=encode_cursor(five, sort))
    assert [task.id for task in (await shelf.tasks.list(user, EVERY, sort, page)).tasks] == [
        "task-2",
        "task-3",
        "task-4",
    ]


def _encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "!!!",
        "täsk",
        "abc",
        _encoded({"a": 1, "b": 2, "c": 3}),
        _encoded(5),
        _encoded(["created_at", 0]),
        _encoded(["created_at", "0", "id"]),
        _encoded(["created_at", None, "id"]),
        _encoded(["created_at", 10**18, "id"]),
        _encoded(["created_at", -(10**18), "id"]),
        _encoded(["created_at", 1.7e308, "id"]),
        _encoded(["created_at", 0, 5]),
        _encoded(["priority", 5, "id"]),
    ],
)
async def test_bad_cursors_are_refused(runtime: Runtime, user: Principal, cursor: str) -> None:
    for place in ({"after": cursor}, {"before": cursor, "backward": True}):
        with pytest.raises(InvalidInput) as caught:
            await runtime.tasks.list(user, EVERY, NEWEST, Page(**place))
        assert caught.value.path == ["cursor"]


@pytest.mark.parametrize(
    ("page", "path"),
    [(Page(limit=0), "limit"), (Page(limit=101), "limit"), (Page(limit=-1), "limit"), (Page(number=0), "page")],
)
async def test_bad_pages_are_refused(runtime: Runtime, user: Principal, page: Page, path: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await runtime.tasks.list(user, EVERY, NEWEST, page)
    assert caught.value.path == [path]


# -- steps and events -------------------------------------------------------------------------


async def test_the_plan_of_a_task(runtime: Runtime, user: Principal, clock: FakeClock) -> None:
    made = await submit(runtime, user)
    assert await runtime.tasks.steps(user, made.id) == []
    _, run = await claim(runtime)
    begun = clock.now()
    await runtime.claims.step(run, "read", StepStatus.RUNNING, None)
    await runtime.claims.step(run, "write", StepStatus.PENDING, None)
    clock.advance(2)
    await runtime.claims.step(run, "read", StepStatus.COMPLETED, {"pages": 3})
    read, write = await runtime.tasks.steps(user, made.id)
    assert (read.name, read.position, read.status, read.output) == ("read", 1, StepStatus.COMPLETED, {"pages": 3})
    assert (read.started_at, read.finished_at, read.attempt) == (begun, clock.now(), 1)
    assert (write.name, write.position, write.status, write.started_at) == ("write", 2, StepStatus.PENDING, None)


async def test_every_change_names_its_actor(
    runtime: Runtime, user: Principal, admin: Principal, clock: FakeClock
) -> None:
    agent = Principal("agent-9", Role.AGENT, frozenset({"default"}))
    made = await submit(runtime, user, max_retries=5, scheduled_for=clock.now() + timedelta(seconds=1))
    clock.advance(1)
    await runtime.maintenance.promote_due()
    await runtime.tasks.change_priority(admin, made.id, 9)
    await runtime.tasks.change_priority(admin, made.id, 9)  # nothing to do, nothing to tell
    await runtime.claims.dequeue(agent, Want(limit=1))
    await runtime.claims.start(agent, made.id)
    await runtime.claims.fail_by_hand(agent, made.id, "not now", retry=True)
    await runtime.tasks.retry(user, made.id)
    task, run = await claim(runtime)
    await runtime.claims.progress(run, 50, "half")
    await runtime.claims.step(run, "read", StepStatus.RUNNING, None)
    await runtime.claims.log(run, LogLevel.WARNING, "slow")
    await runtime.claims.release(run)
    task, run = await claim(runtime)
    clock.advance(31)
    await runtime.maintenance.reap_leases()
    task, run = await claim(runtime)
    await runtime.claims.fail(run, task, "BAD", "broken", retry=False)
    await runtime.tasks.retry(admin, made.id)
    task, run = await claim(runtime)
    clock.advance(5)
    await runtime.maintenance.time_out_stale(admin, timedelta(seconds=4))
    await runtime.tasks.retry(admin, made.id)
    await runtime.tasks.cancel(user, made.id)
    await runtime.tasks.cancel(admin, made.id)  # is already

    events = await runtime.tasks.events(user, made.id)
    assert [(event.actor, str(event.kind), str(event.status)) for event in events] == [
        ("user-1", "STATUS", "SCHEDULED"),
        ("system:scheduler", "STATUS", "QUEUED"),
        ("admin-1", "PRIORITY", "QUEUED"),
        ("agent-9", "STATUS", "ASSIGNED"),
        ("agent-9", "STATUS", "PROCESSING"),
        ("agent-9", "STATUS", "RETRYING"),
        ("user-1", "STATUS", "QUEUED"),
        ("worker:w1", "STATUS", "PROCESSING"),
        ("worker:w1", "PROGRESS", "PROCESSING"),
        ("worker:w1", "STEP", "PROCESSING"),
        ("worker:w1", "LOG", "PROCESSING"),
        ("worker:w1", "STATUS", "QUEUED"),
        ("worker:w1", "STATUS", "PROCESSING"),
        ("system:janitor", "STATUS", "QUEUED"),
        ("worker:w1", "STATUS", "PROCESSING"),
        ("worker:w1", "STATUS", "FAILED"),
        ("admin-1", "STATUS", "QUEUED"),
        ("worker:w1", "STATUS", "PROCESSING"),
        ("admin-1", "STATUS", "FAILED"),
        ("admin-1", "STATUS", "QUEUED"),
        ("user-1", "STATUS", "CANCELLED"),
    ]
    assert [event.version for event in events] == list(range(1, 22))
    assert [event.seq for event in events] == list(range(1, 22))
    details = {event.version: event.detail for event in events}
    assert details[3] == {"from": 5}
    assert details[10] == {"name": "read", "status": "RUNNING", "output": None}
    assert details[11] == {"level": "WARNING", "message": "slow"}
    assert details[14] == {"reason": "LEASE_LOST", "holder": "w1"}
    assert (await stored(runtime, made.id)).version == 21


async def test_events_by_pages(runtime: Runtime, user: Principal) -> None:
    made = await submit(runtime, user)
    _, run = await claim(runtime)
    for percent in range(10):
        await runtime.claims.progress(run, percent, None)
    page = await runtime.tasks.events(user, made.id, after_version=2, limit=3)
    assert [event.version for event in page] == [3, 4, 5]
    assert all(event.kind is EventKind.PROGRESS for event in page)
    assert await runtime.tasks.events(user, made.id, after_version=12) == []
    assert len(await runtime.tasks.events(user, made.id, limit=500)) == 12
    for limit in (0, 501):
        with pytest.raises(InvalidInput) as caught:
            await runtime.tasks.events(user, made.id, limit=limit)
        assert caught.value.path == ["limit"]


async def test_a_task_as_it_stood_after_each_event(runtime: Runtime, user: Principal, clock: FakeClock) -> None:
    made = await submit(runtime, user)
    task, run = await claim(runtime)
    clock.advance(1)
    await runtime.claims.progress(run, 40, "on the way")
    clock.advance(1)
    await runtime.claims.complete(run, {"done": True}, Metrics(actual_cost=2.0))
    now = await stored(runtime, made.id)
    first, begun, progress, done = [now.as_of(event) for event in await runtime.tasks.events(user, made.id)]
    assert (first.status, first.started_at, first.attempt, first.holder) == (TaskStatus.QUEUED, None, 0, None)
    assert (begun.status, begun.started_at, begun.holder) == (TaskStatus.PROCESSING, task.started_at, "w1")
    assert (progress.progress, progress.progress_step, progress.actual_cost) == (40.0, "on the way", None)
    assert done is now
    assert first.payload is None, "an output that came later is not shown"


async def test_a_text_that_cannot_be_stored_is_marked(runtime: Runtime, user: Principal) -> None:
    made = await submit(runtime, user, max_retries=0)
    task, run = await claim(runtime)
    await runtime.claims.log(run, LogLevel.INFO, "nul \0, half \ud800")
    await runtime.claims.progress(run, 1, "half \udcff")
    await runtime.claims.step(run, "a\0b", StepStatus.RUNNING, None)
    await runtime.claims.fail(run, task, "BAD\0", "file '\udcff' " + "x" * 20_000, retry=True)
    failed = await stored(runtime, made.id)
    assert (failed.status, failed.progress_step, failed.error_code) == (TaskStatus.FAILED, "half ?", "BAD?")
    assert failed.error_message is not None
    assert failed.error_message.startswith("file '?' xx")
    assert len(failed.error_message) == 10_000
    events = await runtime.tasks.events(user, made.id)
    assert events[2].detail == {"level": "INFO", "message": "nul ?, half ?"}
    (step,) = await runtime.tasks.steps(user, made.id)
    assert step.name == "a?b"


async def test_what_a_run_tells_must_make_sense(runtime: Runtime, user: Principal) -> None:
    made = await submit(runtime, user)
    _, run = await claim(runtime)
    with pytest.raises(InvalidInput):
        await runtime.claims.progress(run, float("nan"), None)
    with pytest.raises(InvalidInput):
        await runtime.claims.step(run, "s", StepStatus.RUNNING, {"a": object()})
    for percent, kept in ((-5, 0.0), (250, 100.0), (float("inf"), 100.0)):
        await runtime.claims.progress(run, percent, None)
        assert (await stored(runtime, made.id)).progress == kept
    with pytest.raises(InvalidInput):
        await runtime.claims.complete(run, "a\0b", Metrics())
    with pytest.raises(InvalidInput):
        await runtime.claims.complete(run, {}, Metrics(quality_score=1.01))
    assert (await stored(runtime, made.id)).status is TaskStatus.PROCESSING


async def test_types_are_for_all_to_see(runtime: Runtime, stranger: Principal) -> None:
    assert await runtime.tasks.types(stranger) == []
    assert await number(runtime, "SELECT count(*) FROM task_types") == 0


async def test_a_run_of_what_is_gone_is_lost(runtime: Runtime) -> None:
    gone = Run("no-such", 1, "worker:w1")
    with pytest.raises(LeaseLost):
        await runtime.claims.complete(gone, {}, Metrics())
    with pytest.raises(LeaseLost):
        await runtime.claims.progress(gone, 1, None)
