"""Mutations: parse, one service call, render."""

from datetime import timedelta

import strawberry
from strawberry.scalars import JSON

from taskyard.errors import InvalidInput
from taskyard.service.tasks import BatchMode
from taskyard.task import Priority
from taskyard_graphql.context import Info
from taskyard_graphql.inputs import CreateAITaskInput, DequeueFilter, TaskMetricsInput
from taskyard_graphql.queries import want_of
from taskyard_graphql.types import (
    AITask,
    CleanupResult,
    CreateBatchResult,
    CreateError,
    QueuePause,
    TimeoutResult,
)

#: A hundred years: what is older is not.
MAX_DAYS = 36_525


@strawberry.type
class Mutation:
    @strawberry.mutation(
        name="createAITask",
        description="Submit a task; it is durable once this answers.",
        graphql_type=AITask,
    )
    async def create_ai_task(self, info: Info, input: CreateAITaskInput) -> object:
        return await info.context.runtime.tasks.create(info.context.principal, input.new_task())

    @strawberry.mutation(name="createAITasksBatch", description="Submit up to 100 tasks.")
    async def create_ai_tasks_batch(
        self, info: Info, inputs: list[CreateAITaskInput], mode: BatchMode = BatchMode.PARTIAL
    ) -> CreateBatchResult:
        context = info.context
        result = await context.runtime.tasks.create_batch(context.principal, [one.new_task() for one in inputs], mode)
        return CreateBatchResult(
            success_count=len(result.tasks),
            failed_count=result.failed,
            tasks=result.tasks,  # type: ignore[arg-type]  # shown as AITask
            errors=[
                CreateError(
                    index=index,
                    code=error.code,
                    message=error.message,
                    path=None if error.path is None else [str(part) for part in error.path],
                )
                for index, error in sorted(result.errors.items())
            ],
        )

    @strawberry.mutation(name="cancelAITask", description="Cancel a task, queued or running.", graphql_type=AITask)
    async def cancel_ai_task(self, info: Info, id: strawberry.ID) -> object:
        return await info.context.runtime.tasks.cancel(info.context.principal, id)

    @strawberry.mutation(
        name="retryAITask",
        description="Queue a task again that failed, was rejected or cancelled, or waits for its retry.",
        graphql_type=AITask,
    )
    async def retry_ai_task(self, info: Info, id: strawberry.ID) -> object:
        return await info.context.runtime.tasks.retry(info.context.principal, id)

    @strawberry.mutation(name="changeAITaskPriority", graphql_type=AITask)
    async def change_ai_task_priority(
        self,
        info: Info,
        id: strawberry.ID,
        priority: Priority,
    ) -> object:
        return await info.context.runtime.tasks.change_priority(info.context.principal, id, int(priority))

    @strawberry.mutation(
        description="Claim the best ready tasks for the caller; each must be started within a lease.",
        graphql_type=list[AITask],
    )
    async def dequeue_tasks(
        self,
        info: Info,
        filter: DequeueFilter | None = None,
        limit: int = 1,
    ) -> object:
        return await info.context.runtime.claims.dequeue(info.context.principal, want_of(filter, limit))

    @strawberry.mutation(
        description="Begin a queued task by hand; the claim holds for the task's time-out.",
        graphql_type=AITask,
    )
    async def start_task_processing(self, info: Info, id: strawberry.ID) -> object:
        return await info.context.runtime.claims.start(info.context.principal, id)

    @strawberry.mutation(
        description="Complete a run: the attempt named, or the one that the caller holds.",
        graphql_type=AITask,
    )
    async def complete_task(
        self,
        info: Info,
        id: strawberry.ID,
        output_data: JSON,
        metrics: TaskMetricsInput | None = None,
        attempt: int | None = None,
    ) -> object:
        return await info.context.runtime.claims.complete_by_hand(
            info.context.principal, id, output_data, (metrics or TaskMetricsInput()).metrics(), attempt
        )

    @strawberry.mutation(
        description="Fail a run: for good or, with retry, to be tried again by the law of retries.",
        graphql_type=AITask,
    )
    async def fail_task(
        self,
        info: Info,
        id: strawberry.ID,
        error_message: str,
        error_code: str | None = None,
        retry: bool = False,
        attempt: int | None = None,
    ) -> object:
        return await info.context.runtime.claims.fail_by_hand(
            info.context.principal, id, error_message, code=error_code, retry=retry, attempt=attempt
        )

    @strawberry.mutation(description="No task of a paused queue is claimed; for administrators.")
    async def pause_queue(self, info: Info, queue: str, instance_id: strawberry.ID | None = None) -> QueuePause:
        return await _set_paused(info, queue, True, instance_id)

    @strawberry.mutation(description="For administrators.")
    async def resume_queue(self, info: Info, queue: str, instance_id: strawberry.ID | None = None) -> QueuePause:
        return await _set_paused(info, queue, False, instance_id)

    @strawberry.mutation(
        description="Delete the tasks that ended so long ago (7 days unless set); for administrators."
    )
    async def cleanup_old_tasks(self, info: Info, older_than_days: float | None = None) -> CleanupResult:
        runtime = info.context.runtime
        days = runtime.settings.retention_days if older_than_days is None else older_than_days
        if not 0 <= days <= MAX_DAYS:
            raise InvalidInput(f"the age lies between 0 and {MAX_DAYS} days", path=["olderThanDays"])
        age = timedelta(days=days)
        return CleanupResult(deleted_count=await runtime.maintenance.clean_up(info.context.principal, age))

    @strawberry.mutation(description="Fail the runs that began longer ago than this; for administrators.")
    async def timeout_stale_tasks(self, info: Info, timeout_ms: int) -> TimeoutResult:
        age = timedelta(milliseconds=timeout_ms)
        count = await info.context.runtime.maintenance.time_out_stale(info.context.principal, age)
        return TimeoutResult(timed_out_count=count)


async def _set_paused(info: Info, queue: str, paused: bool, instance_id: str | None) -> QueuePause:
    context = info.context
    instance = await context.runtime.tasks.set_paused(context.principal, queue, paused, instance_id)
    return QueuePause(instance_id=strawberry.ID(instance), queue=queue, paused=paused)
