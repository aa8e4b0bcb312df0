"""What can be written to a task: an insert, or a compare-and-set change. Each makes exactly one event.

These are values; a `Writer` of each database turns them into statements.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeAlias, TypeVar

from sqlalchemy import Connection

from taskyard.lifecycle import TaskStatus, sources
from taskyard.task import Event, EventKind, Json, StepStatus

T = TypeVar("T")

#: Is told, in the order of `seq`, what has been committed, before the callers are answered.
Committed: TypeAlias = Callable[[Sequence[Event]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class After:
    """A time on the database's clock: now plus `delay`."""

    delay: timedelta = timedelta()


NOW = After()


@dataclass(frozen=True, slots=True)
class DeadlineAfter:
    """Now plus the task's own time-out, or `default` where the task has none."""

    default: timedelta


@dataclass(frozen=True, slots=True)
class StepWrite:
    """Create the step of that name, or change it."""

    name: str
    status: StepStatus
    output: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Insert:
    """A new task: `values` by column. Not written if its id or idempotency key is there already."""

    values: Mapping[str, Any]
    actor: str
    detail: Mapping[str, Any] | None = None

    @property
    def task_id(self) -> str:
        return str(self.values["id"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change of one task, written only if the task still is as its writer believes.

    `statuses` are those from which it is allowed. `attempt`, `generation`, `version` and `instance_id`, where
    given, must match too, and with `lease_before` the lease must have run out before then. `values` are set by
    column, the columns in `raised` rise by one. `whole` asks for the event's `rest`, which a writer gives if it
    costs nothing more.
    """

    task_id: str
    kind: EventKind
    actor: str
    statuses: frozenset[TaskStatus]
    values: Mapping[str, Any] = field(default_factory=dict)
    raised: frozenset[str] = frozenset()
    attempt: int | None = None
    generation: int | None = None
    version: int | None = None
    lease_before: datetime | None = None
    instance_id: str | None = None
    detail: Mapping[str, Any] | None = None
    step: StepWrite | None = None
    whole: bool = False


Write: TypeAlias = Insert | Change


def move(
    task_id: str,
    to: TaskStatus,
    *,
    actor: str,
    statuses: frozenset[TaskStatus] | None = None,
    values: Mapping[str, Any] | None = None,
    raised: frozenset[str] = frozenset(),
    attempt: int | None = None,
    generation: int | None = None,
    version: int | None = None,
    lease_before: datetime | None = None,
    instance_id: str | None = None,
    detail: Mapping[str, Any] | None = None,
    whole: bool = False,
) -> Change:
    """A change of status: the only way to write one.

    It is allowed from the statuses that the lifecycle gives, or from those of them in `statuses`.
    """
    allowed = sources(to)
    if statuses is not None and not statuses <= allowed:
        raise ValueError(f"the lifecycle has no way from {sorted(statuses - allowed)} to {to}")
    entering = to is TaskStatus.QUEUED
    held = to in (TaskStatus.ASSIGNED, TaskStatus.PLANNING, TaskStatus.PROCESSING)
    base: dict[str, Any] = {"status": to}
    if not held:
        base |= {"holder": None, "lease_until": None, "deadline_at": None}
    if entering:
        base |= {"queued_at": NOW, "run_at": None}
    return Change(
        task_id=task_id,
        kind=EventKind.STATUS,
        actor=actor,
        statuses=allowed if statuses is None else statuses,
        values=base | dict(values or {}),
        raised=raised | {"generation"} if entering else raised,
        attempt=attempt,
        generation=generation,
        version=version,
        lease_before=lease_before,
        instance_id=instance_id,
        detail=detail,
        whole=whole,
    )


class NotAllTaken(Exception):
    """A write of an atomic set was not allowed: undoes the transaction."""

    def __init__(self, results: list[Event | None]) -> None:
        super().__init__()
        self.results = results


class Writer(Protocol):
    """Writes to one database. Every method answers after the commit.

    Two implementations: SQLite and PostgreSQL. What was committed is handed, in the order of
    `seq`, to the function given as `committed` before the callers are answered.
    """

    async def write(self, item: Write) -> Event | None:
        """The event of this write, or None if it was not allowed; shares a transaction with others."""
        ...

    async def write_many(self, items: Sequence[Write]) -> list[Event | None]:
        """Each by itself, as `write`, together in as few transactions as may be."""
        ...

    async def write_atomic(self, items: Sequence[Write]) -> list[Event | None]:
        """All or none, in one transaction of their own: with a None among the results, none was written."""
        ...

    async def run(self, job: Callable[[Connection], T]) -> T:
        """Run `job` in a transaction of its own: for what is off the hot path and makes no event."""
        ...

    async def close(self) -> None: ...
