"""Tasks that are ended for certain."""

import asyncio
import logging

import pytest

from taskyard import stopping
from taskyard.stopping import end


async def stubborn(times: int) -> None:
    """Answers so many cancellations with an error of its own, as a driver may, and goes on."""
    refused = 0
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            refused += 1
            if refused > times:
                raise


@pytest.mark.parametrize("times", [0, 1, 3])
async def test_a_task_is_cancelled_until_it_is_done(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "AGAIN", 0.01)
    task = asyncio.create_task(stubborn(times))
    await asyncio.sleep(0)
    await end(task)
    assert task.cancelled()
    await end(task)


async def test_one_that_cannot_be_stopped_is_left_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stopping, "AGAIN", 0.01)
    task = asyncio.create_task(stubborn(50), name="a-loop")
    await asyncio.sleep(0)
    with caplog.at_level(logging.ERROR):
        await end(task, bound=0.05)
    assert "a-loop cannot be stopped" in caplog.text
    assert not task.done()
    await end(task)
    assert task.cancelled()


async def test_an_error_at_the_end_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fails() -> None:
        raise ValueError("a fault of its own")

    task = asyncio.create_task(fails(), name="a-loop")
    await asyncio.wait({task})
    with caplog.at_level(logging.ERROR):
        await end(task)
    assert "a fault of its own" in caplog.text
