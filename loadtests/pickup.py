"""How soon does an idle worker begin what was submitted? Real `serve` and `worker` processes, with Redis and without.

Each kind of deployment runs by itself over a PostgreSQL with its default settings, one after the other and again, so
that a noisy machine disturbs both alike. The processor itself says when it was called: all clocks are this machine's.
"""

import asyncio
import json
import secrets
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import httpx
from tests.support.databases import administer
from tests.support.deployment import Deployment, deployed
from tests.support.process import PATIENCE, ServeProcess
from tests.support.servers import PostgresServer, RedisServer

from bench import percentile
from machine import machine
from operations import headers, request_body
from taskyard.store.postgres import migrate_postgres

PROCESSOR = """
import time

from taskyard.processor import processor


@processor("stamp")
async def stamp(value, ctx):
    return time.time()
"""
OUTPUT = "query Output($id: ID!) { aiTask(id: $id) { status outputData } }"
#: Payload of a task: 200 bytes, as in the other benchmarks.
PAYLOAD = {"text": "x" * 188}


@dataclass
class Kind:
    """A kind of deployment and what was measured on it: task id, when it was sent, when its answer came (seconds)."""

    name: str
    env: dict[str, str]
    sent: list[tuple[str, float, float]] = field(default_factory=list)
    begun: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        since_sent = [1000 * (self.begun[task_id] - sent) for task_id, sent, _ in self.sent]
        since_answered = [1000 * (self.begun[task_id] - answered) for task_id, _, answered in self.sent]
        both = " | ".join(
            f"{percentile(of, 50):.1f} / {percentile(of, 99):.1f}" for of in (since_sent, since_answered)
        )
        return f"| {self.name} | {len(self.sent):,} | {both} |"


@click.command()
@click.option("--tasks", default=1000, show_default=True, help="tasks for each kind of deployment")
@click.option("--rate", default=20.0, show_default=True, help="tasks a second")
@click.option("--rounds", default=2, show_default=True, help="how often each kind has its turn")
def main(tasks: int, rate: float, rounds: int) -> None:
    """Measure the time from a submission to the call of its processor, with a worker that has nothing else to do."""
    print(machine() + "\n")
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="taskyard-pickup-"))
        source = Path(folder) / "stamping.py"
        source.write_text(PROCESSOR)
        postgres = stack.enter_context(PostgresServer(durable=True))
        redis = stack.enter_context(RedisServer())
        kinds = []
        for name, redis_url in (("PostgreSQL and Redis", redis.url), ("PostgreSQL alone", None)):
            database = f"pickup_{len(kinds)}"
            asyncio.run(_make(postgres, database))
            # Leases and beats as they are by default.
            env = {"DATABASE_URL": postgres.url(database), "JWT_SECRET": ServeProcess.secret}
            kinds.append(Kind(name, env | ({} if redis_url is None else {"REDIS_URL": redis_url})))
        for _ in range(rounds):
            for kind in kinds:
                with deployed(kind.env, imports=[source]) as deployment:
                    asyncio.run(_measure(deployment, kind, tasks // rounds, rate))
    print("| deployment | tasks | sent to begun, p50 / p99 ms | answered to begun, p50 / p99 ms |")
    print("|---|---|---|---|")
    print(*kinds, sep="\n")


async def _make(postgres: PostgresServer, name: str) -> None:
    await administer(postgres.url(), f"CREATE DATABASE {name}")
    await migrate_postgres(postgres.url(name))


async def _measure(deployment: Deployment, kind: Kind, tasks: int, rate: float) -> None:
    async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client:
        for _ in range(20):  # connections and prepared statements are there before the clock runs
            await _submit(client, deployment)
        sent = []
        for _ in range(tasks):
            # The pause is the rate: the worker has nothing else to do when the next one comes.
            found, _ = await asyncio.gather(_submit(client, deployment), asyncio.sleep(1 / rate))
            sent.append(found)
        for task_id, *_ in sent:
            kind.begun[task_id] = await _begun(client, deployment, task_id)
        kind.sent += sent


async def _submit(client: httpx.AsyncClient, deployment: Deployment) -> tuple[str, float, float]:
    """Task id, when it was sent, when its answer came."""
    task_id = secrets.token_hex(12)
    body = request_body("CreateTask", {"input": {"id": task_id, "taskType": "stamp", "inputData": PAYLOAD}})
    sent = time.time()
    await _post(client, deployment, body)
    return task_id, sent, time.time()


async def _begun(client: httpx.AsyncClient, deployment: Deployment, task_id: str) -> float:
    """When it began, once it is completed."""
    deadline = time.monotonic() + PATIENCE
    body = json.dumps({"query": OUTPUT, "variables": {"id": task_id}}).encode()
    while (task := (await _post(client, deployment, body))["aiTask"])["status"] != "COMPLETED":
        if time.monotonic() > deadline:
            raise click.ClickException(f"the task {task_id} is not completed")
        await asyncio.sleep(0.2)  # nothing is measured any more: the last ones have yet to end
    return float(task["outputData"])


async def _post(client: httpx.AsyncClient, deployment: Deployment, body: bytes) -> Any:
    server = deployment.server
    response = await client.post(f"{server.address}/graphql", headers=headers(server.token), content=body)
    answer = response.json()
    if response.status_code != 200 or "errors" in answer:
        raise click.ClickException(f"refused with {response.status_code}: {answer}")
    return answer["data"]


if __name__ == "__main__":
    main()
