"""The laws of the protocol, told apart from the code that should keep them.

The oracle sees every write in the order of commit, every renewal and every step of a run. What breaks a
law is noted, and ends the history.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.simulation.link import START
from tests.simulation.store import Row

from taskyard.task import Event

if TYPE_CHECKING:
    from tests.simulation.host import Host

#: Which status may follow which (the lifecycle of docs/lifecycle.md, as far as a history goes).
MOVES: Mapping[str, frozenset[str]] = {
    "SCHEDULED": frozenset({"QUEUED", "CANCELLED"}),
    "QUEUED": frozenset({"ASSIGNED", "PROCESSING", "CANCELLED"}),
    "ASSIGNED": frozenset({"PROCESSING", "QUEUED", "CANCELLED", "FAILED"}),
    "PROCESSING": frozenset({"COMPLETED", "QUEUED", "RETRYING", "FAILED", "CANCELLED"}),
    "RETRYING": frozenset({"QUEUED", "CANCELLED"}),
    "FAILED": frozenset({"QUEUED"}),
    "CANCELLED": frozenset({"QUEUED"}),
    "COMPLETED": frozenset(),
}
HELD = frozenset({"ASSIGNED", "PROCESSING"})
ENDED = frozenset({"COMPLETED", "FAILED", "CANCELLED"})
SCHEDULER, JANITOR = "system:scheduler", "system:janitor"
#: A run past its deadline is ended after the grace of 2 s by a sweep a second; slow calls are allowed for.
LATEST_END = 4.0
#: A run that lost its claim is told by the next heartbeat; slow calls are allowed for.
LATEST_NEWS = 2.5
#: Of the hosts' settings.
LEASE = 3.0
#: A worker that cannot renew a lease gives its run up a beat after the lease's end; clocks differ by up to 0.6 s.
LATEST_GIVEN_UP = 2.0
#: Between a fault's end and what is no more its doing: calls that hang in it, and one lease.
AFTERMATH = 3.5
#: Administrators time out the runs that began longer ago than this.
STALE = timedelta(seconds=3.5)
_TOO_LATE = re.compile(r"attempt (\d+) ended as (\w+) after")


class Violation(AssertionError):
    """A law was broken; the message has the seed and the last events."""


@dataclass(slots=True)
class _Story:
    """What is known of a task beside its row."""

    #: The host that holds it, and since when by the loop's time.
    host: "Host | None" = None
    claimed_at: float = 0.0
    #: When each attempt lost its claim.
    lost_at: dict[int, float] = field(default_factory=dict)
    #: Until when the claim of each attempt held that was taken away from it.
    held_until: dict[int, float] = field(default_factory=dict)
    #: When each attempt was begun.
    begun: dict[int, float] = field(default_factory=dict)
    returned: set[int] = field(default_factory=set)


class Oracle:
    """Judges one history."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._loop = asyncio.get_running_loop()
        self._events: list[tuple[float, str, Event]] = []
        self._stories: dict[str, _Story] = {}
        self._queue_seq = 0
        self._hosts: dict[str, Host] = {}
        self.broken: asyncio.Future[str] = self._loop.create_future()

    def fail(self, law: str, task_id: str) -> None:
        """Note the first broken law."""
        if self.broken.done():
            return
        own = [shown for shown in self._events if shown[2].task_id == task_id][-12:]
        lines = [f"seed {self._seed}, {self._loop.time():.3f} s: {task_id}: {law}", "the task:", *map(_line, own)]
        self.broken.set_result("\n".join([*lines, "everything:", *map(_line, self._events[-15:])]))

    def knows(self, host: "Host") -> None:
        """A process was started."""
        self._hosts[host.worker.id] = host

    # -- writes -------------------------------------------------------------------------------

    def saw(self, host: "Host", before: Row | None, after: Row, event: Event) -> None:
        """A write was committed for this host."""
        task_id = event.task_id
        self._events.append((self._loop.time(), host.name, event))
        self._check(event.seq == len(self._events), "seq has a gap", task_id)
        story = self._stories.setdefault(task_id, _Story())
        if before is None:
            counters = [after[name] for name in ("attempt", "retry_count", "lost_count", "generation")]
            queued = after["status"] == "QUEUED"
            self._check(
                counters == [0, 0, 0, int(queued)] and event.version == 1, "a task begins with zeros", task_id
            )
            self._check(queued or after["status"] == "SCHEDULED", "a task begins ready or scheduled", task_id)
            self._check_place(None, after, task_id)
            return
        self._check(event.version == before["version"] + 1, "version has a gap", task_id)
        if event.kind == "STATUS":
            old, new = before["status"], after["status"]
            self._check(new in MOVES[old], f"no move leads from {old} to {new}", task_id)
        else:
            self._check(before["status"] == after["status"], f"{event.kind} changed the status", task_id)
        self._check_counters(before, after, event)
        self._check_place(before["queue_seq"], after, task_id)
        if before["status"] in HELD:
            self._check_run(host, before, after, event, story)
        if event.actor == SCHEDULER:
            self._check(before["run_at"] <= host.clock.now(), "queued before its time", task_id)
        if event.kind == "STATUS" and before["status"] == "QUEUED" and after["status"] in HELD:
            story.host = self._hosts.get(after["holder"])
            story.claimed_at = self._loop.time()
        if event.kind == "LOG" and (told := _TOO_LATE.match(event.detail["message"] if event.detail else "")):
            own = (int(told[1]), told[2]) == (before["attempt"], before["status"])
            self._check(not own, "an end that was written is said to be thrown away", task_id)

    def _check_counters(self, before: Row, after: Row, event: Event) -> None:
        old, new = before["status"], after["status"]
        moved = event.kind == "STATUS"
        claimed = moved and old == "QUEUED" and new in HELD
        entered = moved and new == "QUEUED"
        afresh = entered and (old in ENDED or (old == "RETRYING" and event.actor != SCHEDULER))
        reordered = event.kind == "PRIORITY" and old == "QUEUED"
        reaped = entered and old in HELD and event.actor == JANITOR
        law = {
            "attempt": before["attempt"] + claimed,
            "generation": before["generation"] + (entered or reordered),
            "retry_count": 0 if afresh else before["retry_count"] + (moved and new == "RETRYING"),
            "lost_count": 0 if afresh else before["lost_count"] + reaped,
        }
        for name, value in law.items():
            self._check(after[name] == value, f"{name} is {after[name]}, by its law {value}", event.task_id)
        self._check(after["retry_count"] <= after["max_retries"], "retried too often", event.task_id)

    def _check_place(self, had: int | None, after: Row, task_id: str) -> None:
        place = after["queue_seq"]
        if had is not None or place is None:
            self._check(place == had, "its place in line changed", task_id)
            return
        self._check(place > self._queue_seq, "its place in line was another's", task_id)
        self._queue_seq = place

    def _check_run(self, host: "Host", before: Row, after: Row, event: Event, story: _Story) -> None:
        """What may happen to a task that is held."""
        task_id, new = event.task_id, after["status"]
        own = event.actor == f"worker:{before['holder']}"
        if event.kind == "PROGRESS":
            self._check(own, "progress of one who does not hold it", task_id)
        if event.kind != "STATUS" or new in HELD:
            return
        attempt = before["attempt"]
        story.lost_at[attempt] = self._loop.time()
        story.held_until[attempt] = (before["lease_until"] - START).total_seconds()
        self._check_end(before["lease_until"], "its lease", task_id)
        if before["deadline_at"] is not None:
            self._check_end(before["deadline_at"], "its deadline", task_id)
        if new == "COMPLETED":
            self._check(after["output"] == {"attempt": attempt}, "the result of another attempt was kept", task_id)
            self._check(attempt in story.returned, "completed before its run returned", task_id)
        if event.actor == JANITOR:
            self._check_janitor(host, before, after, story, task_id)
        elif event.actor == "admin-1":
            self._check(before["started_at"] <= event.at - STALE, "timed out before it was stale", task_id)
        elif event.actor.startswith("worker:"):
            self._check(own, "ended by one who does not hold it", task_id)
            self._check_failure(before, after, event)

    def _check_janitor(self, host: "Host", before: Row, after: Row, story: _Story, task_id: str) -> None:
        if after["status"] == "FAILED":
            late = before["deadline_at"] is not None and before["deadline_at"] <= host.clock.now()
            self._check(late and after["error_code"] == "TIMEOUT", "timed out before its deadline", task_id)
            return
        self._check(before["lease_until"] < host.clock.now(), "taken away before its lease ran out", task_id)
        holder = story.host
        if holder is not None and holder.link.well_since(story.claimed_at - AFTERMATH):
            excused = not holder.link.wrote_since(story.claimed_at)
            self._check(excused, "the lease of a host ran out that was well", task_id)

    def _check_failure(self, before: Row, after: Row, event: Event) -> None:
        code = after["error_code"]
        if after["status"] == "FAILED" and code == "TIMEOUT":
            ran = event.at - before["started_at"]
            limit = timedelta(milliseconds=before["timeout_ms"] or 6000)
            self._check(ran >= limit - timedelta(milliseconds=2), "timed out before its time", event.task_id)
        elif after["status"] == "FAILED" and code != "PERMANENT":
            spent = before["retry_count"] >= before["max_retries"]
            self._check(spent, f"failed for good ({code}) with retries left", event.task_id)

    def _check_end(self, limit: datetime, name: str, task_id: str) -> None:
        """A run past its limit must have ended, unless nobody was well enough to see to it."""
        since = self._loop.time() - LATEST_END - AFTERMATH
        if since < (limit - START).total_seconds() - AFTERMATH:
            return
        well = any(host.has_worker and host.link.well_since(since) for host in self._hosts.values())
        self._check(not well, f"held far past {name}, and nobody ended it", task_id)

    # -- renewals and runs --------------------------------------------------------------------

    def renewed(
        self, before: Mapping[str, Row], after: Mapping[str, Row], holder: str, attempts: Mapping[str, int]
    ) -> None:
        """A worker renewed what it believes to hold."""
        for task_id, row in before.items():
            if after[task_id]["lease_until"] != row["lease_until"]:
                held = row["status"] in HELD and (row["holder"], row["attempt"]) == (holder, attempts[task_id])
                self._check(held, "the lease of another was renewed", task_id)

    def begun(self, task_id: str, attempt: int) -> None:
        """A processor was called."""
        story = self._stories[task_id]
        self._check(attempt not in story.begun, f"attempt {attempt} was begun twice", task_id)
        story.begun[attempt] = self._loop.time()

    def going_on(self, host: "Host", task_id: str, attempt: int) -> None:
        """A run did another step of its work."""
        story = self._stories[task_id]
        lost = story.lost_at.get(attempt)
        if lost is None:
            return
        # Whatever the link does: it knows by itself when its lease is over, unless it stood still. What it began on a
        # late answer is in no beat that was under way then.
        over = max(story.held_until[attempt], story.begun[attempt] + LEASE)
        if self._loop.time() > over + LATEST_GIVEN_UP and host.link.thawed_at < over - AFTERMATH:
            self.fail(f"attempt {attempt} goes on though its lease ran out at {over:.3f} s", task_id)
        if self._loop.time() < lost + LATEST_NEWS or not host.link.wrote_since(lost):
            return
        if host.link.well_since(lost - AFTERMATH):
            self.fail(f"attempt {attempt} goes on though its claim is long lost", task_id)

    def returned(self, task_id: str, attempt: int) -> None:
        """A run came to its result."""
        self._stories[task_id].returned.add(attempt)

    # -- the end ------------------------------------------------------------------------------

    def settle(self, rows: Mapping[str, Row], accepted: set[str]) -> None:
        """Every fault was healed long ago."""
        for task_id in sorted(accepted):
            self._check(task_id in rows, "accepted, and lost", task_id)
        versions: dict[str, int] = {}
        for _, _, event in self._events:
            versions[event.task_id] = versions.get(event.task_id, 0) + 1
        for task_id, row in rows.items():
            self._check(versions[task_id] == row["version"], "it has not one event a version", task_id)
            self._check(row["status"] in ENDED, f"still {row['status']} long after the faults healed", task_id)

    def digest(self) -> list[tuple[Any, ...]]:
        """What happened, to compare two histories."""
        return [(at, host, event.task_id, event.kind, event.state["status"]) for at, host, event in self._events]

    def _check(self, holds: bool, law: str, task_id: str) -> None:
        if not holds:
            self.fail(law, task_id)


def _line(shown: tuple[float, str, Event]) -> str:
    at, host, event = shown
    state = event.state
    figures = " ".join(f"{name[0]}{state[name]}" for name in ("attempt", "retry_count", "lost_count", "generation"))
    return (
        f"  {at:8.3f} {host:5} {event.task_id} v{event.version} {event.kind} {state['status']} {figures}"
        f" {event.actor} {state['error_code'] or ''}"
    ).rstrip()
