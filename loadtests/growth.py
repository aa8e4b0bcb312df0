"""Does a full queue make Taskyard slow? Claims, pages and submissions over queues of several sizes, side by side.

Each size is a deployment of its own, in one PostgreSQL with its default durability and one Redis, both private.
Rounds go from size to size, so that a noisy machine disturbs all of them alike: compare the columns by their ratio.
It ends with an error if claims from the longest queue are too much slower than those from the shortest.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial

import click
from redis.asyncio import Redis
from sqlalchemy import Connection, text
from tests.support.databases import administer
from tests.support.servers import PostgresServer, RedisServer

from bench import percentile
from machine import machine
from taskyard.principal import Principal, Role
from taskyard.queue.entry import Entry, Want
from taskyard.queue.redis_queue import RedisQueue
from taskyard.runtime import Runtime, open_deployment
from taskyard.service.claims import Run
from taskyard.settings import Settings
from taskyard.store.listing import Page, Sort, TaskFilter
from taskyard.store.postgres import migrate_postgres
from taskyard.task import WORKER_ACTOR, NewTask

USER = Principal("growth", Role.ADMIN, frozenset({"default"}))
#: Payload of a task: 200 bytes, as in the other benchmark.
PAYLOAD = {"text": "x" * 188}
CLAIM = 32
SLICE = 5000
#: How many times the p99 of claims at the first size that at the last may be.
LIMIT = 1.5
#: Tasks `:first` to `:last`, ready, with their events, as if they had been submitted one by one.
FILL = """
WITH made AS (
  INSERT INTO tasks (id, instance_id, owner, task_type, queue, priority, status, version, input, request_hash,
    attempt, retry_count, max_retries, lost_count, generation, queue_seq, queued_at, progress, created_at, updated_at)
  SELECT 'growth-' || n, 'default', 'growth', 'echo', 'default', 1 + n % 10, 'QUEUED', 1,
    jsonb_build_object('text', repeat('x', 188)), '', 0, 0, 3, 0, 1, nextval('task_queue_seq'), now(), 0, now(), now()
  FROM generate_series(CAST(:first AS int), CAST(:last AS int)) AS n ORDER BY n RETURNING id
), counted AS (SELECT id, :first - 1 + row_number() OVER () AS seq FROM made)
INSERT INTO events (seq, task_id, instance_id, version, attempt, kind, actor, at, state)
SELECT seq, id, 'default', 1, 0, 'STATUS', 'growth', now(), '{"status": "QUEUED"}' FROM counted
"""


@dataclass
class Size:
    """One deployment with so many tasks, and what was measured on it: times in ms."""

    tasks: int
    runtime: Runtime
    redis_bytes: float = 0
    fill_seconds: float = 0
    claims: list[float] = field(default_factory=list)
    pages: list[float] = field(default_factory=list)
    submissions: list[float] = field(default_factory=list)


@click.command()
@click.option("--sizes", default="1000,100000,1000000", show_default=True, help="queued tasks, by comma")
@click.option("--rounds", default=500, show_default=True, help="measurements of each kind and size")
@click.option(
    "--limit", default=LIMIT, show_default=True, help="how often the p99 of claims may be that of the first size"
)
def main(sizes: str, rounds: int, limit: float) -> None:
    """Measure claims of 32, pages of 50 and single submissions over queues of several sizes."""
    print(machine() + "\n")
    measured = asyncio.run(_measure([int(size) for size in sizes.split(",")], rounds))
    _print(measured)
    judge(measured, limit)


async def _measure(numbers: list[int], rounds: int) -> list[Size]:
    async with AsyncExitStack() as stack:
        postgres = stack.enter_context(PostgresServer(durable=True))
        redis = stack.enter_context(RedisServer())
        sizes = [await _filled(stack, postgres, redis, number) for number in numbers]
        for number in range(rounds):
            for size in sizes:
                size.claims.append(await _timed(_claim_and_release, size.runtime))
                size.pages.append(await _timed(_page, size.runtime))
                size.submissions.append(await _timed(_submit, size.runtime, number))
        return sizes


async def _filled(stack: AsyncExitStack, postgres: PostgresServer, redis: RedisServer, tasks: int) -> Size:
    name = f"growth_{tasks}"
    await administer(postgres.url(), f"CREATE DATABASE {name}")
    await migrate_postgres(postgres.url(name))
    settings = Settings(
        database_url=postgres.url(name), redis_url=redis.url, redis_prefix=name, jwt_secret="growth" * 6
    )
    runtime = await open_deployment(settings)
    stack.push_async_callback(runtime.aclose)
    assert isinstance(runtime.queue, RedisQueue)
    await runtime.queue.mend()
    async with Redis.from_url(redis.url) as client:
        before = (await client.info("memory"))["used_memory"]
        for first in range(1, tasks + 1, SLICE):
            await runtime.database.writer.run(partial(_fill, first=first, last=min(first + SLICE - 1, tasks)))
        began, seq = time.perf_counter(), 0
        while ready := await runtime.reader.queued_after(seq, SLICE):
            await runtime.queue.add([Entry.of_task(task) for task in ready])
            seq = ready[-1].queue_seq or 0
        seconds = time.perf_counter() - began
        after = (await client.info("memory"))["used_memory"]
    await administer(postgres.url(name), "VACUUM ANALYZE")
    return Size(tasks, runtime, (after - before) / tasks, seconds)


def _fill(connection: Connection, first: int, last: int) -> None:
    connection.execute(text(FILL), {"first": first, "last": last})
    connection.execute(text("UPDATE counters SET value = :last WHERE name IN ('event', 'relay')"), {"last": last})


async def _timed(act: Callable[..., Awaitable[Callable[[], Awaitable[object]] | None]], *arguments: object) -> float:
    """Milliseconds of an act; what it gives is done afterwards, outside the time."""
    began = time.perf_counter()
    undo = await act(*arguments)
    elapsed = 1000 * (time.perf_counter() - began)
    if undo is not None:
        await undo()
    return elapsed


async def _claim_and_release(runtime: Runtime) -> Callable[[], Awaitable[object]]:
    claimed = await runtime.claims.claim("growth", Want(limit=CLAIM, task_types=["echo"]))
    assert len(claimed) == CLAIM

    async def release() -> None:
        # In their old place: the queue stays as long as it was.
        runs = [Run(task.id, task.attempt, WORKER_ACTOR + "growth") for task in claimed]
        await asyncio.gather(*(runtime.claims.release(run) for run in runs))

    return release


async def _page(runtime: Runtime) -> None:
    page = await runtime.tasks.list(USER, TaskFilter(), Sort(), Page(limit=50))
    assert len(page.tasks) == 50


async def _submit(runtime: Runtime, number: int) -> None:
    await runtime.tasks.create(USER, NewTask(task_type="echo", input=PAYLOAD, id=f"submitted-{number}"))


def _print(sizes: list[Size]) -> None:
    print("| queued | claim of 32, p50 / p99 ms | page of 50, p50 / p99 | submit, p50 / p99 | Redis bytes a task |")
    print("|---|---|---|---|---|")
    for size in sizes:
        measured = " | ".join(_both(values) for values in (size.claims, size.pages, size.submissions))
        print(f"| {size.tasks:,} | {measured} | {size.redis_bytes:.0f} |")
    print()
    first, last = sizes[0], sizes[-1]
    for kind in ("claims", "pages", "submissions"):
        print(f"{kind}: p99 at {last.tasks:,} is {growth(sizes, kind):.2f} times that at {first.tasks:,}")
    print(f"the index of {last.tasks:,} tasks was filled in {last.fill_seconds:.1f} s")


def growth(sizes: list[Size], kind: str) -> float:
    """The p99 of the last size over that of the first."""
    return percentile(getattr(sizes[-1], kind), 99) / percentile(getattr(sizes[0], kind), 99)


def judge(sizes: list[Size], limit: float) -> None:
    """End with an error if claims are slower by more than so many times."""
    if growth(sizes, "claims") > limit:
        sys.exit(f"claims have become slower by more than {limit:g} times")


def _both(values: list[float]) -> str:
    return f"{percentile(values, 50):.2f} / {percentile(values, 99):.2f}"


if __name__ == "__main__":
    main()
