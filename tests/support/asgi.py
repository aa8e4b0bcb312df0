"""The client's end of a WebSocket to an ASGI app, without a network: nothing happens on it but what a test does."""

import asyncio
import json
from typing import Any

from starlette.types import ASGIApp, Message
from tests.support.core import PATIENCE


class AsgiSocket:
    """One connection of graphql-transport-ws. Use as an async context manager.

    Unlike a real client it answers no close: the app must end what it runs by itself.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._said: asyncio.Queue[Message] = asyncio.Queue()
        self._heard: asyncio.Queue[Message] = asyncio.Queue()

    async def __aenter__(self) -> "AsgiSocket":
        scope = {"type": "websocket", "path": "/graphql", "headers": [], "subprotocols": ["graphql-transport-ws"]}
        self._running = asyncio.ensure_future(self._app(scope, self._said.get, self._heard.put))
        self._said.put_nowait({"type": "websocket.connect"})
        assert (await self._next())["type"] == "websocket.accept"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.vanish()

    def say(self, **message: object) -> None:
        self._said.put_nowait({"type": "websocket.receive", "text": json.dumps(message)})

    async def hear(self) -> dict[str, Any]:
        """The next message."""
        message = await self._next()
        assert message["type"] == "websocket.send", message
        heard: dict[str, Any] = json.loads(message["text"])
        return heard

    async def closed(self) -> int:
        """The code of the close that must come next."""
        message = await self._next()
        assert message["type"] == "websocket.close", message
        return int(message["code"])

    async def init(self, token: str) -> None:
        self.say(type="connection_init", payload={"token": token})
        assert await self.hear() == {"type": "connection_ack"}

    def run(self, query: str, operation_id: str = "1") -> None:
        self.say(type="subscribe", id=operation_id, payload={"query": query})

    async def answer(self, query: str) -> dict[str, Any]:
        """The data of a query or mutation that must succeed."""
        self.run(query)
        message = await self.hear()
        assert await self.hear() == {"type": "complete", "id": "1"}
        assert "errors" not in message["payload"], message
        data: dict[str, Any] = message["payload"]["data"]
        return data

    async def vanish(self) -> None:
        """Be gone without a word, and wait until the app is done with it."""
        self._said.put_nowait({"type": "websocket.disconnect", "code": 1006})
        async with asyncio.timeout(PATIENCE):
            await self._running

    async def _next(self) -> Message:
        async with asyncio.timeout(PATIENCE):
            return await self._heard.get()
