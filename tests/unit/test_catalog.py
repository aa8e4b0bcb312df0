"""What is known of the workers: kept briefly, read anew when something changed."""

import asyncio

from tests.support.clock import FakeClock

from taskyard.service.catalog import Catalog
from taskyard.store.registry import Registry, Worker
from taskyard.task import TaskTypeSpec


class SlowRegistry(Registry):
    """Answers once it is let go."""

    def __init__(self) -> None:
        self.specs = [TaskTypeSpec(name="old")]
        self.asked = asyncio.Event()
        self.open = asyncio.Event()

    async def types(self) -> list[TaskTypeSpec]:
        found = list(self.specs)
        self.asked.set()
        await self.open.wait()
        return found

    async def workers(self, alive_since: object = None) -> list[Worker]:
        return []

    async def paused(self) -> frozenset[tuple[str, str]]:
        return frozenset()


async def test_what_changed_while_it_was_read_is_read_again() -> None:
    registry = SlowRegistry()
    catalog = Catalog(registry, FakeClock(), heartbeat=5)
    first = asyncio.ensure_future(catalog.types())
    await registry.asked.wait()
    registry.specs = [TaskTypeSpec(name="new")]
    catalog.expire()
    registry.open.set()
    assert [spec.name for spec in await first] == ["old"]
    assert [spec.name for spec in await catalog.types()] == ["new"]
