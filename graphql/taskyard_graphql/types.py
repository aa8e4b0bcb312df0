"""Output types. Resolvers return the core's own values; a field here names the attribute that it shows."""

from datetime import datetime

import strawberry
from strawberry import Parent
from strawberry.scalars import JSON

from taskyard.lifecycle import TaskStatus
from taskyard.service.figures import QueueStatus, Statistics
from taskyard.service.health import QueueHealth
from taskyard.store.registry import Worker
from taskyard.task import (
    Event,
    EventKind,
    Priority,
    StepStatus,
    Task,
    TaskTypeSpec,
    WaitingReason,
)
from taskyard_graphql import enums as _enums  # noqa: F401 - registered before they are used
from taskyard_graphql.context import Info


@strawberry.type(description="Who does the work.")
class AIAgent:
    id: strawberry.ID
    name: str
    type: str


@strawberry.type(description="One entry of a task's execution plan.")
class TaskStep:
    name: str
    position: int
    attempt: int
    status: StepStatus
    output: JSON | None
    started_at: datetime | None
    finished_at: datetime | None


@strawberry.type(description="One thing that happened to a task: the audit trail.")
class TaskEvent:
    version: int = strawberry.field(description="The task's version after it.")
    kind: EventKind
    status: TaskStatus = strawberry.field(description="The task's status after it.")
    attempt: int
    actor: str = strawberry.field(description="Subject of the token, or the part of Taskyard, that did it.")
    at: datetime

    @strawberry.field(description="What only this kind of event tells.")
    def detail(root: Parent[Event]) -> JSON | None:
        return None if root.detail is None else JSON(root.detail)


@strawberry.type(description="One piece of work.")
class AITask:
    id: strawberry.ID
    instance_id: strawberry.ID
    owner: str = strawberry.field(description="Subject of the token that submitted it.")
    task_type: str
    status: TaskStatus
    queue: str
    attempt: int = strawberry.field(description="Number of the newest run; it fences that run's writes.")
    retry_count: int
    max_retries: int
    lost_count: int = strawberry.field(description="Claims that ran out without an end.")
    version: int = strawberry.field(description="Rises by one at each change.")
    holder: str | None = strawberry.field(description="Worker or subject that holds the claim.")
    timeout_ms: int | None
    run_at: datetime | None = strawberry.field(description="When a task that waits for its time is due.")
    scheduled_for: datetime | None
    estimated_cost: float | None
    actual_cost: float | None
    quality_score: float | None
    error_code: str | None
    error_message: str | None
    idempotency_key: str | None
    created_at: datetime
    updated_at: datetime
    queued_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None = strawberry.field(description="When it reached an end of whatever kind.")
    agent: AIAgent | None

    @strawberry.field(description="The band of its priority.")
    def priority(root: Parent[Task]) -> Priority:
        return Priority.band(root.priority)

    @strawberry.field(description="Its priority as a number, 1 to 10.")
    def priority_value(root: Parent[Task]) -> int:
        return root.priority

    @strawberry.field(description="How far the run is, 0 to 100.")
    def progress_percentage(root: Parent[Task]) -> float:
        return root.progress

    @strawberry.field(description="What the run is doing.")
    def current_step(root: Parent[Task]) -> str | None:
        return root.progress_step

    @strawberry.field(description="Length of the last run in milliseconds.")
    def processing_time_ms(root: Parent[Task]) -> int | None:
        return root.processing_ms

    @strawberry.field
    async def input_data(root: Parent[Task], info: Info) -> JSON | None:
        payload = root.payload or await info.context.payload(root.id)
        return None if payload is None else JSON(payload.input)

    @strawberry.field
    async def output_data(root: Parent[Task], info: Info) -> JSON | None:
        if root.status not in (TaskStatus.COMPLETED, TaskStatus.REVIEW, TaskStatus.REJECTED):
            return None
        payload = root.payload or await info.context.payload(root.id)
        return None if payload is None else JSON(payload.output)

    @strawberry.field(description="Why it is not being worked on, if anything holds it up.")
    async def waiting_reason(root: Parent[Task], info: Info) -> WaitingReason | None:
        return await info.context.runtime.catalog.waiting_reason(root)

    @strawberry.field(description="Its execution plan, in order.")
    async def steps(root: Parent[Task], info: Info) -> list[TaskStep]:
        return list(await info.context.steps(root.id))  # type: ignore[arg-type]  # shown as TaskStep

    @strawberry.field(description="What happened to it, oldest first, after a version.")
    async def events(root: Parent[Task], info: Info, after_version: int = 0, limit: int = 100) -> list[TaskEvent]:
        return list(await info.context.events(root.id, after_version, limit))  # type: ignore[arg-type]  # shown as TaskEvent


@strawberry.type
class TaskQueueStatus:
    total_tasks: int
    queued_tasks: int
    processing_tasks: int
    completed_tasks: int
    failed_tasks: int
    cancelled_tasks: int

    @strawberry.field(description="Milliseconds from entering the queue to the start, over the last hour's ends.")
    def average_wait_time(root: Parent[QueueStatus]) -> float:
        return root.average_wait_ms

    @strawberry.field(description="Milliseconds from the start to the end, over the last hour's ends.")
    def average_processing_time(root: Parent[QueueStatus]) -> float:
        return root.average_processing_ms

    @strawberry.field
    def queue_health(root: Parent[QueueStatus]) -> QueueHealth:
        return root.health


@strawberry.type
class TaskStatistics:
    total_tasks: int
    completed_tasks: int
    failed_tasks: int
    cancelled_tasks: int
    success_rate: float | None = strawberry.field(
        description="Completed among completed and failed, 0 to 1; null before anything ended."
    )
    total_cost: float

    @strawberry.field(description="Milliseconds.")
    def average_wait_time(root: Parent[Statistics]) -> float | None:
        return root.average_wait_ms

    @strawberry.field(description="Milliseconds.")
    def average_processing_time(root: Parent[Statistics]) -> float | None:
        return root.average_processing_ms

    @strawberry.field(description="0 to 1.")
    def average_quality_score(root: Parent[Statistics]) -> float | None:
        return root.average_quality


@strawberry.type(description="A type of task as a worker declared it.")
class TaskType:
    name: str
    description: str
    max_retries: int | None

    @strawberry.field(description="JSON Schema of the input; an input that breaks it is refused.")
    def input_schema(root: Parent[TaskTypeSpec]) -> JSON:
        return JSON(root.input_schema)

    @strawberry.field(description="JSON Schema of the output.")
    def output_schema(root: Parent[TaskTypeSpec]) -> JSON | None:
        return None if root.output_schema is None else JSON(root.output_schema)

    @strawberry.field
    def timeout_ms(root: Parent[TaskTypeSpec]) -> float | None:
        return None if root.timeout is None else root.timeout.total_seconds() * 1000

    @strawberry.field
    def capabilities(root: Parent[TaskTypeSpec]) -> list[str]:
        return list(root.capabilities)


@strawberry.type(name="Worker", description="A process that runs tasks, as it last told of itself.")
class WorkerType:
    id: strawberry.ID
    host: str
    pid: int
    status: str
    concurrency: int
    running: int
    started_at: datetime
    heartbeat_at: datetime

    @strawberry.field(description="Queues it serves; null: all.")
    def queues(root: Parent[Worker]) -> list[str] | None:
        return None if root.queues is None else list(root.queues)

    @strawberry.field(description="Task types it runs; null: all.")
    def types(root: Parent[Worker]) -> list[str] | None:
        return None if root.types is None else list(root.types)

    @strawberry.field
    def completed(root: Parent[Worker]) -> float:
        return root.completed

    @strawberry.field
    def failed(root: Parent[Worker]) -> float:
        return root.failed


@strawberry.type
class CreateError:
    index: int = strawberry.field(description="Place in the list of inputs, from 0.")
    code: str
    message: str
    path: list[str] | None = strawberry.field(description="Place of the fault inside that input.")


@strawberry.type
class CreateBatchResult:
    success_count: int
    failed_count: int
    tasks: list[AITask]
    errors: list[CreateError]


@strawberry.type
class CleanupResult:
    deleted_count: int


@strawberry.type
class TimeoutResult:
    timed_out_count: int


@strawberry.type
class QueuePause:
    instance_id: strawberry.ID
    queue: str
    paused: bool
