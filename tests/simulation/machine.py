"""A model of tasks against the real services and a real store: Hypothesis chooses what is done next.

The model predicts what each call does to which task, or how it is refused. It knows nothing of queues,
statements and guards: only the rules of docs/lifecycle.md.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.support.clock import FakeClock
from tests.support.core import stored

from taskyard.errors import IdTaken, IllegalTransition, InvalidInput, LeaseLost, TaskyardError
from taskyard.principal import EVERYTHING, Principal, Role
from taskyard.queue.entry import Want
from taskyard.retry import Backoff
from taskyard.runtime import Runtime
from taskyard.service.claims import Run
from taskyard.task import Metrics, NewTask, Task

T = TypeVar("T")

#: Opens a core with the settings below, on an empty database of its own.
Opener = Callable[[FakeClock], Coroutine[Any, Any, Runtime]]

LEASE, TASK_TIMEOUT, GRACE = timedelta(seconds=3), timedelta(seconds=20), timedelta(seconds=2)
#: What an opener must set for the model to hold: nothing starves, and the durations above.
SETTINGS = {"lease": 3, "heartbeat": 1, "task_timeout": 20, "starve": 86_400}
QUEUES = ("default", "chat")
USER = Principal("user-1", Role.USER, frozenset({"default"}))
ADMIN = Principal("admin-1", Role.ADMIN, frozenset({"default"}))
WORKER = "w1"
HELD = ("ASSIGNED", "PROCESSING")
ENDED = ("COMPLETED", "FAILED", "CANCELLED")
_BACKOFF = Backoff()


@dataclass(slots=True)
class Model:
    """A task as it should be."""

    new: NewTask
    status: str
    priority: int
    generation: int
    seq: int | None
    run_at: datetime | None
    version: int = 1
    attempt: int = 0
    retry_count: int = 0
    lost_count: int = 0
    holder: str | None = None
    lease_until: datetime | None = None
    deadline_at: datetime | None = None
    error_code: str | None = None

    def move(self, status: str) -> None:
        self.status = status
        self.version += 1
        if status not in HELD:
            self.holder = self.lease_until = self.deadline_at = None
        if status == "QUEUED":
            self.generation += 1
            self.run_at = None

    def hold(self, status: str, holder: str, lease_until: datetime, deadline_at: datetime | None) -> None:
        self.move(status)
        self.holder, self.lease_until, self.deadline_at = holder, lease_until, deadline_at

    def time_out(self) -> None:
        self.move("FAILED")
        self.error_code = "TIMEOUT"

    @property
    def timeout(self) -> timedelta:
        return self.new.timeout or TASK_TIMEOUT


_PREDICTED = tuple(name for name in Model.__slots__ if name not in ("new", "seq"))


class TaskMachine(RuleBasedStateMachine):
    """Subclasses say how a core is opened."""

    opener: ClassVar[Opener]

    def __init__(self) -> None:
        super().__init__()
        self._clock = FakeClock()
        self._runner = asyncio.Runner()
        self._models: dict[str, Model] = {}
        self._runs: list[tuple[Run, Task]] = []
        #: Runs, by task and attempt, that are to be tried again: to tell that once more is a success.
        self._retried: set[tuple[str, int]] = set()
        self._paused: set[str] = set()
        self._seqs: set[int] = set()

    @initialize(priorities=st.lists(st.sampled_from([2, 5, 8]), min_size=3, max_size=5))
    def open(self, priorities: list[int]) -> None:
        self._core: Runtime = self._run(type(self).opener(self._clock))
        # Something to do from the first step on: a sequence has few steps.
        for number, priority in enumerate(priorities):
            self._submit(QUEUES[number % 2], priority, 2, timedelta(seconds=4) if number % 2 else None, 0)
        self.claim(2)

    def teardown(self) -> None:
        try:
            trails = self._run(self._core.tasks.events_of(USER, list(self._models), limit=500))
            for task_id, model in self._models.items():
                versions = [event.version for event in trails[task_id]]
                assert versions == list(range(1, model.version + 1)), task_id
        finally:
            if hasattr(self, "_core"):
                self._run(self._core.aclose())
            self._runner.close()

    # -- submit and steer ---------------------------------------------------------------------

    @rule(
        queue=st.sampled_from(QUEUES),
        priority=st.sampled_from([2, 5, 8]),
        max_retries=st.integers(0, 2),
        timeout=st.sampled_from([None, timedelta(seconds=4)]),
        wait=st.sampled_from([0, 0, 0, 2]),
    )
    def submit(self, queue: str, priority: int, max_retries: int, timeout: timedelta | None, wait: int) -> None:
        self._submit(queue, priority, max_retries, timeout, wait)

    def _submit(self, queue: str, priority: int, max_retries: int, timeout: timedelta | None, wait: int) -> None:
        later = self._clock.now() + timedelta(seconds=wait) if wait else None
        new = NewTask(
            id=f"t{len(self._models) + 1}",
            task_type="any",
            input={},
            queue=queue,
            priority=priority,
            max_retries=max_retries,
            timeout=timeout,
            scheduled_for=later,
        )
        task = self._run(self._core.tasks.create(USER, new))
        queued = later is None
        model = Model(new, "QUEUED" if queued else "SCHEDULED", priority, int(queued), task.queue_seq, later)
        self._models[task.id] = model
        if queued:
            self._take_place(task.queue_seq)

    @precondition(lambda self: self._models)
    @rule(data=st.data(), same=st.booleans())
    def submit_again(self, data: st.DataObject, same: bool) -> None:
        task_id, model = self._any(data)
        if same:
            assert self._run(self._core.tasks.create(USER, model.new)).id == task_id
        else:
            other = NewTask(id=task_id, task_type="other", input={})
            self._refused(IdTaken, self._core.tasks.create(USER, other))

    @precondition(lambda self: self._models)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        task_id, model = self._any(data)
        call = self._core.tasks.cancel(USER, task_id)
        if model.status in ("COMPLETED", "FAILED"):
            return self._refused(IllegalTransition, call)
        if model.status != "CANCELLED":
            model.move("CANCELLED")
            model.run_at = None
        assert self._run(call).status == "CANCELLED"
        return None

    @precondition(lambda self: self._models)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        task_id, model = self._any(data)
        call = self._core.tasks.retry(USER, task_id)
        if model.status not in ("FAILED", "CANCELLED", "RETRYING"):
            return self._refused(IllegalTransition, call)
        model.move("QUEUED")
        model.retry_count = model.lost_count = 0
        model.error_code = None
        self._enter(self._run(call))
        return None

    @precondition(lambda self: self._models)
    @rule(data=st.data(), priority=st.integers(1, 10))
    def reprioritise(self, data: st.DataObject, priority: int) -> None:
        task_id, model = self._any(data)
        call = self._core.tasks.change_priority(USER, task_id, priority)
        if model.status in ENDED:
            return self._refused(InvalidInput, call)
        if priority != model.priority:
            model.priority = priority
            model.version += 1
            model.generation += model.status == "QUEUED"
        assert self._run(call).priority == priority
        return None

    @rule(queue=st.sampled_from(QUEUES), paused=st.booleans())
    def pause(self, queue: str, paused: bool) -> None:
        (self._paused.add if paused else self._paused.discard)(queue)
        self._run(self._core.tasks.set_paused(ADMIN, queue, paused, None))

    # -- claim --------------------------------------------------------------------------------

    @rule(limit=st.integers(1, 3))
    def claim_some(self, limit: int) -> None:
        self.claim(limit)

    @rule(tenths=st.sampled_from([31, 70]), limit=st.integers(1, 3))
    def claim_what_others_lost(self, tenths: int, limit: int) -> None:
        self._clock.advance(tenths / 10)
        self.promote()
        self.reap()
        self.claim(limit)

    def claim(self, limit: int) -> None:
        expected = self._best(limit)
        tasks = self._run(self._core.claims.claim(WORKER, Want(limit=limit)))
        assert [task.id for task in tasks] == expected
        now = self._clock.now()
        for task in tasks:
            model = self._models[task.id]
            model.hold("PROCESSING", WORKER, now + LEASE, now + model.timeout)
            self._begin(task, f"worker:{WORKER}")

    @rule()
    def dequeue(self) -> None:
        expected = self._best(1)
        tasks = self._run(self._core.claims.dequeue(USER, Want(limit=1)))
        assert [task.id for task in tasks] == expected
        for task in tasks:
            self._models[task.id].hold("ASSIGNED", USER.subject, self._clock.now() + LEASE, None)
            self._begin(task, USER.subject)

    @precondition(lambda self: self._models)
    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        task_id, model = self._any(data)
        call = self._core.claims.start(USER, task_id)
        if model.status not in ("QUEUED", "ASSIGNED"):
            return self._refused(IllegalTransition, call)
        fresh = model.status == "QUEUED"
        end = self._clock.now() + model.timeout
        model.hold("PROCESSING", USER.subject, end, end)
        task = self._run(call)
        if fresh:
            self._begin(task, USER.subject)
        return None

    # -- runs, of which many are over ---------------------------------------------------------

    @precondition(lambda self: self._runs)
    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        run, model, _ = self._any_run(data)
        call = self._core.claims.complete(run, {"attempt": run.attempt}, Metrics())
        if self._may_end(run, model, ("PROCESSING",), "COMPLETED", call):
            model.move("COMPLETED")
            model.error_code = None
            self._run(call)

    @precondition(lambda self: self._runs)
    @rule(data=st.data(), again=st.booleans())
    def fail(self, data: st.DataObject, again: bool) -> None:
        run, model, task = self._any_run(data)
        call = self._core.claims.fail(run, task, "NO_LUCK", "no luck", retry=again)
        if again and task.retry_count < task.max_retries:
            if self._may_end(run, model, ("PROCESSING",), "RETRYING", call):
                longest = timedelta(seconds=min(_BACKOFF.cap, _BACKOFF.base * 2**model.retry_count))
                model.move("RETRYING")
                model.retry_count += 1
                model.error_code = "NO_LUCK"
                assert self._run(call) == "RETRYING"
                model.run_at = self._stored(run.task_id).run_at
                assert model.run_at is not None
                wait = model.run_at - self._clock.now()
                assert -timedelta(milliseconds=1) <= wait <= longest
        elif self._may_end(run, model, HELD, "FAILED", call):
            model.move("FAILED")
            model.error_code = "NO_LUCK"
            assert self._run(call) == "FAILED"

    @precondition(lambda self: self._runs)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        run, model, _ = self._any_run(data)
        call = self._core.claims.release(run)
        if self._may_end(run, model, HELD, "QUEUED", call):
            model.move("QUEUED")
            self._run(call)

    @precondition(lambda self: self._runs)
    @rule(data=st.data())
    def tell(self, data: st.DataObject) -> None:
        run, model, _ = self._any_run(data)
        call = self._core.claims.progress(run, 50, None)
        if model.status in HELD and model.attempt == run.attempt:
            model.version += 1
            self._run(call)
        else:
            self._refused(LeaseLost, call)

    # -- time ---------------------------------------------------------------------------------

    @rule(tenths=st.sampled_from([0, 1, 5, 10, 31, 31, 70]), sweep=st.integers(0, 4))
    def pass_time(self, tenths: int, sweep: int) -> None:
        self._clock.advance(tenths / 10)
        if sweep in (0, 1):
            self.promote()
        if sweep in (1, 2):
            self.enforce_deadlines()
        if sweep in (1, 3):
            self.reap()

    @rule()
    def beat(self) -> None:
        told = {(run.task_id, run.attempt) for run, _ in self._runs}
        until = self._clock.now() + LEASE
        kept = set()
        for task_id, model in self._models.items():
            if model.holder == WORKER:
                model.lease_until = until
                kept.add((task_id, model.attempt))
        assert self._run(self._core.claims.renew(WORKER, told)) == kept

    def reap(self) -> None:
        now = self._clock.now()
        gone = [model for model in self._models.values() if model.lease_until is not None and model.lease_until < now]
        for model in gone:
            if model.deadline_at is not None and model.deadline_at <= now:
                model.time_out()
            else:
                model.move("QUEUED")
                model.lost_count += 1
        assert self._run(self._core.maintenance.reap_leases()) == len(gone)

    def enforce_deadlines(self) -> None:
        limit = self._clock.now() - GRACE
        late = [
            model for model in self._models.values() if model.deadline_at is not None and model.deadline_at < limit
        ]
        for model in late:
            model.time_out()
        assert self._run(self._core.maintenance.enforce_deadlines()) == len(late)

    def promote(self) -> None:
        now = self._clock.now()
        due = [
            (task_id, model)
            for task_id, model in self._models.items()
            if model.status in ("SCHEDULED", "RETRYING") and model.run_at is not None and model.run_at <= now
        ]
        for _, model in due:
            model.move("QUEUED")
        assert self._run(self._core.maintenance.promote_due()) == len(due)
        for task_id, _ in due:
            self._enter(self._stored(task_id))

    # -- what must always hold ----------------------------------------------------------------

    @invariant()
    def the_store_is_as_predicted(self) -> None:
        tasks = self._run(self._core.reader.get_many(self._models, EVERYTHING))
        assert len(tasks) == len(self._models)
        for task in tasks:
            model = self._models[task.id]
            expected = {name: getattr(model, name) for name in _PREDICTED} | {"queue_seq": model.seq}
            assert {name: getattr(task, name) for name in expected} == expected, task.id

    # -- helpers ------------------------------------------------------------------------------

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        return self._runner.get_loop().run_until_complete(call)

    def _refused(self, error: type[TaskyardError], call: Coroutine[Any, Any, Any]) -> None:
        try:
            self._run(call)
        except error:
            return
        raise AssertionError(f"{error.code} was expected")

    def _stored(self, task_id: str) -> Task:
        return self._run(stored(self._core, task_id))

    def _any(self, data: st.DataObject) -> tuple[str, Model]:
        task_id = data.draw(st.sampled_from(sorted(self._models)))
        return task_id, self._models[task_id]

    def _any_run(self, data: st.DataObject) -> tuple[Run, Model, Task]:
        # Newest first: shrinking and chance both prefer the first.
        run, task = data.draw(st.sampled_from(self._runs[::-1]))
        return run, self._models[run.task_id], task

    def _best(self, limit: int) -> list[str]:
        ready = [
            (-model.priority, model.seq or 0, task_id)
            for task_id, model in self._models.items()
            if model.status == "QUEUED" and model.new.queue not in self._paused
        ]
        return [task_id for *_, task_id in sorted(ready)[:limit]]

    def _begin(self, task: Task, actor: str) -> None:
        model = self._models[task.id]
        model.attempt += 1
        assert task.attempt == model.attempt
        self._runs.append((Run(task.id, task.attempt, actor), task))

    def _may_end(
        self, run: Run, model: Model, statuses: tuple[str, ...], to: str, call: Coroutine[Any, Any, Any]
    ) -> bool:
        """Whether this run may end so; if not, see that it is refused, or that a repeated end is none."""
        own = model.attempt == run.attempt
        if own and model.status in statuses:
            if to == "RETRYING":
                self._retried.add((run.task_id, run.attempt))
            return True
        if (own and model.status == to) or (to == "RETRYING" and (run.task_id, run.attempt) in self._retried):
            self._run(call)
            return False
        # The task's log tells of a result that was thrown away.
        model.version += to != "QUEUED"
        self._refused(LeaseLost, call)
        return False

    def _enter(self, task: Task) -> None:
        """A task keeps its place, or takes one behind all others when it first enters."""
        model = self._models[task.id]
        if model.seq is None:
            model.seq = task.queue_seq
            self._take_place(task.queue_seq)

    def _take_place(self, seq: int | None) -> None:
        assert seq is not None
        assert seq not in self._seqs
        self._seqs.add(seq)
