"""The load tests and the benchmark run, and notice when something is wrong."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.process import PATIENCE, DevProcess, clean_environment, eventually

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevProcess]:
    with DevProcess(tmp_path_factory.mktemp("load") / "data") as running:
        yield running


def locust(server: DevProcess, folder: Path, seen: str, *arguments: str, token: str) -> tuple[int, dict[str, Any]]:
    """Run until its table has shown all of `seen` (patterns, by line), then end it: exit code and figures by name."""
    command = [
        sys.executable, "-m", "locust", "-f", str(ROOT / "loadtests" / "locustfile.py"), "--host", server.address,
        "--headless", "--json", *arguments,
    ]  # fmt: skip
    out, err = folder / "out", folder / "err"
    with out.open("w") as stdout, err.open("w") as stderr:
        environment = clean_environment({"TASKYARD_TOKEN": token})
        process = subprocess.Popen(command, env=environment, stdout=stdout, stderr=stderr)
    try:
        eventually(lambda: all(re.search(pattern, err.read_text()) for pattern in seen.splitlines()))
        process.terminate()
        code = process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()
    text = out.read_text()
    return code, {one["name"]: one for one in json.loads(text[text.index("[") :])}


def test_locust_loads_every_operation_without_a_failure(server: DevProcess, tmp_path: Path) -> None:
    many = "CreateTask +[1-9][0-9]\nListTasks +[1-9]\nWatchTasks +[1-9][0-9]"
    code, figures = locust(server, tmp_path, many, "-u", "5", "-r", "5", token=server.token)
    assert code == 0
    assert figures.keys() == {"CreateTask", "ListTasks", "WatchTasks"}
    assert all(one["num_requests"] > 0 and one["num_failures"] == 0 for one in figures.values())


def test_locust_counts_a_refusal_as_a_failure(server: DevProcess, tmp_path: Path) -> None:
    stranger = server.make_token("stranger", "user", "one", "two")  # must name an instance, and does not
    all_failed = r"CreateTask +[1-9][0-9]* +[1-9][0-9]*\(100"
    code, figures = locust(server, tmp_path, all_failed, "-u", "1", "Submitter", token=stranger)
    assert code == 1
    assert figures["CreateTask"]["num_failures"] == figures["CreateTask"]["num_requests"] > 0


def test_the_benchmark_prints_a_row_for_each_number_of_clients(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "loadtests" / "bench.py"), "--seconds", "1", "--clients", "1,3"],
        env=clean_environment(None), cwd=tmp_path, capture_output=True, text=True, timeout=3 * PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "load average" in done.stdout
    rows = [
        list(map(float, re.findall(r"[\d.]+", line)))
        for line in done.stdout.splitlines()
        if line[:3] in ("| 1", "| 3")
    ]
    assert [row[0] for row in rows] == [1, 3]
    for _, echo, submitted, _, finished, pickup50, pickup99, started50, started99 in rows:
        assert min(echo, submitted, finished) > 0
        assert 0 <= pickup50 <= pickup99
        assert 0 < started50 <= started99
        assert pickup50 <= started50 + 1
    assert list(tmp_path.iterdir()) == [], "it left something behind"


@pytest.mark.parametrize(
    ("script", "arguments", "code", "rows"),
    [
        # Few rounds say nothing about growth: a limit that none can keep.
        (
            "growth.py",
            ["--sizes", "100,300", "--rounds", "3", "--limit", "0"],
            1,
            ["| 100 |", "| 300 |", "claims: p99 at 300 is"],
        ),
        ("pickup.py", ["--tasks", "6"], 0, ["| PostgreSQL and Redis | 6 |", "| PostgreSQL alone | 6 |"]),
    ],
)
def test_the_benchmarks_of_a_deployment(script: str, arguments: list[str], code: int, rows: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "loadtests" / script), *arguments],
        env=clean_environment({"PYTHONPATH": str(ROOT)}), capture_output=True, text=True,
        timeout=3 * PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "load average" in done.stdout
    for row in rows:
        assert row in done.stdout
    assert "nan" not in done.stdout


@pytest.mark.parametrize(("longest", "code", "told"), [(15, 0, ""), (15.1, 1, "slower by more than 1.5 times")])
def test_claims_that_a_full_queue_makes_slower_are_an_error(longest: float, code: int, told: str) -> None:
    claims = f"[Size(0, None, claims=[10.0]), Size(0, None, claims=[30.0]), Size(0, None, claims=[{longest}])]"
    done = subprocess.run(
        [sys.executable, "-c", f"from growth import LIMIT, Size, judge; judge({claims}, LIMIT)"],
        env=clean_environment({"PYTHONPATH": f"{ROOT / 'loadtests'}:{ROOT}"}), capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert told in done.stderr
