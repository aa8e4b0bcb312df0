"""Several `taskyard serve` and `taskyard worker` processes over one PostgreSQL, with Redis and without."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.deployment import LEASE, Deployment, deployed, environment
from tests.support.process import PATIENCE, DevProcess, eventually, run_taskyard
from tests.support.servers import PostgresServer, RedisServer
from tests.support.subscriber import subscribed

pytestmark = pytest.mark.slow

WORK = Path(__file__).parents[1] / "support" / "slow_work.py"
CREATE = "mutation($input: CreateAITaskInput!) { createAITask(input: $input) { id } }"
BATCH = """
mutation($input: CreateAITaskInput!) {
  createAITasksBatch(inputs: [$input, $input], mode: PARTIAL) { successCount errors { code } }
}
"""
TASK = "query($id: ID!) { aiTask(id: $id) { status attempt retryCount lostCount outputData errorCode } }"


@pytest.fixture(params=["redis", "postgresql alone"])
def env(
    request: pytest.FixtureRequest, database_url: str, redis_url: str, redis_prefix: str, tmp_path: Path
) -> dict[str, str]:
    settings = environment(database_url, redis_url if request.param == "redis" else None, redis_prefix)
    return settings | {"TEST_RUN_LOG": str(tmp_path / "runs")}


def submit(deployment: Deployment, server: int = 0, **fields: Any) -> str:
    order = {"taskType": "logged", "inputData": {}} | fields
    return str(deployment.servers[server].data_of(CREATE, {"input": order})["createAITask"]["id"])


def task(deployment: Deployment, task_id: str, server: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = deployment.servers[server].data_of(TASK, {"id": task_id})["aiTask"]
    return found


def until(deployment: Deployment, task_id: str, status: str = "COMPLETED", server: int = 0) -> dict[str, Any]:
    def reached() -> dict[str, Any] | None:
        found = task(deployment, task_id, server)
        return found if found["status"] == status else None

    found: dict[str, Any] = eventually(reached)
    return found


def runs(env: dict[str, str], what: str = "begin") -> list[list[str]]:
    path = Path(env["TEST_RUN_LOG"])
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.split() for line in lines if line.startswith(what)]


# -- together -------------------------------------------------------------------------------------


def test_what_one_server_accepts_all_workers_do_and_every_server_shows(env: dict[str, str]) -> None:
    with deployed(env, servers=2, workers=2, imports=[WORK]) as deployment:
        first, second = deployment.servers
        live = "subscription { aiTaskStatusChanged { id status } }"
        with subscribed(second.address, second.token, live) as client:
            made = [submit(deployment, server=number % 2, inputData={"seconds": 0.1}) for number in range(20)]
            seen: dict[str, list[str]] = {task_id: [] for task_id in made}
            while not all(states[-1:] == ["COMPLETED"] for states in seen.values()):
                told = client.receive()["payload"]["data"]["aiTaskStatusChanged"]
                seen[told["id"]].append(told["status"])
        assert all(states == ["QUEUED", "PROCESSING", "COMPLETED"] for states in seen.values())
        assert sorted(line[1] for line in runs(env)) == sorted(made), "each ran once"
        assert {int(line[3]) for line in runs(env)} == {worker.pid for worker in deployment.workers}
        assert all(task(deployment, task_id, server=1)["outputData"] == {"attempt": 1} for task_id in made)

        paused = 'mutation { pauseQueue(queue: "default") { paused } }'
        first.data_of(paused)
        waiting = submit(deployment, server=1)
        # One of another queue, behind it, shows that the workers have looked.
        until(deployment, submit(deployment, server=1, queue="other"))
        assert task(deployment, waiting)["status"] == "QUEUED"
        second.data_of(paused.replace("pauseQueue", "resumeQueue"))
        until(deployment, waiting)

        listed = [json.loads(line) for line in run_taskyard("workers", "--json", env=env).splitlines()]
        assert {one["id"] for one in listed} == {worker.id for worker in deployment.workers}
        assert all(one["types"] and one["concurrency"] == 4 and one["status"] == "ALIVE" for one in listed)
        table = run_taskyard("workers", env=env)
        assert all(worker.id in table for worker in deployment.workers)


def test_tasks_of_a_worker_that_was_killed_are_run_by_another(env: dict[str, str]) -> None:
    with deployed(env, workers=2, imports=[WORK]) as deployment:
        made = [submit(deployment, inputData={"seconds": 1}) for _ in range(8)]
        eventually(lambda: len(runs(env)) == 8)
        victim, other = deployment.workers
        theirs = {line[1] for line in runs(env) if int(line[3]) == victim.pid}
        assert theirs
        victim.kill()
        killed = time.time()
        for task_id in made:
            done = until(deployment, task_id)
            lost = task_id in theirs and done["attempt"] == 2
            assert (done["attempt"], done["lostCount"], done["retryCount"]) == ((2, 1, 0) if lost else (1, 0, 0))
        again = [line for line in runs(env) if line[2] == "2"]
        assert {int(line[3]) for line in again} <= {other.pid}
        assert all(float(line[4]) - killed < 2 * LEASE + 60 for line in again)
        assert {line[1] for line in runs(env, "end")} == set(made)


def test_a_worker_that_is_stopped_gives_back_what_it_has(env: dict[str, str]) -> None:
    env = env | {"TASKYARD_DRAIN_SECONDS": "0"}
    with deployed(env, workers=1, imports=[WORK], concurrency=2) as deployment:
        (worker,) = deployment.workers
        made = [submit(deployment, inputData={"seconds": 60}) for _ in range(2)]
        waiting = submit(deployment)
        eventually(lambda: len(runs(env)) == 2)
        listed = eventually(lambda: [one for one in _workers(env) if len(one["tasks"]) == 2])
        assert {one["id"] for one in listed[0]["tasks"]} == set(made)
        assert worker.stop() == 0
        assert "Traceback" not in worker.output
        for task_id in made:
            given_back = until(deployment, task_id, "QUEUED")
            assert (given_back["attempt"], given_back["retryCount"], given_back["lostCount"]) == (1, 0, 0)
        assert task(deployment, waiting)["attempt"] == 0, "no attempt is spent on what had not begun"
        assert _workers(env) == []
        assert run_taskyard("workers", env=env) == "no worker is alive\n"


def _workers(env: dict[str, str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run_taskyard("workers", "--json", env=env).splitlines()]


def test_a_worker_takes_only_what_it_is_for(env: dict[str, str]) -> None:
    with deployed(env, workers=0) as deployment:
        deployment.start_worker(
            "--import", str(WORK), "--queues", "mail, chat", "--types", "logged", "--min-priority", "8"
        )
        left = [
            submit(deployment, queue="other", priority="URGENT"),
            submit(deployment, queue="mail", priority="NORMAL"),
            submit(deployment, queue="mail", priority="URGENT", taskType="echo"),
        ]
        for queue in ("mail", "chat"):
            until(deployment, submit(deployment, queue=queue, priority="HIGH"))
        assert [task(deployment, task_id)["status"] for task_id in left] == ["QUEUED"] * 3


# -- a server that is away ------------------------------------------------------------------------


@pytest.fixture
def own_postgres(database_template: Path) -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        run_taskyard("migrate", env={"DATABASE_URL": server.url()})
        yield server


def test_without_redis_tasks_are_accepted_and_none_is_lost(
    database_url: str, redis_prefix: str, tmp_path: Path
) -> None:
    with RedisServer() as redis:
        env = environment(database_url, redis.url, redis_prefix) | {"TEST_RUN_LOG": str(tmp_path / "runs")}
        with deployed(env, workers=1, imports=[WORK]) as deployment:
            until(deployment, submit(deployment))
            redis.kill()
            made = [submit(deployment) for _ in range(10)]
            until(deployment, made[0])  # while Redis is away
            redis.start()
            made += [submit(deployment) for _ in range(10)]
            for task_id in made:
                assert until(deployment, task_id)["attempt"] == 1
            assert sorted(line[1] for line in runs(env) if line[1] in made) == sorted(made)
            deployment.server.wait_for("WARNING taskyard.redis_link: Redis does not answer")
            deployment.server.wait_for("INFO taskyard.redis_link: Redis answers again")


def test_without_postgres_the_answer_is_503_and_the_rest_comes_back_by_itself(
    own_postgres: PostgresServer, redis_url: str, redis_prefix: str, tmp_path: Path
) -> None:
    env = environment(own_postgres.url(), redis_url, redis_prefix) | {"TEST_RUN_LOG": str(tmp_path / "runs")}
    with deployed(env, workers=1, imports=[WORK]) as deployment:
        server = deployment.server
        until(deployment, submit(deployment))
        kept = submit(deployment, queue="later", scheduledFor="2100-01-01T00:00:00Z")
        own_postgres.crash()
        for order in (CREATE, BATCH):
            answer = httpx.post(
                f"{server.address}/graphql",
                json={"query": order, "variables": {"input": {"taskType": "logged", "inputData": {}}}},
                headers={"Authorization": f"Bearer {server.token}"},
                timeout=PATIENCE,
                trust_env=False,
            )
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
            assert answer.json()["errors"][0]["extensions"]["code"] == "UNAVAILABLE"
        health = httpx.get(f"{server.address}/api/ai/tasks/health", timeout=PATIENCE, trust_env=False)
        assert (health.status_code, health.json()["checks"]) == (503, {"database": "failing"})
        own_postgres.start()
        back = time.monotonic()
        made = eventually(
            lambda: server.graphql(CREATE, {"input": {"taskType": "logged", "inputData": {}}}).get("data")
        )
        until(deployment, made["createAITask"]["id"])
        assert time.monotonic() - back < 10, "everything goes on within ten seconds"
        assert task(deployment, kept)["status"] == "SCHEDULED", "what was accepted is there"


# -- a start that cannot be -----------------------------------------------------------------------


def test_serve_and_worker_migrate_nothing(empty_database_url: str) -> None:
    env = environment(empty_database_url)
    for command in (["serve", "--port", "0"], ["worker"]):
        said = run_taskyard(*command, env=env, expect=1)
        assert "run `taskyard migrate` first" in said
        assert "Traceback" not in said
    assert "is up to date" in run_taskyard("migrate", env=env)
    assert "is up to date" in run_taskyard("migrate", env=env)
    said = run_taskyard("worker", "--types", "no_such_type", env=env, expect=1)
    assert "no_such_type" in said
    assert "Traceback" not in said


def test_a_server_that_cannot_be_reached_is_told_in_a_sentence(redis_prefix: str) -> None:
    for command in (["serve", "--port", "0"], ["worker"], ["migrate"], ["workers"]):
        said = run_taskyard(*command, env=environment("postgresql://ann:canary@127.0.0.1:1/db"), expect=1)
        assert said.startswith("Error: ")
        assert "127.0.0.1" in said
        assert "Traceback" not in said
        assert "canary" not in said


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", "mysql://ann:canary@h/db"),
        ("DATABASE_URL", "postgresql://ann:canary@h:port/db"),
        ("REDIS_URL", "http://:canary@h"),
        ("REDIS_URL", "redis://:canary@h:port/0"),
    ],
)
def test_a_bad_url_names_its_variable_and_shows_no_password(variable: str, value: str, database_url: str) -> None:
    said = run_taskyard("worker", env=environment(database_url) | {variable: value}, expect=1)
    assert variable in said
    assert "canary" not in said
    assert "Traceback" not in said


def test_worker_is_for_postgresql() -> None:
    said = run_taskyard("worker", expect=1)
    assert said.startswith("Error: DATABASE_URL is not set: `worker` needs PostgreSQL")


@pytest.mark.parametrize("arguments", [["--queues", "a,,b"], ["--types", ""], ["--min-priority", "11"]])
def test_bad_options_are_refused(arguments: list[str]) -> None:
    said = run_taskyard("worker", *arguments, expect=2)
    assert arguments[0] in said


def test_dev_says_that_it_is_embedded(tmp_path: Path) -> None:
    with DevProcess(tmp_path / "data", env={"DATABASE_URL": "postgresql://ann:canary@h/db"}) as process:
        assert "DATABASE_URL and REDIS_URL are for `serve` and `worker`" in process.output
        assert "canary" not in process.output
        assert process.data_of("{ aiTasks { totalCount } }") == {"aiTasks": {"totalCount": 0}}
