"""The queue of the embedded deployment: heaps in this process, rebuilt from SQL at start."""

import heapq
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TypeVar

from taskyard.clock import Clock
from taskyard.queue.base import STARVE_EVERY, Commit
from taskyard.queue.entry import Entry, Want

T = TypeVar("T")

#: Instance, queue, task type: the smallest line that a claimer can choose.
_Key = tuple[str, str, str]
_Line = dict[int, list[tuple[int, str, int, Entry]]]


class MemoryQueue:
    """`TaskQueue` for one process. `starve` is seconds."""

    def __init__(self, clock: Clock, starve: float = 60) -> None:
        self._clock = clock
        self._starve = timedelta(seconds=starve)
        # For each line and priority a heap by sequence; stale entries are dropped when they surface.
        self._lines: dict[_Key, _Line] = defaultdict(dict)
        self._current: dict[str, Entry] = {}
        self._paused: set[tuple[str, str]] = set()
        self._claimed = 0

    async def add(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            known = self._current.get(entry.task_id)
            if known is not None and known.generation >= entry.generation:
                continue
            self._put(entry)

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
            except BaseException:
                self._claimed -= len(taken)
                await self.add(taken)
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
        line = self._lines[entry.instance_id, entry.queue, entry.task_type]
        heap = line.setdefault(entry.priority, [])
        heapq.heappush(heap, (entry.seq, entry.task_id, entry.generation, entry))

    def _take(self, want: Want, limit: int) -> list[Entry]:
        lines = [line for key, line in self._lines.items() if self._fits(key, want)]
        taken: list[Entry] = []
        while len(taken) < limit:
            starving = (self._claimed + len(taken) + 1) % STARVE_EVERY == 0
            heap = (self._oldest(lines, want) if starving else None) or self._best(lines, want)
            if heap is None:
                break
            entry = heapq.heappop(heap)[3]
            del self._current[entry.task_id]
            taken.append(entry)
        return taken

    def _fits(self, key: _Key, want: Want) -> bool:
        instance_id, queue, task_type = key
        return (
            (instance_id, queue) not in self._paused
            and want.scope.allows(instance_id)
            and (want.queues is None or queue in want.queues)
            and (want.task_types is None or task_type in want.task_types)
        )

    def _best(self, lines: Sequence[_Line], want: Want) -> list[tuple[int, str, int, Entry]] | None:
        return min(self._heads(lines, want), key=lambda heap: (-heap[0][3].priority, heap[0][0]), default=None)

    def _oldest(self, lines: Sequence[_Line], want: Want) -> list[tuple[int, str, int, Entry]] | None:
        limit = self._clock.now() - self._starve
        starved = (heap for heap in self._heads(lines, want) if heap[0][3].queued_at < limit)
        return min(starved, key=lambda heap: heap[0][0], default=None)

    def _heads(self, lines: Sequence[_Line], want: Want) -> Iterator[list[tuple[int, str, int, Entry]]]:
        """The heaps that have a live entry on top."""
        for line in lines:
            for priority, heap in line.items():
                if priority < want.min_priority:
                    continue
                while heap and self._current.get(heap[0][1]) is not heap[0][3]:
                    heapq.heappop(heap)
                if heap:
                    yield heap
