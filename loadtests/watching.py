"""The subscription `WatchTasks` from the side of a reader, over websocket-client."""

import json
import socket
from typing import Any
from urllib.parse import urlsplit

import websocket

from operations import operation

SUBPROTOCOL = "graphql-transport-ws"


class Watch:
    """One connection with one subscription. `sock` may be an open socket of another kind, such as gevent's."""

    def __init__(self, address: str, token: str, *, sock: socket.socket | None = None, timeout: float = 10) -> None:
        url = urlsplit(address)
        self._ws = websocket.create_connection(
            f"{'wss' if url.scheme == 'https' else 'ws'}://{url.netloc}/graphql",
            subprotocols=[SUBPROTOCOL],
            timeout=timeout,
            socket=sock,
        )
        self._send({"type": "connection_init", "payload": {"Authorization": f"Bearer {token}"}})
        if (answer := self._receive())["type"] != "connection_ack":
            raise ConnectionError(f"no acknowledgement but {answer}")
        self._send({"id": "1", "type": "subscribe", "payload": {"query": operation("WatchTasks")}})

    def next(self, timeout: float) -> dict[str, Any]:
        """The next change. Raises `TimeoutError` if none comes for so many seconds, `ConnectionError` at an error."""
        self._ws.settimeout(timeout)
        try:
            while (message := self._receive())["type"] != "next":
                if message["type"] == "ping":
                    self._send({"type": "pong"})
                else:
                    raise ConnectionError(f"the subscription ended: {message}")
        except websocket.WebSocketTimeoutException as error:
            raise TimeoutError from error
        except websocket.WebSocketException as error:
            raise ConnectionError(str(error)) from error
        if errors := message["payload"].get("errors"):
            raise ConnectionError(f"the subscription told of errors: {errors}")
        change: dict[str, Any] = message["payload"]["data"]["aiTaskStatusChanged"]
        return change

    def close(self) -> None:
        self._ws.close()

    def _send(self, message: dict[str, Any]) -> None:
        self._ws.send(json.dumps(message))

    def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._ws.recv())
        return message
