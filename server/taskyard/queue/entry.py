"""What a queue holds: ids with what orders them, never payloads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict

from taskyard.clock import from_millis
from taskyard.principal import EVERYTHING, Scope
from taskyard.task import MIN_PRIORITY, Event, Ready, Task


@dataclass(frozen=True, slots=True)
class Entry:
    """A ready task in its line. It is stale once the task has another generation."""

    task_id: str
    generation: int
    instance_id: str
    queue: str
    task_type: str
    priority: int
    seq: int
    queued_at: datetime

    @staticmethod
    def of_task(task: Task | Ready) -> "Entry":
        """The entry of a task that is QUEUED."""
        assert task.queue_seq is not None
        assert task.queued_at is not None
        return Entry(
            task_id=task.id,
            generation=task.generation,
            instance_id=task.instance_id,
            queue=task.queue,
            task_type=task.task_type,
            priority=task.priority,
            seq=task.queue_seq,
            queued_at=task.queued_at,
        )

    @staticmethod
    def of(event: Event) -> "Entry":
        """The entry that a change to QUEUED makes."""
        state = event.state
        return Entry(
            task_id=event.task_id,
            generation=state["generation"],
            instance_id=event.instance_id,
            queue=state["queue"],
            task_type=state["task_type"],
            priority=state["priority"],
            seq=state["queue_seq"],
            queued_at=from_millis(state["queued_at"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """What a claimer takes: the best entries among those that fit."""

    limit: int
    #: None: of every queue.
    queues: Sequence[str] | None = None
    #: None: of every type.
    task_types: Sequence[str] | None = None
    min_priority: int = MIN_PRIORITY
    scope: Scope = EVERYTHING
    agent_id: str | None = None
    #: Type of the agent that a task is for.
    agent_type: str | None = None
    instance_id: str | None = None
    #: From the table, whatever an index may have missed.
    exact: bool = False

    @property
    def by_table(self) -> bool:
        """Whether no index can answer it: none knows agents."""
        return self.exact or self.agent_id is not None or self.agent_type is not None


def check_filters(filters: Mapping[str, object]) -> None:
    """Raises `TypeError` for a filter that there is not, and for a text where a list is meant."""
    for name, value in filters.items():
        if name not in Filters.__annotations__:
            raise TypeError(f"there is no filter {name!r}")
        if isinstance(value, str) and name in ("queues", "task_types"):
            raise TypeError(f"the filter {name!r} takes a list")


class Filters(TypedDict, total=False):
    """The part of a `Want` that says which tasks fit, as keyword arguments."""

    queues: Sequence[str] | None
    task_types: Sequence[str] | None
    min_priority: int
    agent_id: str | None
    agent_type: str | None
