"""The README's first five minutes, command by command, against a real process."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.support.process import PATIENCE, DevProcess, clean_environment, eventually

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


def run(process: DevProcess, script: str) -> list[dict[str, Any]]:
    """Run a block in bash as it stands, but for the address, and give the answers that it printed."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace("http://127.0.0.1:4000", process.address)],
        cwd=ROOT,
        env=clean_environment({"TASKYARD_DATA": str(process.data)}),
        stdout=subprocess.PIPE,
        timeout=PATIENCE,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.decode().splitlines()]


def test_the_first_five_minutes(tmp_path: Path) -> None:
    start, watch, create, wrong, results, steer, audit, start_again, shout = blocks("sh")
    assert start.strip() == "make run"
    assert watch.strip() == ".venv/bin/taskyard watch"
    prelude = "\n".join(create.splitlines()[:2]) + "\n"
    (code,) = blocks("python")
    (tmp_path / "shout.py").write_text(code)
    assert start_again.strip() == 'make run ARGS="--import ./shout.py"'

    with DevProcess(tmp_path / "data", cwd=tmp_path, fresh=True) as process:
        answers = run(process, create)
        assert [answer["data"]["createAITask"]["status"] for answer in answers] == ["QUEUED"] * 4

        (refused,) = run(process, prelude + wrong)
        (error,) = refused["errors"]
        assert error["extensions"] == {"code": "INVALID_INPUT", "path": ["inputData", "seconds"]}

        def ended() -> bool:
            (answer,) = run(process, prelude + results)
            found = {task["taskType"]: task for task in answer["data"]["aiTasks"]["tasks"]}
            assert len(found) == 4
            return [found[name]["status"] for name in ("echo", "mock_content", "delay", "random_failure")] == [
                "COMPLETED",
                "COMPLETED",
                "PROCESSING",
                "FAILED",
            ] and found["echo"]["outputData"] == {"hello": "world"}

        eventually(ended)
        cancelled, retried, status = run(process, prelude + steer)
        assert cancelled["data"]["cancelAITask"] == {"id": "slow-1", "status": "CANCELLED"}
        assert retried["data"]["retryAITask"]["status"] == "QUEUED"
        assert status["data"]["taskQueueStatus"]["totalTasks"] == 4
        (story,) = run(process, prelude + audit)
        events = story["data"]["aiTask"]["events"]
        assert [event["status"] for event in events if event["kind"] == "STATUS"] == [
            "QUEUED",
            "PROCESSING",
            "CANCELLED",
        ]
        assert events[-1]["actor"] == "me"

    with DevProcess(tmp_path / "data", "--import", "./shout.py", cwd=tmp_path) as process:
        create_shout, read_shout = shout.strip().splitlines()
        run(process, prelude + create_shout)

        def shouted() -> bool:
            (answer,) = run(process, prelude + read_shout)
            return bool(answer["data"]["aiTask"] == {"status": "COMPLETED", "outputData": "HELLO!"})

        eventually(shouted)
