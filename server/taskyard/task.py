"""The task and what goes with it: plain values, no I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple, TypeAlias

from taskyard.clock import from_millis
from taskyard.lifecycle import TaskStatus

Json: TypeAlias = Any

DEFAULT_QUEUE = "default"
#: What the actor of a worker's writes begins with; its id follows.
WORKER_ACTOR = "worker:"
MIN_PRIORITY, MAX_PRIORITY = 1, 10
MIN_TIMEOUT, MAX_TIMEOUT = timedelta(milliseconds=1), timedelta(days=7)
MAX_RETRIES = 100


class Priority(IntEnum):
    """Named bands on the scale of 1 to 10."""

    LOW = 2
    NORMAL = 5
    HIGH = 8
    URGENT = 10

    @staticmethod
    def band(value: int) -> "Priority":
        """The band shown for a number: the nearest one at or below it (1 shows as LOW)."""
        return max((band for band in Priority if band <= value), default=Priority.LOW)


class EventKind(StrEnum):
    """What an event tells."""

    STATUS = "STATUS"
    PRIORITY = "PRIORITY"
    PROGRESS = "PROGRESS"
    STEP = "STEP"
    LOG = "LOG"


class StepStatus(StrEnum):
    """How far a step of a plan is."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"


class LogLevel(StrEnum):
    """How grave a log line of a task is."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class WaitingReason(StrEnum):
    """Why a task that has not ended is not being worked on."""

    NO_WORKER_FOR_TYPE = "NO_WORKER_FOR_TYPE"
    PAUSED = "PAUSED"
    SCHEDULED = "SCHEDULED"
    BACKOFF = "BACKOFF"
    CONCURRENCY_LIMIT = "CONCURRENCY_LIMIT"
    AGENT_OFFLINE = "AGENT_OFFLINE"
    DEPENDENCIES = "DEPENDENCIES"


class ErrorCode(StrEnum):
    """Codes that Taskyard itself writes on a failed task; a processor may use its own."""

    TIMEOUT = "TIMEOUT"
    PROCESSOR_ERROR = "PROCESSOR_ERROR"
    INVALID_INPUT = "INVALID_INPUT"
    INVALID_OUTPUT = "INVALID_OUTPUT"
    FAILED_BY_CALLER = "FAILED_BY_CALLER"
    #: The process that ran it alone ended without a result.
    PROCESS_DIED = "PROCESS_DIED"
    #: Its claim was lost again and again, and then a process that ran it alone died too.
    POISON = "POISON"


@dataclass(frozen=True, slots=True)
class Payload:
    """The large parts of a task, read only where they are asked for."""

    input: Json
    output: Json


@dataclass(frozen=True, slots=True)
class AgentSummary:
    """The part of an agent that travels with its tasks."""

    id: str
    name: str
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One piece of work. The columns of schema.prisma, which says what each means."""

    id: str
    instance_id: str
    owner: str
    agent_id: str | None
    task_type: str
    queue: str
    priority: int
    status: TaskStatus
    version: int
    attempt: int
    retry_count: int
    max_retries: int
    lost_count: int
    generation: int
    queue_seq: int | None
    queued_at: datetime | None
    holder: str | None
    lease_until: datetime | None
    timeout_ms: int | None
    deadline_at: datetime | None
    run_at: datetime | None
    scheduled_for: datetime | None
    progress: float
    progress_step: str | None
    error_code: str | None
    error_message: str | None
    estimated_cost: float | None
    actual_cost: float | None
    quality_score: float | None
    processing_ms: int | None
    idempotency_key: str | None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    agent: AgentSummary | None = None
    payload: Payload | None = None

    def as_of(self, event: "Event") -> "Task":
        """This task as it stood right after `event`, which may be older than the row that was read."""
        if event.version == self.version:
            return self
        # The large parts are read anew where they are asked for: an output may have come or gone.
        return replace(self, **_fields(event.state), version=event.version, updated_at=event.at, payload=None)

    @classmethod
    def claimed(cls, event: "Event") -> "Task":
        """The task as it stood right after this claim, which has its `rest`."""
        assert event.rest is not None
        values = _fields({**event.state, **event.rest})
        agent, payload = values.pop("agent"), Payload(values.pop("input"), None)
        return cls(
            id=event.task_id,
            instance_id=event.instance_id,
            version=event.version,
            updated_at=event.at,
            agent=None if agent is None else AgentSummary(**agent),
            payload=payload,
            **values,
        )


def _fields(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a task, whose times are milliseconds since 1970."""
    fields = {
        name: from_millis(value) if name in TIMES and value is not None else value for name, value in plain.items()
    }
    return fields | {"status": TaskStatus(plain["status"])}


class Ready(NamedTuple):
    """A task that is QUEUED, as its line knows it."""

    id: str
    generation: int
    instance_id: str
    queue: str
    task_type: str
    priority: int
    queue_seq: int
    queued_at: datetime


#: The fields of a task that an event carries, as they stood after it.
STATE_FIELDS = (
    "status",
    "queue",
    "task_type",
    "agent_id",
    "priority",
    "attempt",
    "retry_count",
    "lost_count",
    "generation",
    "queue_seq",
    "queued_at",
    "run_at",
    "holder",
    "started_at",
    "deadline_at",
    "completed_at",
    "progress",
    "progress_step",
    "error_code",
    "error_message",
    "actual_cost",
    "quality_score",
    "processing_ms",
)
STATE_TIMES = frozenset(name for name in STATE_FIELDS if name.endswith("_at"))
#: The other fields of a task, but for its id, instance, version and time of change, which each event has.
REST_FIELDS = (
    "owner",
    "max_retries",
    "lease_until",
    "timeout_ms",
    "scheduled_for",
    "estimated_cost",
    "idempotency_key",
    "created_at",
)
TIMES = STATE_TIMES | {"lease_until", "scheduled_for", "created_at"}


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a task. `seq` orders all events of a deployment without gaps."""

    seq: int
    task_id: str
    instance_id: str
    version: int
    attempt: int
    kind: EventKind
    actor: str
    at: datetime
    #: `STATE_FIELDS` after the change, times in milliseconds since 1970.
    state: Mapping[str, Any]
    detail: Mapping[str, Any] | None = None
    #: Of a claim, for its claimer alone: `REST_FIELDS` after it, `input` and `agent`. It is neither stored nor sent.
    rest: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)

    @property
    def status(self) -> TaskStatus:
        return TaskStatus(self.state["status"])


@dataclass(frozen=True, slots=True)
class Step:
    """One entry of a task's execution plan."""

    task_id: str
    name: str
    position: int
    attempt: int
    status: StepStatus
    output: Json
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """What a caller submits."""

    task_type: str
    input: Json
    id: str | None = None
    instance_id: str | None = None
    agent_id: str | None = None
    queue: str = DEFAULT_QUEUE
    #: 1 to 10; `Priority` names some of them.
    priority: int = Priority.NORMAL
    idempotency_key: str | None = None
    max_retries: int | None = None
    timeout: timedelta | None = None
    scheduled_for: datetime | None = None
    estimated_cost: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What a finished run says of itself; all optional."""

    actual_cost: float | None = None
    #: 0 to 1.
    quality_score: float | None = None
    processing_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskTypeSpec:
    """A type of task as a worker declares it."""

    name: str
    description: str = ""
    input_schema: Mapping[str, Any] = field(default_factory=dict)
    output_schema: Mapping[str, Any] | None = None
    timeout: timedelta | None = None
    max_retries: int | None = None
    capabilities: Sequence[str] = ()
