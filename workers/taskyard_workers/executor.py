"""N slots, each running one attempt."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from taskyard.clock import Clock
from taskyard.lifecycle import TaskStatus
from taskyard.processor import Processor
from taskyard.service.claims import ClaimService, Run
from taskyard.stopping import end
from taskyard.task import Task
from taskyard_workers.attempt import Attempt, Place
from taskyard_workers.invocation import invoke
from taskyard_workers.isolation import run_isolated
from taskyard_workers.loading import source_of
from taskyard_workers.outcome import Reason
from taskyard_workers.settler import Settler
from taskyard_workers.teller import ClaimTeller

logger = logging.getLogger(__name__)

#: What is told to stop at the end of a drain may take so many seconds until it is back in the queue.
GIVE_BACK_BOUND = 10.0
#: A task whose claim was lost so often may be what ended its workers: it runs alone, where it harms nobody.
SUSPECT_AFTER = 2


@dataclass(frozen=True, slots=True)
class _Running:
    attempt: Attempt
    runner: "asyncio.Task[None]"
    since: float


class Executor:
    """Runs claimed tasks, up to `slots` at once. `default` does the types that nobody declared.

    `freed` is called whenever a slot becomes free.
    """

    def __init__(
        self,
        *,
        slots: int,
        actor: str,
        processors: Mapping[str, Processor],
        default: Processor | None,
        claims: ClaimService,
        settler: Settler,
        clock: Clock,
        freed: Callable[[], None],
    ) -> None:
        self._slots = slots
        self._actor = actor
        self._processors = processors
        self._default = default
        self._claims = claims
        self._settler = settler
        self._clock = clock
        self._freed = freed
        self._running: dict[tuple[str, int], _Running] = {}
        self._claiming_since = clock.monotonic()
        #: What was told to stop before it began, while a claim is under way.
        self._stopped_early: set[tuple[str, int]] | None = None
        self.completed = 0
        self.failed = 0

    @property
    def free(self) -> int:
        return self._slots - len(self._running)

    def timeout_of(self, task_type: str) -> timedelta | None:
        """The longest run that the processor of this type declares."""
        return self._processor(task_type).timeout

    def running(self) -> Mapping[tuple[str, int], float]:
        """Task id and attempt of what is running, and since when on the monotonic clock its claim may hold."""
        return {run: found.since for run, found in self._running.items()}

    @contextmanager
    def claiming(self) -> Iterator[None]:
        """Around a claim and the start of what it gave: what is cancelled in between is not begun."""
        self._stopped_early = set()
        self._claiming_since = self._clock.monotonic()
        try:
            yield
        finally:
            self._stopped_early = None

    def start(self, task: Task) -> None:
        """Run a claimed task in a free slot."""
        if self._stopped_early is not None and (task.id, task.attempt) in self._stopped_early:
            return
        processor = self._processor(task.task_type)
        assert task.deadline_at is not None
        assert task.started_at is not None
        run = Run(task.id, task.attempt, self._actor)
        attempt = Attempt(
            task,
            run,
            processor,
            self._place(task, processor),
            ClaimTeller(run, self._claims),
            self._clock,
            (task.deadline_at - task.started_at).total_seconds(),
        )
        runner = asyncio.create_task(self._run(attempt), name=f"task {task.id}")
        self._running[task.id, task.attempt] = _Running(attempt, runner, self._claiming_since)

    def interrupt(self, task_id: str, attempt: int, reason: Reason) -> None:
        """Stop that attempt, if it is still running here, or about to."""
        found = self._running.get((task_id, attempt))
        if found is not None:
            found.attempt.interrupt(reason)
        elif self._stopped_early is not None:
            self._stopped_early.add((task_id, attempt))

    async def drain(self, bound: float) -> None:
        """Wait up to `bound` seconds for what is running; what is left then goes back to the queue.

        That too has its bound: with a database that is away, the leases run out and others queue the tasks again.
        """
        await self._wait(bound)
        for found in list(self._running.values()):
            found.attempt.interrupt(Reason.SHUTDOWN)
        await self._wait(GIVE_BACK_BOUND)
        await asyncio.gather(*(end(found.runner) for found in list(self._running.values())))

    async def _wait(self, bound: float) -> None:
        if self._running:
            await asyncio.wait([found.runner for found in self._running.values()], timeout=bound)

    async def _run(self, attempt: Attempt) -> None:
        try:
            status = await self._settler.settle(attempt, await attempt.execute())
            if status is TaskStatus.COMPLETED:
                self.completed += 1
            elif status in (TaskStatus.FAILED, TaskStatus.RETRYING):
                self.failed += 1
        except Exception:
            # The lease runs out, and the task is queued again.
            logger.exception("the end of task %s could not be written", attempt.task.id)
        finally:
            del self._running[attempt.task.id, attempt.run.attempt]
            self._freed()

    def _place(self, task: Task, processor: Processor) -> Place:
        assert task.payload is not None
        raw = task.payload.input
        suspect = task.lost_count >= SUSPECT_AFTER
        if suspect or processor.isolated:
            source = source_of(processor)
            if source is not None:
                return lambda context: run_isolated(processor, source, raw, context, self._clock, suspect=suspect)
            logger.warning(
                "task %s may be what ended its workers, and must run among others: the processor %s does not stand"
                " at the top level of a module, where a process of its own would find it",
                task.id,
                processor.name,
            )
        return lambda context: invoke(processor, raw, context, self._clock)

    def _processor(self, task_type: str) -> Processor:
        found = self._processors.get(task_type) or self._default
        assert found is not None, "a worker claims only types that it can run"
        return found
