"""The queue as a library: every method over a real core, and what each refuses."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.support.core import LONG_AGO, meddle, new

from taskyard import TaskManager, TaskQueue
from taskyard.errors import (
    Forbidden,
    IdempotencyConflict,
    IllegalTransition,
    InvalidInput,
    LeaseLost,
    NotFound,
    StartupError,
    TaskyardError,
)
from taskyard.lifecycle import TaskStatus
from taskyard.task import AgentSummary, Metrics, NewTask, Task

S = TaskStatus


@pytest.fixture
async def queue(place: Path | str) -> AsyncIterator[TaskQueue]:
    async with TaskQueue.open(place) as found:
        yield found


async def one(queue: TaskQueue, **options: Any) -> Task:
    """The best ready task, dequeued."""
    (task,) = await queue.dequeue(**options)
    return task


async def lose_all(queue: TaskQueue) -> None:
    """Let the claim on the one task that is held run out."""
    await meddle(queue.runtime, "UPDATE tasks SET lease_until = :then", then=LONG_AGO)
    assert await queue.runtime.maintenance.reap_leases() == 1


# -- putting in -------------------------------------------------------------------------------


async def test_a_task_by_its_fields_or_whole(queue: TaskQueue) -> None:
    by_fields = await queue.enqueue("mail", {"to": "ann"}, priority=8, max_retries=0)
    whole = await queue.enqueue(NewTask(task_type="mail", input=[1], id="mail-2", queue="post"))
    for task in (by_fields, whole):
        assert (task.status, task.owner, task.instance_id) == (S.QUEUED, "library", "default")
    assert (by_fields.priority, by_fields.max_retries) == (8, 0)
    stored = await queue.get_task("mail-2")
    assert stored.payload is not None
    assert (stored.queue, stored.payload.input, stored.payload.output) == ("post", [1], None)
    again = await queue.enqueue(NewTask(task_type="mail", input=[1], id="mail-2", queue="post"))
    assert (again.id, again.version) == (whole.id, whole.version)


async def test_a_list_is_accepted_whole_or_not_at_all(queue: TaskQueue) -> None:
    made = await queue.enqueue([new("mail", id=f"m{n}") for n in range(100)])
    assert [task.id for task in made] == [f"m{n}" for n in range(100)]
    with pytest.raises(InvalidInput) as caught:
        await queue.enqueue([new("mail"), new("mail", priority=11), new("mail", priority=0)])
    assert caught.value.path == [1, "priority"]
    for wrong in ([], [new()] * 101):
        with pytest.raises(InvalidInput, match="1 to 100"):
            await queue.enqueue(wrong)
    assert len(await queue.find(limit=100)) == 100
    assert await queue.find(limit=100, page=2) == []


async def test_what_enqueue_refuses(queue: TaskQueue) -> None:
    await queue.enqueue("mail", {}, idempotency_key="k")
    with pytest.raises(IdempotencyConflict):
        await queue.enqueue("mail", {"other": 1}, idempotency_key="k")
    with pytest.raises(InvalidInput, match="needs an input"):
        await queue.enqueue("mail", None)
    with pytest.raises(InvalidInput, match="taskType"):
        await queue.enqueue("no such type!", {})
    with pytest.raises(Forbidden):
        await queue.enqueue("mail", {}, instance_id="elsewhere")
    with pytest.raises(TypeError):
        await queue.enqueue("mail", {}, priorty=8)


# -- taking out -------------------------------------------------------------------------------


async def test_filters_of_peek_dequeue_and_find(queue: TaskQueue) -> None:
    await queue.register_agent("ed", "editor", "Ed")
    for number, (task_type, line, priority, agent_id) in enumerate(
        [
            ("a", "q1", 3, "ed"),
            ("a", "q2", 5, "ann"),
            ("b", "q1", 8, None),
            ("b", "q2", 10, "ed"),
            ("c", "q1", 10, None),
        ]
    ):
        await queue.enqueue(task_type, {}, id=str(number), queue=line, priority=priority, agent_id=agent_id)

    async def fitting(**filters: Any) -> str:
        peeked = "".join(task.id for task in await queue.peek(10, **filters))
        assert "".join(sorted(task.id for task in await queue.find(**filters))) == "".join(sorted(peeked))
        return peeked

    assert await fitting() == "34210"
    assert await fitting(task_types=["a", "b"]) == "3210"
    assert await fitting(queues=["q1"]) == "420"
    assert await fitting(min_priority=8) == "342"
    assert await fitting(agent_id="ann") == "1"
    assert await fitting(agent_type="editor") == "30"
    assert await fitting(agent_type="editor", min_priority=4) == "3"
    assert await fitting(agent_type="generic") == "1"
    assert await fitting(task_types=[]) == ""
    taken = await queue.dequeue(5, agent_type="editor")
    assert [(task.id, task.status, task.agent) for task in taken] == [
        ("3", S.PROCESSING, AgentSummary("ed", "Ed", "editor")),
        ("0", S.PROCESSING, AgentSummary("ed", "Ed", "editor")),
    ]
    assert [task.id for task in await queue.find(statuses=[S.PROCESSING])] == ["3", "0"]
    assert [task.id for task in await queue.find(search="C", statuses=[S.QUEUED, S.FAILED])] == ["4"]
    assert (await one(queue, min_priority=9)).id == "4"
    assert await queue.dequeue(min_priority=9) == []
    for limit in (0, 101):
        with pytest.raises(InvalidInput, match="limit"):
            await queue.peek(limit)
        with pytest.raises(InvalidInput, match="limit"):
            await queue.dequeue(limit)


async def test_best_first_and_in_line_within_a_priority(queue: TaskQueue) -> None:
    for number, priority in enumerate((2, 10, 5, 8, 5, 10, 1)):
        await queue.enqueue("mail", number, priority=priority)
    taken = [task for _ in range(7) for task in await queue.dequeue()]
    assert [task.payload and task.payload.input for task in taken] == [1, 5, 3, 2, 4, 0, 6]


async def test_from_dequeued_to_completed(queue: TaskQueue) -> None:
    await queue.enqueue("mail", {"to": "ann"})
    task = await one(queue)
    assert (task.status, task.attempt, task.holder) == (S.PROCESSING, 1, queue.holder)
    done = await queue.update_status(task, S.COMPLETED, output={"sent": True}, metrics=Metrics(actual_cost=0.5))
    assert done.payload is not None
    assert (done.status, done.payload.output, done.actual_cost, done.holder) == (
        S.COMPLETED,
        {"sent": True},
        0.5,
        None,
    )
    assert (await queue.update_status(task, S.COMPLETED)).version == done.version, "told twice, it is one end"
    with pytest.raises(LeaseLost):
        await queue.update_status(task, S.FAILED)


async def test_assigned_begins_later(queue: TaskQueue) -> None:
    made = await queue.enqueue("mail", {})
    task = await one(queue, status=S.ASSIGNED)
    assert (task.id, task.status, task.holder, task.started_at) == (made.id, S.ASSIGNED, queue.holder, None)
    with pytest.raises(IllegalTransition, match="ASSIGNED cannot become COMPLETED"):
        await queue.update_status(task, S.COMPLETED)
    begun = await queue.update_status(task, S.PROCESSING)
    assert (begun.status, begun.attempt, begun.holder) == (S.PROCESSING, 1, queue.holder)
    # The claim is the same one, so that what `dequeue` gave still stands for it.
    assert (await queue.update_status(task, S.COMPLETED)).status is S.COMPLETED
    with pytest.raises(InvalidInput, match="PROCESSING or ASSIGNED"):
        await queue.dequeue(status=S.COMPLETED)


async def test_a_queued_task_is_begun_and_ended_by_its_id(queue: TaskQueue) -> None:
    made = await queue.enqueue("mail", {})
    assert (await queue.update_status(made, S.PROCESSING)).attempt == 1
    failed = await queue.update_status(made.id, S.FAILED, error="no such address", code="BOUNCED")
    assert (failed.status, failed.error_code, failed.error_message) == (S.FAILED, "BOUNCED", "no such address")
    again = await queue.update_status(made.id, S.QUEUED)
    assert (again.status, again.error_code, again.retry_count) == (S.QUEUED, None, 0)


async def test_a_failed_run_is_tried_again_at_a_later_dequeue(queue: TaskQueue) -> None:
    await queue.enqueue("mail", {}, max_retries=1)
    waiting = await queue.update_status(await one(queue), S.RETRYING, error="busy")
    assert (waiting.status, waiting.retry_count, waiting.error_message) == (S.RETRYING, 1, "busy")
    assert await queue.dequeue() == []
    await meddle(queue.runtime, "UPDATE tasks SET run_at = :then", then=LONG_AGO)
    task = await one(queue)
    assert (task.id, task.attempt) == (waiting.id, 2)
    failed = await queue.update_status(task, S.RETRYING, error="busy still")
    assert (failed.status, failed.error_message) == (S.FAILED, "busy still")


async def test_given_back_it_keeps_its_place(queue: TaskQueue) -> None:
    first = await queue.enqueue("mail", {})
    await queue.enqueue("mail", {})
    task = await one(queue)
    given = await queue.update_status(task, S.QUEUED)
    assert (given.status, given.retry_count, given.holder) == (S.QUEUED, 0, None)
    assert (await queue.update_status(task, S.QUEUED)).version == given.version, "told twice, it is given back once"
    again = await one(queue)
    assert (again.id, again.attempt) == (first.id, 2)
    with pytest.raises(LeaseLost):
        await queue.update_status(task, S.QUEUED)


async def test_cancelled_while_it_is_held(queue: TaskQueue) -> None:
    await queue.enqueue("mail", {})
    task = await one(queue)
    assert (await queue.update_status(task.id, S.CANCELLED)).status is S.CANCELLED
    assert (await queue.update_status(task, S.CANCELLED)).status is S.CANCELLED
    with pytest.raises(LeaseLost):
        await queue.update_status(task, S.COMPLETED)
    with pytest.raises(LeaseLost):
        await queue.renew(task)


async def test_a_claim_that_ran_out_goes_to_the_next_and_fences_the_first(queue: TaskQueue) -> None:
    await queue.enqueue("mail", {})
    task = await one(queue)
    assert task.lease_until is not None
    earlier = task.lease_until - timedelta(seconds=20)
    await meddle(queue.runtime, "UPDATE tasks SET lease_until = :then", then=earlier)
    await queue.renew(task)
    kept = (await queue.get_task(task.id)).lease_until
    assert kept is not None
    assert kept > task.lease_until - timedelta(seconds=10)
    await meddle(queue.runtime, "UPDATE tasks SET lease_until = :then", then=LONG_AGO)
    other = TaskQueue(queue.runtime)
    taken = await one(other)
    assert (taken.id, taken.attempt, taken.lost_count, taken.holder) == (task.id, 2, 1, other.holder)
    for status in (S.COMPLETED, S.FAILED, S.RETRYING, S.QUEUED, S.PROCESSING):
        with pytest.raises(LeaseLost):
            await queue.update_status(task, status)
    with pytest.raises(LeaseLost):
        await queue.renew(task)
    with pytest.raises(LeaseLost, match="another holds"):
        await queue.update_status(task.id, S.COMPLETED)
    assert (await other.update_status(taken, S.COMPLETED)).attempt == 2


async def test_a_lost_claim_is_not_begun(queue: TaskQueue) -> None:
    await queue.enqueue("mail", {})
    task = await one(queue, status=S.ASSIGNED)
    await lose_all(queue)
    with pytest.raises(LeaseLost):
        await queue.update_status(task, S.PROCESSING)
    assert (await queue.get_task(task.id)).status is S.QUEUED


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (S.COMPLETED, "QUEUED cannot become COMPLETED"),
        (S.RETRYING, "QUEUED cannot become RETRYING"),
        (S.FAILED, "it is not running"),
        (S.QUEUED, "only an ended task is retried"),
        (S.ASSIGNED, "not become so by hand"),
        (S.PLANNING, "not become so by hand"),
        (S.REVIEW, "QUEUED cannot become REVIEW"),
        (S.SUBMITTED, "QUEUED cannot become SUBMITTED"),
    ],
)
async def test_moves_that_there_are_not(queue: TaskQueue, status: TaskStatus, error: str) -> None:
    made = await queue.enqueue("mail", {})
    for task in (made, made.id):
        with pytest.raises(IllegalTransition, match=error):
            await queue.update_status(task, status)
    assert (await queue.get_task(made.id)).version == made.version


async def test_an_output_that_cannot_be_stored_ends_nothing(queue: TaskQueue) -> None:
    await queue.enqueue("mail", {})
    task = await one(queue)
    with pytest.raises(InvalidInput):
        await queue.update_status(task, S.COMPLETED, output=object())
    assert (await queue.get_task(task.id)).status is S.PROCESSING


async def test_what_is_not_there_or_not_its_own(queue: TaskQueue) -> None:
    other = TaskQueue(queue.runtime, instance_id="elsewhere", owner="me")
    theirs = await other.enqueue("mail", {})
    assert (theirs.instance_id, theirs.owner) == ("elsewhere", "me")
    for task_id in (theirs.id, "nothing"):
        with pytest.raises(NotFound):
            await queue.get_task(task_id)
        with pytest.raises(NotFound):
            await queue.update_status(task_id, S.CANCELLED)
    assert await queue.peek() == await queue.find() == await queue.dequeue() == []
    assert (await one(other)).id == theirs.id
    with pytest.raises(InvalidInput):
        TaskQueue(queue.runtime, instance_id="no name!")


async def test_what_is_scheduled_comes_at_its_time(queue: TaskQueue) -> None:
    now = queue.runtime.clock.now()
    made = await queue.enqueue("mail", {}, scheduled_for=now + timedelta(hours=1))
    assert made.status is S.SCHEDULED
    assert await queue.dequeue() == []
    await meddle(queue.runtime, "UPDATE tasks SET run_at = :then", then=LONG_AGO)
    assert (await one(queue)).id == made.id


async def test_a_run_past_its_time_out_fails_at_the_next_dequeue(queue: TaskQueue) -> None:
    await queue.enqueue("mail", {}, timeout=timedelta(seconds=1))
    task = await one(queue)
    await meddle(queue.runtime, "UPDATE tasks SET deadline_at = :then", then=LONG_AGO)
    assert await queue.dequeue() == []
    late = await queue.get_task(task.id)
    assert (late.status, late.error_code) == (S.FAILED, "TIMEOUT")


# -- where it is ------------------------------------------------------------------------------


async def test_a_folder_keeps_its_tasks_for_the_next_and_is_for_one_at_a_time(data_folder: Path) -> None:
    async with TaskQueue.open(str(data_folder)) as queue:
        made = await queue.enqueue("mail", {"kept": True})
        with pytest.raises(StartupError, match="in use"):
            async with TaskQueue.open(data_folder):
                pytest.fail("it was opened twice")
    async with TaskQueue.open(data_folder) as queue:
        task = await one(queue)
    assert task.id == made.id
    assert task.payload is not None
    assert task.payload.input == {"kept": True}


async def test_what_is_in_memory_is_gone_with_it() -> None:
    async with TaskQueue.open(":memory:") as first, TaskQueue.open(":memory:") as second:
        folder = first.runtime.settings.data
        assert folder.is_dir()
        await first.enqueue("mail", {})
        assert await second.peek() == []
        assert len(await first.peek()) == 1
    assert not folder.exists()


async def test_the_place_is_the_callers_and_the_rest_the_environments(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in {
        "DATABASE_URL": "postgresql://nobody@nowhere/none",
        "REDIS_URL": "redis://nowhere",
        "TASKYARD_QUEUE": "redis",
        "TASKYARD_DATA": "/nowhere",
        "TASKYARD_DEFAULT_PROCESSOR": "none",
        "TASKYARD_LEASE_SECONDS": "77",
        "TASKYARD_MAX_RETRIES": "7",
    }.items():
        monkeypatch.setenv(variable, value)
    async with TaskQueue.open(data_folder, max_retries=5, queue_backend="sql") as queue:
        settings = queue.runtime.settings
        assert (settings.database_url, settings.redis_url, settings.queue_backend) == (None, None, "sql")
        assert (settings.data, settings.default_processor) == (data_folder, None)
        assert (settings.lease, settings.max_retries) == (77, 5)
        assert (await queue.enqueue("mail", {})).max_retries == 5
        assert (await one(queue)).task_type == "mail"


@pytest.mark.parametrize("setting", ["leese", "data", "database_url"])
async def test_a_setting_that_there_is_not(setting: str) -> None:
    with pytest.raises(TypeError, match=setting):
        async with TaskQueue.open(":memory:", **{setting: "x"}):
            pytest.fail("it was opened")


@pytest.mark.parametrize(
    ("where", "options", "error"),
    [
        ("mysql://user:secret@here", {}, "^that is no place for a queue: give a folder"),
        ("sqlite:///file", {}, "give a folder"),
        (":memory:", {"redis_url": "redis://here"}, "goes with PostgreSQL"),
        (":memory:", {"lease": -1}, "TASKYARD_LEASE_SECONDS"),
        ("/dev/null/folder", {}, "cannot be used"),
        ("postgresql://127.0.0.1:1/none", {}, "cannot be reached"),
    ],
)
async def test_what_cannot_be_opened(where: str, options: dict[str, Any], error: str) -> None:
    with pytest.raises(TaskyardError, match=error) as caught:
        async with TaskQueue.open(where, **options):
            pytest.fail("it was opened")
    assert isinstance(caught.value, StartupError)


# -- what is not meant so -------------------------------------------------------------------------


async def test_fields_beside_a_whole_task_are_refused(queue: TaskQueue) -> None:
    whole = NewTask(task_type="letter", input=1)
    for call in (
        queue.enqueue(whole, id="a"),  # type: ignore[call-overload]  # what is to be refused
        queue.enqueue(whole, 2),  # type: ignore[call-overload]  # what is to be refused
        queue.enqueue([whole], idempotency_key="b"),  # type: ignore[call-overload]  # what is to be refused
    ):
        with pytest.raises(TypeError, match="give its fields to it"):
            await call
    assert await queue.find() == []


async def test_a_filter_that_is_no_list_or_that_there_is_not_is_refused(queue: TaskQueue) -> None:
    for call in (queue.peek, queue.dequeue, queue.find):
        with pytest.raises(TypeError, match="'task_types' takes a list"):
            await call(task_types="letter")
    with pytest.raises(TypeError, match="no filter 'status'"):
        await queue.peek(status="QUEUED")  # type: ignore[call-arg]  # what is to be refused
    with pytest.raises(TypeError, match="'queues' takes a list"):
        TaskManager(queue, len, queues="default")
