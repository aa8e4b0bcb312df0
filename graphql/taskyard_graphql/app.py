"""The ASGI app of /graphql: HTTP, and graphql-transport-ws."""

from datetime import timedelta
from typing import Any

from cross_web import AsyncHTTPRequestAdapter, HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.exceptions import ConnectionRejectionError
from strawberry.http import GraphQLRequestData
from strawberry.schema.exceptions import InvalidOperationTypeError
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.types import ExecutionResult
from strawberry.types.graphql import OperationType
from strawberry.types.unset import UNSET, UnsetType

from taskyard.errors import Unauthenticated, Unavailable
from taskyard.principal import Principal, authenticated
from taskyard.runtime import Runtime
from taskyard_graphql.context import Context
from taskyard_graphql.errors import BAD_REQUEST, PAYLOAD_TOO_LARGE, masked
from taskyard_graphql.limits import LimitedRequest
from taskyard_graphql.schema import TaskyardSchema
from taskyard_graphql.socket import Socket, SocketHandler
from taskyard_graphql.wire import BadJson, decode, encode

#: A client that has connected must say who it is within this time.
INIT_TIMEOUT = timedelta(seconds=10)
#: Seconds, in a header, after which what could not be done now may be tried again.
RETRY_AFTER = "5"


class GraphQLApp(GraphQL[Context, None]):
    """Strawberry's ASGI app with Taskyard's context, tokens and errors."""

    graphql_transport_ws_handler_class = SocketHandler
    websocket_adapter_class = Socket
    request_adapter_class = LimitedRequest

    def __init__(
        self,
        schema: TaskyardSchema,
        runtime: Runtime,
        *,
        ide: Response | None = None,
        init_timeout: timedelta = INIT_TIMEOUT,
    ) -> None:
        super().__init__(
            schema,
            graphql_ide="graphiql" if ide else None,
            subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL,),
            connection_init_wait_timeout=init_timeout,
            max_subscriptions_per_connection=None,  # the handler limits them, and says so with a code
        )
        self._runtime = runtime
        self._ide = ide

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        try:
            answer = await self._answer(Request(scope, receive))
        except ClientDisconnect:
            return  # in the middle of its request: nobody is left to be answered
        await answer(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        try:
            return await self.run(request)
        except Unauthenticated as error:
            return _refusal(401, error.message, {"code": error.code}, {"WWW-Authenticate": "Bearer"})
        except HTTPException as error:
            code = PAYLOAD_TOO_LARGE if error.status_code == 413 else BAD_REQUEST
            return _refusal(error.status_code, error.reason, {"code": code})
        except ClientDisconnect:
            raise
        except Exception as error:  # noqa: BLE001 - the edge of the protocol: logged by `masked`
            return _refusal(500, *masked(error, request.url.path))

    async def get_context(self, request: Request | WebSocket, response: Any) -> Context:  # noqa: ARG002 - the library calls it so
        """Who asks, by the Authorization header; of a WebSocket, `connection_init` tells it later.

        Without a token nothing of a request is looked at, but for a browser's wish to see GraphiQL.
        """
        if isinstance(request, WebSocket) or self.should_render_graphql_ide(LimitedRequest(request)):
            return Context(self._runtime, None)
        return Context(self._runtime, self._bearer(request))

    async def on_ws_connect(self, context: Context) -> UnsetType | dict[str, object] | None:
        """Take the token of `connection_init`: `Authorization` (with or without Bearer) or `token`."""
        given = context.connection_params.get("Authorization") or context.connection_params.get("token")
        try:
            context.authenticate(_without_scheme(given) if isinstance(given, str) else "")
        except Unauthenticated as error:
            raise ConnectionRejectionError from error
        nothing_to_say: UnsetType = UNSET
        return nothing_to_say

    async def render_graphql_ide(self, request: Request) -> Response:  # noqa: ARG002 - as above
        assert self._ide is not None
        return self._ide

    def encode_json(self, data: object) -> str:
        return encode(data)

    def decode_json(self, data: str | bytes) -> object:
        return decode(data)

    def parse_json(self, data: str | bytes) -> Any:
        """The JSON of a body or of a query parameter; whatever is wrong with it is the client's fault."""
        try:
            value = self.decode_json(data)
        except BadJson as error:
            raise HTTPException(400, f"this is not JSON that can be read: {error}") from error
        if isinstance(data, bytes) and not isinstance(value, dict | list):
            raise HTTPException(400, "the body must be a JSON object with the operation in 'query'")
        return value

    async def parse_http_body(
        self, request: AsyncHTTPRequestAdapter
    ) -> GraphQLRequestData | list[GraphQLRequestData]:
        parsed = await super().parse_http_body(request)
        if isinstance(parsed, GraphQLRequestData) and not isinstance(parsed.operation_name, str | None):
            raise HTTPException(400, "operationName must be a string or null")
        return parsed

    async def execute_single(self, *args: Any, **options: Any) -> ExecutionResult:
        try:
            result = await super().execute_single(*args, **options)
        except HTTPException as refused:
            cause = refused.__cause__
            if isinstance(cause, InvalidOperationTypeError) and cause.operation_type is OperationType.SUBSCRIPTION:
                raise HTTPException(
                    400, "a subscription needs a WebSocket: connect with the subprotocol graphql-transport-ws"
                ) from cause
            raise
        if _came_to_nothing(result):
            # For proxies and clients that know HTTP alone. A write whose answer was lost on its way may stand: the
            # idempotency key is for that.
            options["sub_response"].status_code = 503
            options["sub_response"].headers["Retry-After"] = RETRY_AFTER
        return result

    def _bearer(self, request: Request) -> Principal:
        header = request.headers.get("authorization")
        if header is None:
            return authenticated(None)
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated("the Authorization header must be 'Bearer <JWT>'")
        return self._runtime.tokens.verify(token.strip())


def _came_to_nothing(result: ExecutionResult) -> bool:
    """Whether nothing was found and no write confirmed, because what the service needs was away."""
    codes = {(error.extensions or {}).get("code") for error in result.errors or ()}
    return codes == {Unavailable.code} and all(value is None for value in (result.data or {}).values())


def _without_scheme(given: str) -> str:
    scheme, _, token = given.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else given.strip()


def _refusal(
    status: int, message: str, extensions: dict[str, object], headers: dict[str, str] | None = None
) -> Response:
    """An answer to what could not even be executed."""
    return JSONResponse({"errors": [{"message": message, "extensions": extensions}]}, status, headers)
