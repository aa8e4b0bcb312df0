"""What a batch costs PostgreSQL, counted at the server, against the table of docs/decisions/0006.

Statements are those that the server's log names as executed in Taskyard's sessions. Commits are the numbers that the
server has given to transactions: one that neither writes nor notifies takes none. Nothing else is under way: there is
no worker and no janitor, the hub is stopped, and the clock stands still, so that what is known of the types stays
fresh. A first batch opens the connections, prepares the statements and registers the instance.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import pytest
from tests.support.clock import FakeClock
from tests.support.core import new, opened
from tests.support.redis_lines import queue_of_core
from tests.support.servers import PostgresServer
from tests.support.working import soon

from taskyard.events.notify_bus import CHANNEL
from taskyard.principal import Principal
from taskyard.queue.entry import Want
from taskyard.runtime import Runtime
from taskyard.service.claims import Run
from taskyard.service.tasks import BatchMode
from taskyard.store.postgres import migrate_postgres
from taskyard.task import WORKER_ACTOR, Metrics, Task

pytestmark = pytest.mark.slow

DECISION = Path(__file__).parents[2] / "docs/decisions/0006-postgresql-one-statement-a-group.md"
STEPS = ("submit, PARTIAL", "submit, ATOMIC", "claim", "finish")
#: Of Taskyard's sessions, without the question of the listening one whether its connection still stands.
EXECUTED = re.compile(r"^taskyard(?: bus)? LOG:  (?:execute [^:]+|statement): (?!SELECT 1$)", re.MULTILINE)


class Cost(NamedTuple):
    statements: int
    commits: int


@dataclass
class Metered:
    """A core, and what its server did: `notified` is set when the other processes were told, without Redis."""

    core: Runtime
    server: PostgresServer
    looking: Any
    notified: asyncio.Event = field(default_factory=asyncio.Event)

    async def cost(self, step: Awaitable[Any]) -> tuple[Any, Cost]:
        """What the step gives, and what it has cost until the others know."""
        before = await self._so_far()
        self.notified.clear()
        given = await step
        if self.core.redis is None:
            await soon(self.notified.wait())
        after = await self._so_far()
        return given, Cost(after.statements - before.statements, after.commits - before.commits)

    async def _so_far(self) -> Cost:
        next_number = await self.looking.fetchval("SELECT txid_snapshot_xmax(txid_current_snapshot())")
        return Cost(len(EXECUTED.findall(self.server.log.read_text())), next_number)


@pytest.fixture(params=["with Redis", "without Redis"])
async def metered(
    request: pytest.FixtureRequest, redis_url: str, redis_prefix: str, clock: FakeClock
) -> AsyncIterator[Metered]:
    redis = {"redis_url": redis_url, "redis_prefix": redis_prefix} if request.param == "with Redis" else {}
    with PostgresServer(log_statement="all", log_line_prefix="%a ", autovacuum="off") as server:
        await migrate_postgres(server.url())
        looking = await asyncpg.connect(server.url())
        async with opened(server.url(), clock, **redis) as core:
            if core.redis is not None:
                await queue_of_core(core).mend()
            await core.hub.stop()
            metered = Metered(core, server, looking)
            await looking.add_listener(CHANNEL, lambda *_: metered.notified.set())
            yield metered
        await looking.close()


async def costs(metered: Metered, user: Principal, mode: BatchMode, size: int) -> dict[str, Cost]:
    """Of each step of a batch, which is claimed at once and finished at once."""
    core = metered.core
    batch = [new(input=number) for number in range(size)]
    _, submitted = await metered.cost(core.tasks.create_batch(user, batch, mode))
    tasks, claimed = await metered.cost(core.claims.claim("w1", Want(limit=size)))
    assert len(tasks) == size
    _, finished = await metered.cost(finish(core, tasks))
    return {f"submit, {mode}": submitted, "claim": claimed, "finish": finished}


async def finish(core: Runtime, tasks: Sequence[Task]) -> None:
    runs = [Run(task.id, task.attempt, f"{WORKER_ACTOR}w1") for task in tasks]
    await asyncio.gather(*(core.claims.complete(run, {}, Metrics()) for run in runs))


def written(metered: Metered) -> dict[str, Cost]:
    """The table of the decision: its step, then statements and commits with Redis, then without."""
    first = 0 if metered.core.redis is not None else 2
    rows = re.findall(r"^\| (\w+(?:, \w+)?) \|(.*) \|$", DECISION.read_text(), re.MULTILINE)
    return {name: Cost(*map(int, cells.split("|")[first : first + 2])) for name, cells in rows if name in STEPS}


async def test_a_batch_costs_the_same_whatever_its_size(metered: Metered, user: Principal) -> None:
    table = written(metered)
    assert table.keys() == set(STEPS)
    for mode in BatchMode:
        await costs(metered, user, mode, 20)
        # From 16 on each claim has a turn of the oldest in it, for which the table is asked once more.
        for size in (20, 80):
            found = await costs(metered, user, mode, size)
            assert found == {step: table[step] for step in found}, f"{size} tasks"
    if metered.core.redis is not None:
        in_all = [table[step] for step in ("submit, PARTIAL", "claim", "finish")]
        assert (sum(cost.statements for cost in in_all), sum(cost.commits for cost in in_all)) == (3, 3)
