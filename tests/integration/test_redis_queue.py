"""What the queue in Redis does beyond the contract: several processes, a cluster, what it holds and what it costs."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis
from tests.support.core import PATIENCE, meddle, stored
from tests.support.lines import ROOT, Line
from tests.support.redis_lines import beside, queue_of, redis_line
from tests.support.servers import RedisServer

from taskyard.errors import StartupError
from taskyard.lifecycle import TaskStatus
from taskyard.principal import Principal, Role, Scope
from taskyard.queue.entry import Entry, Want
from taskyard.queue.redis_lines import RedisLines
from taskyard.queue.sql import SqlQueue
from taskyard.redis_link import RedisLink, Script
from taskyard.service.relay import LAST_SEQ

pytestmark = pytest.mark.slow


@pytest.fixture
async def line(database_url: str, redis_url: str, redis_prefix: str) -> AsyncIterator[Line]:
    async with redis_line(database_url, redis_url, redis_prefix) as opened:
        yield opened


@pytest.fixture
def cluster() -> Iterator[RedisServer]:
    """A cluster of one node: it refuses a call whose keys lie in several slots."""
    with RedisServer("--cluster-enabled", "yes") as server:
        yield server


async def client_of(line: Line) -> "Redis":
    assert line.core.settings.redis_url is not None
    return Redis.from_url(line.core.settings.redis_url, decode_responses=True)


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}-{number:04}" for number in range(count)]


# -- where claims come from -----------------------------------------------------------------------


async def test_claims_come_from_redis_and_not_from_the_table(line: Line) -> None:
    await line.put("a", "b")
    await meddle(line.core, "UPDATE tasks SET priority = 10 WHERE id = 'b'")
    assert await line.claim() == ["a"]
    assert await line.peek() == ["b"]


@pytest.mark.parametrize(("foreign", "by_redis"), [(150, True), (300, False)])
async def test_a_claim_limited_to_some_instances_passes_over_others_and_turns_to_the_table_if_they_are_many(
    line: Line, foreign: int, by_redis: bool
) -> None:
    await line.put(*names("foreign", foreign), instance_id="two")
    await line.put("a", "b", instance_id="one")
    await meddle(line.core, "UPDATE tasks SET priority = 10 WHERE id = 'b'")
    first, second = ("a", "b") if by_redis else ("b", "a")
    one = Scope(frozenset({"one"}))
    assert await line.peek(1, scope=one) == [first]
    assert await line.claim(scope=one) == [first]
    agent = Principal("agent-9", Role.AGENT, frozenset({"one"}))
    assert [task.id for task in await line.core.claims.peek(agent, Want(limit=1))] == [second]
    assert [task.id for task in await line.core.claims.dequeue(agent, Want(limit=1))] == [second]
    assert not queue_of(line).lost.is_set()


@pytest.mark.parametrize("task_type", ["echo", "other"])
async def test_what_stands_in_front_of_all_others_comes_from_redis_however_many_there_are(
    line: Line, task_type: str
) -> None:
    await line.put("a", "b", priority=9, instance_id="one")
    await line.put(*names("foreign", 300), instance_id="two", task_type=task_type)
    await meddle(line.core, "UPDATE tasks SET priority = 10 WHERE id = 'b'")
    assert await line.claim(4, scope=Scope(frozenset({"one"}))) == ["a", "b"], "the table would give b, a"


async def test_only_the_turns_of_the_oldest_go_to_the_table_for_what_lies_too_far(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Want] = []
    real = SqlQueue.claim

    async def claim(table: SqlQueue, want: Want, commit: Any) -> Any:
        asked.append(want)
        return await real(table, want, commit)

    monkeypatch.setattr(SqlQueue, "claim", claim)
    await line.put(*names("own", 64), priority=9, instance_id="one")
    await line.put(*names("foreign", 300), instance_id="two")
    for own in names("own", 64):
        assert await line.claim(scope=Scope(frozenset({"one"}))) == [own]
    assert len(asked) == 4


async def test_an_entry_whose_id_another_instance_has_taken_gives_nobody_its_task(line: Line) -> None:
    await line.put("a", instance_id="one")
    await meddle(line.core, "UPDATE tasks SET instance_id = 'two' WHERE id = 'a'")
    (stale,) = await queue_of(line).between(0, LAST_SEQ, 10)
    assert stale.instance_id == "one"
    agent = Principal("agent-9", Role.AGENT, frozenset({"one"}))
    assert await line.core.claims.dequeue(agent, Want(limit=1)) == []
    assert (await stored(line.core, "a")).status is TaskStatus.QUEUED


async def test_no_name_of_an_instance_stands_for_others(line: Line) -> None:
    await line.put("a", instance_id="one")
    for odd in ("", "\n", "one\ntwo", '"one"', "*"):
        assert await line.claim(scope=Scope(frozenset({odd}))) == []
    assert await line.claim(scope=Scope(frozenset({"two", "one"}))) == ["a"]


async def test_several_lines_are_claimed_in_the_order_of_all(line: Line) -> None:
    for number, name in enumerate(names("t", 60)):
        await line.put(name, queue=f"q{number % 3}", priority=1 + number % 10)
    expected = sorted(names("t", 60), key=lambda name: (-(int(name[2:]) % 10), name))
    assert await line.peek(60) == expected
    assert await line.drain(by=7) == expected
    assert not queue_of(line).lost.is_set()


# -- several processes ----------------------------------------------------------------------------


async def test_a_line_that_another_process_opened_is_found(line: Line) -> None:
    async with beside(line) as other:
        there = Line(line.core, other)
        assert await there.claim() == []
        await line.put("a", queue="new")
        assert await there.claim(queues=["new"]) == ["a"]
        await line.put("b", queue="newer")
        assert await there.claim() == ["b"]
        assert not other.lost.is_set()


async def test_processes_side_by_side_take_each_task_once(line: Line) -> None:
    await line.put(*names("a", 300))
    await line.put(*names("b", 300), queue="other", priority=7)
    async with beside(line) as second, beside(line) as third:
        lines = [line, Line(line.core, second), Line(line.core, third)]
        shares = await asyncio.gather(*(each.drain(by=9) for each in lines for _ in range(3)))
        offered = [entry.task_id for each in lines for batch in each.offered for entry in batch]
    assert sorted(name for share in shares for name in share) == sorted(names("a", 300) + names("b", 300))
    assert len(offered) == 600, "nothing was offered to two of them"


async def test_a_pause_holds_for_every_process(line: Line) -> None:
    await line.put("a")
    async with beside(line) as other:
        await line.core.tasks.set_paused(ROOT, "default", True, "default")
        assert await Line(line.core, other).claim() == []
        await line.core.tasks.set_paused(ROOT, "default", False, "default")
        assert await Line(line.core, other).claim() == ["a"]


async def test_what_a_dead_claimer_was_offered_comes_back(line: Line) -> None:
    """It died between the script and the commit: nothing was written, and nobody puts its entries back."""
    await line.put("a", "b", "c")
    dead = RedisLines(line.queue._link)  # type: ignore[attr-defined]  # what a claimer calls
    found = await dead.take("default", Want(limit=2), "bb", line.core.clock.now())
    assert found is not None
    assert [entry.task_id for entry in found.best] == ["a", "b"]
    assert await line.claim(5) == ["c"]
    claimed: list[str] = []
    async with asyncio.timeout(PATIENCE):
        while len(claimed) < 2:
            claimed += await line.claim(5)
            await asyncio.sleep(0.05)
    assert claimed == ["a", "b"]


async def test_an_entry_that_is_added_while_it_is_offered_is_not_offered_again(line: Line) -> None:
    await line.put("a")

    async def commit(entries: Sequence[Entry]) -> list[str]:
        await line.queue.add(entries)
        assert await line.claim() == []
        return await line.commit(entries)

    assert await line.queue.claim(Want(limit=1), commit) == ["a"]
    assert await line.claim() == []
    assert len(line.offered) == 1


# -- queues that come and go ----------------------------------------------------------------------


async def test_a_queue_that_was_not_used_for_long_is_forgotten_and_comes_back(line: Line) -> None:
    start = f"{line.core.settings.redis_prefix}:{{q:seldom}}"

    async def keys(client: "Redis") -> list[str]:
        return [key async for key in client.scan_iter(f"{start}:*")]

    async with await client_of(line) as client, beside(line) as other:
        there = Line(line.core, other)
        await line.put("a", queue="seldom")
        await line.put("b")
        await queue_of(line).forget_unused()
        assert await there.claim(queues=["seldom"]) == ["a"], "it was used just now"
        async with asyncio.timeout(PATIENCE):
            while await client.exists(f"{start}:holding"):
                await asyncio.sleep(0.01)
        await client.delete(f"{start}:used")  # as an hour later
        await queue_of(line).forget_unused()
        assert await keys(client) == []
        assert not await queue_of(line).mend(), "it is not missed"
        await line.put("c", queue="seldom")
        assert sorted(await there.peek()) == ["b", "c"]
        await client.delete(f"{start}:used")
        await queue_of(line).forget_unused()
        assert sorted(await there.drain()) == ["b", "c"], "it was not empty"
        assert not other.lost.is_set()


# -- pauses ---------------------------------------------------------------------------------------


async def test_thousands_that_a_pause_keeps_back(line: Line) -> None:
    """More than one call parks or brings back."""
    paused = names("p", 2500)
    await line.put(*paused, instance_id="one", priority=9)
    await line.put("free")
    await line.core.tasks.set_paused(ROOT, "default", True, "one")
    assert await line.peek(10) == ["free"]
    assert await line.claim(10) == ["free"]
    await line.put("later", instance_id="one", priority=10)
    assert await line.claim(10) == []
    await line.core.tasks.set_paused(ROOT, "default", False, "one")
    assert await line.drain(by=300) == ["later", *paused]


async def test_pauses_that_a_stale_index_has_wrong_are_copied_anew(line: Line) -> None:
    await line.put("a", instance_id="one")
    await line.put("b", instance_id="two")
    await line.core.tasks.set_paused(ROOT, "default", True, "one")
    await line.queue.set_paused("one", "default", False)
    await line.queue.set_paused("two", "default", True)
    assert await line.peek() == ["a"]
    await queue_of(line).copy_pauses()
    assert await line.claim(5) == ["b"]


async def test_what_stayed_parked_after_a_resume_that_was_cut_short_is_found(line: Line) -> None:
    await line.put("a", instance_id="one")
    await line.core.tasks.set_paused(ROOT, "default", True, "one")
    assert await line.claim() == []
    async with await client_of(line) as client:
        await client.srem(f"{line.core.settings.redis_prefix}:{{q:default}}:paused", "one")
    assert await line.claim() == []
    await line.queue.add([Entry.of_task(task) for task in await line.core.reader.queued_after(0, 10)])
    assert await line.claim() == ["a"]


# -- what stands in Redis -------------------------------------------------------------------------


async def test_keys_begin_with_the_prefix_and_lie_in_the_slot_of_their_line(database_url: str) -> None:
    with RedisServer() as server:
        async with redis_line(database_url, server.url, "mine:1") as line:
            await line.put("a", "b", queue="q", input={"secret": "in the database alone"})
            await line.put("c", queue="r", instance_id="one")
            await line.core.tasks.set_paused(ROOT, "r", True, "one")
            assert await line.claim(1) == ["a"]
            async with Redis.from_url(server.url, decode_responses=True) as client:
                keys = [key async for key in client.scan_iter()]
                dumps = b"".join([await client.execute_command("DUMP", key, NEVER_DECODE=True) for key in keys])
    starts = ("mine:1:{q:q}:", "mine:1:{q:r}:", "mine:1:{lines}:")
    assert {next(start for start in starts if key.startswith(start)) for key in keys} == set(starts)
    assert b"secret" not in dumps


async def test_a_task_takes_less_than_two_hundred_bytes(database_url: str) -> None:
    count = 20_000
    with RedisServer() as server:
        async with redis_line(database_url, server.url, "t") as line:
            await line.put("a")
            (entry,) = await line.queue.peek(Want(limit=1))
            async with Redis.from_url(server.url) as client:
                before = (await client.info("memory"))["used_memory"]
                uuid = "0190a000-0000-7000-8000-{:012}"
                await line.queue.add([replace(entry, task_id=uuid.format(n), seq=n + 2) for n in range(count)])
                used = (await client.info("memory"))["used_memory"] - before
    assert used / count < 200


async def test_scripts_that_redis_forgot_are_told_again(database_url: str) -> None:
    with RedisServer() as server:
        async with redis_line(database_url, server.url, "t") as line, Redis.from_url(server.url) as client:
            await line.put("a")
            await client.script_flush()
            assert await line.claim() == ["a"]


# -- a cluster ------------------------------------------------------------------------------------


async def test_on_a_cluster_no_call_crosses_slots(database_url: str, cluster: RedisServer) -> None:
    async with Redis.from_url(cluster.url) as client:
        await client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        async with asyncio.timeout(PATIENCE):
            while b"cluster_state:ok" not in await client.execute_command("CLUSTER", "INFO", NEVER_DECODE=True):
                await asyncio.sleep(0.05)
    async with redis_line(database_url, cluster.url, "t") as line:
        queue = queue_of(line)
        for name in ("q", "r", "s"):
            await line.put(f"{name}-1", f"{name}-2", queue=name, task_type=f"type-{name}")
        await line.core.tasks.set_paused(ROOT, "s", True, "default")
        assert await line.claim(3) == ["q-1", "q-2", "r-1"]
        await line.core.tasks.cancel(ROOT, "r-2")
        await line.core.tasks.set_paused(ROOT, "s", False, "default")
        assert await line.peek(5) == ["s-1", "s-2"]
        async with Redis.from_url(cluster.url) as client:
            await client.flushall()
        assert await queue.mend()
        assert not await queue.mend()
        assert await line.drain() == ["s-1", "s-2"]
        assert not queue.lost.is_set()


# -- the link -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["http://user:geheim@host", "redis://user:geheim@host:port", "redis://:geheim#1@host", "redis://[geheim@host"],
)
def test_a_url_that_is_malformed_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(StartupError, match="REDIS_URL") as caught:
        RedisLink(url, "t")
    assert "geheim" not in f"{caught.value} {caught.value.__cause__}"


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru"])
async def test_a_redis_that_throws_entries_away_is_warned_of(policy: str, caplog: pytest.LogCaptureFixture) -> None:
    with RedisServer("--maxmemory-policy", policy) as server:
        link = RedisLink(server.url, "t")
        with caplog.at_level(logging.WARNING):
            await link.check()
        await link.aclose()
    assert ("set it to noeviction" in caplog.text) == (policy != "noeviction")


async def test_a_fault_of_a_script_is_no_outage(redis_url: str) -> None:
    link = RedisLink(redis_url, "t")
    with pytest.raises(Exception, match="no luck") as caught:
        await link.run(Script.of("return redis.error_reply('no luck')"), "t")
    assert "Unavailable" not in str(caught.type)
    assert not link.away
    await link.aclose()


async def test_what_goes_on_by_itself_ends_with_the_link(redis_url: str) -> None:
    link = RedisLink(redis_url, "t")
    begun = asyncio.Event()

    async def forever() -> None:
        begun.set()
        await asyncio.Event().wait()

    link.later(forever)
    await begun.wait()
    async with asyncio.timeout(PATIENCE):
        await link.aclose()
    left: list[Any] = [task for task in asyncio.all_tasks() if task.get_name() == "redis-later"]
    assert left == []
