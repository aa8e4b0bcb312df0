"""graphql-transport-ws: what the library leaves open of messages that break the protocol, and of closing."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from json import JSONDecodeError
from typing import Any

from graphql import GraphQLError
from starlette.websockets import WebSocketDisconnect, WebSocketState
from strawberry.asgi import ASGIWebSocketAdapter
from strawberry.http.exceptions import NonJsonMessageReceived, WebSocketDisconnected
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler

from taskyard_graphql.context import Context
from taskyard_graphql.errors import TOO_MANY_OPERATIONS
from taskyard_graphql.limits import MAX_OPERATIONS, Refused
from taskyard_graphql.wire import BadJson

FORBIDDEN = 4403
#: The frame that closes a connection has no room for more bytes of reason (RFC 6455, 5.5).
MAX_REASON = 123


class Socket(ASGIWebSocketAdapter):
    """A connection that is closed once and then silent."""

    async def iter_json(self, *, ignore_parsing_errors: bool = False) -> AsyncGenerator[object, None]:
        try:
            async for message in super().iter_json(ignore_parsing_errors=ignore_parsing_errors):
                yield message
        except (BadJson, JSONDecodeError) as error:
            raise NonJsonMessageReceived from error

    async def send_json(self, message: Mapping[str, object]) -> None:
        if self.ws.application_state is WebSocketState.DISCONNECTED:
            raise WebSocketDisconnected
        await super().send_json(message)

    async def close(self, code: int, reason: str) -> None:
        if self.ws.application_state is WebSocketState.DISCONNECTED:
            return
        with suppress(WebSocketDisconnect):
            await super().close(code, reason.encode()[:MAX_REASON].decode(errors="ignore"))


class SocketHandler(BaseGraphQLTransportWSHandler[Context, None]):
    """Refuses messages that are none, and closes the connection when its token expires."""

    websocket: Socket
    _expiry: asyncio.TimerHandle | None = None
    _closing: asyncio.Task[None] | None = None

    async def handle_message(self, message: Any) -> None:
        fault = fault_of(message)
        if fault is None:
            await super().handle_message(message)
        else:
            await self.handle_invalid_message(fault)

    async def handle_connection_init(self, message: Any) -> None:
        if message.get("payload") is None:
            message = {"type": message["type"]}
        await super().handle_connection_init(message)
        if not self.connection_acknowledged or self._expiry is not None:
            return
        expires_at = self.context.principal.expires_at
        if expires_at is not None:
            left = (expires_at - self.context.runtime.clock.now()).total_seconds()
            loop = asyncio.get_running_loop()
            self._expiry = loop.call_later(max(0.0, left), self._expire)

    async def handle_subscribe(self, message: Any) -> None:
        full = len(self.operations) >= MAX_OPERATIONS and message["id"] not in self.operations
        if self.connection_acknowledged and full:
            fault = {
                "message": f"at most {MAX_OPERATIONS} operations run on one connection at the same time",
                "extensions": {"code": TOO_MANY_OPERATIONS},
            }
            await self.websocket.send_json({"id": message["id"], "type": "error", "payload": [fault]})
        else:
            await super().handle_subscribe(message)

    @staticmethod
    def _get_pre_execution_close_reason(error: GraphQLError) -> str | None:
        if isinstance(error.original_error, Refused):
            return None  # told as an error of the operation: the others on this connection are well
        return BaseGraphQLTransportWSHandler._get_pre_execution_close_reason(error)

    async def handle_task_exception(self, error: Exception) -> None:
        if not isinstance(error, WebSocketDisconnected):
            await super().handle_task_exception(error)

    async def shutdown(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        await super().shutdown()

    def _expire(self) -> None:
        self._closing = asyncio.create_task(self._end("Token expired"))

    async def _end(self, reason: str) -> None:
        await self.websocket.close(FORBIDDEN, reason)
        for operation_id in list(self.operations):
            await self.cleanup_operation(operation_id)


def fault_of(message: object) -> str | None:
    """What makes this no message of graphql-transport-ws, or None."""
    if not isinstance(message, dict):
        return "A message must be a JSON object"
    kind = message.get("type")
    if not isinstance(kind, str):
        return "A message must have a type"
    if kind in ("subscribe", "complete") and not (isinstance(message.get("id"), str) and message["id"]):
        return "The id of an operation must be a string that is not empty"
    return _fault_of_request(message.get("payload")) if kind == "subscribe" else None


def _fault_of_request(payload: object) -> str | None:
    if not isinstance(payload, dict):
        return "The payload of subscribe must be an object"
    if not isinstance(payload.get("query"), str) or not payload["query"]:
        return "The query must be a string that is not empty"
    if not isinstance(payload.get("operationName"), str | None):
        return "The operationName must be a string or null"
    for name in ("variables", "extensions"):
        if not isinstance(payload.get(name), dict | None):
            return f"The {name} must be an object or null"
    return None
