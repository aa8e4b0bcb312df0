"""The lines of a queue in Redis, one for each queue name: entries in sorted sets, changed by the scripts in lua/."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from taskyard.clock import from_millis, to_millis
from taskyard.queue.entry import Entry, Want
from taskyard.redis_link import RedisLink, Script
from taskyard.task import MAX_PRIORITY

#: What separates the priorities in a score; a sequence is smaller, and the sum is exact in a double.
BAND = 2**43
#: How long an entry that was offered may stay unsettled before it comes back: milliseconds.
HOLD = 3000
#: A rebuild that was not heard of for so long is given up, and another process begins it anew: seconds.
BUILDING = 10
_LUA = Path(__file__).parent / "lua"


@dataclass(frozen=True, slots=True)
class Found:
    """What a line gave.

    `more`: it had enough to do with other things, and should be asked again. `too_far`: it gave nothing, because
    what is wanted may lie behind too many entries of other instances.
    """

    best: list[Entry]
    starved: list[Entry]
    more: bool = False
    too_far: bool = False


class RedisLines:
    """The lines of one deployment. Every call changes one line, and raises `Unavailable` if Redis does not answer.

    A line is complete while it has an epoch: a flush takes that away, and a rebuild gives a new one. Which lines
    there are, and which epoch they should have, stands under a key of the deployment.
    """

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._all = f"{link.prefix}:{{lines}}"
        self._add = _script("line", "add")
        self._discard = _script("line", "discard")
        self._take = _script("line", "asked", "choice", "take")
        self._look = _script("line", "choice", "look")
        self._between = _script("line", "between")
        self._settle = _script("line", "settle")
        self._restore = _script("line", "restore")
        self._resume = _script("line", "resume")
        self._finish = _script("finish")
        self._forget = _script("line", "forget")
        self._go_on = _script("go_on")

    # -- entries ------------------------------------------------------------------------------

    async def add(self, name: str, entries: Sequence[Entry]) -> bool:
        """Put entries in line; says whether the line is complete."""
        return bool(await self._link.run(self._add, self._key(name), *_packed(entries)))

    async def discard(self, name: str, entries: Sequence[Entry]) -> None:
        """Take entries out of line, and older ones of their tasks."""
        await self._link.run(self._discard, self._key(name), *_packed(entries))

    async def take(self, name: str, want: Want, picks: str, old: datetime) -> Found | None:
        """Offer entries, which are held until they are settled or restored, or come back by themselves.

        `picks` says for each whether it is the best ("b"), or the oldest that came before `old`, if there is
        one ("o"). None: the line is not complete.
        """
        if want.task_types is not None and not want.task_types:
            return Found([], [])
        arguments = _choice(want, len(picks), old, picks, HOLD)
        reply = await self._link.run(self._take, self._key(name), *arguments)
        return None if reply is None else Found(_entries(name, reply[1:]), [], reply[0] == 1, reply[0] == 2)

    async def look(self, name: str, want: Want, limit: int, starved: int, old: datetime) -> Found | None:
        """The best entries, and up to so many of the oldest that came before `old`; all stay in line."""
        if want.task_types is not None and not want.task_types:
            return Found([], [])
        arguments = _choice(want, limit, old, starved)
        reply = await self._link.run(self._look, self._key(name), *arguments)
        if reply is None:
            return None
        entries, count = _entries(name, reply[2:]), reply[1]
        return Found(entries[:count], entries[count:], reply[0] == 1, reply[0] == 2)

    async def between(self, name: str, low: int, high: int, count: int) -> list[Entry]:
        """Entries whose sequence lies there, up to so many of each priority of each type, in no order."""
        reply = await self._link.run(self._between, self._key(name), low, min(high, BAND - 1), count)
        return _entries(name, reply)

    async def settle(self, name: str, entries: Sequence[Entry]) -> None:
        """Forget entries that were offered."""
        await self._link.run(self._settle, self._key(name), *_named(entries))

    async def restore(self, name: str, entries: Sequence[Entry]) -> None:
        """Put entries that were offered back in line."""
        await self._link.run(self._restore, self._key(name), *_named(entries))

    # -- pauses -------------------------------------------------------------------------------

    async def pause(self, name: str, instance_id: str) -> None:
        await self._link.call(lambda client: _int(client.sadd(f"{self._key(name)}:paused", instance_id)))

    async def resume(self, name: str, instance_id: str) -> None:
        while await self._link.run(self._resume, self._key(name), instance_id):
            pass

    async def paused(self, name: str) -> frozenset[str]:
        """The instances that paused this queue."""
        return await self._link.call(lambda client: _members(client, f"{self._key(name)}:paused"))

    # -- epochs -------------------------------------------------------------------------------

    async def known(self) -> tuple[str | None, frozenset[str]]:
        """The epoch of the deployment, and the names of its lines. No epoch: they were flushed, or never built."""

        async def read(client: "Redis") -> tuple[str | None, frozenset[str]]:
            async with client.pipeline(transaction=False) as pipeline:
                pipeline.get(f"{self._all}:epoch")
                pipeline.smembers(f"{self._all}:names")
                epoch, names = await pipeline.execute()
            return epoch, frozenset(names)

        return await self._link.call(read)

    async def epochs(self, names: Iterable[str]) -> list[str | None]:
        """The epochs of these lines."""

        async def read(client: "Redis") -> list[str | None]:
            async with client.pipeline(transaction=False) as pipeline:
                for name in names:
                    pipeline.get(f"{self._key(name)}:epoch")
                return list(await pipeline.execute())

        return await self._link.call(read)

    async def open(self, name: str, epoch: str | None) -> None:
        """Make a line known; with an epoch it is a new one, and complete."""

        async def write(client: "Redis") -> None:
            # In this order: a line that is known and has no epoch asks for a rebuild.
            if epoch is not None:
                await client.set(f"{self._key(name)}:epoch", epoch, nx=True)
            await _int(client.sadd(f"{self._all}:names", name))

        await self._link.call(write)

    async def forget(self, name: str) -> None:
        """Forget a line that was not added to for an hour and is empty; with its next entry it begins anew."""
        if await self._link.run(self._forget, self._key(name)):
            # What is added just now meets a line without an epoch, and is repaired like any that was lost.
            await self._link.call(lambda client: _int(client.srem(f"{self._all}:names", name)))

    async def begin_all(self, token: str) -> bool:
        """Begin a rebuild, unless another process is at one and was heard of in the last `BUILDING` seconds.

        Whose turn it is by the janitor's lease does not tell: a process that is busy with a rebuild may lose that.
        """
        key = f"{self._all}:building"
        return bool(await self._link.call(lambda client: client.set(key, token, nx=True, ex=BUILDING)))

    async def go_on(self, token: str) -> bool:
        """Tell the others that the rebuild of this token goes on; False: it was flushed, or took too long."""
        return bool(await self._link.run(self._go_on, self._all, token, BUILDING))

    async def begin(self, name: str, token: str) -> None:
        """Begin the rebuild of a line, which a flush would undo."""
        await self._link.call(lambda client: client.set(f"{self._key(name)}:building", token))

    async def finish(self, name: str | None, token: str) -> bool:
        """Make the token of a rebuild the epoch, unless something was flushed since it began."""
        return bool(await self._link.run(self._finish, self._key(name), token))

    def _key(self, name: str | None) -> str:
        # What stands in braces decides on which node of a cluster the keys of a line lie.
        return self._all if name is None else f"{self._link.prefix}:{{q:{name}}}"


def _script(*names: str) -> Script:
    return Script.of("\n".join((_LUA / f"{name}.lua").read_text(encoding="utf-8") for name in names))


def _choice(want: Want, count: int, old: datetime, *others: str | int) -> list[str | int]:
    """The arguments that choice.lua reads; what else a script needs stands before the types."""
    types = [] if want.task_types is None else list(dict.fromkeys(want.task_types))
    highest = (MAX_PRIORITY - want.min_priority + 1) * BAND - 1
    first_type = 0 if want.task_types is None else 6 + len(others)
    scope = "" if want.scope.instances is None else json.dumps(sorted(want.scope.instances))
    return [highest, to_millis(old), count, first_type, scope, *others, *types]


def _packed(entries: Iterable[Entry]) -> list[str]:
    packed: list[str] = []
    for entry in entries:
        score = (MAX_PRIORITY - entry.priority) * BAND + entry.seq
        member = f"{entry.task_id}\n{entry.generation}\n{entry.instance_id}\n{to_millis(entry.queued_at):x}"
        packed += (entry.task_type, str(score), member)
    return packed


def _named(entries: Iterable[Entry]) -> list[str | int]:
    return [part for entry in entries for part in (entry.task_id, entry.generation)]


def _entries(name: str, reply: Sequence[Any]) -> list[Entry]:
    return [_entry(name, *reply[at : at + 3]) for at in range(0, len(reply), 3)]


def _entry(name: str, task_type: str, score: str, member: str) -> Entry:
    band, seq = divmod(int(score), BAND)
    task_id, generation, instance_id, queued_at = member.split("\n")
    return Entry(
        task_id=task_id,
        generation=int(generation),
        instance_id=instance_id,
        queue=name,
        task_type=task_type,
        priority=MAX_PRIORITY - band,
        seq=seq,
        queued_at=from_millis(int(queued_at, 16)),
    )


async def _members(client: "Redis", key: str) -> frozenset[str]:
    return frozenset(str(member) for member in await client.smembers(key))


async def _int(answer: Any) -> int:
    return int(await answer)
