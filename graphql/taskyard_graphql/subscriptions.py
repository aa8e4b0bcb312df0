"""Subscriptions: what the caller may watch."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

import strawberry

from taskyard_graphql.context import Info
from taskyard_graphql.types import AITask, TaskQueueStatus


@strawberry.type
class Subscription:
    @strawberry.subscription(
        name="aiTaskStatusChanged",
        description="Tasks at each change of status, priority or progress, in order; with a taskId first as it is.",
    )
    async def ai_task_status_changed(
        self,
        info: Info,
        task_id: strawberry.ID | None = None,
        agent_id: strawberry.ID | None = None,
        instance_id: strawberry.ID | None = None,
    ) -> AsyncGenerator[AITask, None]:
        changes = info.context.runtime.live.task_changes(
            info.context.principal, task_id=task_id, agent_id=agent_id, instance_id=instance_id
        )
        async with aclosing(changes):
            async for task in changes:
                yield cast("AITask", task)

    @strawberry.subscription(
        description="The queue's figures now, soon after each change, and at least every 5 seconds."
    )
    async def task_queue_updated(
        self, info: Info, instance_id: strawberry.ID | None = None, queue: str | None = None
    ) -> AsyncGenerator[TaskQueueStatus, None]:
        changes = info.context.runtime.live.queue_changes(info.context.principal, instance_id, queue)
        async with aclosing(changes):
            async for status in changes:
                yield cast("TaskQueueStatus", status)
