"""The schema, and the SDL that is published of it."""

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import strawberry
from graphql import DocumentNode, GraphQLError, OperationDefinitionNode
from strawberry.extensions import MaxTokensLimiter, ParserCache, ValidationCache
from strawberry.types import ExecutionResult
from strawberry.types.graphql import OperationType

from taskyard_graphql.errors import StableErrors
from taskyard_graphql.limits import MAX_DOCUMENT, MAX_TOKENS, Refused
from taskyard_graphql.mutations import Mutation
from taskyard_graphql.queries import Query
from taskyard_graphql.subscriptions import Subscription


class DocumentCache(ParserCache):
    """Keeps parsed documents. A text that cannot be parsed is left to the library, which reports it well."""

    def on_parse(self) -> Iterator[None]:
        """Parse; raises `Refused` for what is too long, or leaves open which of its operations is meant."""
        context = self.execution_context
        if len(context.query or "") > MAX_DOCUMENT:
            raise Refused(f"A document has at most {MAX_DOCUMENT} characters; send what is large as variables.")
        with suppress(GraphQLError):
            context.graphql_document = self.cached_parse_document(context.query, **context.parse_options)
        # The library would take the first.
        if context._provided_operation_name is None and _operations(context.graphql_document) > 1:
            raise Refused("Must provide operation name if query contains multiple operations.")
        yield


def _operations(document: DocumentNode | None) -> int:
    return sum(isinstance(node, OperationDefinitionNode) for node in document.definitions) if document else 0


class TaskyardSchema(strawberry.Schema):
    """Strawberry's schema; errors are logged where they are masked, not a second time here."""

    def process_errors(self, errors: list[GraphQLError], execution_context: Any = None) -> None:
        """Nothing to do."""

    async def execute(self, *args: Any, **options: Any) -> ExecutionResult:
        """One operation with one answer, which cannot be a subscription: that is for `stream`."""
        allowed = options.pop("allowed_operation_types", None) or set(OperationType)
        options["allowed_operation_types"] = set(allowed) - {OperationType.SUBSCRIPTION}
        return await super().execute(*args, **options)


def build_schema() -> TaskyardSchema:
    return TaskyardSchema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        extensions=[StableErrors, partial(MaxTokensLimiter, MAX_TOKENS), DocumentCache, ValidationCache],
    )


def export_sdl() -> str:
    """The published contract, as it stands in graphql/schema.graphql."""
    return build_schema().as_str().rstrip() + "\n"
