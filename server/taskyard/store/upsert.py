"""INSERT .. ON CONFLICT, which PostgreSQL and SQLite both have: what several processes may write at once."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, bindparam
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import ReturningInsert


def add_missing(connection: Connection, table: Table, row: Mapping[str, Any]) -> None:
    """Insert the row unless its key is there."""
    connection.execute(_insert(connection.dialect.name, table).values(row).on_conflict_do_nothing())


def put(
    connection: Connection,
    table: Table,
    key: Mapping[str, Any],
    values: Mapping[str, Any],
    *,
    first: Mapping[str, Any] | None = None,
    where: ColumnElement[bool] | None = None,
    given: Mapping[str, Any] | None = None,
) -> bool:
    """Insert a row, or set `values` on the one of that key, if `where` holds of it; says whether it did either.

    `first` are values that only a new row gets. `where` is made once, by a module: `given` are its parameters.
    """
    row = {**key, **values, **(first or {})}
    statement = _put(connection.dialect.name, table, tuple(key), tuple(values), tuple(row), where)
    return connection.execute(statement, {**row, **(given or {})}).first() is not None


@lru_cache(maxsize=64)
def _put(
    dialect: str,
    table: Table,
    key: tuple[str, ...],
    values: tuple[str, ...],
    row: tuple[str, ...],
    where: ColumnElement[bool] | None,
) -> ReturningInsert[Any]:
    statement = _insert(dialect, table).values({name: bindparam(name) for name in row})
    written = statement.on_conflict_do_update(
        index_elements=key, set_={name: statement.excluded[name] for name in values}, where=where
    )
    return written.returning(*(table.c[name] for name in key))


def _insert(dialect: str, table: Table) -> "postgresql.Insert | sqlite.Insert":
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
