"""F: whether the index in Redis agrees with SQL. Its keys are read as they lie there, past the queue."""

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from redis import Redis
from tests.fault.deployment import PREFIX, Deployment
from tests.fault.history import query

#: A task, and which of its times in line.
Place: TypeAlias = tuple[str, int]

#: Seconds that anything which must come at last is waited for.
PATIENCE = 120.0
EVERY = 0.1
_ENTRIES = 10_000
_QUEUED = "SELECT id, generation FROM tasks WHERE status = 'QUEUED'"


def agreed(yard: Deployment, healed: float, resting: Collection[str] | None = None) -> float:
    """Seconds from the end of the fault until the index holds exactly the tasks that are QUEUED in SQL.

    Of these tasks alone, if they are given: of all it can only be said when no others come and go.
    Fails if it takes longer than the scale allows.
    """
    bound = max(healed, time.time()) + yard.scale.within(yard.scale.agree)
    of = None if resting is None else frozenset(resting)
    with _redis(yard) as redis:
        while True:
            queued, entries = _of(_queued(yard), of), _of(_entries(redis), of)
            if entries == queued:
                return max(0.0, time.time() - healed)
            missing, stale = queued - entries, entries - queued
            assert time.time() < bound, f"{len(missing)} tasks are not in the index, {len(stale)} entries are stale"
            time.sleep(EVERY)


def indexed(yard: Deployment, task_id: str) -> float:
    """When (`time.time`) this task was seen in the index; it must come."""
    with _redis(yard) as redis:
        deadline = time.time() + PATIENCE
        while task_id not in {known for known, _ in _entries(redis)}:
            assert time.time() < deadline, f"{task_id} does not come into the index"
            time.sleep(0.01)
        return time.time()


def rebuilt(yard: Deployment) -> float:
    """Seconds until the index is complete again after a flush that was just made."""
    began = time.time()
    with _redis(yard) as redis:
        while not redis.exists(f"{PREFIX}:{{lines}}:epoch"):
            assert time.time() < began + PATIENCE, "the index is not rebuilt"
            time.sleep(0.01)
    return time.time() - began


@contextmanager
def _redis(yard: Deployment) -> Iterator["Redis"]:
    with Redis.from_url(yard.redis.url, decode_responses=True, socket_timeout=PATIENCE) as redis:
        yield redis


def _of(places: set[Place], ids: Collection[str] | None) -> set[Place]:
    return places if ids is None else {place for place in places if place[0] in ids}


def _queued(yard: Deployment) -> set[Place]:
    return {(row["id"], row["generation"]) for row in query(yard.database_url, _QUEUED)}


def _entries(redis: "Redis") -> set[Place]:
    """Everything in line: what can be claimed, what a pause keeps back, and what is on offer."""
    found: set[Place] = set()
    for key in redis.scan_iter(f"{PREFIX}:{{q:*", count=1000):
        kind = key.split("}:", 1)[1].split(":")[0]
        if kind in ("ready", "parked"):
            for member, _ in redis.zscan_iter(key, count=_ENTRIES):
                found.add(_place(member.split("\n")))
        elif kind == "holding":
            for _, entry in redis.hscan_iter(key, count=_ENTRIES):
                found.add(_place(entry.split("\n")))
    return found


def _place(parts: list[str]) -> Place:
    """A member is four lines: id, generation, instance, time of entering; others may stand before them."""
    task_id, generation, _, _ = parts[-4:]
    return task_id, int(generation)
