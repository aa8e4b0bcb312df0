"""Events between processes: JSON that a newer or older Taskyard can read, never pickle."""

from collections.abc import Sequence
from typing import Any

import orjson

from taskyard.clock import from_millis, to_millis
from taskyard.task import Event, EventKind

_HEAD, _TAIL = b'{"from":%b,"events":[', b"]}"


def encode(sender: str, events: Sequence[Event], limit: int) -> list[str]:
    """Messages of at most `limit` bytes, in order. An event that fits into none becomes a hint: an empty message."""
    head = _HEAD % orjson.dumps(sender)
    room = limit - len(head) - len(_TAIL)
    messages: list[list[bytes]] = []
    size = room + 1
    for event in events:
        part = orjson.dumps(_plain(event))
        if len(part) > room:
            messages.append([])
            size = room + 1
        elif size + len(part) + 1 > room:
            messages.append([part])
            size = len(part)
        else:
            messages[-1].append(part)
            size += len(part) + 1
    return [(head + b",".join(parts) + _TAIL).decode() for parts in messages]


def hint(sender: str) -> str:
    """The message that something happened which it does not tell."""
    return (_HEAD % orjson.dumps(sender) + _TAIL).decode()


def decode(message: str) -> tuple[str, list[Event]]:
    """The sender and its events. Raises `ValueError`, `KeyError` or `TypeError` for what is no such message."""
    content = orjson.loads(message)
    return content["from"], [_event(values) for values in content["events"]]


def _plain(event: Event) -> dict[str, Any]:
    return {
        "seq": event.seq,
        "task": event.task_id,
        "instance": event.instance_id,
        "version": event.version,
        "attempt": event.attempt,
        "kind": event.kind,
        "actor": event.actor,
        "at": to_millis(event.at),
        "state": event.state,
        "detail": event.detail,
    }


def _event(values: dict[str, Any]) -> Event:
    return Event(
        seq=values["seq"],
        task_id=values["task"],
        instance_id=values["instance"],
        version=values["version"],
        attempt=values["attempt"],
        kind=EventKind(values["kind"]),
        actor=values["actor"],
        at=from_millis(values["at"]),
        state=values["state"],
        detail=values["detail"],
    )
