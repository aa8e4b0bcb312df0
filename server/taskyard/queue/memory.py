"""The queue of the embedded deployment: heaps in this process, rebuilt from SQL at start."""

import heapq
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TypeAlias, TypeVar

from taskyard.clock import Clock
from taskyard.queue.base import STARVE_EVERY, Commit
from taskyard.queue.entry import Entry, Want

T = TypeVar("T")

#: Instance, queue, task type: the smallest line that a claimer can choose.
_Key: TypeAlias = tuple[str, str, str]
_Heap: TypeAlias = list[tuple[int, str, int, Entry]]
_Line: TypeAlias = dict[int, _Heap]
#: Best first: descending priority, sequence, id, and the heap that has it on top.
_Head: TypeAlias = tuple[int, int, str, _Heap]
#: Stale entries that are kept however few live ones there are.
_SLACK = 100


class MemoryQueue:
    """`ReadyQueue` for one process. `starve` is seconds."""

    def __init__(self, clock: Clock, starve: float = 60) -> None:
        self._clock = clock
        self._starve = timedelta(seconds=starve)
        # For each line and priority a heap by sequence; stale entries are dropped when they surface.
        self._lines: dict[_Key, _Line] = {}
        self._current: dict[str, Entry] = {}
        self._size = 0  # of all heaps, with the stale entries in them
        self._paused: set[tuple[str, str]] = set()
        self._claimed = 0

    async def add(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            known = self._current.get(entry.task_id)
            if known is not None and known.generation >= entry.generation:
                continue
            self._put(entry)
        self._compact()

    async def discard(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            known = self._current.get(entry.task_id)
            if known is not None and known.generation <= entry.generation:
                del self._current[entry.task_id]
        self._compact()

    async def claim(self, want: Want, commit: Commit[T]) -> list[T]:
        claimed: list[T] = []
        while len(claimed) < want.limit:
            taken = self._take(want, want.limit - len(claimed))
            if not taken:
                break
            # Counted at once: claimers that wait for their commits side by side must not share a turn.
            self._claimed += len(taken)
            try:
                got = await commit(taken)
            except BaseException as error:
                self._claimed -= len(taken)
                await self.add(taken)
                if claimed and isinstance(error, Exception):
                    break
                raise
            self._claimed -= len(taken) - len(got)
            claimed += got
        return claimed

    async def peek(self, want: Want) -> list[Entry]:
        taken = self._take(want, want.limit)
        for entry in taken:
            self._put(entry)
        return taken

    async def set_paused(self, instance_id: str, queue: str, paused: bool) -> None:
        (self._paused.add if paused else self._paused.discard)((instance_id, queue))

    def _put(self, entry: Entry) -> None:
        self._current[entry.task_id] = entry
        line = self._lines.setdefault((entry.instance_id, entry.queue, entry.task_type), {})
        heapq.heappush(line.setdefault(entry.priority, []), (entry.seq, entry.task_id, entry.generation, entry))
        self._size += 1

    def _compact(self) -> None:
        """Drop the stale entries once most are: of a type that nobody runs, none would ever surface."""
        if self._size <= 2 * len(self._current) + _SLACK:
            return
        live = list(self._current.values())
        self._lines.clear()
        self._size = 0
        for entry in live:
            self._put(entry)

    def _take(self, want: Want, limit: int) -> list[Entry]:
        if limit < 1:
            return []
        keys = [key for key in self._lines if self._fits(key, want)]
        heads = [head for key in keys for head in self._heads(key, want)]
        heapq.heapify(heads)
        taken: list[Entry] = []
        while heads and len(taken) < limit:
            starving = (self._claimed + len(taken) + 1) % STARVE_EVERY == 0
            place = self._oldest(heads) if starving else 0
            heap = heads[place][3]
            entry = heapq.heappop(heap)[3]
            self._size -= 1
            del self._current[entry.task_id]
            taken.append(entry)
            self._follow(heads, place, self._head(heap))
        for key in keys:
            self._prune(key)
        return taken

    def _fits(self, key: _Key, want: Want) -> bool:
        instance_id, queue, task_type = key
        return (
            (instance_id, queue) not in self._paused
            and want.scope.allows(instance_id)
            and (want.queues is None or queue in want.queues)
            and (want.task_types is None or task_type in want.task_types)
        )

    def _heads(self, key: _Key, want: Want) -> Iterator[_Head]:
        for priority, heap in self._lines[key].items():
            if priority >= want.min_priority and (head := self._head(heap)) is not None:
                yield head

    def _head(self, heap: _Heap) -> _Head | None:
        """The heap under the rank of its first live entry; the stale ones before that are dropped."""
        while heap:
            entry = heap[0][3]
            if self._current.get(entry.task_id) is entry:
                return -entry.priority, entry.seq, entry.task_id, heap
            heapq.heappop(heap)
            self._size -= 1
        return None

    def _oldest(self, heads: Sequence[_Head]) -> int:
        """The place of the head that came first of those that have waited too long; otherwise of the best."""
        limit = self._clock.now() - self._starve
        starved = (place for place, head in enumerate(heads) if head[3][0][3].queued_at < limit)
        return min(starved, key=lambda place: heads[place][1], default=0)

    @staticmethod
    def _follow(heads: list[_Head], place: int, following: _Head | None) -> None:
        """Put the next head of a heap where its last one was."""
        if place == 0:
            if following is None:
                heapq.heappop(heads)
            else:
                heapq.heapreplace(heads, following)
            return
        if following is None:
            following = heads.pop()
        if place < len(heads):
            heads[place] = following
        heapq.heapify(heads)

    def _prune(self, key: _Key) -> None:
        line = self._lines[key]
        for priority in [priority for priority, heap in line.items() if not heap]:
            del line[priority]
        if not line:
            del self._lines[key]
