"""GraphQL over HTTP in this process: how often it reads the database, and what it does with the unforeseen."""

import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from tests.support.core import claim, submit

from taskyard.principal import Principal, Role
from taskyard.runtime import Runtime
from taskyard.task import Metrics, StepStatus
from taskyard_web.app import build_app


class Client:
    """Sends operations as a user of the default instance, and counts what the core reads meanwhile."""

    def __init__(self, runtime: Runtime, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
        self._http = http
        self.reads = 0
        read = runtime.database.read

        def counted() -> Any:
            self.reads += 1
            return read()

        monkeypatch.setattr(runtime.database, "read", counted)

    async def post(self, query: str) -> httpx.Response:
        self.reads = 0
        return await self._http.post("/graphql", json={"query": query})

    async def data(self, query: str) -> dict[str, Any]:
        """The data of an operation that must succeed."""
        body = (await self.post(query)).json()
        assert "errors" not in body, body
        data: dict[str, Any] = body["data"]
        return data


@pytest.fixture
async def client(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    await runtime.hub.stop()  # it reads the log now and then, which would be counted
    token = runtime.tokens.issue("user-1", Role.USER, ["default"], timedelta(hours=1))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(build_app(runtime, graphiql=False)),
        base_url="http://taskyard",
        headers={"Authorization": f"Bearer {token}"},
    ) as http:
        yield Client(runtime, http, monkeypatch)


@pytest.fixture
async def tasks(runtime: Runtime, user: Principal) -> list[str]:
    """Three tasks with plans and trails of their own, oldest first."""
    made = [await submit(runtime, user, id=f"task-{index}") for index in range(3)]
    for _ in made:
        task, run = await claim(runtime)
        await runtime.claims.step(run, f"first of {task.id}", StepStatus.COMPLETED, None)
        await runtime.claims.step(run, f"second of {task.id}", StepStatus.RUNNING, None)
        await runtime.claims.complete(run, {}, Metrics())
    return [task.id for task in made]


async def test_the_plans_of_a_list_are_read_together(client: Client, tasks: list[str]) -> None:
    data = await client.data("{ aiTasks(sort: {direction: ASC}) { tasks { id steps { name } } } }")
    assert client.reads == 2
    assert data["aiTasks"]["tasks"] == [
        {"id": task_id, "steps": [{"name": f"first of {task_id}"}, {"name": f"second of {task_id}"}]}
        for task_id in tasks
    ]


async def test_the_trails_of_a_list_are_read_together(client: Client, tasks: list[str]) -> None:
    data = await client.data(
        "{ aiTasks { tasks { all: events { version } some: events(afterVersion: 1, limit: 2) { version kind }"
        " early: events(afterVersion: -9, limit: 1) { version } none: events(afterVersion: 5) { version } } } }"
    )
    assert client.reads == 5  # the list, and one for each part of the trails
    assert data["aiTasks"]["tasks"] == [
        {
            "all": [{"version": version} for version in range(1, 6)],
            "some": [{"version": 2, "kind": "STATUS"}, {"version": 3, "kind": "STEP"}],
            "early": [{"version": 1}],
            "none": [],
        }
    ] * len(tasks)


async def test_a_bad_part_of_a_trail_spoils_no_other(client: Client, tasks: list[str]) -> None:
    body = (await client.post('{ good: aiTask(id: "task-1") { events { version } } taskTypes { name } '
                              'bad: aiTask(id: "task-1") { events(limit: 501) { version } } }')).json()  # fmt: skip
    (error,) = body["errors"]
    assert (error["path"], error["extensions"]) == (
        ["bad", "events"],
        {"code": "INVALID_INPUT", "path": ["limit"]},
    )
    assert [len(body["data"]["good"]["events"]), body["data"]["bad"]] == [5, None]


async def test_a_list_is_counted_once(client: Client, tasks: list[str]) -> None:
    data = await client.data("{ aiTasks { totalCount pageInfo { totalPages } more: pageInfo { totalPages } } }")
    assert data["aiTasks"] == {"totalCount": 3, "pageInfo": {"totalPages": 1}, "more": {"totalPages": 1}}
    assert client.reads == 2
    await client.data("{ aiTasks { tasks { id } } }")
    assert client.reads == 1, "nobody has asked for a count"


@pytest.mark.parametrize("given", ["null", "[]"])
async def test_null_is_every_task_and_an_empty_list_is_none(
    runtime: Runtime, user: Principal, client: Client, given: str
) -> None:
    await submit(runtime, user, agent_id="ann")
    fields = ("status", "priority", "taskType", "agentId", "queue", "owner")
    lists = " ".join(f"{name}: aiTasks(filter: {{{name}: {given}}}) {{ totalCount }}" for name in fields)
    peeks = " ".join(f"{name}: peekTasks(filter: {{{name}: {given}}}) {{ id }}" for name in ("queues", "taskTypes"))
    found = await client.data(f"{{ {lists} {peeks} }}")
    expected = 1 if given == "null" else 0
    assert {name: found[name]["totalCount"] for name in fields} == dict.fromkeys(fields, expected)
    assert [len(found["queues"]), len(found["taskTypes"])] == [expected, expected]


async def test_what_nobody_foresaw_is_masked_outside_of_operations_too(
    runtime: Runtime, client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_token: str) -> None:
        raise RuntimeError("the canary is dead")

    monkeypatch.setattr(runtime.tokens, "verify", fail)
    with caplog.at_level(logging.ERROR):
        answer = await client.post("{ __typename }")
    (error,) = answer.json()["errors"]
    assert (answer.status_code, error["extensions"]["code"]) == (500, "INTERNAL")
    assert "canary" not in answer.text
    assert error["extensions"]["reference"] in caplog.text
    assert "the canary is dead" in caplog.text
