"""Submitting a task: what is accepted, what is refused and where, and what a repeat gives."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from tests.support.clock import FakeClock
from tests.support.core import claim, new, number, opened, rows, stored, submit

from taskyard.errors import Forbidden, IdempotencyConflict, IdTaken, InvalidInput
from taskyard.lifecycle import TaskStatus
from taskyard.principal import EVERY_INSTANCE, Principal, Role
from taskyard.queue.entry import Want
from taskyard.runtime import Runtime
from taskyard.service.tasks import BatchMode
from taskyard.task import AgentSummary, NewTask, Priority, TaskTypeSpec

COUNT = "SELECT count(*) FROM tasks"
MIB = 1 << 20

LETTER = TaskTypeSpec(
    name="letter",
    input_schema={
        "type": "object",
        "required": ["to"],
        "properties": {
            "to": {
                "type": "object",
                "required": ["street"],
                "properties": {
                    "street": {"type": "string"},
                    "floors": {"type": "array", "items": {"type": "integer"}},
                },
            }
        },
    },
    output_schema={"type": "object", "required": ["sent"]},
    timeout=timedelta(seconds=90),
    max_retries=7,
)


@pytest.fixture
async def letters(runtime: Runtime) -> Runtime:
    """A core to which a worker has declared the type `letter`."""
    await runtime.registry.declare([LETTER])
    runtime.catalog.expire()
    return runtime


# -- one task ---------------------------------------------------------------------------------


async def test_every_field_is_kept(runtime: Runtime, user: Principal, clock: FakeClock) -> None:
    made = await runtime.tasks.create(
        user,
        NewTask(
            task_type="echo",
            input={"text": "grüß", "list": [1, 2.5, None, True]},
            id="my-id.1",
            instance_id="default",
            agent_id="agent-7",
            queue="chat_tasks",
            priority=7,
            idempotency_key="key 1",
            max_retries=2,
            timeout=timedelta(seconds=1.5),
            scheduled_for=clock.now() + timedelta(hours=1),
            estimated_cost=0.25,
        ),
    )
    task = await stored(runtime, "my-id.1")
    assert task.payload is not None
    assert task.payload.input == {"text": "grüß", "list": [1, 2.5, None, True]}
    assert task.payload.output is None
    assert (task.instance_id, task.owner, task.agent_id) == ("default", "user-1", "agent-7")
    assert (task.queue, task.priority, task.idempotency_key) == ("chat_tasks", 7, "key 1")
    assert (task.max_retries, task.timeout_ms, task.estimated_cost) == (2, 1500, 0.25)
    assert task.scheduled_for == task.run_at == clock.now() + timedelta(hours=1)
    assert (task.status, task.version, task.attempt, task.generation) == (TaskStatus.SCHEDULED, 1, 0, 0)
    assert task.agent == AgentSummary("agent-7", "agent-7", "generic")
    assert task.created_at == task.updated_at == clock.now()
    assert replace(task, payload=None) == made, "what is answered is what is stored"


async def test_defaults(runtime: Runtime, user: Principal, clock: FakeClock) -> None:
    made = await submit(runtime, user)
    task = await stored(runtime, made.id)
    assert replace(task, payload=None) == made
    assert (task.status, task.queue, task.priority) == (TaskStatus.QUEUED, "default", Priority.NORMAL)
    assert (task.max_retries, task.timeout_ms, task.queued_at) == (3, None, clock.now())
    assert (task.generation, task.queue_seq) == (1, 1)


async def test_a_type_gives_the_defaults_and_the_task_overrides_them(letters: Runtime, user: Principal) -> None:
    body = {"to": {"street": "Elm"}}
    plain = await submit(letters, user, "letter", input=body)
    own = await submit(letters, user, "letter", input=body, max_retries=0, timeout=timedelta(seconds=5))
    assert (plain.max_retries, plain.timeout_ms) == (7, 90_000)
    assert (own.max_retries, own.timeout_ms) == (0, 5000)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"task_type": ""}, ["taskType"]),
        ({"task_type": "has space"}, ["taskType"]),
        ({"task_type": "-leading"}, ["taskType"]),
        ({"task_type": "x" * 101}, ["taskType"]),
        ({"task_type": "line\n"}, ["taskType"]),
        ({"queue": "'; drop table tasks --"}, ["queue"]),
        ({"agent_id": "ä"}, ["agentId"]),
        ({"id": ""}, ["id"]),
        ({"id": "a/b"}, ["id"]),
        ({"id": "x" * 65}, ["id"]),
        ({"idempotency_key": ""}, ["idempotencyKey"]),
        ({"idempotency_key": "k" * 201}, ["idempotencyKey"]),
        ({"idempotency_key": "nul\0"}, ["idempotencyKey"]),
        ({"instance_id": "no\0name"}, ["instanceId"]),
        ({"instance_id": "i" * 101}, ["instanceId"]),
        ({"input": {"deep": [1.0, float("nan")]}}, ["inputData"]),
        ({"input": float("-inf")}, ["inputData"]),
        ({"estimated_cost": 10**400}, ["estimatedCost"]),
        ({"idempotency_key": "half \ud800"}, ["idempotencyKey"]),
        ({"priority": 0}, ["priority"]),
        ({"priority": 11}, ["priority"]),
        ({"max_retries": -1}, ["maxRetries"]),
        ({"max_retries": 101}, ["maxRetries"]),
        ({"timeout": timedelta()}, ["timeoutMs"]),
        ({"timeout": timedelta(microseconds=900)}, ["timeoutMs"]),
        ({"timeout": timedelta(days=7, milliseconds=1)}, ["timeoutMs"]),
        ({"scheduled_for": datetime(2026, 5, 1)}, ["scheduledFor"]),  # noqa: DTZ001 - the fault
        ({"scheduled_for": datetime.max.replace(tzinfo=UTC)}, ["scheduledFor"]),
        ({"scheduled_for": datetime.max.replace(tzinfo=timezone(-timedelta(hours=12)))}, ["scheduledFor"]),
        ({"scheduled_for": datetime.min.replace(tzinfo=timezone(timedelta(hours=12)))}, ["scheduledFor"]),
        ({"estimated_cost": -0.01}, ["estimatedCost"]),
        ({"estimated_cost": float("nan")}, ["estimatedCost"]),
        ({"estimated_cost": float("inf")}, ["estimatedCost"]),
        ({"input": None}, ["inputData"]),
        ({"input": {"text": "a\0b"}}, ["inputData"]),
        ({"input": {"a\0b": 1}}, ["inputData"]),
        ({"input": "\\\0"}, ["inputData"]),
        ({"input": "x" * (MIB - 1)}, ["inputData"]),
        ({"input": {"when": object()}}, ["inputData"]),
        ({"input": {1: "a"}}, ["inputData"]),
        ({"input": 2**64}, ["inputData"]),
        ({"input": "half \ud800"}, ["inputData"]),
    ],
)
async def test_bad_input_is_refused_with_its_path(
    runtime: Runtime, user: Principal, fields: dict[str, Any], path: list[str]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        await runtime.tasks.create(user, new(**fields))
    assert caught.value.path == path
    assert caught.value.code == "INVALID_INPUT"
    assert await number(runtime, COUNT) == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"task_type": "a" * 100, "queue": "A.b:c/d@e-f_1"},
        {"priority": 1},
        {"priority": 10},
        {"max_retries": 0},
        {"max_retries": 100},
        {"timeout": timedelta(milliseconds=1)},
        {"timeout": timedelta(days=7)},
        {"idempotency_key": "k" * 200},
        {"estimated_cost": 0.0},
        {"input": "x" * (MIB - 2)},
        {"input": "\\u0000 written out"},
        {"input": False},
        {"scheduled_for": datetime(1970, 1, 1, tzinfo=UTC)},
        {"scheduled_for": datetime(9000, 1, 1, tzinfo=UTC)},
    ],
)
async def test_the_limits_themselves_are_accepted(runtime: Runtime, user: Principal, fields: dict[str, Any]) -> None:
    made = await runtime.tasks.create(user, new(**fields))
    task = await stored(runtime, made.id)
    assert replace(task, payload=None) == made
    assert task.payload is not None
    assert task.payload.input == fields.get("input", {})


async def test_a_time_is_stored_in_utc_to_the_millisecond(
    runtime: Runtime, user: Principal, clock: FakeClock
) -> None:
    there = timezone(timedelta(hours=5, minutes=30))
    wanted = (clock.now() + timedelta(hours=1, microseconds=1999)).astimezone(there)
    made = await submit(runtime, user, scheduled_for=wanted)
    assert made.scheduled_for == made.run_at == clock.now() + timedelta(hours=1, milliseconds=1)
    assert replace(await stored(runtime, made.id), payload=None) == made


# -- declared types ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ("text", ["inputData"]),
        ({}, ["inputData", "to"]),
        ({"to": {}}, ["inputData", "to", "street"]),
        ({"to": {"street": 5}}, ["inputData", "to", "street"]),
        ({"to": {"street": "Elm", "floors": [1, "two"]}}, ["inputData", "to", "floors", 1]),
    ],
)
async def test_input_is_checked_by_the_declared_schema(
    letters: Runtime, user: Principal, body: Any, path: list[str | int]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        await submit(letters, user, "letter", input=body)
    assert caught.value.path == path
    assert await number(letters, COUNT) == 0


async def test_a_long_fault_is_cut_short(letters: Runtime, user: Principal) -> None:
    with pytest.raises(InvalidInput) as caught:
        await submit(letters, user, "letter", input={"to": {"street": ["x" * 10_000]}})
    assert len(caught.value.message) < 500


async def test_what_is_not_plain_json_is_refused(letters: Runtime, user: Principal, clock: FakeClock) -> None:
    with pytest.raises(InvalidInput) as caught:
        await submit(letters, user, "letter", input={"to": {"street": clock.now()}})
    assert caught.value.path == ["inputData"]


async def test_a_new_declaration_holds_and_an_unknown_type_is_free(letters: Runtime, user: Principal) -> None:
    await submit(letters, user, "nobody-declared-it", input="anything")
    await letters.registry.declare([replace(LETTER, input_schema={"type": "string"})])
    letters.catalog.expire()
    await submit(letters, user, "letter", input="Dear John")
    with pytest.raises(InvalidInput):
        await submit(letters, user, "letter", input={"to": {"street": "Elm"}})


# -- instances --------------------------------------------------------------------------------


async def test_the_instance_of_a_task(runtime: Runtime) -> None:
    both = Principal("u", Role.USER, frozenset({"a", "b"}))
    anywhere = Principal("u", Role.ADMIN, frozenset({EVERY_INSTANCE}))
    alone = Principal("u", Role.USER, frozenset({"a"}))
    assert (await submit(runtime, both, instance_id="b")).instance_id == "b"
    assert (await submit(runtime, anywhere)).instance_id == "default"
    assert (await submit(runtime, anywhere, instance_id="c")).instance_id == "c"
    assert (await submit(runtime, alone)).instance_id == "a"
    for principal, wanted in ((both, None), (alone, "b"), (replace(alone, instances=frozenset()), None)):
        with pytest.raises(Forbidden) as caught:
            await submit(runtime, principal, instance_id=wanted)
        assert caught.value.path == ["instanceId"]
    assert {row.id for row in await rows(runtime, "SELECT id FROM instances")} == {"a", "b", "c", "default"}


# -- repeats ----------------------------------------------------------------------------------


async def test_a_hundred_concurrent_repeats_are_one_task(runtime: Runtime, user: Principal) -> None:
    made = await asyncio.gather(
        *(submit(runtime, user, input={"b": 1, "a": 2}, idempotency_key="same") for _ in range(100))
    )
    assert len({task.id for task in made}) == 1
    assert await number(runtime, COUNT) == 1
    assert await number(runtime, "SELECT count(*) FROM events") == 1
    assert len(await runtime.claims.claim("w1", Want(limit=100))) == 1


async def test_a_repeat_gives_the_task_as_it_stands(runtime: Runtime, user: Principal) -> None:
    first = await submit(runtime, user, input={"b": 1, "a": 2}, idempotency_key="same")
    await runtime.tasks.cancel(user, first.id)
    again = await submit(runtime, user, input={"a": 2, "b": 1}, idempotency_key="same")
    assert (again.id, again.status) == (first.id, TaskStatus.CANCELLED)


@pytest.mark.parametrize(
    "other",
    [
        {"input": {"a": 2}},
        {"task_type": "delay"},
        {"priority": 9},
        {"queue": "other"},
        {"agent_id": "x"},
        {"max_retries": 9},
        {"timeout": timedelta(seconds=9)},
        {"scheduled_for": datetime(2100, 1, 1, tzinfo=UTC)},
        {"estimated_cost": 1.0},
        {"id": "chosen"},
    ],
)
async def test_a_used_key_with_another_body_is_a_conflict(
    runtime: Runtime, user: Principal, other: dict[str, Any]
) -> None:
    await runtime.tasks.create(user, new(input={"a": 1}, idempotency_key="same"))
    with pytest.raises(IdempotencyConflict) as caught:
        await runtime.tasks.create(user, new(**({"input": {"a": 1}, "idempotency_key": "same"} | other)))
    assert caught.value.code == "IDEMPOTENCY_CONFLICT"
    assert caught.value.path == ["idempotencyKey"]
    assert await number(runtime, COUNT) == 1


async def test_a_key_of_another_instance_is_another_key(
    runtime: Runtime, user: Principal, stranger: Principal
) -> None:
    mine = await submit(runtime, user, input=1, idempotency_key="same")
    theirs = await submit(runtime, stranger, input=2, idempotency_key="same")
    assert mine.id != theirs.id
    assert await number(runtime, COUNT) == 2


async def test_a_chosen_id_may_be_repeated_but_not_reused(runtime: Runtime, user: Principal) -> None:
    first = await submit(runtime, user, id="mine", input=1)
    assert await submit(runtime, user, id="mine", input=1) == await stored(runtime, first.id)
    with pytest.raises(IdTaken) as caught:
        await submit(runtime, user, id="mine", input=2)
    assert (caught.value.code, caught.value.path) == ("ID_TAKEN", ["id"])


async def test_a_foreign_id_tells_nothing_but_that_it_is_taken(
    runtime: Runtime, user: Principal, stranger: Principal
) -> None:
    await submit(runtime, user, id="theirs", input={"secret": "canary"}, idempotency_key="k")
    refusals = []
    for body in ({"secret": "canary"}, {"other": "guess"}):
        with pytest.raises(IdTaken) as caught:
            await submit(runtime, stranger, id="theirs", input=body, idempotency_key="k")
        refusals.append(caught.value)
    assert refusals[0].message == refusals[1].message, "a right guess of the body is not told from a wrong one"
    assert "canary" not in refusals[0].message
    assert (await stored(runtime, "theirs")).owner == "user-1"


async def test_an_id_of_one_task_with_the_key_of_another_is_a_conflict(runtime: Runtime, user: Principal) -> None:
    await submit(runtime, user, id="first", input=1)
    await submit(runtime, user, id="second", input=2, idempotency_key="k")
    with pytest.raises(IdempotencyConflict):
        await submit(runtime, user, id="first", input=1, idempotency_key="k")


# -- agents -----------------------------------------------------------------------------------


async def test_an_agent_is_registered_at_its_first_task(
    runtime: Runtime, user: Principal, admin: Principal, stranger: Principal
) -> None:
    for principal in (user, admin, stranger):
        await submit(runtime, principal, agent_id="helper")
    known = await rows(runtime, "SELECT instance_id, id, type, owner, status FROM agents ORDER BY instance_id")
    assert known == [
        ("default", "helper", "generic", "user-1", "AVAILABLE"),
        ("elsewhere", "helper", "generic", "user-2", "AVAILABLE"),
    ]


async def test_agents_registered_at_once_by_many(runtime: Runtime, user: Principal) -> None:
    made = await asyncio.gather(*(submit(runtime, user, agent_id="helper") for _ in range(20)))
    assert {task.agent for task in made} == {AgentSummary("helper", "helper", "generic")}
    assert await number(runtime, "SELECT count(*) FROM agents") == 1


async def test_strict_agents_refuse_what_is_not_known(data_folder: Path, clock: FakeClock, user: Principal) -> None:
    async with opened(data_folder, clock, strict_agents=True) as runtime:
        with pytest.raises(InvalidInput) as caught:
            await submit(runtime, user, agent_id="nobody")
        assert caught.value.path == ["agentId"]
        await runtime.registry.add_agent("default", "known", "admin-1")
        batch = [new(agent_id="nobody"), new(agent_id="known"), new()]
        atomic = await runtime.tasks.create_batch(user, batch, BatchMode.ATOMIC)
        assert (atomic.tasks, atomic.failed, list(atomic.errors)) == ([], 3, [0])
        assert await number(runtime, COUNT) == 0
        partial = await runtime.tasks.create_batch(user, batch, BatchMode.PARTIAL)
        assert [task.agent_id for task in partial.tasks] == ["known", None]
        assert await rows(runtime, "SELECT id FROM agents") == [("known",)]


# -- scheduled --------------------------------------------------------------------------------


async def test_a_scheduled_task_is_never_claimed_before_its_time(
    runtime: Runtime, user: Principal, clock: FakeClock
) -> None:
    made = await submit(runtime, user, scheduled_for=clock.now() + timedelta(seconds=60), priority=10)
    assert (made.status, made.queue_seq, made.queued_at) == (TaskStatus.SCHEDULED, None, None)
    for passed in (0, 59.999):
        clock.advance(passed)
        assert await runtime.maintenance.promote_due() == 0
        assert await runtime.claims.claim("w1", Want(limit=10)) == []
        assert await runtime.claims.dequeue(user, Want(limit=10, agent_id=None)) == []
        assert await runtime.claims.peek(user, Want(limit=10)) == []
    clock.advance(0.001)
    assert await runtime.claims.claim("w1", Want(limit=10)) == [], "only promotion makes it ready"
    assert await runtime.maintenance.promote_due() == 1
    assert await runtime.maintenance.promote_due() == 0
    task, _ = await claim(runtime)
    assert (task.id, task.generation, task.run_at) == (made.id, 1, None)
    assert task.scheduled_for == made.scheduled_for


async def test_a_time_that_is_past_means_now(runtime: Runtime, user: Principal, clock: FakeClock) -> None:
    made = await submit(runtime, user, scheduled_for=clock.now())
    assert (made.status, made.run_at, made.scheduled_for) == (TaskStatus.QUEUED, None, clock.now())
