"""The servers that tests start, and the databases that they take from them."""

from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis
from tests.support.servers import PostgresServer, RedisServer, new_enough

pytestmark = pytest.mark.slow


async def test_a_database_is_new_and_one_s_own(empty_database_url: str) -> None:
    connection = await asyncpg.connect(empty_database_url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM pg_stat_user_tables") == 0
        await connection.execute("CREATE TABLE mine (id int)")
    finally:
        await connection.close()


async def test_postgres_comes_back_from_a_crash_with_what_was_committed() -> None:
    with PostgresServer() as server:
        connection = await asyncpg.connect(server.url())
        await connection.execute("CREATE TABLE kept AS SELECT 1 AS id")
        connection.terminate()
        server.crash()
        server.start()
        connection = await asyncpg.connect(server.url())
        assert await connection.fetchval("SELECT id FROM kept") == 1
        await connection.close()


async def test_redis_has_forgotten_everything_after_it_was_killed() -> None:
    with RedisServer() as server:
        async with Redis.from_url(server.url) as client:
            await client.set("a", "1")
        server.kill()
        server.start()
        async with Redis.from_url(server.url) as client:
            assert await client.get("a") is None


@pytest.mark.parametrize("server", ["Redis server v=7.0.15 sha=0", "Redis server v=10.1.0", "Valkey server v=9.1.2"])
def test_an_old_redis_is_passed_over(tmp_path: Path, server: str) -> None:
    old, new = _program(tmp_path / "old", "Redis server v=6.2.14 sha=0"), _program(tmp_path / "new", server)
    assert new_enough([old, new]) == new
    assert new_enough([]) is None


def test_an_old_redis_alone_is_told(tmp_path: Path) -> None:
    old = _program(tmp_path / "old", "Redis server v=6.2.14 sha=0")
    with pytest.raises(pytest.fail.Exception, match=rf"need Redis 7 or newer, or Valkey: {old} is Redis server v=6"):
        new_enough([old])


def _program(path: Path, says: str) -> Path:
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path
