"""A client of graphql-transport-ws that says no more than it is told: tests break the protocol with it."""

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from typing import Any

from tests.support.process import PATIENCE
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

PROTOCOL = "graphql-transport-ws"


class Subscriber:
    """One connection. `address` is that of the server; use as a context manager."""

    def __init__(self, address: str, *, protocol: str = PROTOCOL, origin: str | None = None) -> None:
        self._open = ExitStack()
        self.connection: ClientConnection = self._open.enter_context(
            connect(
                address.replace("http", "ws", 1) + "/graphql",
                subprotocols=[Subprotocol(protocol)],
                origin=None if origin is None else Origin(origin),
                proxy=None,
                open_timeout=PATIENCE,
                close_timeout=PATIENCE,
            )
        )

    def send(self, message: object) -> None:
        """Send this as JSON; a str or bytes as it is."""
        self.connection.send(message if isinstance(message, str | bytes) else json.dumps(message))

    def receive(self) -> dict[str, Any]:
        """The next message that is no ping."""
        message: dict[str, Any] = json.loads(self.connection.recv(timeout=PATIENCE))
        return message

    def closed(self) -> int:
        """Wait until the server closes the connection, and give its code."""
        with suppress(ConnectionClosed):
            while True:
                self.connection.recv(timeout=PATIENCE)
        assert self.connection.close_code is not None
        return self.connection.close_code

    def init(self, payload: Mapping[str, object] | None) -> dict[str, Any]:
        """Say who is there, and give the answer."""
        self.send({"type": "connection_init"} | ({} if payload is None else {"payload": payload}))
        return self.receive()

    def subscribe(
        self,
        query: str,
        variables: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        operation_id: str = "1",
    ) -> None:
        payload = {"query": query, "variables": dict(variables or {}), "operationName": name}
        self.send({"id": operation_id, "type": "subscribe", "payload": payload})

    def next(self, operation_id: str = "1") -> dict[str, Any]:
        """The data of the next result."""
        message = self.receive()
        assert message["type"] == "next", message
        assert message["id"] == operation_id, message
        assert "errors" not in message["payload"], message
        data: dict[str, Any] = message["payload"]["data"]
        return data

    def collect_until(self, found: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """Every result up to the first that fits."""
        results: list[dict[str, Any]] = []
        while not results or not found(results[-1]):
            results.append(self.next())
        return results

    def __enter__(self) -> "Subscriber":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()


def subscribed(
    address: str, token: str, query: str, variables: Mapping[str, Any] | None = None, *, name: str | None = None
) -> Subscriber:
    """A connection on which this subscription runs."""
    client = Subscriber(address)
    assert client.init({"Authorization": f"Bearer {token}"}) == {"type": "connection_ack"}
    client.subscribe(query, variables, name=name)
    # The server works messages off in turn: once it answers, the subscription has begun, before any later request.
    client.send({"type": "ping"})
    assert client.receive() == {"type": "pong"}
    return client
