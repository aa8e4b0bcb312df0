"""One seed, one history: some tasks, three hosts, whatever may go wrong, and a time to heal."""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from tests.simulation.faults import Faults
from tests.simulation.host import HOST, Host, Mutate, Servers
from tests.simulation.index import Index
from tests.simulation.link import HostClock
from tests.simulation.loop import VirtualLoop
from tests.simulation.oracle import ENDED, Oracle, Violation
from tests.simulation.people import People
from tests.simulation.store import MemoryStore
from tests.simulation.work import processors

from taskyard.queue.memory import MemoryQueue

HOSTS = ("one", "two", "three")
#: Virtual seconds of faults, and until all must have ended after the last of them was healed.
TROUBLE = 14.0
HEALED = 60.0
#: Every so many histories one goes without faults.
CALM_EVERY = 10
_SKEW = 0.3


def play(
    seed: int,
    *,
    mutate: Mutate | None = None,
    make_queue: Callable[..., MemoryQueue] = MemoryQueue,
) -> Oracle:
    """Let the history of this seed happen. Raises `Violation` if a law was broken."""
    with _silence(), asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(_History(seed, mutate, make_queue).happen())


class _History:
    def __init__(self, seed: int, mutate: Mutate | None, make_queue: Callable[..., MemoryQueue]) -> None:
        self._seed = seed
        self._mutate = mutate
        self._make_queue = make_queue

    async def happen(self) -> Oracle:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(_kept_by_host)
        dice = random.Random(self._seed)
        calm = self._seed % CALM_EVERY == 0
        clock = HostClock()
        oracle = Oracle(self._seed)
        store = MemoryStore(clock)
        index = Index(store, oracle, clock, _stream(dice), self._make_queue, shaky=not calm and dice.random() < 0.5)
        servers = Servers(store, index, [], oracle, self._mutate)
        work = processors(oracle)
        skews = {name: dice.uniform(-_SKEW, _SKEW) for name in HOSTS}

        def boot(name: str) -> Host:
            host = Host(name, servers, _stream(dice), skews[name], work)
            oracle.knows(host)
            host.spawn(host.start())
            return host

        # Of the two that take no part in the work, one has no faults.
        web, desk = (Host(name, servers, _stream(dice), 0.0, {}) for name in ("web", "desk"))
        for host in (web, desk):
            await host.start()
        people = People(web, desk, store, oracle, _stream(dice), TROUBLE)
        faults = Faults({name: boot(name) for name in HOSTS}, web, index, boot, _stream(dice), TROUBLE)
        order = loop.create_task(index.keep())
        story = loop.create_task(self._story(people, faults, calm, store, oracle))
        await asyncio.wait({story, oracle.broken}, return_when=asyncio.FIRST_COMPLETED)
        await _end([story, order], servers)
        if oracle.broken.done():
            raise Violation(oracle.broken.result())
        story.result()
        return oracle

    async def _story(self, people: People, faults: Faults, calm: bool, store: MemoryStore, oracle: Oracle) -> None:
        acts: list[Coroutine[Any, Any, None]] = [
            people.submit(),
            *(people.meddle() for _ in range(3)),
            people.insist(),
            people.work_by_hand(),
        ]
        if not calm:
            acts.append(faults.happen())
        await asyncio.gather(*acts)
        await people.resume()
        loop = asyncio.get_running_loop()
        until = loop.time() + HEALED
        while loop.time() < until and not all(row["status"] in ENDED for row in store.rows.values()):
            await asyncio.sleep(0.5)
        # What is still under way when all has ended may break a law yet.
        await asyncio.sleep(1)
        oracle.settle(store.rows, people.accepted)


def _stream(dice: random.Random) -> random.Random:
    """Chances of its own: one who draws more often does not change those of the others."""
    return random.Random(dice.getrandbits(64))


def _kept_by_host(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], context: Any = None, **options: Any
) -> "asyncio.Task[Any]":
    """A task that ends with the host that it belongs to."""
    task = asyncio.Task(work, loop=loop, context=context, **options)
    host = HOST.get(None) if context is None else context.get(HOST)
    if host is not None:
        host.tasks[task] = None
        task.add_done_callback(lambda done: host.tasks.pop(done, None))
    return task


async def _end(tasks: list["asyncio.Task[Any]"], servers: Servers) -> None:
    for host in list(servers.hosts):
        host.kill()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    # What the dying hosts began while they died.
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        for task in others:
            task.cancel()
        await asyncio.wait(others)


@contextmanager
def _silence() -> Iterator[None]:
    """The hosts have much to complain of."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
