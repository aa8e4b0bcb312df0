"""Group commit: concurrent callers share a transaction.

Whatever arrived while the last flush was in flight goes in the next one. There is no timer: batches grow
with load, and an idle caller waits for nobody.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from taskyard.errors import Unavailable

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

#: Writes all items in one transaction and gives a result for each, in order.
Flush = Callable[[Sequence[ItemT]], Awaitable[Sequence[ResultT]]]


#: What an item writes to: two items that share one of these do not share a flush.
Keys = Callable[[ItemT], Collection[Hashable]]


@dataclass(slots=True)
class _Waiting(Generic[ItemT, ResultT]):
    item: ItemT
    answer: "asyncio.Future[ResultT]"


class GroupCommit(Generic[ItemT, ResultT]):
    """Batches the items of concurrent callers into flushes, one at a time.

    If a flush of several items fails, its halves are tried, so that a bad one fails by itself; if the
    database itself is `Unavailable`, all of them fail. An item
    whose caller gave up before its flush began is dropped; after that, giving up does not undo it.

    With `keys`, an item that shares a key with an earlier one waits for the flush after it: for a database whose
    statement cannot see what it has itself just written.
    """

    def __init__(
        self,
        flush: Flush[ItemT, ResultT],
        *,
        max_batch: int = 500,
        max_waiting: int = 10_000,
        keys: Keys[ItemT] | None = None,
    ) -> None:
        self._flush = flush
        self._keys = keys
        self._max_batch = max_batch
        self._room = asyncio.Semaphore(max_waiting)
        self._waiting: deque[_Waiting[ItemT, ResultT]] = deque()
        self._runner: asyncio.Task[None] | None = None
        self._closed = False

    async def write(self, item: ItemT) -> ResultT:
        """Write one item and return its result once it is committed."""
        async with self._room:
            return await self._enqueue(item)

    async def write_all(self, items: Sequence[ItemT]) -> list[ResultT]:
        """Write several items in order; they need not share a flush, and one may fail without the others.

        Raises the first failure after all have been tried.
        """
        async with self._room:
            answers = [self._enqueue(item) for item in items]
            results = await asyncio.gather(*answers, return_exceptions=True)
        done: list[ResultT] = []
        for result in results:
            if isinstance(result, BaseException):
                raise result
            done.append(result)
        return done

    async def close(self) -> None:
        """Refuse new items and wait until those that are queued are written."""
        self._closed = True
        if self._runner is not None:
            await asyncio.wait([self._runner])

    def _enqueue(self, item: ItemT) -> "asyncio.Future[ResultT]":
        if self._closed:
            raise Unavailable("the service is stopping")
        answer: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(item, answer))
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run(), name="group-commit")
        return answer

    async def _run(self) -> None:
        batch: list[_Waiting[ItemT, ResultT]] = []
        try:
            while True:
                await asyncio.sleep(0)  # let every caller that is ready now join this flush
                batch = self._take()
                if not batch:
                    return
                await self._write_batch(batch)
        finally:
            # Whatever ends the runner, no caller is left hanging; after a plain end nobody waits.
            for waiting in [*batch, *self._waiting]:
                _fail(waiting, Unavailable("the service stopped before this was written"))
            self._waiting.clear()

    def _take(self) -> list[_Waiting[ItemT, ResultT]]:
        batch: list[_Waiting[ItemT, ResultT]] = []
        later: list[_Waiting[ItemT, ResultT]] = []
        taken: set[Hashable] = set()
        while self._waiting and len(batch) + len(later) < self._max_batch:
            waiting = self._waiting.popleft()
            if waiting.answer.done():
                continue
            keys = self._keys(waiting.item) if self._keys is not None else ()
            # What waits keeps its keys, too: later items of the same key stay behind it.
            (batch if taken.isdisjoint(keys) else later).append(waiting)
            taken.update(keys)
        self._waiting.extendleft(reversed(later))
        return batch

    async def _write_batch(self, batch: list[_Waiting[ItemT, ResultT]]) -> None:
        try:
            results = await self._flush([waiting.item for waiting in batch])
        except Unavailable as error:
            for waiting in batch:
                _fail(waiting, error)
            return
        except Exception as error:  # noqa: BLE001 - handed to the callers
            if len(batch) == 1:
                _fail(batch[0], error)
                return
            middle = len(batch) // 2
            await self._write_batch(batch[:middle])
            await self._write_batch(batch[middle:])
            return
        for waiting, result in zip(batch, results, strict=True):
            if not waiting.answer.done():
                waiting.answer.set_result(result)


def _fail(waiting: _Waiting[ItemT, ResultT], error: Exception) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(error)
