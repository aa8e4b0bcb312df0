"""DATABASE_URL of PostgreSQL, as people have it from their provider, and connections to where it leads.

The driver reads it by the rules of libpq: percent-encoded passwords, `sslmode` and `sslrootcert`, hosts and
Unix sockets in the query, several hosts. What is left of libpq's parameters is seen to here.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, urlencode, urlsplit

import asyncpg

from taskyard.errors import StartupError

#: A connection of the driver itself, which has no types.
Driver: TypeAlias = Any

#: Seconds that a connection may take to come about, unless the URL has a `connect_timeout`.
CONNECT_TIMEOUT = 10.0
#: Seconds that the answer to one statement may take; a server that is cut off would never answer.
COMMAND_TIMEOUT = 30.0
_SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg")
#: Parameters of libpq that ask for nothing that this driver has. It would hand them on, and the server refuse them.
_NOT_OURS = frozenset(
    {"channel_binding", "gssencmode", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"}
    | {"load_balance_hosts", "sslcompression", "sslsni", "requirepeer", "client_encoding"}
)


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """Where a database is and how to come to it. Its `repr` shows no password."""

    dsn: str = field(repr=False)
    #: Host, port and name, to be shown.
    place: str
    connect_timeout: float
    #: Settings of the session that the URL gives itself.
    own_settings: frozenset[str]

    async def connect(self, settings: Mapping[str, str], command_timeout: float = COMMAND_TIMEOUT) -> Driver:
        """A connection of the driver's own, with these settings of the session, unless the URL has its own.

        Raises whatever the driver does. Whoever gives up at the last moment leaves no connection behind.
        """
        given = {name: value for name, value in settings.items() if name not in self.own_settings}
        connecting: asyncio.Future[Driver] = asyncio.ensure_future(
            asyncpg.connect(
                self.dsn, timeout=self.connect_timeout, command_timeout=command_timeout, server_settings=given
            )
        )
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            connecting.cancel()
            connecting.add_done_callback(_drop)
            raise


def _drop(connected: "asyncio.Future[Driver]") -> None:
    if not connected.cancelled() and connected.exception() is None:
        connected.result().terminate()


def parse_postgres_url(url: str) -> PostgresAddress:
    """Raises `StartupError`, which names DATABASE_URL and never shows a password."""
    try:
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        timeout = float(query.pop("connect_timeout", "") or CONNECT_TIMEOUT)
    except ValueError:
        # Not chained: such errors repeat parts of the URL.
        raise _bad("it cannot be read; a password in it must be percent-encoded") from None
    if "@" in parts.path or parts.fragment:
        raise _bad("it cannot be read; a password in it must be percent-encoded")
    if parts.scheme not in _SCHEMES:
        raise _bad("it does not begin with postgresql://")
    query = {name: value for name, value in query.items() if name not in _NOT_OURS}
    place = parts.netloc.rpartition("@")[2] or query.get("host", "localhost")
    if "," in place:
        # Of several hosts only the primary takes writes, whichever it is now.
        query.setdefault("target_session_attrs", "read-write")
    dsn = f"postgresql://{parts.netloc}{parts.path}" + (f"?{urlencode(query)}" if query else "")
    return PostgresAddress(dsn, place + parts.path, timeout or CONNECT_TIMEOUT, frozenset(query))


def cannot_connect(address: PostgresAddress, error: Exception) -> StartupError:
    """What is told at a start whose first connection failed so."""
    match error:
        case asyncpg.PostgresError():
            return StartupError(f"the database {address.place} (DATABASE_URL) refuses: {_first_line(error)}")
        case TimeoutError():
            return StartupError(
                f"the database {address.place} (DATABASE_URL) does not answer within {address.connect_timeout:g} s"
            )
        case asyncpg.TargetServerAttributeNotMatched():
            return StartupError(
                f"of the hosts {address.place} (DATABASE_URL) that answer, none is what target_session_attrs asks for"
                " (of several hosts: one that takes writes)"
            )
        case OSError():
            why = error.strerror or error
            return StartupError(f"the database {address.place} (DATABASE_URL) cannot be reached: {why}")
        case _:
            return _bad("the driver cannot use it; a password in it must be percent-encoded")


def _first_line(error: Any) -> str:
    return str(error).partition("\n")[0]


def _bad(why: str) -> StartupError:
    return StartupError(f"bad setting: DATABASE_URL: {why}")
