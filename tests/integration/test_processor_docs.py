"""The processors that docs/processors.md shows do what the page says of them."""

import re
from pathlib import Path

import pytest
from tests.support.core import opened, reach, submit

from taskyard.errors import InvalidInput
from taskyard.lifecycle import TaskStatus
from taskyard.principal import Principal
from taskyard_workers.loading import load_processors
from taskyard_workers.worker import Worker

PAGE = Path(__file__).parents[2] / "docs" / "processors.md"


def write_pages_code(folder: Path) -> None:
    """Both files of the page, under the names that it gives them."""
    for name, code in zip(
        ("shout.py", "primes.py"),
        re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL),
        strict=True,
    ):
        (folder / name).write_text(code)


async def test_the_processor_of_the_page(data_folder: Path, tmp_path: Path, user: Principal) -> None:
    write_pages_code(tmp_path)
    async with opened(data_folder) as runtime:
        worker = Worker(runtime, load_processors([str(tmp_path / "shout.py")], demo=False))
        await worker.start()
        try:
            quiet = await submit(runtime, user, "shout", input={"text": "hello", "times": 2})
            loud = await submit(runtime, user, "shout", input={"text": "HELLO"})
            done = await reach(runtime, user, quiet.id, TaskStatus.COMPLETED)
            failed = await reach(runtime, user, loud.id, TaskStatus.FAILED)
            with pytest.raises(InvalidInput) as caught:
                await submit(runtime, user, "shout", input={"text": "hello", "times": 11})
            (spec,) = await runtime.tasks.types(user)
        finally:
            await worker.stop()
        output = (await runtime.tasks.payloads(user, [quiet.id]))[quiet.id].output
        told = [event.detail for event in await runtime.tasks.events(user, quiet.id) if event.kind == "LOG"]
    assert output == {"text": "HELLO HELLO!"}
    assert (done.actual_cost, done.quality_score) == (0.001, 1.0)
    assert told == [{"level": "INFO", "message": "done shouting"}]
    # A `PermanentError` fails the task at once.
    assert (failed.error_code, failed.error_message) == ("TOO_LOUD", "it is loud already")
    assert (failed.attempt, failed.max_retries) == (1, 2)
    assert caught.value.path == ["inputData", "times"]
    assert (spec.description, list(spec.capabilities)) == ("Say it louder.", ["text"])


@pytest.mark.slow
async def test_the_processor_in_a_process_of_its_own(data_folder: Path, tmp_path: Path, user: Principal) -> None:
    write_pages_code(tmp_path)
    async with opened(data_folder) as runtime:
        worker = Worker(runtime, load_processors([str(tmp_path / "primes.py")], demo=False))
        await worker.start()
        try:
            task = await submit(runtime, user, "count_primes", input=3001)
            await reach(runtime, user, task.id, TaskStatus.COMPLETED)
        finally:
            await worker.stop()
        output = (await runtime.tasks.payloads(user, [task.id]))[task.id].output
        told = [
            event.state["progress"] for event in await runtime.tasks.events(user, task.id) if event.kind == "PROGRESS"
        ]
    assert output == 430
    assert told == pytest.approx([100_000 / 3001, 200_000 / 3001, 300_000 / 3001])
