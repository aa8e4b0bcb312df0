"""What clients see of errors: a stable code and the place of the fault; anything unexpected is masked."""

import logging
import re
import secrets
from collections.abc import Mapping

from graphql import GraphQLError, GraphQLSyntaxError
from strawberry.extensions import MaskErrors
from strawberry.schema.exceptions import CannotGetOperationTypeError

from taskyard.errors import InvalidInput, TaskyardError

logger = logging.getLogger(__name__)

PARSE_FAILED = "GRAPHQL_PARSE_FAILED"
VALIDATION_FAILED = "GRAPHQL_VALIDATION_FAILED"
INTERNAL = "INTERNAL"
#: Not even an operation: refused by the transport.
BAD_REQUEST = "BAD_REQUEST"
PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
TOO_MANY_OPERATIONS = "TOO_MANY_OPERATIONS"

#: Values are looked at after validation, and what is wrong with them is told by the message alone.
_OF_VALUES = re.compile(r"(Variable '\$\w+'|Argument '\w+').*? (has invalid value|was not provided)")


class StableErrors(MaskErrors):
    """Gives every error its code. An unexpected one is logged under an id, which is all the client is told."""

    def _process_errors(self, errors: list[GraphQLError]) -> list[GraphQLError]:
        return [shown(error) for error in errors]


def shown(error: GraphQLError) -> GraphQLError:
    """The error as a client may see it."""
    if "code" in (error.extensions or {}):
        return error
    cause = error.original_error
    while isinstance(cause, GraphQLError) and cause.original_error is not None:
        cause = cause.original_error
    if isinstance(cause, TaskyardError):
        extensions = {"code": cause.code} | ({} if cause.path is None else {"path": cause.path})
        return _copy(error, cause.message, extensions)
    if cause is None or isinstance(cause, GraphQLError | CannotGetOperationTypeError):
        code = _code_of_request(error)
        if code is not None:
            # Kept as it is but for the code: the protocols tell such errors by their class.
            error.extensions = {"code": code}
            return error
    return _copy(error, *masked(cause or error, error.path))


def masked(cause: BaseException, place: object) -> tuple[str, dict[str, object]]:
    """Log what nobody foresaw; gives the message and the extensions that tell a client where to find it."""
    reference = secrets.token_hex(6)
    logger.error("unexpected error %s at %s", reference, place, exc_info=cause)
    message = f"something went wrong here; it is logged as {reference}"
    return message, {"code": INTERNAL, "reference": reference}


def _code_of_request(error: GraphQLError) -> str | None:
    """The code of what the library itself found wrong with a request; None if the request is not at fault."""
    if isinstance(error, GraphQLSyntaxError):
        return PARSE_FAILED
    if isinstance(error.original_error, CannotGetOperationTypeError):
        return BAD_REQUEST
    if _OF_VALUES.match(error.message):
        return InvalidInput.code
    # With a path it comes from a result of ours that does not fit the schema.
    return VALIDATION_FAILED if error.path is None else None


def _copy(error: GraphQLError, message: str, extensions: Mapping[str, object]) -> GraphQLError:
    return GraphQLError(
        message,
        nodes=error.nodes,
        source=error.source,
        positions=error.positions,
        path=error.path,
        extensions=dict(extensions),
    )
