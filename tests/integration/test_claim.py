"""What a claimer is given is the task as it stands, however it was fetched."""

import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.support.core import claim, opened, stored, submit

from taskyard.errors import Unavailable
from taskyard.lifecycle import TaskStatus
from taskyard.principal import Principal
from taskyard.queue.entry import Want
from taskyard.runtime import Runtime
from taskyard.store.tasks import TaskReader
from taskyard.store.writes import Change, move
from taskyard.task import AgentSummary, Event

INPUTS = [
    0,
    {},
    {"nothing": None, "deep": [{"nothing": None}], "text": '\u2028 ü \\ "', "whole": 50, "part": 0.1, "large": 2**53},
    "x" * 10_000,
    {"large": secrets.token_hex(5000)},
]


@pytest.fixture
async def postgres(database_url: str) -> AsyncIterator[Runtime]:
    async with opened(database_url) as runtime:
        yield runtime


def whole(task_id: str) -> Change:
    """A claim that asks for the whole task."""
    return move(task_id, TaskStatus.PROCESSING, actor="worker:w1", raised=frozenset({"attempt"}), whole=True)


@pytest.mark.parametrize("value", INPUTS, ids=["zero", "empty", "nulls", "packs well", "large"])
async def test_a_claimed_task_is_the_one_that_is_stored(runtime: Runtime, user: Principal, value: Any) -> None:
    task = await submit(runtime, user, input=value)
    claimed, _ = await claim(runtime)
    assert claimed == await stored(runtime, task.id)
    assert claimed.payload is not None
    assert claimed.payload.input == value


async def test_only_what_is_small_comes_with_the_claim(postgres: Runtime, user: Principal) -> None:
    """What packs well is small in its table, and large on its way."""
    values = ["small", "x" * 10_000, secrets.token_hex(5000)]
    tasks = [await submit(postgres, user, input=value) for value in values]
    events = await postgres.database.writer.write_many([whole(task.id) for task in tasks])
    assert [event and event.rest and event.rest["input"] for event in events] == ["small", None, None]


async def test_nobody_but_the_claimer_is_given_the_input(postgres: Runtime, user: Principal) -> None:
    told: list[Event] = []
    await submit(postgres, user, input="small")
    stop = postgres.bus.listen(told.extend)
    await claim(postgres)
    stop()
    assert [(event.status, event.rest) for event in told] == [(TaskStatus.PROCESSING, None)]


async def test_what_came_with_its_claim_is_run_although_the_rest_cannot_be_read(
    postgres: Runtime, user: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [await submit(postgres, user, input=value) for value in ("small", secrets.token_hex(5000), "small")]

    async def get_many(*_arguments: Any, **_options: Any) -> Any:
        raise Unavailable("the database does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(TaskReader, "get_many", get_many)
        claimed = await postgres.claims.claim("w1", Want(limit=3))
    assert [task.id for task in claimed] == [tasks[0].id, tasks[2].id]
    large = await stored(postgres, tasks[1].id)
    assert (large.status, large.lost_count, large.retry_count) == (TaskStatus.QUEUED, 0, 0)


async def test_a_claimed_task_has_every_field_that_was_given(
    runtime: Runtime, user: Principal, admin: Principal, agent: Principal
) -> None:
    await runtime.tasks.register_agent(admin, AgentSummary("ed", "Ed", "editor"))
    task = await submit(
        runtime,
        user,
        agent_id="ed",
        priority=7,
        idempotency_key="once",
        max_retries=5,
        timeout=timedelta(seconds=7.5),
        estimated_cost=0.25,
        scheduled_for=datetime(2020, 1, 1, tzinfo=UTC),
    )
    (claimed,) = await runtime.claims.dequeue(agent, Want(limit=1))
    assert claimed == await stored(runtime, task.id)
    assert (claimed.agent, claimed.timeout_ms, claimed.estimated_cost) == (
        AgentSummary("ed", "Ed", "editor"),
        7500,
        0.25,
    )


async def test_one_that_was_tried_before_keeps_what_was_said_of_it(runtime: Runtime, user: Principal) -> None:
    task = await submit(runtime, user)
    first, run = await claim(runtime)
    await runtime.claims.progress(run, 12.5, "half way")
    await runtime.claims.fail(run, first, "NO", "it did not work", retry=False)
    await runtime.tasks.retry(user, task.id)
    again, _ = await claim(runtime)
    assert again == await stored(runtime, task.id)
    assert again.attempt == 2
