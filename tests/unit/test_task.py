"""Priority bands, and a task as it stood after an event."""

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.support.clock import FakeClock
from tests.support.tasks import an_event

from taskyard.clock import to_millis
from taskyard.lifecycle import TaskStatus
from taskyard.task import STATE_FIELDS, STATE_TIMES, AgentSummary, Event, Payload, Priority, Task

NOW = FakeClock().now()
LATER = NOW + timedelta(seconds=5)
TASK = Task(
    id="task-1",
    instance_id="default",
    owner="user-1",
    agent_id="agent-1",
    task_type="echo",
    queue="default",
    priority=5,
    status=TaskStatus.PROCESSING,
    version=4,
    attempt=1,
    retry_count=0,
    max_retries=3,
    lost_count=0,
    generation=1,
    queue_seq=7,
    queued_at=NOW,
    holder="w1",
    lease_until=LATER,
    timeout_ms=1000,
    deadline_at=LATER,
    run_at=None,
    scheduled_for=None,
    progress=40.0,
    progress_step="reading",
    error_code=None,
    error_message=None,
    estimated_cost=1.5,
    actual_cost=None,
    quality_score=None,
    processing_ms=None,
    idempotency_key="key",
    created_at=NOW,
    updated_at=NOW,
    started_at=NOW,
    completed_at=None,
    agent=AgentSummary("agent-1", "Agent", "generic"),
    payload=Payload({"text": "hi"}, None),
)


@pytest.mark.parametrize(
    ("value", "band"),
    [
        (1, Priority.LOW),
        (2, Priority.LOW),
        (3, Priority.LOW),
        (4, Priority.LOW),
        (5, Priority.NORMAL),
        (6, Priority.NORMAL),
        (7, Priority.NORMAL),
        (8, Priority.HIGH),
        (9, Priority.HIGH),
        (10, Priority.URGENT),
    ],
)
def test_the_band_of_each_number(value: int, band: Priority) -> None:
    assert Priority.band(value) is band


def event_of(task: Task, version: int, **changed: object) -> Event:
    """The event whose state is this task's, but for what changed; times as they are stored."""
    state = {name: getattr(task, name) for name in STATE_FIELDS} | changed
    for name in STATE_TIMES:
        if state[name] is not None:
            state[name] = to_millis(state[name])
    return replace(an_event(9, task.id), version=version, at=LATER, state=state)


def test_an_event_of_the_same_version_changes_nothing() -> None:
    assert TASK.as_of(event_of(TASK, 4, status="FAILED")) is TASK


def test_a_later_event_is_laid_over_the_task() -> None:
    event = event_of(TASK, 5, status="COMPLETED", progress=100.0, holder=None, deadline_at=None, completed_at=LATER)
    assert TASK.as_of(event) == replace(
        TASK,
        status=TaskStatus.COMPLETED,
        version=5,
        progress=100.0,
        holder=None,
        deadline_at=None,
        completed_at=LATER,
        updated_at=LATER,
        payload=None,
    )


def test_an_older_event_takes_the_task_back() -> None:
    """A stream tells each change in turn, though the row that was read has gone on."""
    event = event_of(TASK, 1, status="QUEUED", attempt=0, holder=None, started_at=None, progress=0.0)
    before = TASK.as_of(event)
    assert (before.status, before.version, before.attempt) == (TaskStatus.QUEUED, 1, 0)
    assert before.status is TaskStatus.QUEUED
    assert (before.holder, before.started_at, before.progress) == (None, None, 0.0)
    assert before.payload is None


def test_what_an_event_does_not_carry_stays() -> None:
    seen = TASK.as_of(event_of(TASK, 5, status="FAILED"))
    for name in ("owner", "estimated_cost", "idempotency_key", "created_at", "lease_until", "agent", "max_retries"):
        assert getattr(seen, name) == getattr(TASK, name)


def test_every_time_of_an_event_comes_back_as_a_time() -> None:
    moments = {name: NOW + timedelta(seconds=index) for index, name in enumerate(sorted(STATE_TIMES))}
    seen = TASK.as_of(event_of(TASK, 5, **moments))
    assert {name: getattr(seen, name) for name in STATE_TIMES} == moments
    assert {"queued_at", "run_at", "started_at", "deadline_at", "completed_at"} == STATE_TIMES


def test_an_event_tells_its_status() -> None:
    assert an_event(1, status="REVIEW").status is TaskStatus.REVIEW
