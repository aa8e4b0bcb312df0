"""DATABASE_URL as people have it."""

import asyncpg
import pytest

from taskyard.errors import StartupError
from taskyard.store.postgres_url import CONNECT_TIMEOUT, cannot_connect, parse_postgres_url


@pytest.mark.parametrize(
    ("url", "dsn", "place"),
    [
        ("postgresql://me:p%40ss@db:5433/things", "postgresql://me:p%40ss@db:5433/things", "db:5433/things"),
        ("postgres://db/things?sslmode=require", "postgresql://db/things?sslmode=require", "db/things"),
        ("postgresql+asyncpg://me@db/things", "postgresql://me@db/things", "db/things"),
        ("postgresql:///things?host=/run", "postgresql:///things?host=%2Frun", "/run/things"),
        ("postgresql://db/t?connect_timeout=3&channel_binding=require&keepalives=1", "postgresql://db/t", "db/t"),
        (
            "postgresql://me:x@one:1,two:2/t",
            "postgresql://me:x@one:1,two:2/t?target_session_attrs=read-write",
            "one:1,two:2/t",
        ),
        (
            "postgresql://one,two/t?target_session_attrs=any",
            "postgresql://one,two/t?target_session_attrs=any",
            "one,two/t",
        ),
    ],
)  # fmt: skip
def test_what_the_driver_is_given_and_what_is_shown(url: str, dsn: str, place: str) -> None:
    address = parse_postgres_url(url)
    assert (address.dsn, address.place) == (dsn, place)
    assert "p%40ss" not in repr(address)


def test_how_long_a_connection_may_take() -> None:
    assert parse_postgres_url("postgresql://db/t?connect_timeout=3").connect_timeout == 3
    assert parse_postgres_url("postgresql://db/t?connect_timeout=0").connect_timeout == CONNECT_TIMEOUT
    assert parse_postgres_url("postgresql://db/t").connect_timeout == CONNECT_TIMEOUT


def test_settings_of_the_url_are_its_own() -> None:
    assert "application_name" in parse_postgres_url("postgresql://db/t?application_name=mine").own_settings


@pytest.mark.parametrize(
    "url",
    [
        "mysql://me:hunter2@db/things",
        "me:hunter2@db/things",
        "",
        "postgresql://me:hunter2@[db/things",
        "postgresql://me:12/hunter2@db/things",
        "postgresql://me:hunter2#34@db/things",
        "postgresql://db/t?hunter2",
        "postgresql://db/t?connect_timeout=hunter2",
    ],
)
def test_a_bad_url_is_refused_by_name_without_its_password(url: str) -> None:
    with pytest.raises(StartupError, match="DATABASE_URL") as caught:
        parse_postgres_url(url)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (TimeoutError(), "does not answer within 10 s"),
        (ConnectionRefusedError(111, "Connection refused"), "cannot be reached: Connection refused"),
        (OSError("all hosts failed"), "cannot be reached: all hosts failed"),
        (asyncpg.InvalidPasswordError("no such user\nDETAIL: hunter2"), "refuses: no such user"),
        (asyncpg.TargetServerAttributeNotMatched("hunter2"), "none is what target_session_attrs asks for"),
        (ValueError("hunter2"), "the driver cannot use it"),
    ],
)
def test_a_first_connection_that_fails(error: Exception, told: str) -> None:
    address = parse_postgres_url("postgresql://me:hunter2@db:5432/things")
    message = str(cannot_connect(address, error))
    assert told in message
    assert "DATABASE_URL" in message
    assert "hunter2" not in message
