"""What the queue in memory keeps: no more than is ready, whatever came and went."""

import random
from dataclasses import replace

from tests.support.clock import FakeClock

from taskyard.queue.entry import Entry, Want
from taskyard.queue.memory import MemoryQueue


def an_entry(number: int, **values: object) -> Entry:
    entry = Entry(f"t{number}", 1, "default", "default", "echo", 5, number, FakeClock().now())
    return replace(entry, **values)  # type: ignore[arg-type]  # fields by name


async def nothing(_: object) -> list[object]:
    return []


async def test_what_nobody_runs_leaves_no_stale_entries_behind() -> None:
    queue = MemoryQueue(FakeClock())
    for generation in range(1, 1001):
        await queue.add([an_entry(1, generation=generation), an_entry(generation + 1)])
        await queue.discard([an_entry(generation + 1)])
    assert sum(len(heap) for line in queue._lines.values() for heap in line.values()) < 200
    assert [entry.generation for entry in await queue.peek(Want(limit=10))] == [1000]


async def test_lines_that_ran_empty_are_forgotten() -> None:
    queue = MemoryQueue(FakeClock())
    await queue.add([an_entry(number, queue=f"q{number}") for number in range(50)])
    assert len(queue._lines) == 50
    await queue.claim(Want(limit=50), nothing)
    assert queue._lines == {}


async def test_many_lines_are_merged_in_order() -> None:
    chance = random.Random(5)
    queue = MemoryQueue(FakeClock())
    entries = [
        an_entry(number, queue=f"q{chance.randrange(300)}", priority=chance.randint(1, 10)) for number in range(2000)
    ]
    await queue.add(entries)
    best = sorted(entries, key=lambda entry: (-entry.priority, entry.seq))
    assert await queue.peek(Want(limit=2000)) == best
    taken: list[Entry] = []

    async def commit(batch: list[Entry]) -> list[Entry]:
        taken.extend(batch)
        return batch

    while await queue.claim(Want(limit=chance.randint(1, 90)), commit):  # type: ignore[arg-type]  # a list is a sequence
        pass
    assert taken == best
