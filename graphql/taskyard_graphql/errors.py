"""What clients see of errors: a stable code and the place of the fault; anything unexpected is masked."""

import logging
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
        # Kept as it is but for the code: the protocols tell such errors by their class.
        error.extensions = {"code": _code_of_request(error)}
        return error
    if isinstance(cause, RecursionError):
        return _copy(error, "the operation is nested too deeply", {"code": VALIDATION_FAILED})
    reference = secrets.token_hex(6)
    logger.error("unexpected error %s at %s", reference, error.path, exc_info=cause)
    return _copy(
        error,
        f"something went wrong here; it is logged as {reference}",
        {"code": INTERNAL, "reference": reference},
    )


def _code_of_request(error: GraphQLError) -> str:
    """The code of what the library itself found wrong with a request."""
    if isinstance(error, GraphQLSyntaxError):
        return PARSE_FAILED
    if isinstance(error.original_error, CannotGetOperationTypeError):
        return BAD_REQUEST
    # Values of variables are looked at after validation, and named in the message alone.
    return InvalidInput.code if error.message.startswith("Variable '$") else VALIDATION_FAILED


def _copy(error: GraphQLError, message: str, extensions: Mapping[str, object]) -> GraphQLError:
    return GraphQLError(
        message,
        nodes=error.nodes,
        source=error.source,
        positions=error.positions,
        path=error.path,
        extensions=dict(extensions),
    )
