"""Batches: all or none, or each by itself; and repeats among them."""

import pytest
from tests.support.core import new, number, stored, submit

from taskyard.errors import InvalidInput, TaskyardError, Unavailable
from taskyard.principal import Principal, Role
from taskyard.queue.entry import Want
from taskyard.runtime import Runtime
from taskyard.service.tasks import BatchMode
from taskyard.store.listing import TaskFilter
from taskyard.store.registry import Registry
from taskyard.store.tasks import TaskReader
from taskyard.task import TaskTypeSpec

COUNT = "SELECT count(*) FROM tasks"


async def away(*_: object, **__: object) -> None:
    raise Unavailable("the database does not answer")


@pytest.mark.parametrize("mode", BatchMode)
@pytest.mark.parametrize("size", [0, 101])
async def test_a_batch_has_one_to_a_hundred_tasks(
    runtime: Runtime, user: Principal, mode: BatchMode, size: int
) -> None:
    with pytest.raises(InvalidInput) as caught:
        await runtime.tasks.create_batch(user, [new()] * size, mode)
    assert caught.value.path == ["inputs"]


@pytest.mark.parametrize("mode", BatchMode)
async def test_a_hundred_tasks_in_order(runtime: Runtime, user: Principal, mode: BatchMode) -> None:
    result = await runtime.tasks.create_batch(user, [new(input=index) for index in range(100)], mode)
    assert (result.failed, result.errors) == (0, {})
    kept = {task.id: task for task in [await stored(runtime, task.id) for task in result.tasks]}
    assert [kept[task.id].payload.input for task in result.tasks] == list(range(100))  # type: ignore[union-attr]
    claimed = await runtime.claims.claim("w1", Want(limit=100))
    assert [task.id for task in claimed] == [task.id for task in result.tasks], "first in, first out"


async def test_a_partial_batch_writes_the_good_ones_and_names_the_bad(runtime: Runtime, user: Principal) -> None:
    await submit(runtime, user, id="taken", input="before")
    batch = [
        new(input=0),
        new(priority=99),
        new(input=2),
        new(id="taken", input="other"),
        new(input="\0"),
        new(instance_id="foreign"),
        new(input=6),
    ]
    result = await runtime.tasks.create_batch(user, batch, BatchMode.PARTIAL)
    assert {index: error.code for index, error in result.errors.items()} == {
        1: "INVALID_INPUT",
        3: "ID_TAKEN",
        4: "INVALID_INPUT",
        5: "FORBIDDEN",
    }
    assert (result.failed, len(result.tasks)) == (4, 3)
    inputs = [(await stored(runtime, task.id)).payload.input for task in result.tasks]  # type: ignore[union-attr]
    assert inputs == [0, 2, 6]
    assert await number(runtime, COUNT) == 4


async def test_a_partial_batch_of_nothing_good(runtime: Runtime, user: Principal) -> None:
    result = await runtime.tasks.create_batch(user, [new(priority=0)] * 2, BatchMode.PARTIAL)
    assert (result.tasks, result.failed, sorted(result.errors)) == ([], 2, [0, 1])


async def test_an_atomic_batch_with_a_bad_task_writes_nothing(runtime: Runtime, user: Principal) -> None:
    result = await runtime.tasks.create_batch(user, [new(), new(priority=99), new()], BatchMode.ATOMIC)
    assert (result.tasks, result.failed, list(result.errors)) == ([], 3, [1])
    assert await number(runtime, COUNT) == 0
    assert await number(runtime, "SELECT count(*) FROM events") == 0


async def test_a_conflict_undoes_an_atomic_batch(runtime: Runtime, user: Principal) -> None:
    await submit(runtime, user, idempotency_key="used", input="before")
    batch = [new(input=0), new(input=1), new(idempotency_key="used", input="after"), new(input=3)]
    result = await runtime.tasks.create_batch(user, batch, BatchMode.ATOMIC)
    assert (result.tasks, result.failed) == ([], 4)
    assert {index: error.code for index, error in result.errors.items()} == {2: "IDEMPOTENCY_CONFLICT"}
    assert await number(runtime, COUNT) == 1
    assert await number(runtime, "SELECT value FROM counters WHERE name = 'event'") == 1, "no number is lost"
    assert len(await runtime.claims.claim("w1", Want(limit=10))) == 1, "nothing undone is in the queue"


@pytest.mark.parametrize("mode", BatchMode)
async def test_a_repeated_batch_gives_the_same_tasks(runtime: Runtime, user: Principal, mode: BatchMode) -> None:
    batch = [new(input=index, idempotency_key=f"k{index}") for index in range(5)]
    first = await runtime.tasks.create_batch(user, batch, mode)
    again = await runtime.tasks.create_batch(user, batch, mode)
    assert [task.id for task in again.tasks] == [task.id for task in first.tasks]
    assert again.failed == 0
    more = await runtime.tasks.create_batch(user, [batch[3], new(input="new"), batch[1]], mode)
    assert [task.id for task in more.tasks][::2] == [first.tasks[3].id, first.tasks[1].id]
    assert await number(runtime, COUNT) == 6


@pytest.mark.parametrize("mode", BatchMode)
async def test_a_repeat_inside_a_batch(runtime: Runtime, user: Principal, mode: BatchMode) -> None:
    batch = [
        new(input=1, idempotency_key="k"),
        new(input=2, id="chosen"),
        new(input=1, idempotency_key="k"),
        new(input=2, id="chosen"),
        new(input=1, idempotency_key="k"),
    ]
    result = await runtime.tasks.create_batch(user, batch, mode)
    ids = [task.id for task in result.tasks]
    assert ids == [ids[0], "chosen", ids[0], "chosen", ids[0]]
    assert await number(runtime, COUNT) == 2


async def test_a_contradiction_inside_an_atomic_batch(runtime: Runtime, user: Principal) -> None:
    batch = [
        new(input=1, idempotency_key="k"),
        new(input=2, idempotency_key="k"),
        new(input=3, id="chosen"),
        new(input=4, id="chosen"),
    ]
    result = await runtime.tasks.create_batch(user, batch, BatchMode.ATOMIC)
    assert {index: error.code for index, error in result.errors.items()} == {1: "IDEMPOTENCY_CONFLICT", 3: "ID_TAKEN"}
    assert (result.tasks, await number(runtime, COUNT)) == ([], 0)


async def test_one_id_for_two_instances_in_a_batch(runtime: Runtime) -> None:
    anywhere = Principal("u", Role.USER, frozenset({"a", "b"}))
    batch = [new(id="one", instance_id="a"), new(id="one", instance_id="b")]
    result = await runtime.tasks.create_batch(anywhere, batch, BatchMode.ATOMIC)
    assert {index: error.code for index, error in result.errors.items()} == {1: "ID_TAKEN"}


async def test_an_unforeseen_fault_of_one_is_raised(
    runtime: Runtime, user: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken() -> list[TaskTypeSpec]:
        raise RuntimeError("broken")

    monkeypatch.setattr(runtime.registry, "types", broken)
    with pytest.raises(RuntimeError) as caught:
        await runtime.tasks.create_batch(user, [new()], BatchMode.PARTIAL)
    assert not isinstance(caught.value, TaskyardError)


@pytest.mark.parametrize("mode", BatchMode)
@pytest.mark.parametrize("broken", [(Registry, "types"), (Registry, "add_agent")], ids=["the types", "the agents"])
async def test_a_batch_that_meets_a_database_that_is_away_is_refused_whole(
    runtime: Runtime, user: Principal, monkeypatch: pytest.MonkeyPatch, mode: BatchMode, broken: tuple[type, str]
) -> None:
    runtime.catalog.expire()
    monkeypatch.setattr(*broken, away)
    with pytest.raises(Unavailable):
        await runtime.tasks.create_batch(user, [new(agent_id="ann") for _ in range(3)], mode)
    monkeypatch.undo()
    assert await runtime.tasks.count(user, TaskFilter()) == 0, "it can be sent again as it is"


async def test_a_partial_batch_that_cannot_look_up_a_repeat_names_it_and_gives_the_others(
    runtime: Runtime, user: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = [new(id="known"), new(id="other")]
    await runtime.tasks.create(user, batch[0])

    monkeypatch.setattr(TaskReader, "find_submitted", away)
    result = await runtime.tasks.create_batch(user, batch, BatchMode.PARTIAL)
    monkeypatch.undo()
    assert {index: error.code for index, error in result.errors.items()} == {0: "UNAVAILABLE"}
    assert ([task.id for task in result.tasks], result.failed) == (["other"], 1)
    again = await runtime.tasks.create_batch(user, batch, BatchMode.PARTIAL)
    assert ([task.id for task in again.tasks], again.errors) == (["known", "other"], {})


async def test_an_atomic_batch_that_cannot_look_up_a_repeat_is_refused_whole(
    runtime: Runtime, user: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = [new(id="known"), new(id="other")]
    await runtime.tasks.create(user, batch[0])

    monkeypatch.setattr(TaskReader, "find_submitted", away)
    with pytest.raises(Unavailable):
        await runtime.tasks.create_batch(user, batch, BatchMode.ATOMIC)
    monkeypatch.undo()
    assert await runtime.tasks.count(user, TaskFilter()) == 1
