"""Column types that mean the same on PostgreSQL and on SQLite."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, Dialect, Integer
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.types import TypeDecorator, TypeEngine

from taskyard.clock import from_millis, to_millis


class UtcDateTime(TypeDecorator[datetime]):
    """A moment, cut to the millisecond: any aware time on the way in, aware UTC on the way out.

    PostgreSQL: `timestamptz(3)`. SQLite, which has no type for time: milliseconds since 1970 as INTEGER.
    """

    impl = TIMESTAMP(timezone=True, precision=3)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        # Not adapted to the driver here, as is usual: its own type would lose the precision.
        return Integer() if dialect.name == "sqlite" else self.impl_instance

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if value.utcoffset() is None:
            raise ValueError(f"{value!r} has no time zone: give an aware datetime, such as datetime.now(UTC)")
        if dialect.name == "sqlite":
            return to_millis(value)
        return value.replace(microsecond=value.microsecond // 1000 * 1000)

    def result_processor(
        self,
        dialect: Dialect,
        coltype: object,  # noqa: ARG002 - the signature is SQLAlchemy's
    ) -> Callable[[Any], datetime | None]:
        # Chosen once for a statement, not once for each value as process_result_value would.
        return _from_millis if dialect.name == "sqlite" else _to_utc


def _from_millis(value: int | None) -> datetime | None:
    return None if value is None else from_millis(value)


def _to_utc(value: datetime | None) -> datetime | None:
    return None if value is None else value.astimezone(UTC)


class _TextJson(JSON):
    """JSON in a TEXT column: SQLite gives one declared JSON numeric affinity, and turns 1.0 into 1."""


@compiles(_TextJson, "sqlite")
def _compile_text_json(_type: _TextJson, _compiler: object, **_: object) -> str:
    return "TEXT"


#: Any JSON value; None is SQL NULL. (De)serialised by the engine's json_serializer and json_deserializer.
Json: TypeEngine[Any] = _TextJson(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
