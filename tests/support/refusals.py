"""A process that is asked for what it must refuse, and the look at its answers."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.process import DevProcess

COUNT = "{ taskQueueStatus { totalTasks } }"
CREATE = "mutation($input: CreateAITaskInput!) { createAITask(input: $input) { id status } }"
RIGHT = {"taskType": "by_hand", "inputData": {}}
#: What no answer may hold: places in the code, of the database, of the machine.
LEAKS = ("Traceback", "File ", ".py", "sqlite", "SELECT", "orjson", "taskyard.db", "JSONDecodeError", "no such table")


@contextmanager
def unshaken(data: Path) -> Iterator[DevProcess]:
    """A process that ends well, whatever it was sent."""
    with DevProcess(data) as started:
        yield started
        assert started.stop() == 0
    # Apart from the errors that a test asks for, nothing of all this has shaken the process.
    assert "Exception in" not in started.output, started.output
    assert started.output.count("Traceback") == started.output.count("unexpected error"), started.output


def create(process: DevProcess, **fields: Any) -> dict[str, Any]:
    return process.graphql(CREATE, {"input": RIGHT | fields})


def error_of(body: dict[str, Any]) -> dict[str, Any]:
    """The one error of a response without data."""
    assert not body.get("data") or set(body["data"].values()) == {None}, body
    (error,) = body["errors"]
    for leak in LEAKS:
        assert leak not in json.dumps(error)
    shown: dict[str, Any] = error
    return shown
