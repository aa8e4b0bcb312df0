"""Figures: the state of the queue, and statistics over a time. Durations are milliseconds."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from taskyard.clock import Clock
from taskyard.lifecycle import COUNTED_AS_FAILED, COUNTED_AS_PROCESSING, COUNTED_AS_QUEUED, TaskStatus
from taskyard.principal import Principal
from taskyard.service.catalog import Catalog
from taskyard.service.health import QueueHealth, queue_health
from taskyard.store.figures import FigureReader
from taskyard.store.registry import Worker

#: Averages and failure rates of the queue's status look back so far.
RECENT = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStatus:
    """The tasks that the caller may see, by what becomes of them."""

    total_tasks: int
    queued_tasks: int
    processing_tasks: int
    completed_tasks: int
    failed_tasks: int
    cancelled_tasks: int
    #: Of the tasks that ended within the last hour: from entering the queue to the start.
    average_wait_ms: float
    #: Of the same tasks: from the start to the end.
    average_processing_ms: float
    health: QueueHealth


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Over the tasks created in a time."""

    total_tasks: int
    completed_tasks: int
    failed_tasks: int
    cancelled_tasks: int
    #: Completed among completed and failed, 0 to 1; None before anything ended.
    success_rate: float | None
    average_wait_ms: float | None
    average_processing_ms: float | None
    total_cost: float
    average_quality: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticsFilter:
    """Which tasks to count; everything given must hold."""

    instance_id: str | None = None
    agent_id: str | None = None
    task_type: str | None = None
    start: datetime | None = None
    #: Exclusive.
    end: datetime | None = None


class FigureService:
    """Counts what the caller may see."""

    def __init__(self, reader: FigureReader, catalog: Catalog, clock: Clock) -> None:
        self._reader = reader
        self._catalog = catalog
        self._clock = clock

    async def queue_status(
        self, principal: Principal, instance_id: str | None = None, queue: str | None = None
    ) -> QueueStatus:
        now = self._clock.now()
        scope = principal.scope.narrowed(instance_id)
        counts = await self._reader.queue_counts(scope, queue, now - RECENT)
        by_status, ends = counts.by_status, counts.recent_ends
        failed = sum(ends.get(status, 0) for status in COUNTED_AS_FAILED)
        return QueueStatus(
            total_tasks=sum(by_status.values()),
            queued_tasks=sum(by_status.get(status, 0) for status in COUNTED_AS_QUEUED),
            processing_tasks=sum(by_status.get(status, 0) for status in COUNTED_AS_PROCESSING),
            completed_tasks=by_status.get(TaskStatus.COMPLETED, 0),
            failed_tasks=sum(by_status.get(status, 0) for status in COUNTED_AS_FAILED),
            cancelled_tasks=by_status.get(TaskStatus.CANCELLED, 0),
            average_wait_ms=counts.average_wait_ms or 0.0,
            average_processing_ms=counts.average_processing_ms or 0.0,
            health=queue_health(
                oldest_wait=now - counts.oldest_queued_at if counts.oldest_queued_at else timedelta(),
                ended=ends.get(TaskStatus.COMPLETED, 0) + failed,
                failed=failed,
                workers=len(await self._catalog.living_workers()),
            ),
        )

    async def workers(self, principal: Principal) -> list[Worker]:
        """The workers that are alive; for administrators."""
        principal.require_admin()
        return await self._catalog.living_workers()

    async def statistics(self, principal: Principal, wanted: StatisticsFilter) -> Statistics:
        totals = await self._reader.totals(
            principal.scope.narrowed(wanted.instance_id),
            agent_id=wanted.agent_id,
            task_type=wanted.task_type,
            start=wanted.start,
            end=wanted.end,
        )
        completed = totals.by_status.get(TaskStatus.COMPLETED, 0)
        failed = sum(totals.by_status.get(status, 0) for status in COUNTED_AS_FAILED)
        return Statistics(
            total_tasks=sum(totals.by_status.values()),
            completed_tasks=completed,
            failed_tasks=failed,
            cancelled_tasks=totals.by_status.get(TaskStatus.CANCELLED, 0),
            success_rate=completed / (completed + failed) if completed + failed else None,
            average_wait_ms=totals.average_wait_ms,
            average_processing_ms=totals.average_processing_ms,
            total_cost=totals.total_cost,
            average_quality=totals.average_quality,
        )
