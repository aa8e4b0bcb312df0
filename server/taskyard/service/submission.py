"""From what a caller submits to the row that is written: checks, defaults, digest."""

import hashlib
import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from taskyard.clock import Clock, from_millis, to_millis
from taskyard.errors import InvalidInput
from taskyard.ids import new_id
from taskyard.lifecycle import TaskStatus
from taskyard.names import check_name
from taskyard.principal import Principal
from taskyard.service.catalog import Catalog
from taskyard.store.writes import NOW, Insert
from taskyard.task import (
    MAX_PRIORITY,
    MAX_RETRIES,
    MAX_TIMEOUT,
    MIN_PRIORITY,
    MIN_TIMEOUT,
    Json,
    NewTask,
)

MAX_BATCH = 100
MAX_INPUT_BYTES = 1 << 20
MAX_KEY = 200
MAX_COST = 1e12
#: Times beyond it cannot be told in every zone.
LATEST = datetime(9000, 1, 1, tzinfo=UTC)
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
#: PostgreSQL cannot store this character in a text.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class Submission:
    """Checks what is submitted and makes the insert of it. `max_retries` holds where nobody says otherwise."""

    def __init__(self, catalog: Catalog, clock: Clock, random_bits: Callable[[int], int], max_retries: int) -> None:
        self._catalog = catalog
        self._clock = clock
        self._random_bits = random_bits
        self._max_retries = max_retries

    async def prepare(self, principal: Principal, new: NewTask) -> Insert:
        """The insert of this task. Raises `InvalidInput` with the path of the fault, or `Forbidden`."""
        instance_id = principal.instance_for(new.instance_id)
        check_name(new.task_type, "taskType")
        check_name(new.queue, "queue")
        if new.agent_id is not None:
            check_name(new.agent_id, "agentId")
        if new.id is not None and not _ID.fullmatch(new.id):
            raise InvalidInput(
                "an id has 1 to 64 letters, digits and '_.:-', and begins with a letter or digit", path=["id"]
            )
        if new.idempotency_key is not None:
            check_text(new.idempotency_key, MAX_KEY, "idempotencyKey")
        _check_range(new.priority, MIN_PRIORITY, MAX_PRIORITY, "priority")
        if new.max_retries is not None:
            _check_range(new.max_retries, 0, MAX_RETRIES, "maxRetries")
        if new.timeout is not None and not MIN_TIMEOUT <= new.timeout <= MAX_TIMEOUT:
            raise InvalidInput("a time-out lies between 1 ms and 7 days", path=["timeoutMs"])
        check_cost(new.estimated_cost, ["estimatedCost"])
        scheduled_for = None if new.scheduled_for is None else _moment(new.scheduled_for, "scheduledFor")
        if new.input is None:
            raise InvalidInput("a task needs an input; {} is one", path=["inputData"])
        check_json(new.input, "inputData")
        await self._catalog.check_input(new.task_type, new.input)
        spec = await self._catalog.type_named(new.task_type)

        now = self._clock.now()
        scheduled = scheduled_for is not None and scheduled_for > now
        timeout = new.timeout or (spec.timeout if spec else None)
        max_retries = new.max_retries
        if max_retries is None:
            max_retries = spec.max_retries if spec and spec.max_retries is not None else self._max_retries
        return Insert(
            actor=principal.subject,
            values={
                "id": new.id or new_id(now, self._random_bits),
                "instance_id": instance_id,
                "owner": principal.subject,
                "agent_id": new.agent_id,
                "task_type": new.task_type,
                "queue": new.queue,
                "priority": new.priority,
                "status": TaskStatus.SCHEDULED if scheduled else TaskStatus.QUEUED,
                "version": 1,
                "input": new.input,
                "idempotency_key": new.idempotency_key,
                "request_hash": _digest(new),
                "attempt": 0,
                "retry_count": 0,
                "max_retries": max_retries,
                "lost_count": 0,
                "generation": 0 if scheduled else 1,
                "queued_at": None if scheduled else NOW,
                "timeout_ms": None if timeout is None else round(timeout.total_seconds() * 1000),
                "run_at": scheduled_for if scheduled else None,
                "scheduled_for": scheduled_for,
                "progress": 0.0,
                "estimated_cost": new.estimated_cost,
                "created_at": NOW,
                "updated_at": NOW,
            },
        )


def check_cost(cost: float | None, path: Sequence[str]) -> None:
    """Raise `InvalidInput` unless it can be a cost, or is not said."""
    if cost is not None and not 0 <= cost <= MAX_COST:
        raise InvalidInput(f"a cost is a number from 0 to {MAX_COST:g}", path=path)


def check_text(value: str, longest: int, field: str) -> None:
    """Raise `InvalidInput` unless every database can store this as a text of a bearable length."""
    if not 1 <= len(value) <= longest:
        raise InvalidInput(f"{field} has 1 to {longest} characters", path=[field])
    if value != storable(value):
        raise InvalidInput(f"{field} holds a character that cannot be stored", path=[field])


def storable(text: str) -> str:
    """The text with a mark in place of what cannot be stored: U+0000, and halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode().replace("\0", "?")


def check_json(value: Json, field: str) -> None:
    """Raise `InvalidInput` unless this can be stored as JSON of a bearable size."""
    try:
        text = orjson.dumps(value)
    except TypeError as error:
        raise InvalidInput(f"{field} cannot be stored as JSON: {error}", path=[field]) from error
    if len(text) > MAX_INPUT_BYTES:
        raise InvalidInput(f"{field} is larger than {MAX_INPUT_BYTES} bytes", path=[field])
    if _NUL.search(text):
        raise InvalidInput(f"{field} holds the character U+0000", path=[field])
    # orjson writes null for what JSON has no number for; a null in the text may be one of those.
    if b"null" in text and not _is_finite(value):
        raise InvalidInput(f"{field} holds a number that is not finite", path=[field])


def _is_finite(value: Json) -> bool:
    match value:
        case float():
            return math.isfinite(value)
        case dict():
            return all(map(_is_finite, value.values()))
        case list() | tuple():
            return all(map(_is_finite, value))
    return True


def _moment(value: datetime, field: str) -> datetime:
    """This time as it is stored: in UTC, cut to the millisecond."""
    if value.utcoffset() is None:
        raise InvalidInput("a time needs an offset from UTC, such as Z", path=[field])
    if not EARLIEST <= value <= LATEST:
        raise InvalidInput(f"a time lies between the years {EARLIEST.year} and {LATEST.year}", path=[field])
    return from_millis(to_millis(value))


def _check_range(value: int, low: int, high: int, field: str) -> None:
    if not low <= value <= high:
        raise InvalidInput(f"{field} lies between {low} and {high}", path=[field])


def _digest(new: NewTask) -> str:
    """What makes two submissions the same: all that the caller said, but for the key itself."""
    said: dict[str, Any] = {name: getattr(new, name) for name in _SAID}
    if new.timeout is not None:
        said["timeout"] = new.timeout.total_seconds()
    return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()


_SAID = (
    "task_type",
    "input",
    "id",
    "agent_id",
    "queue",
    "priority",
    "max_retries",
    "scheduled_for",
    "estimated_cost",
)
