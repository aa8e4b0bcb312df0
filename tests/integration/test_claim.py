"""What a claimer is given is the task as it stands, however it was fetched."""

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.support.core import claim, stored, submit

from taskyard.principal import Principal
from taskyard.queue.entry import Want
from taskyard.runtime import Runtime
from taskyard.task import AgentSummary

INPUTS = [
    0,
    {},
    {"nothing": None, "deep": [{"nothing": None}], "text": '\u2028 ü \\ "', "whole": 50, "part": 0.1, "large": 2**53},
    "x" * 10_000,
    {"large": secrets.token_hex(5000)},
]


@pytest.mark.parametrize("value", INPUTS, ids=["zero", "empty", "nulls", "packs well", "large"])
async def test_a_claimed_task_is_the_one_that_is_stored(runtime: Runtime, user: Principal, value: Any) -> None:
    task = await submit(runtime, user, input=value)
    claimed, _ = await claim(runtime)
    assert claimed == await stored(runtime, task.id)
    assert claimed.payload is not None
    assert claimed.payload.input == value


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
