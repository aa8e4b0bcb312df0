"""Killed or stopped in the middle of a thousand tasks: nothing accepted is lost, nothing takes effect twice."""

import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.process import DevProcess, eventually

pytestmark = pytest.mark.slow

BATCH = """mutation($inputs: [CreateAITaskInput!]!) {
  createAITasksBatch(inputs: $inputs, mode: ATOMIC) { tasks { id } errors { message } }
}"""
STATUS = "{ taskQueueStatus { totalTasks queuedTasks processingTasks completedTasks failedTasks cancelledTasks } }"
#: Runs at once, so that several are interrupted.
SLOTS = 8


def submit(process: DevProcess, inputs: list[dict[str, Any]]) -> list[str]:
    """Submit up to 100 tasks, and give the ids that were acknowledged."""
    result = process.data_of(BATCH, {"inputs": inputs})["createAITasksBatch"]
    assert result["errors"] == []
    return [task["id"] for task in result["tasks"]]


def echoes(number: int) -> list[dict[str, Any]]:
    return [{"taskType": "echo", "inputData": {"number": n}} for n in range(number)]


def delays(number: int, seconds: float) -> list[dict[str, Any]]:
    return [{"taskType": "delay", "inputData": {"seconds": seconds}, "priority": "URGENT"} for _ in range(number)]


def figures(process: DevProcess) -> dict[str, int]:
    status: dict[str, int] = process.data_of(STATUS)["taskQueueStatus"]
    return status


def all_completed(process: DevProcess, number: int) -> dict[str, int]:
    """Wait until this many tasks are completed, or nothing is left to wait for, and give the figures."""

    def at_rest() -> dict[str, int] | None:
        found = figures(process)
        return found if found["queuedTasks"] == found["processingTasks"] == 0 else None

    found: dict[str, int] = eventually(at_rest, within=300, every=1)
    assert found == {
        "totalTasks": number,
        "queuedTasks": 0,
        "processingTasks": 0,
        "completedTasks": number,
        "failedTasks": 0,
        "cancelledTasks": 0,
    }
    return found


@contextmanager
def database(data: Path) -> Iterator[sqlite3.Connection]:
    """The file itself, while no process has it."""
    connection = sqlite3.connect(data / "taskyard.db")
    connection.row_factory = sqlite3.Row
    try:
        yield connection
    finally:
        connection.close()


def tasks_of(connection: sqlite3.Connection) -> dict[str, sqlite3.Row]:
    return {row["id"]: row for row in connection.execute("SELECT * FROM tasks")}


def make_short(connection: sqlite3.Connection) -> None:
    """Let the long runs end at once the next time, so that the test need not wait for them."""
    with connection:
        connection.execute("UPDATE tasks SET input = '{\"seconds\": 0.1}' WHERE task_type = 'delay'")


def check_events(connection: sqlite3.Connection) -> None:
    """The log is whole: no gap in the order of all events, none in any task's own, one completion each."""
    assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    seqs = [row["seq"] for row in connection.execute("SELECT seq FROM events ORDER BY seq")]
    assert seqs == list(range(1, len(seqs) + 1))
    (counter,) = connection.execute("SELECT value FROM counters WHERE name = 'event'").fetchone()
    assert counter == len(seqs)
    versions: dict[str, list[int]] = {}
    for row in connection.execute("SELECT task_id, version FROM events ORDER BY seq"):
        versions.setdefault(row["task_id"], []).append(row["version"])
    tasks = tasks_of(connection)
    assert versions.keys() == tasks.keys()
    for task_id, task in tasks.items():
        assert versions[task_id] == list(range(1, task["version"] + 1))
    ends = Counter(row["task_id"] for row in connection.execute(COMPLETIONS))
    assert ends == {task_id: 1 for task_id, task in tasks.items() if task["status"] == "COMPLETED"}


COMPLETIONS = "SELECT task_id FROM events WHERE kind = 'STATUS' AND json_extract(state, '$.status') = 'COMPLETED'"
CLAIMS = "SELECT count(*) FROM events WHERE task_id = ? AND json_extract(state, '$.status') = 'PROCESSING' AND kind = 'STATUS'"  # noqa: E501 - one statement


def test_killed_with_a_thousand_tasks_queued_and_several_running(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with DevProcess(data, "--concurrency", str(SLOTS)) as process:
        long = submit(process, delays(SLOTS, 3000))
        short = [task_id for _ in range(10) for task_id in submit(process, echoes(100))]
        # The long runs hold all slots, so that the thousand wait behind them.
        eventually(lambda: figures(process)["processingTasks"] == SLOTS)
        process.kill()

    with database(data) as connection:
        tasks = tasks_of(connection)
        assert tasks.keys() == {*long, *short}
        interrupted = {task_id for task_id, task in tasks.items() if task["status"] == "PROCESSING"}
        assert interrupted == {*long}
        assert {tasks[task_id]["status"] for task_id in short} == {"QUEUED"}
        make_short(connection)

    with DevProcess(data, "--concurrency", "50") as process:
        all_completed(process, 1000 + SLOTS)
        assert process.stop() == 0

    with database(data) as connection:
        check_events(connection)
        tasks = tasks_of(connection)
        for task_id, task in tasks.items():
            lost = 1 if task_id in interrupted else 0
            assert (task["lost_count"], task["retry_count"], task["attempt"]) == (lost, 0, 1 + lost)
            assert connection.execute(CLAIMS, [task_id]).fetchone()[0] == task["attempt"]
        reasons = connection.execute(
            "SELECT task_id, json_extract(detail, '$.reason') AS reason FROM events WHERE actor = 'system:janitor'"
        )
        assert {row["task_id"]: row["reason"] for row in reasons} == dict.fromkeys(interrupted, "LEASE_LOST")


def test_killed_while_clients_submit_every_acknowledged_task_is_there(tmp_path: Path) -> None:
    data = tmp_path / "data"
    acknowledged: list[str] = []

    def keep_submitting(process: DevProcess) -> None:
        try:
            while True:
                acknowledged.extend(submit(process, echoes(7)))
        except httpx.HTTPError:
            pass  # it was killed

    with DevProcess(data) as process:
        clients = [threading.Thread(target=keep_submitting, args=[process]) for _ in range(4)]
        for client in clients:
            client.start()
        eventually(lambda: len(acknowledged) >= 200)
        process.kill()
        for client in clients:
            client.join()

    with database(data) as connection:
        stored = set(tasks_of(connection))
        assert stored >= set(acknowledged)
        assert len(acknowledged) == len(set(acknowledged))
        # What was under way came whole or not at all.
        assert len(stored) % 7 == 0

    with DevProcess(data, "--concurrency", "50") as process:
        all_completed(process, len(stored))
        assert process.stop() == 0
    with database(data) as connection:
        check_events(connection)


def test_terminated_with_a_thousand_tasks_queued_and_several_running(tmp_path: Path) -> None:
    data = tmp_path / "data"
    # The long runs outlast the patience of the stop: they are given back.
    with DevProcess(data, "--concurrency", str(SLOTS), env={"TASKYARD_DRAIN_SECONDS": "0.5"}) as process:
        long = submit(process, delays(SLOTS, 3000))
        short = [task_id for _ in range(10) for task_id in submit(process, echoes(100))]
        eventually(lambda: figures(process)["processingTasks"] == SLOTS)
        assert process.stop(signal.SIGTERM) == 0
        assert "Traceback" not in process.output

    with database(data) as connection:
        tasks = tasks_of(connection)
        assert tasks.keys() == {*long, *short}
        assert {tasks[task_id]["status"] for task_id in long} == {"QUEUED"}
        # In their old places, before all the others: what was begun is done first.
        first = connection.execute("SELECT id FROM tasks ORDER BY priority DESC, queue_seq LIMIT ?", [SLOTS])
        assert {row["id"] for row in first} == set(long)
        make_short(connection)

    with DevProcess(data, "--concurrency", "50") as process:
        all_completed(process, 1000 + SLOTS)
        assert process.stop(signal.SIGTERM) == 0

    with database(data) as connection:
        check_events(connection)
        for task_id, task in tasks_of(connection).items():
            given_back = 1 if task_id in long else 0
            assert (task["retry_count"], task["lost_count"], task["attempt"]) == (0, 0, 1 + given_back)


def test_terminated_it_lets_short_runs_end(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with DevProcess(data) as process:
        (task_id,) = submit(process, delays(1, 2))
        eventually(lambda: figures(process)["processingTasks"] == 1)
        assert process.stop(signal.SIGTERM) == 0
    with database(data) as connection:
        task = tasks_of(connection)[task_id]
        assert (task["status"], task["attempt"]) == ("COMPLETED", 1)
        check_events(connection)


def test_ctrl_c_ends_it_cleanly(tmp_path: Path) -> None:
    with DevProcess(tmp_path / "data") as process:
        assert process.stop(signal.SIGINT) == 0
    assert "stopping" in process.output
    for bad in ("Traceback", "Error", "KeyboardInterrupt", "Aborted", "never"):
        assert bad not in process.output
    with pytest.raises(httpx.ConnectError):
        process.graphql("{ __typename }")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_it_at_once(tmp_path: Path, number: signal.Signals) -> None:
    data = tmp_path / "data"
    with DevProcess(data, env={"TASKYARD_DRAIN_SECONDS": "3000"}) as process:
        (task_id,) = submit(process, delays(1, 3000))
        eventually(lambda: figures(process)["processingTasks"] == 1)
        process.send_signal(number)
        process.wait_for("press Ctrl-C again")
        # It waits for the run, for most of an hour if need be.
        assert process.stop(number) == -number
        assert "Traceback" not in process.output
    with database(data) as connection:
        assert tasks_of(connection)[task_id]["status"] == "PROCESSING"
        check_events(connection)
