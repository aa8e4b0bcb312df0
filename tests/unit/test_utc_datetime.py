"""UtcDateTime and Json keep what they are given, on SQLite as on PostgreSQL."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, Connection, Integer, MetaData, Table, create_engine, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import StatementError

from taskyard.store.types import Json, UtcDateTime

NOON = datetime(2026, 3, 1, 12, 0, 0, 123_000, tzinfo=UTC)
things = Table(
    "things",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("at", UtcDateTime),
    Column("doc", Json),
)


@pytest.fixture
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        things.metadata.create_all(connection)
        yield connection
    engine.dispose()


def stored(connection: Connection, **values: Any) -> Any:
    key = connection.execute(things.insert().values(**values)).inserted_primary_key[0]
    (column,) = values
    return connection.scalar(select(things.c[column]).where(things.c.id == key))


@pytest.mark.parametrize(
    "moment",
    [
        NOON,
        NOON.astimezone(timezone(timedelta(hours=5, minutes=45))),
        datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC),
    ],
)
def test_a_moment_comes_back_in_utc(connection: Connection, moment: datetime) -> None:
    back = stored(connection, at=moment)
    assert back == moment
    assert back.tzinfo is UTC


@given(st.datetimes(timezones=st.just(UTC)))
def test_any_moment_is_cut_to_the_millisecond_alike_on_both(moment: datetime) -> None:
    column = UtcDateTime()
    cut = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    assert column.process_bind_param(moment, postgresql.dialect()) == cut
    back = column.result_processor(sqlite.dialect(), None)
    assert back(column.process_bind_param(moment, sqlite.dialect())) == cut


def test_sqlite_holds_whole_milliseconds_since_1970(connection: Connection) -> None:
    stored(connection, at=NOON + timedelta(microseconds=999))
    assert connection.execute(text("SELECT at, typeof(at) FROM things")).one() == (1772366400123, "integer")


def test_null_stays_null(connection: Connection) -> None:
    assert stored(connection, at=None) is None


@pytest.mark.parametrize("dialect", [sqlite.dialect(), postgresql.dialect()], ids=lambda dialect: dialect.name)
def test_a_naive_moment_is_refused(dialect: Any) -> None:
    with pytest.raises(ValueError, match="has no time zone: give an aware datetime"):
        UtcDateTime().process_bind_param(NOON.replace(tzinfo=None), dialect)


def test_a_naive_moment_is_refused_in_a_condition(connection: Connection) -> None:
    with pytest.raises(StatementError, match="has no time zone"):
        connection.execute(select(things).where(things.c.at < NOON.replace(tzinfo=None)))


def test_moments_compare_with_moments(connection: Connection) -> None:
    stored(connection, at=NOON)
    later = select(things.c.at).where(things.c.at < NOON + timedelta(milliseconds=1))
    assert connection.scalar(later) == NOON
    assert connection.scalar(select(things.c.at).where(things.c.at < NOON)) is None


def test_postgresql_gives_aware_utc_whatever_the_session_says() -> None:
    back = UtcDateTime().result_processor(postgresql.dialect(), None)
    local = NOON.astimezone(timezone(timedelta(hours=-8)))
    assert back(local) == NOON
    assert back(local).tzinfo is UTC
    assert back(None) is None


def test_the_types_of_the_columns() -> None:
    assert UtcDateTime().compile(dialect=postgresql.dialect()) == "TIMESTAMP(3) WITH TIME ZONE"
    assert UtcDateTime().compile(dialect=sqlite.dialect()) == "INTEGER"
    assert Json.compile(dialect=postgresql.dialect()) == "JSONB"
    assert Json.compile(dialect=sqlite.dialect()) == "TEXT"


@pytest.mark.parametrize("value", [{"a": [1, None, True]}, [], "5", 5, 1.0, 2**53 + 1, 1e300, False, "null", ""])
def test_any_json_value_comes_back_as_it_was(connection: Connection, value: Any) -> None:
    back = stored(connection, doc=value)
    assert back == value
    assert type(back) is type(value)


def test_none_is_sql_null_in_a_json_column(connection: Connection) -> None:
    stored(connection, doc=None)
    assert connection.scalar(text("SELECT count(*) FROM things WHERE doc IS NULL")) == 1
