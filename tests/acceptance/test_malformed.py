"""What is no request and no message at all: refused with a code, and the server stays up."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from tests.support.process import PATIENCE, DevProcess
from tests.support.refusals import COUNT, LEAKS, create, error_of, unshaken
from tests.support.subscriber import Subscriber, subscribed
from websockets.exceptions import ConnectionClosed

from taskyard_graphql.limits import MAX_BODY, MAX_DOCUMENT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevProcess]:
    with unshaken(tmp_path_factory.mktemp("malformed") / "data") as started:
        yield started


@pytest.fixture(autouse=True)
def _stays_up(process: DevProcess) -> Iterator[None]:
    """Whatever a test sends, the process works on afterwards."""
    yield
    assert process.data_of("{ __typename }") == {"__typename": "Query"}


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


def begin_upload(process: DevProcess, length: int) -> socket.socket:
    """A connection that has told the length of a body, and sent nothing of it."""
    address = urlsplit(process.address)
    client = socket.create_connection((address.hostname, address.port or 0), timeout=PATIENCE)
    client.sendall(
        f"POST /graphql HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {process.token}\r\n"
        f"Content-Type: {JSON_TYPE}\r\nContent-Length: {length}\r\n\r\n".encode()
    )
    return client


def test_a_body_that_is_told_to_be_too_long_is_not_waited_for(process: DevProcess) -> None:
    with begin_upload(process, MAX_BODY + 1) as client:
        assert client.recv(100).startswith(b"HTTP/1.1 413 ")


def test_an_upload_that_breaks_off_is_nothing_to_speak_of(process: DevProcess) -> None:
    before = process.output
    with begin_upload(process, 100_000) as client:
        client.sendall(b'{"query":')
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
