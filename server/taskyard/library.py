"""Taskyard as a library: a queue without any server, over the same core that the service runs on."""

import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self, Unpack, overload

from taskyard.errors import IllegalTransition, InvalidInput, LeaseLost, StartupError
from taskyard.lifecycle import HELD, TaskStatus, check_move
from taskyard.names import check_name
from taskyard.principal import DEFAULT_INSTANCE, Principal, Role
from taskyard.queue.entry import Filters, Want, check_filters
from taskyard.runtime import Runtime, open_deployment, open_embedded
from taskyard.service.tasks import BatchMode
from taskyard.settings import Settings, load_settings
from taskyard.store.listing import MAX_PAGE, Page, Sort, TaskFilter
from taskyard.task import MIN_PRIORITY, AgentSummary, Json, Metrics, NewTask, Task

#: A queue in a temporary folder that goes with it.
MEMORY = ":memory:"
#: Says where a database is; any other place is a folder.
_POSTGRES = ("postgresql://", "postgres://")
#: Said by `where` alone.
_PLACE = frozenset({"data", "database_url", "redis_url"})
#: What the caller says and the environment does not: where the tasks are, and who does them.
_CALLERS = ("database_url", "redis_url", "queue_backend", "default_processor")


class TaskQueue:
    """A queue over a core: of one instance, for one process.

    `owner` is who has submitted its tasks. What it dequeues is held by this object alone. It runs no loops:
    what time brings (retries, scheduled tasks, claims that ran out) is looked after at each `dequeue`, and
    all the while by a `TaskManager`.
    """

    def __init__(self, runtime: Runtime, *, instance_id: str = DEFAULT_INSTANCE, owner: str = "library") -> None:
        check_name(instance_id, "instance_id")
        self.runtime = runtime
        self.holder = f"library-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        # Who has the database has every right but one: to end a run that another holds.
        self.principal = Principal(owner, Role.ADMIN, frozenset({instance_id}))
        self._as_holder = Principal(self.holder, Role.AGENT, frozenset({instance_id}))

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        where: Path | str,
        *,
        redis_url: str | None = None,
        instance_id: str = DEFAULT_INSTANCE,
        owner: str = "library",
        **settings: Any,
    ) -> AsyncIterator[Self]:
        """Open the queue that is in this place, made if there is none; it closes with the context.

        `where` is a folder (SQLite, for one process at a time), ":memory:" (gone with the context) or a
        postgresql:// URL (for many processes; `taskyard migrate` makes its tables), which may have a Redis
        beside it. `settings` are those of the service by their field, above the environment. Raises `StartupError`.
        """
        async with _core(where, redis_url, settings) as runtime:
            yield cls(runtime, instance_id=instance_id, owner=owner)

    # -- putting in ---------------------------------------------------------------------------

    @overload
    async def enqueue(self, task: NewTask) -> Task: ...
    @overload
    async def enqueue(self, task: str, input: Json, **fields: Any) -> Task: ...
    @overload
    async def enqueue(self, task: Sequence[NewTask]) -> list[Task]: ...

    async def enqueue(
        self,
        task: NewTask | str | Sequence[NewTask],
        input: Json = None,  # noqa: A002 - as in NewTask
        **fields: Any,
    ) -> Task | list[Task]:
        """Accept a task, durably: a `NewTask`, or its type, input and other fields; or a list, all or none.

        The same id or idempotency key with the same body gives the task that is there. A list has up to 100.
        Raises `InvalidInput`, `IdempotencyConflict` or `IdTaken`; of a list, the path begins with the index.
        """
        if isinstance(task, str):
            task = NewTask(task_type=task, input=input, **fields)
        elif input is not None or fields:
            raise TypeError("a NewTask says all of itself: give its fields to it")
        if isinstance(task, NewTask):
            return await self.runtime.tasks.create(self.principal, task)
        result = await self.runtime.tasks.create_batch(self.principal, task, BatchMode.ATOMIC)
        if result.errors:
            index = min(result.errors)
            error = result.errors[index]
            error.path = [index, *(error.path or ())]
            raise error
        return result.tasks

    async def register_agent(self, agent_id: str, agent_type: str, name: str | None = None) -> None:
        """Say which type an agent has; one that nobody registered has the type `generic`."""
        await self.runtime.tasks.register_agent(self.principal, AgentSummary(agent_id, name or agent_id, agent_type))

    # -- taking out ---------------------------------------------------------------------------

    async def dequeue(
        self, limit: int = 1, *, status: TaskStatus = TaskStatus.PROCESSING, **filters: Unpack[Filters]
    ) -> Sequence[Task]:
        """Claim up to `limit` (100) ready tasks that fit, best first, with their input.

        With `status` ASSIGNED they do not begin yet: `update_status(task, PROCESSING)` begins one. A claim
        holds for a lease (`TASKYARD_LEASE_SECONDS`, 30), which `renew` begins anew; then others get the task.
        """
        want = self._want(limit, filters)
        if status not in (TaskStatus.PROCESSING, TaskStatus.ASSIGNED):
            raise InvalidInput("what is dequeued becomes PROCESSING or ASSIGNED", path=["status"])
        maintenance = self.runtime.maintenance
        await maintenance.promote_due()
        await maintenance.enforce_deadlines()
        await maintenance.reap_leases()

        async def claim(want: Want) -> Sequence[Task]:
            if status is TaskStatus.ASSIGNED:
                return await self.runtime.claims.dequeue(self._as_holder, want)
            return await self.runtime.claims.claim(self.holder, want)

        return await self._in_index_or_table(want, claim)

    async def peek(self, limit: int = 1, **filters: Unpack[Filters]) -> Sequence[Task]:
        """What `dequeue` would give now, without the input; claims nothing."""
        return await self._in_index_or_table(
            self._want(limit, filters), partial(self.runtime.claims.peek, self.principal)
        )

    async def renew(self, task: Task) -> None:
        """Keep a dequeued task for another lease from now. Raises `LeaseLost` if it is no longer held here."""
        run = (task.id, task.attempt)
        if run not in await self.runtime.claims.renew(self.holder, [run]):
            raise LeaseLost(f"attempt {task.attempt} no longer holds the task {task.id!r}")

    async def update_status(
        self,
        task: Task | str,
        status: TaskStatus,
        *,
        output: Json = None,
        error: str = "it failed",
        code: str | None = None,
        metrics: Metrics = Metrics(),  # noqa: B008 - frozen
    ) -> Task:
        """Move a task on, and give it as it stands then.

        PROCESSING begins it, COMPLETED ends it with `output` and `metrics`, FAILED for good with `error` and
        `code`, RETRYING by the law of retries; QUEUED gives it back, or retries what has ended; CANCELLED
        cancels. A task as `dequeue` gave it stands for that very claim: raises `LeaseLost` if it is gone.
        Raises `IllegalTransition` for what the lifecycle has not, `NotFound`, `InvalidInput`.
        """
        task_id = task if isinstance(task, str) else task.id
        attempt = None if isinstance(task, str) or task.status not in HELD else task.attempt
        current = await self.get_task(task_id)
        here = attempt is None or (current.status in HELD and current.attempt == attempt)
        if here and current.status is not status:
            check_move(current.status, status)
        tasks, claims, holder = self.runtime.tasks, self.runtime.claims, self._as_holder
        match status:
            case TaskStatus.PROCESSING:
                await claims.start(holder, task_id, attempt)
            case TaskStatus.COMPLETED:
                await claims.complete_by_hand(holder, task_id, output, metrics, attempt)
            case TaskStatus.FAILED | TaskStatus.RETRYING:
                retry = status is TaskStatus.RETRYING
                await claims.fail_by_hand(holder, task_id, error, code=code, attempt=attempt, retry=retry)
            case TaskStatus.QUEUED if attempt is not None or current.status in HELD:
                await claims.release_by_hand(holder, task_id, attempt)
            case TaskStatus.QUEUED:
                await tasks.retry(self.principal, task_id)
            case TaskStatus.CANCELLED:
                await tasks.cancel(self.principal, task_id)
            case _:
                raise IllegalTransition(current.status, status, "it does not become so by hand")
        return await self.get_task(task_id)

    # -- looking ------------------------------------------------------------------------------

    async def get_task(self, task_id: str) -> Task:
        """A task with its input and output. Raises `NotFound`."""
        return await self.runtime.tasks.get(self.principal, task_id)

    async def find(
        self,
        *,
        statuses: Sequence[TaskStatus] | None = None,
        queues: Sequence[str] | None = None,
        task_types: Sequence[str] | None = None,
        min_priority: int = MIN_PRIORITY,
        agent_id: str | None = None,
        agent_type: str | None = None,
        search: str | None = None,
        limit: int = 20,
        page: int = 1,
    ) -> list[Task]:
        """The tasks that fit, newest first, with input and output: `limit` (100) of them on each page.

        Of a sequence any one value must hold. `search` is a text in the id, type, error message or input.
        """
        check_filters({"queues": queues, "task_types": task_types})
        wanted = TaskFilter(
            statuses=statuses,
            queues=queues,
            task_types=task_types,
            min_priority=min_priority,
            agent_ids=None if agent_id is None else [agent_id],
            agent_types=None if agent_type is None else [agent_type],
            search=search,
        )
        found = await self.runtime.tasks.list(
            self.principal, wanted, Sort(), Page(limit=limit, number=page), payload=True
        )
        return found.tasks

    async def _in_index_or_table(
        self, want: Want, find: Callable[[Want], Awaitable[Sequence[Task]]]
    ) -> Sequence[Task]:
        """What is found. Perhaps nobody runs who would put in the index what it has missed."""
        found = await find(want)
        if found or want.by_table or self.runtime.relay is None:
            return found
        return await find(replace(want, exact=True))

    def _want(self, limit: int, filters: Filters) -> Want:
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidInput(f"the limit lies between 1 and {MAX_PAGE}", path=["limit"])
        check_filters(filters)
        return Want(limit=limit, scope=self.principal.scope, **filters)


@asynccontextmanager
async def _core(where: Path | str, redis_url: str | None, settings: Mapping[str, Any]) -> AsyncIterator[Runtime]:
    if unknown := settings.keys() - (Settings.model_fields.keys() - _PLACE):
        raise TypeError(f"a queue cannot be opened with the setting {min(unknown)!r}")
    with ExitStack() as stack:
        if where == MEMORY:
            where = stack.enter_context(TemporaryDirectory(prefix="taskyard-"))
        if str(where).startswith(_POSTGRES):
            # A queue issues no tokens and reads none: it need not know the secret of the deployment.
            given = {"jwt_secret": secrets.token_hex(), **settings, "database_url": where, "redis_url": redis_url}
            runtime = await open_deployment(load_settings(given, without=_CALLERS))
        elif "://" in str(where):
            raise StartupError("that is no place for a queue: give a folder, or a URL with postgresql://")
        elif redis_url is not None:
            raise StartupError("a queue in a folder needs no Redis: it goes with PostgreSQL")
        else:
            runtime = await open_embedded(load_settings({**settings, "data": Path(where)}, without=_CALLERS))
        async with aclosing(runtime):
            yield runtime
