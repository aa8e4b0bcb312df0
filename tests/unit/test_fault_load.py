"""The load of the fault tests sends each task again, under the same key, until it is acknowledged."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from tests.fault.load import Load, submit_many
from tests.fault.scale import SHORT

SCALE = replace(SHORT, rate=50, seconds=0.2)


class Server(ThreadingHTTPServer):
    """Answers as the service does; the first tries of each key come to what `ways` say."""

    daemon_threads = True

    def __init__(self, *ways: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ways = ways
        self.tries: Counter[str] = Counter()
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["variables"]
        inputs = sent["inputs"]
        with self.server.lock:
            made = self.server.tries[inputs[0]["idempotencyKey"]]
            self.server.tries.update(one["idempotencyKey"] for one in inputs)
        way = self.server.ways[made] if made < len(self.server.ways) else "ok"
        ids = [{"id": "id-" + one["idempotencyKey"]} for one in inputs]
        match way:
            case "cut":
                self.close_connection = True
            case "503":
                self._answer(503, {"errors": [_error("UNAVAILABLE")]})
            case "unavailable":
                self._answer(200, {"data": None, "errors": [_error("UNAVAILABLE")]})
            case "in part":
                self._answer(200, _batch(ids[1:], [{"code": "UNAVAILABLE", "message": "not now"}]))
            case "internal":
                self._answer(200, {"data": None, "errors": [_error("INTERNAL")]})
            case _:
                self._answer(200, _batch(ids, []))

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the library's name
        """Say nothing."""

    def _answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _error(code: str) -> dict[str, Any]:
    return {"message": "no", "extensions": {"code": code}}


def _batch(tasks: list[dict[str, str]], errors: list[dict[str, str]]) -> dict[str, Any]:
    return {"data": {"createAITasksBatch": {"tasks": tasks, "errors": errors}}}


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(*request.param) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(60)


@pytest.mark.parametrize("server", [()], indirect=True)
def test_every_task_is_sent_and_acknowledged_once(server: Server) -> None:
    with Load(lambda: [server.address], "token", SCALE) as load:
        pass
    assert load.total == 10
    assert set(server.tries.values()) == {1}
    assert {one.task_id for one in load.acknowledged} == {f"id-load-key-{number}" for number in range(10)}
    assert {one.tries for one in load.acknowledged} == {1}
    assert not load.refused


@pytest.mark.parametrize("server", [("cut", "503", "unavailable", "in part")], indirect=True)
def test_what_is_not_acknowledged_is_sent_again_under_its_key(server: Server) -> None:
    with Load(lambda: [server.address], "token", SCALE) as load:
        pass
    assert set(server.tries.values()) == {5}
    assert {one.tries for one in load.acknowledged} == {5}
    assert len(load.acknowledged) == load.total
    assert load.refused["UNAVAILABLE"] == 3 * (load.refused.total() // 4)
    assert load.unexpected == []


@pytest.mark.parametrize("server", [("internal",)], indirect=True)
def test_what_no_client_must_see_is_kept(server: Server) -> None:
    with Load(lambda: [server.address], "token", SCALE) as load:
        pass
    assert len(load.acknowledged) == load.total
    assert {error["extensions"]["code"] for error in load.unexpected} == {"INTERNAL"}


@pytest.mark.parametrize("server", [("in part",)], indirect=True)
def test_a_batch_is_sent_until_all_of_it_is_accepted(server: Server) -> None:
    orders = [{"taskType": "work", "inputData": {}}] * 150
    ids = submit_many(lambda: [server.address], "token", orders, "many")
    assert ids == [f"id-many-{number}" for number in range(150)]
    assert set(server.tries.values()) == {2}
