"""The database of a simulated deployment: what `TaskReader`, `Registry` and `Writer` offer, over rows in memory.

Plain synchronous calls; each is one transaction. `HostStore` carries them over a host's link.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from taskyard.clock import Clock, from_millis, to_millis
from taskyard.lifecycle import HELD, TaskStatus
from taskyard.principal import Scope
from taskyard.store.registry import Worker
from taskyard.store.writes import After, Change, DeadlineAfter, Insert, Write
from taskyard.task import STATE_FIELDS, STATE_TIMES, Event, EventKind, Payload, Task, TaskTypeSpec

Row: TypeAlias = dict[str, Any]

_COLUMNS = tuple(field.name for field in fields(Task) if field.name not in ("agent", "payload"))
_EMPTY: Row = dict.fromkeys((*_COLUMNS, "input", "output", "request_hash"))
_WAITING = frozenset({TaskStatus.SCHEDULED, TaskStatus.RETRYING})

#: Told of each write in the order of commit: the row before (None: it is new), the row after, the event.
Witness: TypeAlias = Callable[[Row | None, Row, Event], None]


class MemoryStore:
    """Rows by id, events by `seq`; its clock is the one of the database."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.rows: dict[str, Row] = {}
        self.events: list[Event] = []
        self._queue_seq = 0
        self._types: dict[str, TaskTypeSpec] = {}
        self._paused: set[tuple[str, str]] = set()
        self._workers: dict[str, Row] = {}

    # -- writes -------------------------------------------------------------------------------

    def apply(self, items: Sequence[Write], witness: Witness) -> list[Event | None]:
        """One transaction of a group: each write is done if it is allowed."""
        return [self._apply(item, witness) for item in items]

    def _apply(self, item: Write, witness: Witness) -> Event | None:
        now = from_millis(to_millis(self._clock.now()))
        before = self.rows.get(item.task_id)
        if isinstance(item, Insert):
            if before is not None:
                return None
            after = _EMPTY | {name: _value(value, now, None) for name, value in item.values.items()}
            kind = EventKind.STATUS
        else:
            if before is None or not _allowed(item, before):
                return None
            timeout = before["timeout_ms"]
            after = before | {name: _value(value, now, timeout) for name, value in item.values.items()}
            for name in item.raised:
                after[name] += 1
            after |= {"version": before["version"] + 1, "updated_at": now}
            kind = item.kind
        if item.values.get("status") is TaskStatus.QUEUED and after["queue_seq"] is None:
            self._queue_seq += 1
            after["queue_seq"] = self._queue_seq
        self.rows[item.task_id] = after
        event = Event(
            seq=len(self.events) + 1,
            task_id=item.task_id,
            instance_id=after["instance_id"],
            version=after["version"],
            attempt=after["attempt"],
            kind=kind,
            actor=item.actor,
            at=now,
            state={name: _state(name, after[name]) for name in STATE_FIELDS},
            detail=item.detail,
        )
        self.events.append(event)
        witness(before, after, event)
        return event

    # -- tasks --------------------------------------------------------------------------------

    def task(self, task_id: str) -> Task:
        return _task(self.rows[task_id])

    def get(self, task_id: str, scope: Scope) -> Task | None:
        row = self.rows.get(task_id)
        return _task(row) if row is not None and scope.allows(row["instance_id"]) else None

    def get_many(self, task_ids: Iterable[str], scope: Scope) -> list[Task]:
        return [task for task_id in task_ids if (task := self.get(task_id, scope)) is not None]

    def statuses_written(self, task_id: str, attempt: int, actor: str) -> frozenset[TaskStatus]:
        return frozenset(
            event.status
            for event in self.events
            if (event.task_id, event.attempt, event.actor) == (task_id, attempt, actor)
            and event.kind is EventKind.STATUS
        )

    def find_submitted(self, task_id: str) -> tuple[Task, str] | None:
        row = self.rows.get(task_id)
        return None if row is None else (_task(row), row["request_hash"])

    def ready(self, scope: Scope, limit: int) -> list[Task]:
        """The best of what is QUEUED, in queues that are not paused."""
        found = [
            row
            for row in self.queued()
            if scope.allows(row["instance_id"]) and (row["instance_id"], row["queue"]) not in self._paused
        ]
        found.sort(key=lambda row: (-row["priority"], row["queue_seq"]))
        return [_task(row) for row in found[:limit]]

    def queued(self) -> list[Row]:
        return [row for row in self.rows.values() if row["status"] is TaskStatus.QUEUED]

    def due(self, now: datetime, limit: int) -> list[Task]:
        found = [row for row in self.rows.values() if row["status"] in _WAITING and row["run_at"] <= now]
        return [_task(row) for row in sorted(found, key=lambda row: row["run_at"])[:limit]]

    def lease_expired(self, now: datetime, limit: int) -> list[Task]:
        return [_task(row) for row in self._held() if row["lease_until"] < now][:limit]

    def past_deadline(self, before: datetime, limit: int) -> list[Task]:
        held = [row for row in self._held() if row["deadline_at"] is not None]
        return [_task(row) for row in held if row["deadline_at"] < before][:limit]

    def started_before(self, moment: datetime, limit: int) -> list[Task]:
        held = [row for row in self._held() if row["started_at"] is not None]
        return [_task(row) for row in held if row["started_at"] < moment][:limit]

    def _held(self) -> list[Row]:
        return [row for row in self.rows.values() if row["status"] in HELD]

    # -- registry -----------------------------------------------------------------------------

    def renew(self, holder: str, runs: Collection[tuple[str, int]], until: datetime) -> frozenset[tuple[str, int]]:
        kept = set()
        for task_id, attempt in runs:
            row = self.rows[task_id]
            if (row["attempt"], row["holder"]) == (attempt, holder) and row["status"] in HELD:
                self.rows[task_id] = row | {"lease_until": until}
                kept.add((task_id, attempt))
        return frozenset(kept)

    def declare(self, specs: Sequence[TaskTypeSpec]) -> None:
        self._types |= {spec.name: spec for spec in specs}

    def types(self) -> list[TaskTypeSpec]:
        return list(self._types.values())

    def set_paused(self, instance_id: str, queue: str, paused: bool) -> None:
        (self._paused.add if paused else self._paused.discard)((instance_id, queue))

    def paused(self) -> frozenset[tuple[str, str]]:
        return frozenset(self._paused)

    def put_worker(self, worker_id: str, values: Mapping[str, Any]) -> None:
        now = self._clock.now()
        known = self._workers.get(worker_id, {"id": worker_id, "started_at": now})
        self._workers[worker_id] = known | dict(values) | {"heartbeat_at": now}

    def workers(self, alive_since: datetime | None) -> list[Worker]:
        return [
            Worker(**row)
            for row in self._workers.values()
            if alive_since is None or (row["status"] != "STOPPED" and row["heartbeat_at"] >= alive_since)
        ]

    def stop_workers(self, silent_since: datetime | None) -> int:
        silent = [
            row
            for row in self._workers.values()
            if row["status"] != "STOPPED" and (silent_since is None or row["heartbeat_at"] < silent_since)
        ]
        for row in silent:
            row |= {"status": "STOPPED", "running": 0}
        return len(silent)


def _allowed(change: Change, row: Row) -> bool:
    return (
        row["status"] in change.statuses
        and change.attempt in (None, row["attempt"])
        and change.generation in (None, row["generation"])
        and change.instance_id in (None, row["instance_id"])
        and change.version in (None, row["version"])
        and (
            change.lease_before is None
            or (row["lease_until"] is not None and row["lease_until"] < change.lease_before)
        )
    )


def _value(value: Any, now: datetime, timeout_ms: int | None) -> Any:
    match value:
        case After(delay):
            return from_millis(to_millis(now + delay))
        case DeadlineAfter(default):
            return now + (default if timeout_ms is None else timedelta(milliseconds=timeout_ms))
    return value


def _state(name: str, value: Any) -> Any:
    return to_millis(value) if name in STATE_TIMES and value is not None else value


def _task(row: Row) -> Task:
    return Task(**{name: row[name] for name in _COLUMNS}, payload=Payload(row["input"], row["output"]))
