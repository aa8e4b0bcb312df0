"""`taskyard watch` as a user runs it in a second terminal."""

import fcntl
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.support.process import PATIENCE, TASKYARD, DevProcess, clean_environment, eventually, run_taskyard

pytestmark = pytest.mark.slow

CREATE = "mutation ($input: CreateAITaskInput!) { createAITask(input: $input) { id } }"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevProcess]:
    with DevProcess(tmp_path_factory.mktemp("watch") / "data") as running:
        yield running


class Watching:
    """`taskyard watch` on a pipe; what it prints is read from files while it runs."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._out, self._err = folder / "out", folder / "err"
        with self._out.open("w") as out, self._err.open("w") as err:
            self._process = subprocess.Popen(
                [str(TASKYARD), "watch", *arguments], stdout=out, stderr=err, env=clean_environment(None), cwd=folder
            )

    @property
    def lines(self) -> list[list[str]]:
        """Complete lines, split at the double spaces between their columns."""
        return [line.split("  ") for line in self._out.read_text().split("\n")[:-1]]

    @property
    def errors(self) -> list[str]:
        return self._err.read_text().splitlines()

    def has(self, task_id: str, status: str) -> bool:
        return any(line[1] == task_id and line[3] == status for line in self.lines)

    def end(self, number: signal.Signals | None = None) -> int:
        if number is not None:
            self._process.send_signal(number)
        return self._process.wait(PATIENCE)

    def __enter__(self) -> "Watching":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def submit(server: DevProcess, task_type: str, data: Any, **more: Any) -> str:
    made = server.data_of(CREATE, {"input": {"taskType": task_type, "inputData": data, **more}})
    return str(made["createAITask"]["id"])


def at(server: DevProcess) -> tuple[str, ...]:
    return "--url", server.address, "--data", str(server.data)


def test_lines_with_rising_progress_until_the_task_is_completed(server: DevProcess, tmp_path: Path) -> None:
    # Not due before the watch is there: the first line must show it waiting.
    with Watching(tmp_path, "watched-1", *at(server)) as absent:
        assert absent.end() == 1
        assert absent.errors == ["Error: there is no task 'watched-1'"]
    server.data_of('mutation { pauseQueue(queue: "held") { paused } }')
    submit(server, "mock_content", {"topic": "tides"}, id="watched-1", queue="held")
    with Watching(tmp_path, "watched-1", *at(server)) as watching:
        eventually(lambda: watching.has("watched-1", "QUEUED"))
        server.data_of('mutation { resumeQueue(queue: "held") { paused } }')
        assert watching.end() == 0
        lines = watching.lines
        assert watching.errors == []
    assert [line[3] for line in lines] == ["QUEUED", *["PROCESSING"] * (len(lines) - 2), "COMPLETED"]
    assert [line[4] for line in lines] == ["0%", "0%", "25%", "50%", "75%", "100%", "100%"]
    assert lines[-2][5] == "wrote section 4 of 4"


def test_a_task_that_fails_is_exit_code_1_and_its_reason_is_shown(server: DevProcess, tmp_path: Path) -> None:
    task_id = submit(server, "random_failure", {"rate": 1}, maxRetries=1)
    output = run_taskyard("watch", task_id, *at(server), expect=1, cwd=tmp_path)
    assert "FAILED  0%  (retry 1 of 1)  PROCESSOR_ERROR:  RuntimeError: bad luck" in output.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--token", "nonsense"), "refuses this token: it is not valid, or has expired"),
        (("--data", "nowhere"), "there is no token: give one with --token or TASKYARD_TOKEN"),
    ],
)
def test_what_cannot_succeed_is_one_sentence(
    server: DevProcess, tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    output = run_taskyard("watch", "--url", server.address, *arguments, expect=1, cwd=tmp_path)
    assert sentence in output
    assert len(output.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [], "it has made a secret"


def test_a_restart_of_the_server_is_survived(tmp_path: Path) -> None:
    data = tmp_path / "data"
    # Bound but not listening, it keeps the port for both servers; what runs need not end before a server does.
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        port = str(reserved.getsockname()[1])
        start = partial(DevProcess, data, "--port", port, env={"TASKYARD_DRAIN_SECONDS": "0"})
        watch_a_restart(start, tmp_path)


def watch_a_restart(start: Callable[[], DevProcess], tmp_path: Path) -> None:
    with start() as server:
        submit(server, "delay", {"seconds": 600}, id="before")
        with Watching(tmp_path, *at(server)) as watching:
            eventually(lambda: watching.has("before", "PROCESSING"))
            server.stop(signal.SIGTERM)
            eventually(lambda: watching.errors)
            with start() as again:
                submit(again, "echo", "hi", id="after")
                eventually(lambda: watching.has("after", "COMPLETED"))
                assert watching.errors[1:] == ["Connected again."]
                assert watching.errors[0].endswith("trying again.")
                assert watching.end(signal.SIGINT) == 0


def test_a_terminal_gets_a_table(server: DevProcess, tmp_path: Path) -> None:
    submit(server, "random_failure", {"rate": 1}, id="a-task-that-fails", maxRetries=0)
    screen = ""
    terminal, far_end = pty.openpty()
    fcntl.ioctl(far_end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [str(TASKYARD), "watch", *at(server)],
        stdin=far_end, stdout=far_end, stderr=far_end, env=clean_environment({"TERM": "xterm-256color"}),
    )  # fmt: skip

    def read_until(text: str) -> None:
        def more() -> bool:
            nonlocal screen
            if select.select([terminal], [], [], 1)[0]:
                screen += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", os.read(terminal, 65536).decode(errors="replace"))
            return text in screen

        eventually(more, every=0)

    try:
        read_until("Ctrl-C ends.")
        submit(server, "mock_content", {"topic": "tides"}, id="a-task-on-a-terminal")
        read_until(" 1 ended  http")
        picture = screen[screen.rindex("id  ") :].splitlines()
        assert picture[0].split() == ["id", "type", "status", "progress", "retry", "age", "step", "or", "error"]
        (row,) = (line for line in picture if line.startswith("terminal"))
        assert re.fullmatch(r"terminal mock_content COMPLETED\s+━━━━━ 100%\s+0/3\s+\d+s wrote section 4 of 4\s*", row)
        assert all(len(line) <= 80 for line in picture)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
        os.close(far_end)
