"""Which errors say that PostgreSQL is away or has no time, and which that a statement was at fault."""

from collections.abc import Iterator

import asyncpg
from sqlalchemy.exc import TimeoutError as PoolTimeout

#: Classes of SQLSTATE: connection, resources, operator intervention (shutdown, cancelled), server program error.
_AWAY_CLASSES = ("08", "53", "57", "58")
#: Lock not available, read-only transaction (a standby since a failover), session time-outs.
_AWAY_STATES = ("55P03", "25006", "25P03", "25P04")
_CROSSED = ("40P01", "40001")


def is_outage(error: BaseException) -> bool:
    """Whether it, or what it came from, says that the database cannot be used now: trying again later may do."""
    return any(_is_outage(each) for each in _chain(error))


def is_crossed(error: BaseException) -> bool:
    """A deadlock, a failed serialisation or a plan of another schema: nothing was written, and it is tried again."""
    return any(
        _state(each) in _CROSSED or isinstance(each, asyncpg.InvalidCachedStatementError) for each in _chain(error)
    )


def _is_outage(error: BaseException) -> bool:
    if isinstance(error, OSError | PoolTimeout | asyncpg.InterfaceError | asyncpg.InternalClientError):
        # The driver's error for a value that does not fit its type is an InterfaceError, too.
        return not isinstance(error, ValueError)
    if isinstance(error, asyncpg.InvalidCachedStatementError):
        return True  # a migration came by; the next one is planned anew
    state = _state(error)
    return state is not None and (state.startswith(_AWAY_CLASSES) or state in _AWAY_STATES or state in _CROSSED)


def _state(error: BaseException) -> str | None:
    return error.sqlstate if isinstance(error, asyncpg.PostgresError) else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes: SQLAlchemy wraps those of the driver."""
    each: BaseException | None = error
    while each is not None:
        yield each
        each = each.__cause__
