"""The core's enums under their GraphQL names. Registered once, before any type uses them."""

import strawberry

from taskyard.lifecycle import TaskStatus
from taskyard.service.health import QueueHealth
from taskyard.service.tasks import BatchMode
from taskyard.store.listing import SortField
from taskyard.task import EventKind, Priority, StepStatus, WaitingReason

strawberry.enum(TaskStatus, name="TaskStatus", description="Where a task is in its life.")
strawberry.enum(
    Priority,
    name="TaskPriority",
    description="Bands on the scale of 1 to 10: LOW 2, NORMAL 5, HIGH 8, URGENT 10.",
)
strawberry.enum(WaitingReason, name="WaitingReason")
strawberry.enum(EventKind, name="TaskEventKind")
strawberry.enum(StepStatus, name="TaskStepStatus")
strawberry.enum(QueueHealth, name="QueueHealth")
strawberry.enum(BatchMode, name="BatchMode", description="ATOMIC: all tasks or none. PARTIAL: each by itself.")
strawberry.enum(SortField, name="AITaskSortField")
