"""Who does the work in these tests: a remote agent, or a worker over a core of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.core import PATIENCE, opened

from taskyard.principal import Principal, Role
from taskyard.runtime import Runtime
from taskyard_workers.janitor import Janitor


@pytest.fixture
def agent() -> Principal:
    return Principal("agent-9", Role.AGENT, frozenset({"default"}))


@pytest.fixture
async def core(place: Path | str) -> AsyncIterator[Runtime]:
    """A core that beats quickly and polls so seldom that only wake-ups serve a test."""
    async with opened(place, heartbeat=0.1, lease=30, poll=10 * PATIENCE, drain=PATIENCE) as runtime:
        yield runtime


@pytest.fixture
async def janitor(core: Runtime) -> AsyncIterator[Janitor]:
    found = Janitor(core.maintenance)
    found.start()
    found.start()  # nothing more
    yield found
    await found.stop()
    await found.stop()
