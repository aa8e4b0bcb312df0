"""What one client may ask of the server at once. docs/operations.md tells operators of these limits."""

from cross_web import HTTPException, StarletteRequestAdapter
from starlette.requests import Request
from strawberry.schema.exceptions import CannotGetOperationTypeError

#: Bytes of an HTTP request's body: room for an input of the largest size, however its JSON is escaped.
MAX_BODY = 4 << 20
#: Characters of a document; what is large belongs in its variables.
MAX_DOCUMENT = 100_000
#: Names, numbers, texts and punctuation of a document. Validation takes the square of it in time.
MAX_TOKENS = 2_000
#: Operations that run at the same time on one WebSocket.
MAX_OPERATIONS = 100


class Refused(CannotGetOperationTypeError):
    """An operation that is refused before it is validated; the message says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(None)
        self.reason = reason

    def as_http_error_reason(self) -> str:
        return self.reason


class LimitedRequest(StarletteRequestAdapter):
    """A request whose body is read up to `MAX_BODY` and not beyond."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._stream = request.stream

    async def get_body(self) -> bytes:
        """The body. Raises `HTTPException` 413 as soon as it is known to be too long."""
        declared = self.headers.get("content-length", "0")
        body = bytearray()
        if not declared.isdecimal() or int(declared) <= MAX_BODY:
            async for chunk in self._stream():
                body += chunk
                if len(body) > MAX_BODY:
                    break
            else:
                return bytes(body)
        raise HTTPException(413, f"the body of a request has at most {MAX_BODY} bytes")
