"""The schema, and the SDL that is published of it."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import strawberry
from graphql import GraphQLError
from strawberry.extensions import ParserCache, ValidationCache
from strawberry.types import ExecutionResult
from strawberry.types.graphql import OperationType

from taskyard_graphql.errors import StableErrors
from taskyard_graphql.mutations import Mutation
from taskyard_graphql.queries import Query
from taskyard_graphql.subscriptions import Subscription


class DocumentCache(ParserCache):
    """Keeps parsed documents. A text that cannot be parsed is left to the library, which reports it well."""

    def on_parse(self) -> Iterator[None]:
        context = self.execution_context
        with suppress(GraphQLError):
            context.graphql_document = self.cached_parse_document(context.query, **context.parse_options)
        yield


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
        extensions=[StableErrors, DocumentCache, ValidationCache],
    )


def export_sdl() -> str:
    """The published contract, as it stands in graphql/schema.graphql."""
    return build_schema().as_str().rstrip() + "\n"
