"""The invariants that hold whatever breaks. Each is a function that raises with what it found.

A none lost; B one commit, by the newest attempt; C all ended in time after the fault; D events ordered and
gapless; E first in, first out inside a priority; F SQL and the index agree; G only legal moves.
F needs the index: it is in `index`.
"""

from bisect import bisect, insort
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise

from tests.fault.history import EventRow, History

from taskyard.lifecycle import ENDED, TRANSITIONS, TaskStatus

#: So many of what is wrong are shown.
SHOWN = 5
_FIRST = frozenset({TaskStatus.SUBMITTED, TaskStatus.SCHEDULED, TaskStatus.QUEUED})


def none_lost(history: History, accepted: Iterable[str], resting: Collection[str] = ()) -> None:
    """A: every accepted task is there, and at an end; those of `resting` types wait in line, or were cancelled."""
    missing = [task_id for task_id in accepted if task_id not in history.tasks]
    _none(missing, "accepted tasks are gone")
    waits = {task.id for task in history.tasks.values() if task.task_type in resting}
    _none(
        [task for task in history.tasks.values() if task.id not in waits and task.status not in ENDED],
        "tasks never ended",
    )
    left = {TaskStatus.QUEUED, TaskStatus.CANCELLED}
    _none(
        [task for task in history.tasks.values() if task.id in waits and task.status not in left], "tasks do not rest"
    )


def one_row_a_key(history: History, keys: Iterable[str]) -> None:
    """A submission that was repeated made one task."""
    rows = Counter(task.idempotency_key for task in history.tasks.values())
    _none([(key, rows[key]) for key in keys if rows[key] != 1], "keys have not one row")


def one_commit(history: History) -> None:
    """B: what was completed was completed once, by the newest attempt, which did run; and it never ran again."""
    completed: defaultdict[str, list[EventRow]] = defaultdict(list)
    for event in history.events:
        if event.kind == "STATUS" and event.status == "COMPLETED":
            completed[event.task_id].append(event)
    wrong = []
    for task in history.tasks.values():
        commits = completed[task.id]
        if len(commits) != (task.status == "COMPLETED") or any(one.attempt != task.attempt for one in commits):
            wrong.append((task, commits))
    _none(wrong, "tasks were not completed once by their newest attempt")
    begun = Counter((run.task_id, run.attempt) for runs in history.runs.values() for run in runs)
    _none([run for run, count in begun.items() if count > 1], "attempts began twice")
    _none(
        [task for task in history.tasks.values() if task.status == "COMPLETED" and not begun[task.id, task.attempt]],
        "completed attempts never ran",
    )
    _none(
        [run for runs in history.runs.values() for run in runs if run.attempt > history.tasks[run.task_id].attempt],
        "runs have an attempt that nobody claimed",
    )


def slowest_end(history: History, healed: float, resting: Collection[str] = ()) -> float:
    """C: seconds from the end of the fault, or from a later submission, to the end of the slowest task."""
    ends = [
        task.completed_at.timestamp() - max(task.created_at.timestamp(), healed)
        for task in history.tasks.values()
        if task.completed_at is not None and task.task_type not in resting
    ]
    return max(ends, default=0.0)


def gapless(history: History) -> None:
    """D: `seq` has no gap over all, `version` none inside a task, and both rise together."""
    expected = range(1, len(history.events) + 1)
    wrong = [event for event, seq in zip(history.events, expected, strict=True) if event.seq != seq]
    _none(wrong, "events have a gap in seq before them")
    for task_id, events in history.by_task.items():
        versions = [event.version for event in events]
        if versions != list(range(1, len(events) + 1)):
            raise AssertionError(f"the events of {task_id} have the versions {versions}")
        if task_id in history.tasks and history.tasks[task_id].version != len(events):
            raise AssertionError(f"{history.tasks[task_id]} has {len(events)} events")


def most_overtaken(history: History, task_types: Collection[str]) -> int:
    """E: by how many later ones of its priority any task was overtaken, at most, when it was first claimed.

    Claims of several workers are under way at once, each for up to its free slots; these may commit in any order.
    """
    most = 0
    lines: defaultdict[int, list[int]] = defaultdict(list)
    for event in history.claims:
        if (
            event.attempt == 1
            and event.queue_seq is not None
            and history.tasks[event.task_id].task_type in task_types
        ):
            lines[event.priority].append(event.queue_seq)
    for line in lines.values():
        most = max(most, _overtakings(line))
    return most


def lawful(history: History) -> None:
    """G: every task begins lawfully and moves only as the lifecycle says; attempts rise by one at each claim."""
    for task_id, events in history.by_task.items():
        status, attempt = None, 0
        for event in events:
            now = TaskStatus(event.status)
            if status is None:
                legal = now in _FIRST
            elif event.kind == "STATUS":
                legal = now in TRANSITIONS[status]
            else:
                legal = now is status
            claimed = event.kind == "STATUS" and now in (TaskStatus.ASSIGNED, TaskStatus.PROCESSING)
            claimed = claimed and status is TaskStatus.QUEUED
            if not legal or event.attempt != attempt + claimed:
                told = [(one.version, one.kind, one.status, one.attempt, one.actor) for one in events]
                raise AssertionError(f"{task_id} moved against the law at version {event.version}: {told}")
            status, attempt = now, event.attempt
        if task_id in history.tasks and history.tasks[task_id].status != status:
            raise AssertionError(f"{history.tasks[task_id]} is not as its last event says: {status}")


def late_results(history: History) -> int:
    """How many runs came to their end when their tasks were another's, or had ended: all in vain.

    Most such writes are refused; a worker that notices in time that its lease is over does not even try.
    """
    late = 0
    for runs in history.runs.values():
        for run in runs:
            task = history.tasks[run.task_id]
            late += run.whole and (run.attempt, task.status) != (task.attempt, TaskStatus.COMPLETED)
    return late


def recoveries(history: History, deaths: Sequence[tuple[int, float]]) -> list[float]:
    """Seconds from a worker's death (process id, time) to the next claim of each task that it was running."""
    times = dict(deaths)
    found = []
    for events in history.by_task.values():
        claims = [event for event in events if event.kind == "STATUS" and event.status == "PROCESSING"]
        for claim, following in pairwise(claims):
            died = times.get(pid_of(claim.actor))
            # What it had given back or ended itself was not lost by its death.
            lost = any(
                event.version > claim.version and event.version < following.version and _is_lost(event)
                for event in events
            )
            if died is not None and lost and claim.at.timestamp() <= died:
                found.append(following.at.timestamp() - died)
    return found


def pid_of(actor: str) -> int:
    """The process of a worker, from what it signs its events with; 0 for others."""
    parts = actor.rsplit("-", 2)
    return int(parts[1]) if actor.startswith("worker:") and len(parts) == 3 else 0


def _is_lost(event: EventRow) -> bool:
    return event.kind == "STATUS" and event.status == "QUEUED" and "LEASE_LOST" in str(event.detail)


def _overtakings(line: Sequence[int]) -> int:
    """The most numbers that stand before a smaller one."""
    # A sorted list of what was seen: what lies above the new number has overtaken it.
    seen: list[int] = []
    most = 0
    for number in line:
        most = max(most, len(seen) - bisect(seen, number))
        insort(seen, number)
    return most


def _none(wrong: Sequence[object], what: str) -> None:
    if wrong:
        shown = "\n".join(map(str, wrong[:SHOWN]))
        raise AssertionError(f"{len(wrong)} {what}:\n{shown}")
