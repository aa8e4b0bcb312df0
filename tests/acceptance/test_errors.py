"""What clients see of what goes wrong: stable codes, nothing leaked, and a server that stays up."""

import json
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from tests.support.process import PATIENCE, DevProcess
from tests.support.subscriber import Subscriber, subscribed
from tests.support.tokens import Mint
from websockets.exceptions import ConnectionClosed

from taskyard_graphql.limits import MAX_BODY, MAX_DOCUMENT

pytestmark = pytest.mark.slow

COUNT = "{ taskQueueStatus { totalTasks } }"
CREATE = "mutation($input: CreateAITaskInput!) { createAITask(input: $input) { id status } }"
RIGHT = {"taskType": "by_hand", "inputData": {}}
#: What no answer may hold: places in the code, of the database, of the machine.
LEAKS = ("Traceback", "File ", ".py", "sqlite", "SELECT", "orjson", "taskyard.db", "JSONDecodeError", "no such table")


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevProcess]:
    with DevProcess(tmp_path_factory.mktemp("errors") / "data") as started:
        yield started
        assert started.stop() == 0
    # Apart from the errors that a test asks for, nothing of all this has shaken the process.
    assert "Exception in" not in started.output, started.output
    assert started.output.count("Traceback") == started.output.count("unexpected error"), started.output


@pytest.fixture(autouse=True)
def _stays_up(process: DevProcess) -> Iterator[None]:
    """Whatever a test sends, the process works on afterwards."""
    yield
    assert process.data_of("{ __typename }") == {"__typename": "Query"}


def create(process: DevProcess, **fields: Any) -> dict[str, Any]:
    return process.graphql(CREATE, {"input": RIGHT | fields})


def error_of(body: dict[str, Any]) -> dict[str, Any]:
    """The one error of a response without data."""
    assert not body.get("data") or set(body["data"].values()) == {None}, body
    (error,) = body["errors"]
    for leak in LEAKS:
        assert leak not in json.dumps(error)
    shown: dict[str, Any] = error
    return shown


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
        health = httpx.get(f"{process.address}/api/ai/tasks/health", timeout=PATIENCE, trust_env=False)
        assert (health.status_code, health.json()) == (503, {"status": "failing", "checks": {"database": "failing"}})
        spoil(process, "ALTER TABLE elsewhere RENAME TO tasks")
        spoil(process, "ALTER TABLE nowhere RENAME TO counters")
        assert create(process)["data"]["createAITask"]["status"] == "QUEUED"
        health = httpx.get(f"{process.address}/api/ai/tasks/health", timeout=PATIENCE, trust_env=False)
        assert (health.status_code, health.json()["status"]) == (200, "ok")


# -- what is no request -----------------------------------------------------------------------

JSON_TYPE = "application/json"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"1", JSON_TYPE),
        (b"null", JSON_TYPE),
        (b"true", JSON_TYPE),
        (b'"text"', JSON_TYPE),
        (b"[]", JSON_TYPE),
        (b"[1, null]", JSON_TYPE),
        (b'[{"query": "{ __typename }"}]', JSON_TYPE),
        (b"{}", JSON_TYPE),
        (b'{"query": null}', JSON_TYPE),
        (b'{"query": ""}', JSON_TYPE),
        (b'{"query": 7}', JSON_TYPE),
        (b'{"query": ["{ __typename }"]}', JSON_TYPE),
        (b'{"query": "{ __typename }", "variables": []}', JSON_TYPE),
        (b'{"query": "{ __typename }", "variables": "{}"}', JSON_TYPE),
        (b'{"query": "{ __typename }", "extensions": 1}', JSON_TYPE),
        (b'{"query": "{ __typename }", "operationName": {"a": 1}}', JSON_TYPE),
        (b'{"query": "{ __typename }", "operationName": ["a"]}', JSON_TYPE),
        (b'{"query": "query A { __typename }", "operationName": "B"}', JSON_TYPE),
        (b'{"query": "query A { __typename } mutation B { __typename }"}', JSON_TYPE),
        (b'{"query": "{ __typename } ' + b"#" * MAX_DOCUMENT + b'"}', JSON_TYPE),
        (b'{"query": "fragment F on Query { __typename }"}', JSON_TYPE),
        (b'{"query": ', JSON_TYPE),
        (b"", JSON_TYPE),
        (b"\xff\xfe{", JSON_TYPE),
        (b'{"query": "\xe9"}', JSON_TYPE),
        (b'{"query": "{ __typename }", "variables": {"a": "\\ud800"}}', JSON_TYPE),
        (b'{"query": "{ __typename }", "variables": {"a": NaN}}', JSON_TYPE),
        (b"[" * 100_000, JSON_TYPE),
        (b"[" * 100_000 + b"]" * 100_000, JSON_TYPE),
        (b'{"variables": ' * 50_000 + b"1" + b"}" * 50_000, JSON_TYPE),
        (b'{"query": "{ __typename }"}', "text/plain"),
        (b"query=%7B__typename%7D", "application/x-www-form-urlencoded"),
        (b"{ __typename }", "application/graphql"),
        (b'{"query": "{ __typename }"}', None),
        (b'{"query": "{ __typename }"}', "application/json; charset=\xff"),
        (b"--x\r\n\r\n--x--", "multipart/form-data; boundary=x"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_request_is_refused(process: DevProcess, body: bytes, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type.encode("latin-1")}
    headers["Authorization"] = f"Bearer {process.token}".encode()
    answer = httpx.post(
        f"{process.address}/graphql", content=body, headers=headers, timeout=PATIENCE, trust_env=False
    )
    if content_type is not None and "charset" in content_type:
        assert answer.status_code < 500
        return
    assert 400 <= answer.status_code < 500
    (error,) = answer.json()["errors"]
    assert error["message"]
    assert error["extensions"]["code"] == "BAD_REQUEST"
    assert not any(leak in answer.text for leak in LEAKS)


def in_chunks(body: bytes) -> Iterator[bytes]:
    """A body whose length is not told beforehand."""
    yield from (body[start : start + 65_536] for start in range(0, len(body), 65_536))


@pytest.mark.parametrize("send", [bytes, in_chunks], ids=["declared", "chunked"])
def test_a_body_that_is_too_long_is_refused(process: DevProcess, send: Callable[[bytes], Any]) -> None:
    headers = {"Content-Type": JSON_TYPE, "Authorization": f"Bearer {process.token}"}

    def post(size: int) -> httpx.Response:
        body = b'{"query": "{ __typename }"}'.ljust(size)
        return httpx.post(
            f"{process.address}/graphql", content=send(body), headers=headers, timeout=PATIENCE, trust_env=False
        )

    assert post(MAX_BODY).json() == {"data": {"__typename": "Query"}}
    refused = post(MAX_BODY + 1)
    assert refused.status_code == 413
    assert error_of(refused.json())["extensions"] == {"code": "PAYLOAD_TOO_LARGE"}


def test_the_largest_input_fits_into_a_body(process: DevProcess) -> None:
    assert create(process, inputData="é" * 524_287)["data"]["createAITask"]["status"] == "QUEUED"


def test_an_upload_that_breaks_off_is_nothing_to_speak_of(process: DevProcess) -> None:
    address = urlsplit(process.address)
    before = process.output
    head = (
        f"POST /graphql HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {process.token}\r\n"
        f"Content-Type: {JSON_TYPE}\r\nContent-Length: 100000\r\n\r\n"
    )
    with socket.create_connection((address.hostname, address.port or 0)) as client:
        client.sendall(head.encode() + b'{"query":')
    # It has seen the end of that connection when it answers on a later one.
    for _ in range(3):
        process.data_of("{ __typename }")
    assert process.output == before


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
def test_other_methods_are_refused(process: DevProcess, method: str) -> None:
    answer = httpx.request(
        method,
        f"{process.address}/graphql",
        headers={"Authorization": f"Bearer {process.token}"},
        timeout=PATIENCE,
        trust_env=False,
    )
    assert answer.status_code == 405


@pytest.mark.parametrize(
    "query",
    ["variables=1&query={__typename}", "variables={&query={__typename}", "extensions=[&query={__typename}", "query="],
)
def test_bad_parameters_of_a_get_are_refused(process: DevProcess, query: str) -> None:
    answer = httpx.get(
        f"{process.address}/graphql?{query}",
        headers={"Authorization": f"Bearer {process.token}", "Accept": JSON_TYPE},
        timeout=PATIENCE,
        trust_env=False,
    )
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["extensions"]["code"] == "BAD_REQUEST"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_subscription_without_a_socket_is_refused(process: DevProcess, method: str) -> None:
    query = {"query": "subscription { taskQueueUpdated { queuedTasks } }"}
    answer = httpx.request(
        method,
        f"{process.address}/graphql",
        headers={"Authorization": f"Bearer {process.token}", "Accept": JSON_TYPE},
        timeout=PATIENCE,
        trust_env=False,
        **({"params": query} if method == "GET" else {"json": query}),  # type: ignore[arg-type]  # one or the other
    )
    assert answer.status_code == 400
    (error,) = answer.json()["errors"]
    assert "graphql-transport-ws" in error["message"]
    assert error["extensions"]["code"] == "BAD_REQUEST"


# -- what is no message -----------------------------------------------------------------------


def subscribe(**payload: object) -> dict[str, object]:
    return {"id": "1", "type": "subscribe", "payload": payload}


@pytest.mark.parametrize(
    "message",
    [
        "1",
        "null",
        "[]",
        '"text"',
        "",
        "{",
        "[" * 50_000,
        b"\x00\x01",
        b'{"type": "ping"}',
        {},
        {"type": None},
        {"type": ["subscribe"]},
        {"type": {"a": 1}},
        {"type": "x" * 5000},
        {"type": "start", "id": "1", "payload": {"query": COUNT}},
        {"type": "subscribe"},
        {"type": "subscribe", "id": "1"},
        {"type": "subscribe", "id": "1", "payload": None},
        {"type": "subscribe", "id": "1", "payload": "text"},
        {"type": "subscribe", "id": "1", "payload": [COUNT]},
        {"type": "subscribe", "payload": {"query": COUNT}},
        {"type": "subscribe", "id": "", "payload": {"query": COUNT}},
        {"type": "subscribe", "id": 1, "payload": {"query": COUNT}},
        {"type": "subscribe", "id": None, "payload": {"query": COUNT}},
        {"type": "subscribe", "id": ["1"], "payload": {"query": COUNT}},
        subscribe(),
        subscribe(query=None),
        subscribe(query=""),
        subscribe(query=7),
        subscribe(query=[COUNT]),
        subscribe(query=COUNT, variables="{}"),
        subscribe(query=COUNT, variables=[]),
        subscribe(query=COUNT, operationName=7),
        subscribe(query=COUNT, operationName={}),
        subscribe(query=COUNT, extensions=7),
        subscribe(query="{ taskQueueStatus {"),
        subscribe(query="query " + "é" * 500),
        subscribe(query="query A { __typename }", operationName="x" * 5000),
        {"type": "complete"},
        {"type": "complete", "id": ""},
        {"type": "complete", "id": ["1"]},
    ],
    ids=lambda value: repr(value)[:60],
)
def test_what_is_no_message_closes_the_socket(process: DevProcess, message: object) -> None:
    with Subscriber(process.address) as client:
        client.init({"token": process.token})
        client.send(message)
        assert client.closed() == 4400
        assert client.connection.close_reason


def test_a_message_that_is_too_long_closes_the_socket(process: DevProcess) -> None:
    with Subscriber(process.address) as client:
        client.init({"token": process.token})
        with suppress(ConnectionClosed):
            client.send({"type": "ping", "payload": {"a": "x" * (1 << 20)}})
        assert client.closed() == 1009


@pytest.mark.parametrize("payload", [7, "text", []])
def test_an_init_whose_payload_is_no_object_closes_the_socket(process: DevProcess, payload: object) -> None:
    with Subscriber(process.address) as client:
        client.send({"type": "connection_init", "payload": payload})
        assert client.closed() == 4400


def test_an_id_in_use_closes_the_socket(process: DevProcess) -> None:
    with subscribed(process.address, process.token, "subscription { aiTaskStatusChanged { id } }") as client:
        client.subscribe(COUNT)
        assert client.closed() == 4409


def test_errors_of_an_operation_on_the_socket_leave_it_open(process: DevProcess) -> None:
    with Subscriber(process.address) as client:
        client.init({"token": process.token})
        for query, variables, code in (
            ("{ nonsense }", {}, "GRAPHQL_VALIDATION_FAILED"),
            ("query($id: ID!) { aiTask(id: $id) { id } }", {}, "INVALID_INPUT"),
            ("query($id: ID!) { aiTask(id: $id) { id } }", {"id": "x"}, "NOT_FOUND"),
            ('subscription { aiTaskStatusChanged(taskId: "x") { id } }', {}, "NOT_FOUND"),
        ):
            client.subscribe(query, variables)
            message = client.receive()
            told = message["payload"] if message["type"] == "error" else message["payload"]["errors"]
            assert error_of({"errors": told})["extensions"]["code"] == code
            if message["type"] == "next":
                assert client.receive() == {"id": "1", "type": "complete"}
        client.subscribe(COUNT)
        assert client.next()["taskQueueStatus"]["totalTasks"] >= 0


def test_many_clients_that_vanish_leave_nothing_behind(process: DevProcess) -> None:
    """Connections cut without a word, in the middle of their subscriptions."""

    def vanish() -> None:
        client = subscribed(process.address, process.token, "subscription { taskQueueUpdated { queuedTasks } }")
        client.next()
        client.connection.socket.shutdown(2)
        client.connection.socket.close()

    threads = [threading.Thread(target=vanish) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(3):
        assert create(process)["data"]["createAITask"]["status"] == "QUEUED"
