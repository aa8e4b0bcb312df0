"""The programs that docs/library.md shows, word for word, as processes of their own; killed and resumed as well."""

import re
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tests.support.process import PATIENCE, clean_environment

PAGE = Path(__file__).parents[2] / "docs" / "library.md"
COMPLETIONS = "SELECT task_id FROM events WHERE kind = 'STATUS' AND json_extract(state, '$.status') = 'COMPLETED'"

pytestmark = pytest.mark.slow


def program(folder: Path, name: str) -> list[str]:
    """The command that runs the program of this name, which is put into the folder as it stands in the page."""
    (code,) = re.findall(rf"^`{name}`:\n\n```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (folder / name).write_text(code)
    return [sys.executable, name]


def printed(name: str) -> str:
    """What the page says that this program prints."""
    after = PAGE.read_text().split(f"`{name}`:\n", 1)[1]
    found = re.search(r"^It prints\n\n```text\n(.*?)^```", after, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def run(folder: Path, name: str, **environment: str) -> str:
    """Run a program to its end and give what it printed."""
    done = subprocess.run(
        program(folder, name),
        cwd=folder,
        env=clean_environment(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def begun(folder: Path, name: str, line: str) -> "subprocess.Popen[str]":
    """A program that has just printed this line."""
    process = subprocess.Popen(
        program(folder, name), cwd=folder, env=clean_environment(None), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for shown in process.stdout:
        if shown == line:
            return process
    raise AssertionError(f"{name} ended with code {process.wait(PATIENCE)} and never printed {line!r}")


def tasks_of(folder: Path) -> dict[str, sqlite3.Row]:
    """The tasks in the file itself, while no process has it."""
    connection = sqlite3.connect(folder / "taskyard.db")
    connection.row_factory = sqlite3.Row
    try:
        completed = Counter(row["task_id"] for row in connection.execute(COMPLETIONS))
        tasks = {row["id"]: row for row in connection.execute("SELECT * FROM tasks")}
    finally:
        connection.close()
    assert completed == {name: 1 for name, task in tasks.items() if task["status"] == "COMPLETED"}
    return tasks


@pytest.mark.parametrize("name", ["letters.py", "editors.py"])
def test_it_prints_what_the_page_says(tmp_path: Path, name: str) -> None:
    assert run(tmp_path, name) == printed(name)


@pytest.mark.parametrize("with_redis", [False, True])
def test_on_postgresql(request: pytest.FixtureRequest, tmp_path: Path, database_url: str, with_redis: bool) -> None:
    environment = {"DATABASE_URL": database_url}
    if with_redis:
        environment["REDIS_URL"] = request.getfixturevalue("redis_url")
        environment["TASKYARD_REDIS_PREFIX"] = request.getfixturevalue("redis_prefix")
    assert run(tmp_path, "shared.py", **environment) == printed("shared.py")


def test_killed_in_the_middle_the_next_one_finishes_the_rest(tmp_path: Path) -> None:
    with begun(tmp_path, "squares.py", "begin 5\n") as process:
        process.kill()
        process.wait(PATIENCE)
    tasks = tasks_of(tmp_path / "squares")
    assert len(tasks) == 40
    interrupted = {name for name, task in tasks.items() if task["status"] == "PROCESSING"}
    completed = {name for name, task in tasks.items() if task["status"] == "COMPLETED"}
    assert 1 <= len(interrupted) <= 4
    assert {task["status"] for name, task in tasks.items() if name not in interrupted | completed} == {"QUEUED"}

    lines = run(tmp_path, "squares.py").splitlines()
    assert lines[-1] == "40 squared is 1600"
    done = {f"square-{line.removeprefix('begin ')}" for line in lines[:-1]}
    assert len(lines) - 1 == len(done)
    tasks = tasks_of(tmp_path / "squares")
    assert done == tasks.keys() - completed, "what was done is not done again"
    for number in range(1, 41):
        task = tasks[f"square-{number}"]
        lost = int(task["id"] in interrupted)
        assert (task["status"], task["output"], task["attempt"]) == ("COMPLETED", str(number * number), 1 + lost)
        assert (task["lost_count"], task["retry_count"]) == (lost, 0)


def test_a_signal_lets_what_runs_end(tmp_path: Path) -> None:
    with begun(tmp_path, "service.py", "begin 2.0\n") as process:
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=PATIENCE)
    assert (process.returncode, rest) == (0, "end 2.0\n")
    (task,) = tasks_of(tmp_path / "service").values()
    assert (task["status"], task["attempt"]) == ("COMPLETED", 1)
