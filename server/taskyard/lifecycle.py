"""The lifecycle of a task: one table. No status is written past it (docs/lifecycle.md has the diagram)."""

from collections.abc import Mapping
from enum import StrEnum

from taskyard.errors import IllegalTransition


class TaskStatus(StrEnum):
    """Where a task is in its life."""

    SUBMITTED = "SUBMITTED"
    SCHEDULED = "SCHEDULED"
    QUEUED = "QUEUED"
    ASSIGNED = "ASSIGNED"
    PLANNING = "PLANNING"
    PROCESSING = "PROCESSING"
    REVIEW = "REVIEW"
    RETRYING = "RETRYING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"


_S = TaskStatus

TRANSITIONS: Mapping[TaskStatus, frozenset[TaskStatus]] = {
    _S.SUBMITTED: frozenset({_S.QUEUED, _S.SCHEDULED, _S.CANCELLED, _S.FAILED}),
    _S.SCHEDULED: frozenset({_S.QUEUED, _S.CANCELLED, _S.FAILED}),
    _S.QUEUED: frozenset({_S.ASSIGNED, _S.PLANNING, _S.PROCESSING, _S.CANCELLED, _S.FAILED}),
    _S.ASSIGNED: frozenset({_S.PLANNING, _S.PROCESSING, _S.QUEUED, _S.CANCELLED, _S.FAILED}),
    _S.PLANNING: frozenset({_S.ASSIGNED, _S.PROCESSING, _S.REVIEW, _S.QUEUED, _S.RETRYING, _S.FAILED, _S.CANCELLED}),
    _S.PROCESSING: frozenset({_S.REVIEW, _S.COMPLETED, _S.QUEUED, _S.RETRYING, _S.FAILED, _S.CANCELLED}),
    _S.REVIEW: frozenset({_S.COMPLETED, _S.QUEUED, _S.REJECTED, _S.CANCELLED, _S.FAILED}),
    _S.RETRYING: frozenset({_S.QUEUED, _S.CANCELLED, _S.FAILED}),
    _S.FAILED: frozenset({_S.QUEUED}),
    _S.REJECTED: frozenset({_S.QUEUED}),
    _S.CANCELLED: frozenset({_S.QUEUED}),
    _S.COMPLETED: frozenset(),
}

#: Somebody holds a claim on it.
HELD = frozenset({_S.ASSIGNED, _S.PLANNING, _S.PROCESSING})
#: A run is going on: what finishing, progress and logs ask for.
RUNNING = frozenset({_S.PLANNING, _S.PROCESSING})
#: An end; only an explicit retry leads out, and nothing leads out of COMPLETED.
ENDED = frozenset({_S.COMPLETED, _S.FAILED, _S.REJECTED, _S.CANCELLED})
#: Ends that an explicit retry may leave, and a back-off that it may cut short.
RETRYABLE = frozenset({_S.FAILED, _S.REJECTED, _S.CANCELLED, _S.RETRYING})

#: What the queue figures count under each name.
COUNTED_AS_QUEUED = frozenset({_S.SUBMITTED, _S.SCHEDULED, _S.QUEUED, _S.RETRYING})
COUNTED_AS_PROCESSING = frozenset({_S.ASSIGNED, _S.PLANNING, _S.PROCESSING, _S.REVIEW})
COUNTED_AS_FAILED = frozenset({_S.FAILED, _S.REJECTED})


def can_move(current: TaskStatus, wanted: TaskStatus) -> bool:
    """Whether the table has this move."""
    return wanted in TRANSITIONS[current]


def check_move(current: TaskStatus, wanted: TaskStatus) -> None:
    """Raise `IllegalTransition`, which names both states, unless the table has this move."""
    if not can_move(current, wanted):
        raise IllegalTransition(current, wanted)


def sources(wanted: TaskStatus) -> frozenset[TaskStatus]:
    """Every status that may become `wanted`."""
    return frozenset(status for status, targets in TRANSITIONS.items() if wanted in targets)
