"""Claims and runs: taking tasks, keeping them, telling of them, ending them.

The same for Taskyard's own workers and for remote agents. Every write of a run carries its attempt;
one that comes too late changes nothing and raises `LeaseLost`.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from taskyard.clock import Clock
from taskyard.errors import IllegalTransition, InvalidInput, LeaseLost, TaskyardError
from taskyard.lifecycle import HELD, RUNNING, TaskStatus, sources
from taskyard.principal import EVERYTHING, Principal, Role
from taskyard.queue.base import ReadyQueue
from taskyard.queue.entry import Entry, Want
from taskyard.queue.sql import SqlQueue
from taskyard.retry import Backoff
from taskyard.service.catalog import Catalog
from taskyard.service.submission import check_cost, check_json, check_text, storable
from taskyard.service.tasks import TaskService
from taskyard.store.listing import MAX_PAGE
from taskyard.store.registry import Registry
from taskyard.store.tasks import TaskReader
from taskyard.store.writes import NOW, After, Change, DeadlineAfter, StepWrite, Writer, move
from taskyard.task import (
    WORKER_ACTOR,
    ErrorCode,
    Event,
    EventKind,
    Json,
    LogLevel,
    Metrics,
    StepStatus,
    Task,
)

logger = logging.getLogger(__name__)

MAX_MESSAGE = 10_000
MAX_CODE = 100


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt at a task, and who makes it: what fences its writes."""

    task_id: str
    attempt: int
    actor: str


class ClaimService:
    """Claims tasks and writes what their runs tell.

    `lease` is how long a claim holds unless renewed, `task_timeout` the longest run of a task that has
    no time-out of its own.
    """

    def __init__(
        self,
        *,
        reader: TaskReader,
        writer: Writer,
        registry: Registry,
        queue: ReadyQueue,
        filtered: SqlQueue,
        tasks: TaskService,
        catalog: Catalog,
        clock: Clock,
        uniform: Callable[[float, float], float],
        lease: timedelta,
        task_timeout: timedelta,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._registry = registry
        self._queue = queue
        self._filtered = filtered
        self._tasks = tasks
        self._catalog = catalog
        self._clock = clock
        self._uniform = uniform
        self._lease = lease
        self._task_timeout = task_timeout

    # -- taking and keeping -------------------------------------------------------------------

    async def claim(
        self, worker_id: str, want: Want, timeout_of: Callable[[str], timedelta | None] = lambda _: None
    ) -> Sequence[Task]:
        """Claim for a worker: PROCESSING at once, with the input.

        `timeout_of` gives the longest run of a task type, for tasks that were given none when they were submitted.
        """

        def holding(entry: Entry) -> dict[str, Any]:
            timeout = DeadlineAfter(timeout_of(entry.task_type) or self._task_timeout)
            return _beginning() | _holding(worker_id, After(self._lease), timeout)

        return await self._claim(
            self._queue_for(want), want, TaskStatus.PROCESSING, WORKER_ACTOR + worker_id, holding
        )

    async def dequeue(self, principal: Principal, want: Want) -> Sequence[Task]:
        """Claim for a remote agent what it may see: ASSIGNED to its subject until it starts.

        The claim holds for a lease, within which `start` must begin the run.
        """
        want = replace(want, scope=principal.scope.narrowed(want.instance_id))
        _check_limit(want)
        # What is only assigned has no deadline: its run has not begun, and the lease bounds it.
        holding = {"holder": principal.subject, "lease_until": After(self._lease)}
        claimed: list[Task] = []
        while (missing := want.limit - len(claimed)) > 0:
            part = replace(want, limit=missing)
            try:
                got = await self._claim(
                    self._queue_for(part), part, TaskStatus.ASSIGNED, principal.subject, lambda _: holding
                )
            except TaskyardError:
                if claimed:
                    break
                raise
            if not got:
                break
            claimed += got
        return claimed

    async def peek(self, principal: Principal, want: Want) -> Sequence[Task]:
        """What `dequeue` would take now, in order; claims nothing."""
        want = replace(want, scope=principal.scope.narrowed(want.instance_id))
        _check_limit(want)
        entries = await self._queue_for(want).peek(want)
        found = {task.id: task for task in await self._reader.get_many([e.task_id for e in entries], want.scope)}
        return [
            task
            for entry in entries
            if (task := found.get(entry.task_id)) is not None
            and (task.status, task.generation) == (TaskStatus.QUEUED, entry.generation)
        ]

    async def renew(self, worker_id: str, running: Collection[tuple[str, int]]) -> frozenset[tuple[str, int]]:
        """Renew the leases of what a worker runs, by task id and attempt; gives those that it still holds.

        A claim that the worker does not run, because something went wrong in between, runs out.
        """
        if not running:
            return frozenset()
        return await self._registry.renew(worker_id, running, self._clock.now() + self._lease)

    async def start(self, principal: Principal, task_id: str, attempt: int | None = None) -> Task:
        """Begin a run by hand: claims a queued task for the caller, or begins one assigned to it.

        The claim holds for the task's time-out, or else for that of its type. With `attempt` only that claim
        is begun: raises `LeaseLost` if it is gone.
        """
        task_type = (await self._tasks.get(principal, task_id)).task_type
        spec = await self._catalog.type_named(task_type)
        timeout = DeadlineAfter((spec.timeout if spec else None) or self._task_timeout)

        def decide(task: Task) -> Change:
            held_here = task.holder == principal.subject
            if attempt is not None and (task.status not in HELD or not held_here or task.attempt != attempt):
                raise LeaseLost(f"attempt {attempt} no longer holds the task {task.id!r}")
            mine = task.status is TaskStatus.ASSIGNED and held_here
            if task.status is not TaskStatus.QUEUED and not mine:
                why = "" if task.status not in HELD else "it has begun already" if held_here else "another holds it"
                raise IllegalTransition(task.status, TaskStatus.PROCESSING, why)
            return move(
                task.id,
                TaskStatus.PROCESSING,
                actor=principal.subject,
                statuses=frozenset({task.status}),
                version=task.version,
                raised=frozenset() if mine else frozenset({"attempt"}),
                values=_beginning() | _holding(principal.subject, timeout, timeout),
            )

        return await self._tasks.change(principal, task_id, decide)

    # -- ending by hand -----------------------------------------------------------------------

    async def complete_by_hand(
        self, principal: Principal, task_id: str, output: Json, metrics: Metrics, attempt: int | None = None
    ) -> Task:
        """Complete a run. `attempt` says which; by default the one that the caller holds."""
        task = await self._tasks.get(principal, task_id)
        run = _run_of(principal, task, attempt, TaskStatus.COMPLETED)
        check_json(output, "outputData")
        await self._catalog.check_output(task.task_type, output)
        if metrics.processing_ms is None and task.started_at is not None:
            elapsed = self._clock.now() - task.started_at
            metrics = replace(metrics, processing_ms=round(elapsed.total_seconds() * 1000))
        await self.complete(run, output, metrics)
        return await self._tasks.get(principal, task_id)

    async def fail_by_hand(
        self,
        principal: Principal,
        task_id: str,
        message: str,
        *,
        code: str | None = None,
        attempt: int | None = None,
        retry: bool = False,
    ) -> Task:
        """Fail a run: for good, or with `retry` by the law of retries."""
        if code is not None:
            check_text(code, MAX_CODE, "errorCode")
        task = await self._tasks.get(principal, task_id)
        run = _run_of(principal, task, attempt, TaskStatus.RETRYING if retry else TaskStatus.FAILED)
        await self.fail(run, task, code or ErrorCode.FAILED_BY_CALLER, message, retry=retry)
        return await self._tasks.get(principal, task_id)

    async def release_by_hand(self, principal: Principal, task_id: str, attempt: int | None = None) -> Task:
        """Give back a task unfinished, to its old place in the queue. `attempt` as in `complete_by_hand`."""
        task = await self._tasks.get(principal, task_id)
        await self.release(_run_of(principal, task, attempt, TaskStatus.QUEUED))
        return await self._tasks.get(principal, task_id)

    # -- what a run writes --------------------------------------------------------------------

    async def progress(self, run: Run, percent: float, step: str | None) -> None:
        """Percent from 0 to 100."""
        if math.isnan(percent):
            raise InvalidInput("progress is a number from 0 to 100", path=["progress"])
        values = {
            "progress": min(max(float(percent), 0.0), 100.0),
            "progress_step": None if step is None else storable(step[:MAX_MESSAGE]),
        }
        await self._tell(run, EventKind.PROGRESS, values=values)

    async def step(self, run: Run, name: str, status: StepStatus, output: Json) -> None:
        check_json(output, "output")
        name = storable(name[:MAX_MESSAGE])
        await self._tell(
            run,
            EventKind.STEP,
            detail={"name": name, "status": status, "output": output},
            step=StepWrite(name, status, output),
        )

    async def log(self, run: Run, level: LogLevel, message: str) -> None:
        await self._tell(run, EventKind.LOG, detail={"level": level, "message": storable(message[:MAX_MESSAGE])})

    async def complete(self, run: Run, output: Json, metrics: Metrics) -> None:
        """Raises `InvalidInput`, with nothing written, for an output or figures that cannot be stored."""
        check_json(output, "outputData")
        _check_metrics(metrics)
        await self._end(
            run,
            TaskStatus.COMPLETED,
            frozenset({TaskStatus.PROCESSING}),
            {
                "output": output,
                "progress": 100.0,
                "error_code": None,
                "error_message": None,
                "actual_cost": metrics.actual_cost,
                "quality_score": metrics.quality_score,
                "processing_ms": metrics.processing_ms,
                "completed_at": NOW,
            },
        )

    async def fail(
        self,
        run: Run,
        task: Task,
        code: str,
        message: str,
        *,
        retry: bool,
        backoff: Backoff = Backoff(),  # noqa: B008 - frozen
        processing_ms: int | None = None,
    ) -> TaskStatus:
        """Note a failed run: RETRYING after a backoff, or FAILED when it must not or may not be retried."""
        values: dict[str, Any] = {
            "error_code": storable(str(code)[:MAX_CODE]),
            "error_message": storable(message[:MAX_MESSAGE]),
        }
        if processing_ms is not None:
            values["processing_ms"] = processing_ms
        if retry and task.retry_count < task.max_retries:
            delay = backoff.delay(task.retry_count, self._uniform)
            values |= {"run_at": After(delay), "progress": 0.0, "progress_step": None}
            await self._end(run, TaskStatus.RETRYING, RUNNING, values, raised=frozenset({"retry_count"}))
            return TaskStatus.RETRYING
        values["completed_at"] = NOW
        await self._end(run, TaskStatus.FAILED, HELD, values)
        return TaskStatus.FAILED

    async def release(self, run: Run) -> None:
        """Give a task back unfinished: it is queued again in its old place and no retry is spent."""
        values = {"progress": 0.0, "progress_step": None, "started_at": None}
        await self._end(run, TaskStatus.QUEUED, HELD, values)

    async def _tell(
        self,
        run: Run,
        kind: EventKind,
        *,
        values: Mapping[str, Any] | None = None,
        detail: Mapping[str, Any] | None = None,
        step: StepWrite | None = None,
    ) -> None:
        written = await self._writer.write(
            Change(
                task_id=run.task_id,
                kind=kind,
                actor=run.actor,
                statuses=HELD,
                attempt=run.attempt,
                values=values or {},
                detail=detail,
                step=step,
            )
        )
        if written is None:
            raise _lost(run)

    async def _end(
        self,
        run: Run,
        to: TaskStatus,
        statuses: frozenset[TaskStatus],
        values: Mapping[str, Any],
        raised: frozenset[str] = frozenset(),
    ) -> None:
        change = move(
            run.task_id,
            to,
            actor=run.actor,
            statuses=statuses,
            attempt=run.attempt,
            values=values,
            raised=raised,
        )
        if await self._writer.write(change) is None and not await self._ended_so(run, to):
            if to is not TaskStatus.QUEUED:
                await self._note_too_late(run, to)
            raise _lost(run)

    async def _note_too_late(self, run: Run, to: TaskStatus) -> None:
        """Tell in the task's log that an end was thrown away; nothing else of the task changes."""
        message = f"attempt {run.attempt} ended as {to} after it had lost the claim; that was thrown away"
        await self._writer.write(
            Change(
                task_id=run.task_id,
                kind=EventKind.LOG,
                actor=run.actor,
                statuses=frozenset(TaskStatus),
                detail={"level": LogLevel.WARNING, "message": message},
            )
        )

    async def _ended_so(self, run: Run, status: TaskStatus) -> bool:
        """Whether this very attempt has already ended so: then a repeated write is a success."""
        task = await self._reader.get(run.task_id, EVERYTHING, payload=False)
        if task is not None and task.attempt == run.attempt and task.status is status:
            return True
        # It does not stay so for long: the log knows.
        return status is TaskStatus.RETRYING and status in await self._reader.statuses_written(
            run.task_id, run.attempt, run.actor
        )

    # -- claiming -----------------------------------------------------------------------------

    def _queue_for(self, want: Want) -> ReadyQueue:
        """What no index can answer goes straight to the table."""
        return self._filtered if want.by_table else self._queue

    async def _claim(
        self,
        queue: ReadyQueue,
        want: Want,
        status: TaskStatus,
        actor: str,
        holding: Callable[[Entry], Mapping[str, Any]],
    ) -> Sequence[Task]:
        async def commit(entries: Sequence[Entry]) -> Sequence[Task]:
            events = await self._writer.write_many(
                [
                    move(
                        entry.task_id,
                        status,
                        actor=actor,
                        statuses=frozenset({TaskStatus.QUEUED}),
                        generation=entry.generation,
                        # An index may name a task that is gone, and whose id another instance has taken since.
                        instance_id=entry.instance_id,
                        raised=frozenset({"attempt"}),
                        values=holding(entry),
                        whole=True,
                    )
                    for entry in entries
                ]
            )
            claimed = [event for event in events if event is not None]
            try:
                return await self._begun(claimed)
            except BaseException as error:
                whole = [event for event in claimed if event.rest is not None and isinstance(error, Exception)]
                await asyncio.shield(self._give_back([event for event in claimed if event not in whole]))
                if whole:
                    return [Task.claimed(event) for event in whole]
                raise

        return await queue.claim(want, commit)

    async def _begun(self, claimed: Sequence[Event]) -> Sequence[Task]:
        """The tasks of these claims; what the writer did not give with them is read."""
        missing = [event.task_id for event in claimed if event.rest is None]
        found = {task.id: task for task in await self._reader.get_many(missing, EVERYTHING, payload=True)}

        def begun(event: Event) -> Task | None:
            if event.rest is not None:
                return Task.claimed(event)
            task = found.get(event.task_id)
            if task is None:
                return None
            # What was submitted stays as it is; the event says all that the claim has changed.
            return replace(task.as_of(event), lease_until=event.at + self._lease, payload=task.payload)

        return [task for event in claimed if (task := begun(event)) is not None]

    async def _give_back(self, claimed: Sequence[Event]) -> None:
        """Queue again what was claimed and cannot be run; where that fails, too, its leases run out."""
        for event in claimed:
            try:
                await self.release(Run(event.task_id, event.attempt, event.actor))
            except TaskyardError:
                logger.warning("task %s was claimed and could not be given back", event.task_id, exc_info=True)


def _holding(holder: str, until: After | DeadlineAfter, timeout: DeadlineAfter) -> dict[str, Any]:
    return {"holder": holder, "lease_until": until, "deadline_at": timeout}


def _beginning() -> dict[str, Any]:
    return {"started_at": NOW, "progress": 0.0, "progress_step": None}


def _run_of(principal: Principal, task: Task, attempt: int | None, to: TaskStatus) -> Run:
    """The run that the caller may end: one that its subject holds, or for an administrator the attempt named.

    An attempt that is named fences; it gives no right to end what another holds, or has yet to begin.
    """
    if attempt is not None and attempt > task.attempt:
        raise LeaseLost(f"there has been no attempt {attempt} at this task")
    if attempt is not None and (principal.role is Role.ADMIN or task.holder in (None, principal.subject)):
        return Run(task.id, attempt, principal.subject)
    if task.status not in HELD & sources(to):
        raise IllegalTransition(task.status, to, "it is not running")
    if task.holder != principal.subject:
        raise LeaseLost("another holds the claim on this task")
    return Run(task.id, task.attempt, principal.subject)


def _check_metrics(metrics: Metrics) -> None:
    quality, elapsed = metrics.quality_score, metrics.processing_ms
    check_cost(metrics.actual_cost, ["metrics", "actualCost"])
    if quality is not None and not 0 <= quality <= 1:
        raise InvalidInput("a quality score lies between 0 and 1", path=["metrics", "qualityScore"])
    if elapsed is not None and elapsed < 0:
        raise InvalidInput("a time is a number from 0 up", path=["metrics", "processingTimeMs"])


def _lost(run: Run) -> LeaseLost:
    return LeaseLost(f"attempt {run.attempt} no longer holds the task {run.task_id!r}; what it told was thrown away")


def _check_limit(want: Want) -> None:
    if not 1 <= want.limit <= MAX_PAGE:
        raise InvalidInput(f"the limit lies between 1 and {MAX_PAGE}", path=["limit"])
