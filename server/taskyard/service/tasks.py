"""The task service: what every transport calls. Rights are checked here, as predicates of the queries."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum

from taskyard.errors import (
    Conflict,
    IdempotencyConflict,
    IdTaken,
    IllegalTransition,
    InvalidInput,
    NotFound,
    TaskyardError,
    Unavailable,
    named,
)
from taskyard.events.bus import Bus
from taskyard.lifecycle import ENDED, RETRYABLE, TaskStatus, check_move
from taskyard.names import check_name
from taskyard.principal import Principal
from taskyard.queue.base import ReadyQueue
from taskyard.service.agents import AgentBook
from taskyard.service.catalog import Catalog
from taskyard.service.submission import MAX_BATCH, Submission, check_text
from taskyard.store.listing import MAX_PAGE, Page, Sort, TaskFilter, TaskPage
from taskyard.store.registry import Registry
from taskyard.store.tasks import TaskReader
from taskyard.store.writes import NOW, Change, Insert, Writer, move
from taskyard.task import (
    MAX_PRIORITY,
    MIN_PRIORITY,
    AgentSummary,
    Event,
    EventKind,
    NewTask,
    Payload,
    Step,
    Task,
    TaskTypeSpec,
)

#: How often a change is tried again when others changed the task in between.
TRIES = 10
MAX_EVENTS = 500
MAX_AGENT_NAME = 200
_TASK_FIELDS = tuple(field.name for field in fields(Task))
#: What an explicit retry sets back; `attempt` goes on counting.
_AFRESH = {
    "retry_count": 0,
    "lost_count": 0,
    "progress": 0.0,
    "progress_step": None,
    "error_code": None,
    "error_message": None,
    "output": None,
    "started_at": None,
    "completed_at": None,
    "processing_ms": None,
}


class BatchMode(StrEnum):
    """ATOMIC: all tasks or none. PARTIAL: each by itself."""

    ATOMIC = "ATOMIC"
    PARTIAL = "PARTIAL"


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The tasks that were created, and what was wrong with the others by their index."""

    tasks: list[Task]
    errors: dict[int, TaskyardError]
    failed: int


class TaskService:
    """Submit, read, steer. Every method takes who is asking; a foreign task is `NotFound`."""

    def __init__(
        self,
        *,
        reader: TaskReader,
        writer: Writer,
        registry: Registry,
        queue: ReadyQueue,
        bus: Bus,
        catalog: Catalog,
        submission: Submission,
        agents: AgentBook,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._registry = registry
        self._queue = queue
        self._bus = bus
        self._catalog = catalog
        self._submission = submission
        self._agents = agents

    # -- submit -------------------------------------------------------------------------------

    async def create(self, principal: Principal, new: NewTask) -> Task:
        """Accept a task; it is durable once this returns.

        The same id or idempotency key with the same body gives the task that is there. Raises
        `InvalidInput`, `Forbidden`, `IdempotencyConflict` or `IdTaken`.
        """
        insert = await self._submission.prepare(principal, new)
        await self._agents.register(principal, insert)
        event = await self._writer.write(insert)
        return await self._met(insert) if event is None else self._made(insert, event)

    async def create_batch(self, principal: Principal, batch: Sequence[NewTask], mode: BatchMode) -> BatchResult:
        """Accept up to `MAX_BATCH` tasks in one call.

        Raises `InvalidInput` for an empty or longer list, and `Unavailable`, with nothing written, if the
        tasks cannot be checked now: that is no fault of any of them.
        """
        if not 1 <= len(batch) <= MAX_BATCH:
            raise InvalidInput(f"a batch has 1 to {MAX_BATCH} tasks", path=["inputs"])
        prepared = await asyncio.gather(
            *(self._submission.prepare(principal, new) for new in batch), return_exceptions=True
        )
        errors: dict[int, TaskyardError] = {}
        inserts: dict[int, Insert] = {}
        for index, outcome in enumerate(prepared):
            if isinstance(outcome, TaskyardError) and not isinstance(outcome, Unavailable):
                errors[index] = outcome
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                inserts[index] = outcome
        if errors and mode is BatchMode.ATOMIC:
            return BatchResult([], errors, len(batch))
        for index, insert in list(inserts.items()):
            try:
                await self._agents.register(principal, insert)
            except Unavailable:
                raise
            except TaskyardError as error:
                errors[index] = error
                del inserts[index]
        if mode is BatchMode.ATOMIC:
            return await self._write_atomic(inserts, errors, len(batch))
        return await self._write_partial(inserts, errors)

    async def _write_partial(self, inserts: dict[int, Insert], errors: dict[int, TaskyardError]) -> BatchResult:
        written = await self._writer.write_many(list(inserts.values()))
        tasks: list[Task] = []
        for (index, insert), event in zip(inserts.items(), written, strict=True):
            try:
                tasks.append(await self._met(insert) if event is None else self._made(insert, event))
            except TaskyardError as error:
                errors[index] = error
        return BatchResult(tasks, errors, len(errors))

    async def _write_atomic(
        self, inserts: dict[int, Insert], errors: dict[int, TaskyardError], size: int
    ) -> BatchResult:
        made: dict[int, Task] = {}
        repeats, conflicts = _repeats(inserts)
        errors |= conflicts
        while not errors and len(made) + len(repeats) < size:
            left = {index: insert for index, insert in inserts.items() if index not in made | repeats}
            written = dict(zip(left, await self._writer.write_atomic(list(left.values())), strict=True))
            if None not in written.values():
                made |= {index: self._made(left[index], event) for index, event in written.items() if event}
                break
            # Nothing was written. What stands there already may be a repeat; a conflict undoes the batch.
            for index in (index for index, event in written.items() if event is None):
                try:
                    made[index] = await self._met(left[index])
                except Unavailable:
                    raise
                except TaskyardError as error:
                    errors[index] = error
        if errors:
            return BatchResult([], errors, size)
        return BatchResult([made[repeats.get(index, index)] for index in range(size)], {}, 0)

    def _made(self, insert: Insert, event: Event) -> Task:
        """The task that an insert made, without reading it back."""
        values = dict.fromkeys(_TASK_FIELDS) | {
            name: value for name, value in insert.values.items() if name in _TASK_FIELDS
        }
        values |= {"version": 0, "created_at": event.at, "agent": self._agents.summary(insert)}
        return Task(**values).as_of(event)  # type: ignore[arg-type]  # columns by name

    async def _met(self, insert: Insert) -> Task:
        """The task that stood in the way of an insert, if it is the same one submitted before."""
        values = insert.values
        found = await self._reader.find_submitted(
            values["instance_id"], task_id=insert.task_id, idempotency_key=values["idempotency_key"]
        )
        if found is None:
            raise IdTaken(f"the id {insert.task_id!r} is taken", path=["id"])
        task, digest = found
        if digest == values["request_hash"]:
            return task
        if task.idempotency_key is not None and task.idempotency_key == values["idempotency_key"]:
            raise IdempotencyConflict(
                f"the idempotency key {task.idempotency_key!r} was used with another body",
                path=["idempotencyKey"],
            )
        raise IdTaken(f"the id {task.id!r} is taken by another task", path=["id"])

    async def register_agent(self, principal: Principal, agent: AgentSummary, instance_id: str | None = None) -> None:
        """Register an agent with its name and type, or change those; for administrators."""
        principal.require_admin()
        check_name(agent.id, "id")
        check_name(agent.type, "type")
        check_text(agent.name, MAX_AGENT_NAME, "name")
        await self._agents.put(principal, principal.instance_for(instance_id), agent)

    # -- read ---------------------------------------------------------------------------------

    async def get(self, principal: Principal, task_id: str) -> Task:
        return await self._visible(principal, task_id)

    async def list(
        self, principal: Principal, wanted: TaskFilter, sort: Sort, page: Page, *, payload: bool = False
    ) -> TaskPage:
        """A page of the tasks that the caller may see. `payload` says whether to read the large parts."""
        if not 1 <= page.limit <= MAX_PAGE:
            raise InvalidInput(f"a page has 1 to {MAX_PAGE} tasks", path=["limit"])
        if page.number < 1:
            raise InvalidInput("pages are counted from 1", path=["page"])
        return await self._reader.page(principal.scope, wanted, sort, page, payload=payload)

    async def unfinished(self, principal: Principal, wanted: TaskFilter) -> bool:
        """Whether any of these is being worked on or will be without anybody's doing.

        What is scheduled, waits for a person, or stands in a paused queue is not.
        """
        return await self._reader.unfinished(principal.scope, wanted)

    async def count(self, principal: Principal, wanted: TaskFilter) -> int:
        return await self._reader.count(principal.scope, wanted)

    async def payloads(self, principal: Principal, task_ids: Sequence[str]) -> dict[str, Payload]:
        return await self._reader.payloads(task_ids, principal.scope)

    async def steps(self, principal: Principal, task_id: str) -> Sequence[Step]:
        """The plan of a task, in its order."""
        found = await self._reader.steps(task_id, principal.scope)
        if not found:
            await self._visible(principal, task_id)
        return found

    async def steps_of(self, principal: Principal, task_ids: Sequence[str]) -> Mapping[str, Sequence[Step]]:
        """The plans of many tasks, by id; what has none or may not be seen is left out."""
        return await self._reader.steps_of(task_ids, principal.scope)

    async def types(self, _principal: Principal) -> Sequence[TaskTypeSpec]:
        """The task types that workers have declared; anyone with a token may see them."""
        return await self._catalog.types()

    async def events(
        self, principal: Principal, task_id: str, after_version: int = 0, limit: int = 100
    ) -> Sequence[Event]:
        """The audit trail of a task, oldest first."""
        found = (await self.events_of(principal, [task_id], after_version, limit)).get(task_id, [])
        if not found:
            await self._visible(principal, task_id)
        return found

    async def events_of(
        self, principal: Principal, task_ids: Sequence[str], after_version: int = 0, limit: int = 100
    ) -> Mapping[str, Sequence[Event]]:
        """The audit trails of many tasks, by id; what may not be seen is left out."""
        if not 1 <= limit <= MAX_EVENTS:
            raise InvalidInput(f"the limit lies between 1 and {MAX_EVENTS}", path=["limit"])
        return await self._reader.events_of(task_ids, principal.scope, after_version, limit)

    # -- steer --------------------------------------------------------------------------------

    async def cancel(self, principal: Principal, task_id: str) -> Task:
        """Cancel a task that has not ended; a running processor is told. Cancelling twice is no error.

        Whatever the run tells of itself meanwhile, a cancellation goes through: it asks for no version.
        """

        def decide(task: Task) -> Change | None:
            if task.status is TaskStatus.CANCELLED:
                return None
            check_move(task.status, TaskStatus.CANCELLED)
            return move(
                task.id,
                TaskStatus.CANCELLED,
                actor=principal.subject,
                values={"completed_at": NOW, "run_at": None},
            )

        return await self.change(principal, task_id, decide)

    async def retry(self, principal: Principal, task_id: str) -> Task:
        """Queue a task again that has failed, was rejected or cancelled, or waits out its backoff."""

        def decide(task: Task) -> Change:
            if task.status not in RETRYABLE:
                raise IllegalTransition(task.status, TaskStatus.QUEUED, "only an ended task is retried")
            return move(
                task.id,
                TaskStatus.QUEUED,
                actor=principal.subject,
                statuses=frozenset({task.status}),
                version=task.version,
                values=_AFRESH,
            )

        return await self.change(principal, task_id, decide)

    async def change_priority(self, principal: Principal, task_id: str, priority: int) -> Task:
        """Change the priority (1 to 10) of a task that has not ended; in a queue it moves at once."""
        if not MIN_PRIORITY <= priority <= MAX_PRIORITY:
            raise InvalidInput(f"priority lies between {MIN_PRIORITY} and {MAX_PRIORITY}", path=["priority"])

        def decide(task: Task) -> Change | None:
            if task.status in ENDED:
                raise InvalidInput(f"a task that is {task.status} has no priority any more", path=["id"])
            if task.priority == priority:
                return None
            queued = task.status is TaskStatus.QUEUED
            return Change(
                task_id=task.id,
                kind=EventKind.PRIORITY,
                actor=principal.subject,
                statuses=frozenset({task.status}),
                values={"priority": priority},
                raised=frozenset({"generation"}) if queued else frozenset(),
                # Not the version: a run that tells of itself all the while would keep it from ever being met.
                generation=task.generation,
                detail={"from": task.priority},
            )

        return await self.change(principal, task_id, decide)

    async def set_paused(self, principal: Principal, queue: str, paused: bool, instance_id: str | None) -> str:
        """Pause or resume a queue of an instance, and give the instance: no task of a paused one is claimed."""
        principal.require_admin()
        check_name(queue, "queue")
        instance = principal.instance_for(instance_id)
        await self._registry.set_paused(instance, queue, paused, principal.subject)
        await self._queue.set_paused(instance, queue, paused)
        self._catalog.expire()
        # Nothing to tell, but something to look at: what waits in a resumed queue can be claimed.
        await self._bus.publish([])
        return instance

    async def change(self, principal: Principal, task_id: str, decide: Callable[[Task], Change | None]) -> Task:
        """Read, decide, write if nobody else has in between; and again if somebody has.

        `decide` raises what is wrong, or gives None if there is nothing to do.
        """
        for _ in range(TRIES):
            task = await self._visible(principal, task_id)
            change = decide(task)
            if change is None:
                return task
            event = await self._writer.write(change)
            if event is not None:
                return task.as_of(event)
        raise Conflict("the task kept being changed by others; try again")

    async def _visible(self, principal: Principal, task_id: str) -> Task:
        task = await self._reader.get(task_id, principal.scope)
        if task is None:
            raise NotFound(f"there is no task {named(task_id)}", path=["id"])
        return task


def _repeats(inserts: Mapping[int, Insert]) -> tuple[dict[int, int], dict[int, TaskyardError]]:
    """Which tasks of a batch submit an earlier one of it again, and which contradict an earlier one."""
    repeats: dict[int, int] = {}
    conflicts: dict[int, TaskyardError] = {}
    ids: dict[str, int] = {}
    keys: dict[tuple[str, str], int] = {}
    for index, insert in inserts.items():
        values = insert.values
        key = values["instance_id"], values["idempotency_key"] or ""
        by_key = keys.setdefault(key, index) if values["idempotency_key"] is not None else index
        first = by_key if by_key != index else ids.setdefault(insert.task_id, index)
        if first == index:
            continue
        earlier = inserts[first].values
        if (earlier["instance_id"], earlier["request_hash"]) == (values["instance_id"], values["request_hash"]):
            repeats[index] = repeats.get(first, first)
        elif first == by_key:
            conflicts[index] = IdempotencyConflict(
                f"the idempotency key {key[1]!r} is used twice in this batch, with different bodies",
                path=["idempotencyKey"],
            )
        else:
            conflicts[index] = IdTaken(f"the id {insert.task_id!r} is used twice in this batch", path=["id"])
    return repeats, conflicts
