"""A group of writes as the parameters of PostgreSQL's statements, and their rows as events."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import asyncpg
import orjson

from taskyard.clock import from_millis, to_millis
from taskyard.lifecycle import TaskStatus
from taskyard.store.postgres_text import DEADLINES, RAISABLE, SETTABLE
from taskyard.store.writes import After, Change, DeadlineAfter, Insert, Write
from taskyard.task import STATE_FIELDS, Event, EventKind

#: Writes of one statement.
MAX_GROUP = 500
_SETTABLE = frozenset(SETTABLE)
_MILLISECOND = timedelta(milliseconds=1)


def keys_of(item: Write) -> Sequence[Hashable]:
    """What an item writes to. A statement does not see what it has itself written: a group has each key once."""
    if isinstance(item, Insert) and (key := item.values.get("idempotency_key")) is not None:
        return item.task_id, (item.values["instance_id"], key)
    return (item.task_id,)


def parts_of(items: Sequence[Write]) -> Iterable[Sequence[Write]]:
    """The items in order, cut into groups which have each key once and are small enough."""
    part: list[Write] = []
    taken: set[Hashable] = set()
    for item in items:
        keys = keys_of(item)
        if len(part) == MAX_GROUP or not taken.isdisjoint(keys):
            yield part
            part, taken = [], set()
        part.append(item)
        taken.update(keys)
    if part:
        yield part


@dataclass(frozen=True, slots=True)
class Group:
    """Writes to different tasks, at one moment. Raises TypeError or ValueError for what cannot be stored."""

    items: Sequence[Write]
    now: datetime

    def parameters(self) -> tuple[datetime, str, list[str], list[str]]:
        """Those of `WRITE` and `APPLY`."""
        about = {item.task_id: (n, *_told(item)) for n, item in enumerate(self.items)}
        new = [_dumped(self._insert(item)) for item in self.items if isinstance(item, Insert)]
        changes = [_dumped(self._change(item)) for item in self.items if isinstance(item, Change)]
        return self.now, _dumped(about), new, changes

    def results(self, rows: Iterable[asyncpg.Record]) -> list[Event | None]:
        """The events of what was written, in the order of the items; None for what was not allowed."""
        found = {row["task_id"]: row for row in rows}
        return [
            self._event(item, row) if (row := found.get(item.task_id)) is not None else None for item in self.items
        ]

    def _event(self, item: Write, row: asyncpg.Record) -> Event:
        state = dict.fromkeys(STATE_FIELDS) | orjson.loads(row["state"])
        rest = None if row["rest"] is None else orjson.loads(row["rest"])
        kind, actor, detail = _told(item)
        return Event(
            row["seq"],
            item.task_id,
            row["instance_id"],
            row["version"],
            state["attempt"],
            kind,
            actor,
            self.now,
            state,
            detail,
            rest,
        )

    def _insert(self, item: Insert) -> dict[str, Any]:
        return {name: self._bound(value) for name, value in item.values.items()}

    def _change(self, item: Change) -> dict[str, Any]:
        given = {name: self._bound(value) for name, value in item.values.items() if type(value) is not DeadlineAfter}
        deadlines = {
            name: value.default // _MILLISECOND for name, value in item.values.items() if type(value) is DeadlineAfter
        }
        if not (given.keys() <= _SETTABLE and deadlines.keys() <= DEADLINES and item.raised <= RAISABLE):
            raise ValueError(f"a change cannot set {sorted({*item.values, *item.raised})}")
        changed: dict[str, Any] = {
            "task_id": item.task_id,
            "statuses": _names(item.statuses),
            "given": given,
            "raised": list(item.raised),
            "deadlines": deadlines,
        }
        for name, guard in (
            ("if_attempt", item.attempt),
            ("if_generation", item.generation),
            ("if_version", item.version),
            ("lease_before", item.lease_before),
            ("if_instance", item.instance_id),
        ):
            if guard is not None:
                changed[name] = self._bound(guard)
        if item.whole:
            changed["whole"] = True
        if item.step is not None:
            changed["step"] = {"name": item.step.name, "status": item.step.status, "output": item.step.output}
        return changed

    def _bound(self, value: Any) -> Any:
        if type(value) is After:
            return self.now + value.delay // _MILLISECOND * _MILLISECOND
        if type(value) is datetime:
            return from_millis(to_millis(value))
        return value


def numbered(events: Sequence[Event]) -> list[str]:
    """What `NUMBER` takes for events that were applied before."""
    return [
        _dumped((e.task_id, e.kind, e.actor, e.detail, e.instance_id, e.version, e.attempt, e.state)) for e in events
    ]


def _told(item: Write) -> tuple[EventKind, str, Any]:
    return item.kind if isinstance(item, Change) else EventKind.STATUS, item.actor, item.detail


@lru_cache(maxsize=256)
def _names(statuses: frozenset[TaskStatus]) -> list[str]:
    return [str(status) for status in statuses]


def _dumped(value: Any) -> str:
    return orjson.dumps(value).decode()
