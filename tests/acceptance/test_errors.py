"""What clients see of what goes wrong: stable codes, and nothing leaked."""

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.support.process import PATIENCE, DevProcess
from tests.support.refusals import COUNT, CREATE, RIGHT, create, error_of, unshaken
from tests.support.subscriber import subscribed
from tests.support.tokens import Mint

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevProcess]:
    with unshaken(tmp_path_factory.mktemp("errors") / "data") as started:
        yield started


@pytest.fixture(autouse=True)
def _stays_up(process: DevProcess) -> Iterator[None]:
    """Whatever a test sends, the process works on afterwards."""
    yield
    assert process.data_of("{ __typename }") == {"__typename": "Query"}


# -- codes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("{ taskQueueStatus {", "GRAPHQL_PARSE_FAILED"),
        ("what is this", "GRAPHQL_PARSE_FAILED"),
        ("   ", "GRAPHQL_PARSE_FAILED"),
        ("{ nonsense }", "GRAPHQL_VALIDATION_FAILED"),
        ("{ aiTask { id } }", "GRAPHQL_VALIDATION_FAILED"),
        ("{ aiTasks(filter: {status: NO_STATUS}) { totalCount } }", "GRAPHQL_VALIDATION_FAILED"),
        ("query($id: Nonsense) { aiTask(id: $id) { id } }", "GRAPHQL_VALIDATION_FAILED"),
        ("{ a: taskQueueStatus { totalTasks } a: taskTypes { name } }", "GRAPHQL_VALIDATION_FAILED"),
        ("query($a: Int) { __typename }", "GRAPHQL_VALIDATION_FAILED"),
        ("query($a: Int) { aiTask(id: $a) { id } }", "GRAPHQL_VALIDATION_FAILED"),
        ("{" + "".join(f" a{n}: taskTypes {{ name }}" for n in range(1000)) + "}", "GRAPHQL_PARSE_FAILED"),
    ],
)
def test_what_is_wrong_with_a_document(process: DevProcess, query: str, code: str) -> None:
    body = process.graphql(query)
    assert {error["extensions"]["code"] for error in body["errors"]} == {code}
    assert all(error["message"] for error in body["errors"])
    assert not body.get("data")


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        ("query($id: ID!) { aiTask(id: $id) { id } }", {}),
        ("query($id: ID!) { aiTask(id: $id) { id } }", {"id": None}),
        ("query($id: ID!) { aiTask(id: $id) { id } }", {"id": {"a": 1}}),
        ("query($n: Int) { peekTasks(limit: $n) { id } }", {"n": "many"}),
        ("query($n: Int) { peekTasks(limit: $n) { id } }", {"n": 2**31}),
        ("query($f: AITaskFilter) { aiTasks(filter: $f) { totalCount } }", {"f": {"status": "NO_STATUS"}}),
        ("query($f: AITaskFilter) { aiTasks(filter: $f) { totalCount } }", {"f": {"unknown": 1}}),
        ("query($f: AITaskFilter) { aiTasks(filter: $f) { totalCount } }", {"f": {"startDate": "yesterday"}}),
    ],
)
def test_a_bad_variable_is_named(process: DevProcess, query: str, variables: dict[str, Any]) -> None:
    error = error_of(process.graphql(query, variables))
    assert error["extensions"]["code"] == "INVALID_INPUT"
    assert "$" in error["message"]


def test_a_variable_inside_an_argument_is_the_clients_fault_as_well(process: DevProcess) -> None:
    query = "query($status: TaskStatus = QUEUED) { aiTasks(filter: {status: [$status]}) { totalCount } }"
    error = error_of(process.graphql(query, {"status": None}))
    assert error["extensions"] == {"code": "INVALID_INPUT"}
    assert "'filter'" in error["message"]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"taskType": "no blanks"}, ["taskType"]),
        ({"taskType": ""}, ["taskType"]),
        ({"queue": "a" * 101}, ["queue"]),
        ({"agentId": "-"}, ["agentId"]),
        ({"id": "no/slash"}, ["id"]),
        ({"idempotencyKey": ""}, ["idempotencyKey"]),
        ({"maxRetries": -1}, ["maxRetries"]),
        ({"timeoutMs": 0}, ["timeoutMs"]),
        ({"timeoutMs": -5}, ["timeoutMs"]),
        ({"estimatedCost": -0.1}, ["estimatedCost"]),
        ({"scheduledFor": "2030-01-01T00:00:00"}, ["scheduledFor"]),
        ({"inputData": "a\x00b"}, ["inputData"]),
        ({"inputData": 2**70}, ["inputData"]),
        ({"inputData": json.loads("[" * 300 + "]" * 300)}, ["inputData"]),
        ({"inputData": "a" * 1_048_577}, ["inputData"]),
        ({"taskType": "delay", "inputData": {"seconds": "long"}}, ["inputData", "seconds"]),
        ({"taskType": "mock_content", "inputData": {}}, ["inputData", "topic"]),
    ],
    ids=lambda value: "" if isinstance(value, list) else "-".join(value),
)
def test_an_invalid_input_is_named_with_its_path(
    process: DevProcess, fields: dict[str, Any], path: list[str]
) -> None:
    error = error_of(create(process, **fields))
    assert error["extensions"] == {"code": "INVALID_INPUT", "path": path}
    assert error["path"] == ["createAITask"]


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ("pagination: {limit: 0}", ["limit"]),
        ("pagination: {limit: 101}", ["limit"]),
        ("pagination: {page: 0}", ["page"]),
        ("first: -1", ["limit"]),
        ("first: 1, last: 1", ["last"]),
        ("first: 1, pagination: {page: 1}", ["pagination"]),
        ('after: "nonsense"', ["cursor"]),
        ('after: "W10"', ["cursor"]),
        ('filter: {startDate: "2030-01-01T00:00:00"}', ["startDate"]),
    ],
)
def test_bad_arguments_of_a_list_are_named(process: DevProcess, arguments: str, path: list[str]) -> None:
    error = error_of(process.graphql(f"{{ aiTasks({arguments}) {{ totalCount }} }}"))
    assert error["extensions"] == {"code": "INVALID_INPUT", "path": path}


@pytest.mark.parametrize("days", ["-1", "1e300", "1e9"])
def test_an_age_that_is_none_is_named(process: DevProcess, days: str) -> None:
    error = error_of(process.graphql(f"mutation {{ cleanupOldTasks(olderThanDays: {days}) {{ deletedCount }} }}"))
    assert error["extensions"] == {"code": "INVALID_INPUT", "path": ["olderThanDays"]}


def test_a_time_beyond_the_calendar_is_refused_and_spoils_nothing(process: DevProcess) -> None:
    error = error_of(create(process, scheduledFor="9999-12-31T23:59:59-12:00"))
    assert error["extensions"]["code"] == "INVALID_INPUT"
    assert "errors" not in process.graphql("{ aiTasks { tasks { id scheduledFor runAt } } }")


def test_an_unknown_task_is_not_found(process: DevProcess) -> None:
    error = error_of(process.graphql('{ aiTask(id: "no-such-task") { id } }'))
    assert error["extensions"] == {"code": "NOT_FOUND", "path": ["id"]}
    assert "no-such-task" in error["message"]


def test_a_name_is_not_repeated_at_any_length(process: DevProcess) -> None:
    long = "x" * 50_000
    for query in (
        "query($long: ID!) { aiTask(id: $long) { id } }",
        "mutation($long: ID!) { cancelAITask(id: $long) { id } }",
    ):
        error = error_of(process.graphql(query, {"long": long}))
        assert error["extensions"]["code"] == "NOT_FOUND"
        assert len(error["message"]) < 200
        assert "x" * 50 in error["message"]


def test_an_illegal_transition_names_both_states(process: DevProcess) -> None:
    task_id = create(process)["data"]["createAITask"]["id"]
    mutation = "mutation($id: ID!) { cancelAITask(id: $id) { id } startTaskProcessing(id: $id) { id } }"
    body = process.graphql(mutation, {"id": task_id})
    (error,) = body["errors"]
    assert error["extensions"]["code"] == "ILLEGAL_TRANSITION"
    assert "CANCELLED" in error["message"]
    assert "PROCESSING" in error["message"]


def test_an_idempotency_key_with_another_body_is_a_conflict(process: DevProcess) -> None:
    first = create(process, idempotencyKey="once")
    assert create(process, idempotencyKey="once") == first
    error = error_of(create(process, idempotencyKey="once", priority="HIGH"))
    assert error["extensions"] == {"code": "IDEMPOTENCY_CONFLICT", "path": ["idempotencyKey"]}


def test_an_id_that_is_taken_is_a_conflict(process: DevProcess) -> None:
    create(process, id="mine")
    error = error_of(create(process, id="mine", priority="HIGH"))
    assert error["extensions"] == {"code": "ID_TAKEN", "path": ["id"]}


@pytest.mark.parametrize("depth", [199, 300, 900])
def test_an_operation_nested_too_deeply_is_refused(process: DevProcess, depth: int) -> None:
    chain = "".join(f" fragment f{n} on Query {{ ...f{n + 1} }}" for n in range(depth))
    for query in (
        "{ a" * depth + " }" * depth,
        "{ aiTask(id: " + "[" * depth + "]" * depth + ") { id } }",
        f"{{ ...f0 }}{chain} fragment f{depth} on Query {{ __typename }}",
    ):
        error = error_of(process.graphql(query))
        assert error["extensions"]["code"] in ("GRAPHQL_VALIDATION_FAILED", "GRAPHQL_PARSE_FAILED")


def test_an_input_as_deep_as_can_be_stored_can_be_read(process: DevProcess) -> None:
    deep = json.loads("[" * 253 + "]" * 253)
    task_id = create(process, inputData=deep)["data"]["createAITask"]["id"]
    query = "query($id: ID!) { aiTask(id: $id) { inputData } }"
    assert process.data_of(query, {"id": task_id}) == {"aiTask": {"inputData": deep}}


# -- the unexpected ---------------------------------------------------------------------------


def spoil(process: DevProcess, statement: str, *values: object) -> None:
    """Change the database from outside."""
    connection = sqlite3.connect(process.data / "taskyard.db", timeout=60)
    with connection:
        connection.execute(statement, values)
    connection.close()


def test_an_unexpected_error_is_masked_and_logged_under_its_reference(process: DevProcess) -> None:
    token = Mint(process.data).token("ada", "user", "spoilt")
    made = process.data_of(CREATE, {"input": RIGHT}, token=token)
    task_id = made["createAITask"]["id"]
    spoil(process, "UPDATE tasks SET input = 'no json' WHERE id = ?", task_id)

    query = "query($id: ID!) { aiTask(id: $id) { id inputData } taskQueueStatus { totalTasks } }"
    error = error_of({"errors": process.graphql(query, {"id": task_id}, token=token)["errors"]})

    reference = error["extensions"].pop("reference")
    assert error["extensions"] == {"code": "INTERNAL"}
    assert error["message"] == f"something went wrong here; it is logged as {reference}"
    process.wait_for(f"unexpected error {reference}")
    process.wait_for("JSONDecodeError")
    with subscribed(
        process.address,
        token,
        "subscription($id: ID) { aiTaskStatusChanged(taskId: $id) { inputData } }",
        {"id": task_id},
    ) as client:
        message = client.receive()
        told = message["payload"] if message["type"] == "error" else message["payload"]["errors"]
        assert error_of({"errors": told})["extensions"]["code"] == "INTERNAL"


def test_a_result_that_does_not_fit_the_schema_is_masked(process: DevProcess) -> None:
    token = Mint(process.data).token("ada", "user", "overgrown")
    task_id = process.data_of(CREATE, {"input": RIGHT}, token=token)["createAITask"]["id"]
    spoil(process, "UPDATE tasks SET lost_count = ? WHERE id = ?", 2**40, task_id)
    query = "query($id: ID!) { aiTask(id: $id) { lostCount } }"
    error = error_of(process.graphql(query, {"id": task_id}, token=token))
    assert error["extensions"]["code"] == "INTERNAL"
    assert error["path"] == ["aiTask", "lostCount"]
    assert str(2**40) not in error["message"]
    process.wait_for(f"unexpected error {error['extensions']['reference']}")
    process.wait_for("Int cannot represent")


def test_without_its_tables_the_database_is_unavailable_and_health_says_so(tmp_path: Any) -> None:
    with DevProcess(tmp_path / "data") as process:
        spoil(process, "ALTER TABLE tasks RENAME TO elsewhere")
        spoil(process, "ALTER TABLE counters RENAME TO nowhere")
        for query in (COUNT, "{ aiTasks { totalCount } }", '{ aiTask(id: "x") { id } }'):
            assert error_of(process.graphql(query))["extensions"] == {"code": "UNAVAILABLE"}
        assert error_of(create(process))["extensions"] == {"code": "UNAVAILABLE"}
        headers = {"Authorization": f"Bearer {process.token}"}
        for query in (COUNT, '{ aiTask(id: "x") { id } __typename }'):
            answer = httpx.post(
                f"{process.address}/graphql", json={"query": query}, headers=headers, timeout=PATIENCE
            )
            # What could be answered in part is an answer.
            refused = (503, "5") if query == COUNT else (200, None)
            assert (answer.status_code, answer.headers.get("Retry-After")) == refused
        health = httpx.get(f"{process.address}/api/ai/tasks/health", timeout=PATIENCE, trust_env=False)
        assert (health.status_code, health.json()) == (503, {"status": "failing", "checks": {"database": "failing"}})
        spoil(process, "ALTER TABLE elsewhere RENAME TO tasks")
        spoil(process, "ALTER TABLE nowhere RENAME TO counters")
        assert create(process)["data"]["createAITask"]["status"] == "QUEUED"
        health = httpx.get(f"{process.address}/api/ai/tasks/health", timeout=PATIENCE, trust_env=False)
        assert (health.status_code, health.json()["status"]) == (200, "ok")
