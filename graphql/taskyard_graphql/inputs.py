"""Input types, and the core's values that they stand for."""

from datetime import datetime, timedelta
from enum import Enum

import strawberry
from strawberry.scalars import JSON

from taskyard.errors import InvalidInput
from taskyard.lifecycle import TaskStatus
from taskyard.service.figures import StatisticsFilter
from taskyard.store.listing import Page, Sort, SortField, TaskFilter
from taskyard.task import DEFAULT_QUEUE, Metrics, NewTask, Priority
from taskyard_graphql import enums as _enums  # noqa: F401 - registered before they are used


@strawberry.enum
class SortDirection(Enum):
    ASC = "ASC"
    DESC = "DESC"


@strawberry.input
class CreateAITaskInput:
    task_type: str
    input_data: JSON
    priority: Priority = Priority.NORMAL
    agent_id: strawberry.ID | None = None
    instance_id: strawberry.ID | None = strawberry.field(
        default=None, description="By default the token's own instance."
    )
    id: strawberry.ID | None = strawberry.field(default=None, description="An id of the caller's choice.")
    queue: str = DEFAULT_QUEUE
    idempotency_key: str | None = strawberry.field(
        default=None, description="A second submission with this key gives the task of the first."
    )
    max_retries: int | None = None
    timeout_ms: int | None = strawberry.field(default=None, description="Longest length of one run.")
    scheduled_for: datetime | None = strawberry.field(default=None, description="Not to be begun before.")
    estimated_cost: float | None = None

    def new_task(self) -> NewTask:
        return NewTask(
            task_type=self.task_type,
            input=self.input_data,
            priority=self.priority,
            agent_id=self.agent_id,
            instance_id=self.instance_id,
            id=self.id,
            queue=self.queue,
            idempotency_key=self.idempotency_key,
            max_retries=self.max_retries,
            timeout=None if self.timeout_ms is None else timedelta(milliseconds=self.timeout_ms),
            scheduled_for=self.scheduled_for,
            estimated_cost=self.estimated_cost,
        )


@strawberry.input(description="Everything given must hold: of a list any one value, so nothing of an empty one.")
class AITaskFilter:
    status: list[TaskStatus] | None = None
    priority: list[Priority] | None = None
    task_type: list[str] | None = None
    agent_id: list[strawberry.ID] | None = None
    queue: list[str] | None = None
    owner: list[str] | None = None
    instance_id: strawberry.ID | None = None
    start_date: datetime | None = strawberry.field(default=None, description="Created at this time or later.")
    end_date: datetime | None = strawberry.field(default=None, description="Created before this time.")
    search: str | None = strawberry.field(
        default=None, description="Text in the id, type, error message or input, whatever its case."
    )

    def task_filter(self) -> TaskFilter:
        return TaskFilter(
            statuses=self.status,
            priorities=self.priority,
            task_types=self.task_type,
            agent_ids=self.agent_id,
            queues=self.queue,
            owners=self.owner,
            instance_id=self.instance_id,
            created_from=aware(self.start_date, "startDate"),
            created_before=aware(self.end_date, "endDate"),
            search=self.search,
        )


@strawberry.input
class AITaskSort:
    field: SortField = SortField.CREATED_AT
    direction: SortDirection = SortDirection.DESC

    def sort(self) -> Sort:
        return Sort(field=self.field, descending=self.direction is SortDirection.DESC)


@strawberry.input
class PaginationInput:
    page: int = 1
    limit: int = 20


@strawberry.input
class TaskStatisticsFilter:
    instance_id: strawberry.ID | None = None
    agent_id: strawberry.ID | None = None
    task_type: str | None = None
    start_date: datetime | None = strawberry.field(default=None, description="Created at this time or later.")
    end_date: datetime | None = strawberry.field(default=None, description="Created before this time.")

    def statistics_filter(self) -> StatisticsFilter:
        return StatisticsFilter(
            instance_id=self.instance_id,
            agent_id=self.agent_id,
            task_type=self.task_type,
            start=aware(self.start_date, "startDate"),
            end=aware(self.end_date, "endDate"),
        )


@strawberry.input
class TaskMetricsInput:
    actual_cost: float | None = None
    quality_score: float | None = strawberry.field(default=None, description="0 to 1.")
    processing_time_ms: int | None = None

    def metrics(self) -> Metrics:
        return Metrics(
            actual_cost=self.actual_cost,
            quality_score=self.quality_score,
            processing_ms=self.processing_time_ms,
        )


@strawberry.input(description="Which ready tasks to take or look at; the best come first.")
class DequeueFilter:
    queues: list[str] | None = None
    task_types: list[str] | None = None
    agent_id: strawberry.ID | None = None
    instance_id: strawberry.ID | None = None
    min_priority: Priority | None = strawberry.field(default=None, description="The lowest priority to take.")


def page_of(
    pagination: PaginationInput | None,
    first: int | None,
    after: str | None,
    last: int | None,
    before: str | None,
) -> Page:
    """The page that these arguments mean. Raises `InvalidInput` if they contradict each other."""
    if first is not None and last is not None:
        raise InvalidInput("give first or last, not both", path=["last"])
    by_cursor = any(argument is not None for argument in (first, after, last, before))
    if by_cursor and pagination is not None:
        raise InvalidInput("give pagination or cursors, not both", path=["pagination"])
    if by_cursor:
        limit = last if last is not None else first
        return Page(limit=20 if limit is None else limit, after=after, before=before, backward=last is not None)
    pagination = pagination or PaginationInput()
    return Page(number=pagination.page, limit=pagination.limit)


def aware(moment: datetime | None, field: str) -> datetime | None:
    """The moment, refused if it has no time zone."""
    if moment is not None and moment.tzinfo is None:
        raise InvalidInput("a time needs an offset from UTC, such as Z", path=[field])
    return moment
