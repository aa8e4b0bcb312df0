"""Queries: parse, one service call, render."""

import strawberry

from taskyard.queue.entry import Want
from taskyard.task import MIN_PRIORITY
from taskyard_graphql.connection import AITaskConnection, Listing
from taskyard_graphql.context import Info
from taskyard_graphql.inputs import (
    AITaskFilter,
    AITaskSort,
    DequeueFilter,
    PaginationInput,
    TaskStatisticsFilter,
    page_of,
)
from taskyard_graphql.types import AITask, TaskQueueStatus, TaskStatistics, TaskType, WorkerType


def want_of(wanted: DequeueFilter | None, limit: int) -> Want:
    """What a claimer asks for."""
    wanted = wanted or DequeueFilter()
    return Want(
        limit=limit,
        queues=wanted.queues,
        task_types=wanted.task_types,
        agent_id=wanted.agent_id,
        instance_id=wanted.instance_id,
        min_priority=MIN_PRIORITY if wanted.min_priority is None else int(wanted.min_priority),
    )


@strawberry.type
class Query:
    @strawberry.field(name="aiTask", description="One task. A foreign one is not found.", graphql_type=AITask | None)
    async def ai_task(self, info: Info, id: strawberry.ID) -> object:
        return await info.context.runtime.tasks.get(info.context.principal, id)

    @strawberry.field(
        name="aiTasks",
        description="Tasks, newest first unless sorted; by page, or by cursors that stay stable while tasks arrive.",
        graphql_type=AITaskConnection,
    )
    async def ai_tasks(
        self,
        info: Info,
        filter: AITaskFilter | None = None,
        sort: AITaskSort | None = None,
        pagination: PaginationInput | None = None,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> object:
        context = info.context
        tasks = context.runtime.tasks
        wanted = (filter or AITaskFilter()).task_filter()
        order = (sort or AITaskSort()).sort()
        page = page_of(pagination, first, after, last, before)
        found = await tasks.list(context.principal, wanted, order, page)
        return Listing(tasks, context.principal, wanted, order, page, found)

    @strawberry.field(description="Figures of the tasks that the caller may see.", graphql_type=TaskQueueStatus)
    async def task_queue_status(
        self, info: Info, instance_id: strawberry.ID | None = None, queue: str | None = None
    ) -> object:
        return await info.context.runtime.figures.queue_status(info.context.principal, instance_id, queue)

    @strawberry.field(graphql_type=TaskStatistics)
    async def task_statistics(
        self,
        info: Info,
        filter: TaskStatisticsFilter | None = None,
    ) -> object:
        wanted = (filter or TaskStatisticsFilter()).statistics_filter()
        return await info.context.runtime.figures.statistics(info.context.principal, wanted)

    @strawberry.field(
        description="The tasks that a dequeue would take now, in order; claims nothing.",
        graphql_type=list[AITask],
    )
    async def peek_tasks(
        self,
        info: Info,
        filter: DequeueFilter | None = None,
        limit: int = 10,
    ) -> object:
        return await info.context.runtime.claims.peek(info.context.principal, want_of(filter, limit))

    @strawberry.field(description="The task types that workers have declared.", graphql_type=list[TaskType])
    async def task_types(self, info: Info) -> object:
        return await info.context.runtime.tasks.types(info.context.principal)

    @strawberry.field(description="The workers that are alive; for administrators.", graphql_type=list[WorkerType])
    async def workers(self, info: Info) -> object:
        return await info.context.runtime.figures.workers(info.context.principal)
