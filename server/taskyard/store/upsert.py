"""INSERT .. ON CONFLICT, which PostgreSQL and SQLite both have: what several processes may write at once."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def add_missing(connection: Connection, table: Table, row: Mapping[str, Any]) -> None:
    """Insert the row unless its key is there."""
    connection.execute(_insert(connection, table).values(row).on_conflict_do_nothing())


def put(
    connection: Connection,
    table: Table,
    key: Mapping[str, Any],
    values: Mapping[str, Any],
    *,
    first: Mapping[str, Any] | None = None,
    where: ColumnElement[bool] | None = None,
) -> bool:
    """Insert a row, or set `values` on the one of that key, if `where` holds of it; says whether it did either.

    `first` are values that only a new row gets.
    """
    statement = _insert(connection, table).values({**key, **values, **(first or {})})
    written = statement.on_conflict_do_update(index_elements=list(key), set_=dict(values), where=where)
    return connection.execute(written.returning(*(table.c[name] for name in key))).first() is not None


def _insert(connection: Connection, table: Table) -> "postgresql.Insert | sqlite.Insert":
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)
