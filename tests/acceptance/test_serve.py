"""`taskyard serve` and `taskyard migrate`: nothing is made up, nothing is migrated in passing."""

from pathlib import Path

import httpx
import pytest
from tests.support.process import PATIENCE, ServeProcess, run_taskyard

pytestmark = pytest.mark.slow

SECRET = {"JWT_SECRET": "s" * 32}


def test_serve_needs_a_secret(tmp_path: Path) -> None:
    said = run_taskyard("serve", "--port", "0", "--data", str(tmp_path / "data"), expect=1)
    assert said == "Error: JWT_SECRET is not set: `serve` needs the key that signs the tokens, 32 bytes or more\n"
    assert not (tmp_path / "data").exists()


def test_serve_refuses_a_short_secret(tmp_path: Path) -> None:
    said = run_taskyard("serve", "--data", str(tmp_path / "data"), env={"JWT_SECRET": "short"}, expect=1)
    assert said == "Error: bad setting: JWT_SECRET: must have at least 32 bytes\n"


def test_serve_migrates_nothing(tmp_path: Path) -> None:
    said = run_taskyard("serve", "--port", "0", "--data", str(tmp_path / "data"), env=SECRET, expect=1)
    assert "run `taskyard migrate` first" in said
    assert "Traceback" not in said
    said = run_taskyard("migrate", "--data", str(tmp_path / "data"))
    assert said == f"{tmp_path}/data/taskyard.db is up to date\n"


def test_a_remote_agent_does_a_task_without_any_worker(tmp_path: Path) -> None:
    data = tmp_path / "data"
    run_taskyard("migrate", "--data", str(data))
    with ServeProcess(data) as process:
        agent = process.make_token("agent-7", "agent")
        create = (
            'mutation { createAITask(input: {taskType: "by_hand", inputData: {n: 1}}) { id status waitingReason } }'
        )
        made = process.data_of(create)["createAITask"]
        assert (made["status"], made["waitingReason"]) == ("QUEUED", "NO_WORKER_FOR_TYPE")
        # Nobody is late: a task that waits for its agent is no crisis.
        assert process.data_of("{ taskQueueStatus { queueHealth } }")["taskQueueStatus"]["queueHealth"] == "HEALTHY"

        dequeue = "mutation { dequeueTasks { id status inputData } }"
        (given,) = process.data_of(dequeue, token=agent)["dequeueTasks"]
        assert given == {"id": made["id"], "status": "ASSIGNED", "inputData": {"n": 1}}
        start = "mutation($id: ID!) { startTaskProcessing(id: $id) { status attempt } }"
        started = process.data_of(start, {"id": made["id"]}, token=agent)
        assert started == {"startTaskProcessing": {"status": "PROCESSING", "attempt": 1}}
        complete = "mutation($id: ID!) { completeTask(id: $id, outputData: {n: 2}) { status outputData } }"
        done = process.data_of(complete, {"id": made["id"]}, token=agent)
        assert done == {"completeTask": {"status": "COMPLETED", "outputData": {"n": 2}}}

        page = httpx.get(
            f"{process.address}/graphql", headers={"Accept": "text/html"}, timeout=PATIENCE, trust_env=False
        )
        assert page.status_code == 404
        assert not (data / "jwt_secret").exists()
        assert process.stop() == 0
    assert process.token not in process.output
    assert "Traceback" not in process.output
