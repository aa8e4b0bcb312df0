"""`import taskyard` is cheap; what is heavy comes when it is asked for."""

import subprocess
import sys

import pytest

import taskyard

SCRIPT = """
import sys
import taskyard
heavy = {"sqlalchemy", "asyncpg", "redis", "taskyard.runtime", "taskyard.library", "taskyard_workers"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
from taskyard import TaskManager, TaskQueue
assert (TaskQueue.__module__, TaskManager.__module__) == ("taskyard.library", "taskyard_workers.manager")
assert not {"starlette", "strawberry", "uvicorn", "click"} & set(sys.modules)
"""


@pytest.mark.slow
def test_what_an_import_brings() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True)


def test_every_public_name_is_there_and_no_other() -> None:
    assert all(getattr(taskyard, name).__name__ for name in taskyard.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = taskyard.nothing
