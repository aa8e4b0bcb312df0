"""Guards taken out, one at a time: the proof that the oracle would notice.

Most are taken out of the change that carries them, on its way to the store; the rest are a part of the
real code put out of order for the length of a history.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from unittest.mock import patch

from tests.simulation.history import play
from tests.simulation.host import Mutate
from tests.simulation.index import Index
from tests.simulation.oracle import Violation
from tests.simulation.store import MemoryStore

from taskyard.lifecycle import HELD, TaskStatus
from taskyard.queue.base import Commit
from taskyard.queue.entry import Entry, Want
from taskyard.queue.memory import MemoryQueue
from taskyard.service.claims import ClaimService
from taskyard.service.maintenance import Maintenance
from taskyard.store.writes import Change
from taskyard.task import WORKER_ACTOR, EventKind
from taskyard_workers.executor import Executor
from taskyard_workers.heartbeat import Heartbeat
from taskyard_workers.outcome import Reason

T = TypeVar("T")

_ANY = frozenset(TaskStatus)


@dataclass(frozen=True, slots=True)
class Mutation:
    """What is taken out; `caught_by` is a seed that was seen to notice."""

    caught_by: int
    mutate: Mutate | None = None
    patched: Callable[[], AbstractContextManager[Any]] = nullcontext
    make_queue: Callable[..., MemoryQueue] = MemoryQueue

    def caught(self, seed: int) -> bool:
        """Whether the history of this seed breaks a law."""
        with self.patched():
            try:
                play(seed, mutate=self.mutate, make_queue=self.make_queue)
            except Violation:
                return True
        return False


def _to(change: Change) -> TaskStatus | None:
    return change.values.get("status")


def _is_claim(change: Change) -> bool:
    return _to(change) in HELD


def _is_end(change: Change) -> bool:
    """The end of a worker's run."""
    return change.kind is EventKind.STATUS and change.actor.startswith(WORKER_ACTOR) and not _is_claim(change)


def _is_sweep(change: Change) -> bool:
    """What a janitor or an administrator does to runs that took too long."""
    timed_out = change.values.get("error_code") == "TIMEOUT"
    return _is_maintenance(change, "janitor") or (timed_out and not _is_end(change))


def _is_maintenance(change: Change, who: str) -> bool:
    return change.actor == f"system:{who}"


def _where(chosen: Callable[[Change], bool], without: Callable[[Change], Change]) -> Mutate:
    return lambda change: without(change) if chosen(change) else change


def _raised(change: Change, name: str) -> Change:
    return replace(change, raised=change.raised ^ {name})


def _counters_kept(change: Change) -> Change:
    kept = {name: value for name, value in change.values.items() if name not in ("retry_count", "lost_count")}
    return replace(change, values=kept)


class _ForgetfulQueue(MemoryQueue):
    """Never gets back what a failing commit had taken."""

    _failing = False

    async def claim(self, want: Want, commit: Commit[T]) -> list[T]:
        async def watched(entries: Sequence[Entry]) -> Sequence[T]:
            try:
                return await commit(entries)
            except BaseException:
                self._failing = True
                raise

        return await super().claim(want, watched)

    async def add(self, entries: Sequence[Entry]) -> None:
        failing, self._failing = self._failing, False
        if not failing:
            await super().add(entries)


def _renew_whatever(store: MemoryStore, holder: str, runs: Any, until: Any) -> frozenset[tuple[str, int]]:
    for task_id, _ in runs:
        if store.rows[task_id]["status"] in HELD:
            store.rows[task_id] = store.rows[task_id] | {"lease_until": until}
    return frozenset(runs)


def _deaf_interrupt(original: Callable[..., None]) -> Callable[..., None]:
    def interrupt(executor: Executor, task_id: str, attempt: int, reason: Reason) -> None:
        if reason is not Reason.LOST:
            original(executor, task_id, attempt, reason)

    return interrupt


async def _nothing(*_args: Any, **_options: Any) -> int:
    return 0


async def _never(*_args: Any, **_options: Any) -> bool:
    return False


def _without(place: type, method: str, instead: Any = _nothing) -> Callable[[], AbstractContextManager[Any]]:
    return lambda: patch.object(place, method, instead)


MUTATIONS: Mapping[str, Mutation] = {
    "claim without the generation": Mutation(12, _where(_is_claim, lambda c: replace(c, generation=None))),
    "claim of what is not queued": Mutation(1, _where(_is_claim, lambda c: replace(c, statuses=_ANY))),
    "claim that counts no attempt": Mutation(0, _where(_is_claim, lambda c: _raised(c, "attempt"))),
    "end without the attempt": Mutation(1, _where(_is_end, lambda c: replace(c, attempt=None))),
    "completion of what is not running": Mutation(
        2, _where(lambda c: _to(c) is TaskStatus.COMPLETED, lambda c: replace(c, statuses=_ANY))
    ),
    "repeated completion that is refused": Mutation(5, patched=_without(ClaimService, "_ended_so", _never)),
    "heartbeat for what is not held": Mutation(3, patched=_without(MemoryStore, "renew", _renew_whatever)),
    "no heartbeat": Mutation(0, patched=_without(Heartbeat, "beat")),
    "reaper without the attempt": Mutation(22, _where(_is_sweep, lambda c: replace(c, attempt=None))),
    "reaper without the lease": Mutation(
        1, _where(lambda c: _is_maintenance(c, "janitor"), lambda c: replace(c, lease_before=None))
    ),
    "no reaper": Mutation(4, patched=_without(Maintenance, "reap_leases")),
    "no promotion": Mutation(0, patched=_without(Maintenance, "promote_due")),
    "no deadlines": Mutation(7, patched=_without(Maintenance, "enforce_deadlines")),
    "promotion without the version": Mutation(
        37, _where(lambda c: _is_maintenance(c, "scheduler"), lambda c: replace(c, version=None))
    ),
    "cancellation of what has ended": Mutation(
        1, _where(lambda c: _to(c) is TaskStatus.CANCELLED, lambda c: replace(c, statuses=_ANY))
    ),
    "queueing that keeps the generation": Mutation(
        0, _where(lambda c: _to(c) is TaskStatus.QUEUED, lambda c: _raised(c, "generation"))
    ),
    "release that spends a retry": Mutation(
        2, _where(lambda c: _is_end(c) and _to(c) is TaskStatus.QUEUED, lambda c: _raised(c, "retry_count"))
    ),
    "retry that keeps the counters": Mutation(
        0, _where(lambda c: _to(c) is TaskStatus.QUEUED and "retry_count" in c.values, _counters_kept)
    ),
    "queue that forgets what a failed claim took": Mutation(1, make_queue=_ForgetfulQueue),
    "claim that is not given back": Mutation(8, patched=_without(ClaimService, "_give_back")),
    "worker that is deaf to a lost lease": Mutation(
        0, patched=lambda: patch.object(Executor, "interrupt", _deaf_interrupt(Executor.interrupt))
    ),
    "worker that goes on though its lease runs out": Mutation(
        12, patched=_without(Heartbeat, "_abort_what_runs_out", lambda _: None)
    ),
    "no relay": Mutation(4, patched=_without(Index, "keep", _nothing)),
}
