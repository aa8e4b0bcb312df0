"""Rows and events as tests need them, with everything that is not to the point filled in."""

from typing import Any

from tests.support.clock import FakeClock

from taskyard.lifecycle import TaskStatus
from taskyard.store.writes import NOW, Insert
from taskyard.task import STATE_FIELDS, Event, EventKind


def an_insert(
    task_id: str, *, actor: str = "user-1", status: TaskStatus = TaskStatus.QUEUED, **values: Any
) -> Insert:
    """The insert of a task that is ready, or in `status`; `values` by column."""
    queued = status is TaskStatus.QUEUED
    row = {
        "id": task_id,
        "instance_id": "default",
        "owner": actor,
        "task_type": "echo",
        "queue": "default",
        "priority": 5,
        "status": status,
        "version": 1,
        "input": {},
        "idempotency_key": None,
        "request_hash": "",
        "attempt": 0,
        "retry_count": 0,
        "max_retries": 3,
        "lost_count": 0,
        "generation": int(queued),
        "queued_at": NOW if queued else None,
        "progress": 0.0,
        "created_at": NOW,
        "updated_at": NOW,
    }
    return Insert(actor=actor, values=row | values)


def an_event(seq: int, task_id: str = "task-1", *, kind: EventKind = EventKind.STATUS, **state: Any) -> Event:
    """An event of a queued task; `state` by field."""
    return Event(
        seq=seq,
        task_id=task_id,
        instance_id="default",
        version=seq,
        attempt=0,
        kind=kind,
        actor="user-1",
        at=FakeClock().now(),
        state=dict.fromkeys(STATE_FIELDS) | {"status": "QUEUED", "attempt": 0} | state,
    )
