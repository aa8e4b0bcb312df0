"""Fixtures that every kind of test may use."""

import asyncio
import os
import random
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from tests.support.clock import FakeClock
from tests.support.databases import Databases, administer, with_database
from tests.support.real import need_assets
from tests.support.servers import PostgresServer, RedisServer, ValkeyServer

from taskyard.principal import Principal, Role
from taskyard.runtime import Runtime, open_deployment, open_embedded
from taskyard.settings import Settings
from taskyard.store.database import DATABASE_FILE, writing_engine
from taskyard.store.migrate import upgrade
from taskyard.store.postgres import migrate_postgres


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def user() -> Principal:
    return Principal("user-1", Role.USER, frozenset({"default"}))


@pytest.fixture
def admin() -> Principal:
    return Principal("admin-1", Role.ADMIN, frozenset({"default"}))


@pytest.fixture
def stranger() -> Principal:
    """A user of another instance."""
    return Principal("user-2", Role.USER, frozenset({"elsewhere"}))


@pytest.fixture(scope="session")
def database_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database at the newest schema: migrating once a session, not once a test."""
    path = tmp_path_factory.mktemp("template") / DATABASE_FILE
    engine = writing_engine(path)
    with engine.begin() as connection:
        upgrade(connection)
    engine.dispose()
    return path


@pytest.fixture
def data_folder(tmp_path: Path, database_template: Path) -> Path:
    """A data folder that needs no migration any more."""
    folder = tmp_path / "data"
    folder.mkdir()
    shutil.copy(database_template, folder / DATABASE_FILE)
    return folder


@pytest.fixture
def assets() -> None:
    """GraphiQL's files, which a set-up may leave out."""
    need_assets()


@pytest.fixture
async def runtime(place: Path | str, clock: FakeClock) -> AsyncIterator[Runtime]:
    """A core on each kind of database, with a clock that the test owns and randomness that repeats; no worker."""
    if isinstance(place, Path):
        opened = await open_embedded(Settings(data=place), clock, random.Random(1))
    else:
        settings = Settings(database_url=place, jwt_secret=SecretStr("for tests " * 4))
        opened = await open_deployment(settings, clock, random.Random(1))
    yield opened
    await opened.aclose()


@pytest.fixture
async def embedded(data_folder: Path, clock: FakeClock) -> AsyncIterator[Runtime]:
    """The same on SQLite alone: for what is about its folder, or about a queue that has an index."""
    opened = await open_embedded(Settings(data=data_folder), clock, random.Random(1))
    yield opened
    await opened.aclose()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL for this test run: named by TASKYARD_TEST_DATABASE_URL, or private."""
    if named := os.environ.get("TASKYARD_TEST_DATABASE_URL"):
        yield named
        return
    with PostgresServer() as server:
        yield server.url()


@pytest.fixture(scope="session")
def empty_databases(postgres_url: str) -> Iterator[Databases]:
    with Databases(postgres_url) as databases:
        yield databases


@pytest.fixture
def empty_database_url(empty_databases: Databases) -> Iterator[str]:
    """A database of this test's own on PostgreSQL, with nothing in it."""
    url = empty_databases.take()
    yield url
    empty_databases.give_back(url)


@pytest.fixture(scope="session")
def postgres_template(postgres_url: str) -> Iterator[str]:
    """The name of a database at the newest schema, with nothing in it: migrating once a session, not once a test."""
    name = f"taskyard_template_{secrets.token_hex(6)}"
    asyncio.run(administer(postgres_url, f'CREATE DATABASE "{name}"'))
    asyncio.run(migrate_postgres(with_database(postgres_url, name)))
    yield name
    asyncio.run(administer(postgres_url, f'DROP DATABASE "{name}" WITH (FORCE)'))


@pytest.fixture(scope="session")
def databases(postgres_url: str, postgres_template: str) -> Iterator[Databases]:
    with Databases(postgres_url, postgres_template) as copies:
        yield copies


@pytest.fixture
def database_url(databases: Databases) -> Iterator[str]:
    """A database of this test's own on PostgreSQL, with the tables of this version."""
    url = databases.take()
    yield url
    databases.give_back(url)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def place(request: pytest.FixtureRequest) -> Path | str:
    """Both kinds of database, one after the other: a data folder for SQLite, a DATABASE_URL for PostgreSQL."""
    found: Path | str = request.getfixturevalue("data_folder" if request.param == "sqlite" else "database_url")
    return found


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis for this test run: named by TASKYARD_TEST_REDIS_URL, or private. Others may use it: never flush it."""
    if named := os.environ.get("TASKYARD_TEST_REDIS_URL"):
        yield named
        return
    with RedisServer() as server:
        yield server.url


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    with ValkeyServer() as server:
        yield server.url


@pytest.fixture
def redis_prefix() -> str:
    """What every key and channel of this test begins with."""
    return f"test-{secrets.token_hex(6)}"
