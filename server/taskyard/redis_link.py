"""The connection to Redis that the queue and the bus share: scripts, time-outs, and what an outage means."""

import asyncio
import hashlib
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    ClusterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from taskyard.errors import StartupError, Unavailable
from taskyard.stopping import end

T = TypeVar("T")

logger = logging.getLogger(__name__)

#: Seconds. What waits for a call (a commit that is announced, a claim) waits no longer than this, once an outage.
CONNECT_TIMEOUT = 2.0
CALL_TIMEOUT = 3.0
#: Seconds that a call waits for one of our own connections; there are so many.
POOL_TIMEOUT = 1.0
CONNECTIONS = 32
#: What nobody waits for lets everything else of this moment go first, for so many seconds.
LATER = 0.002
#: What the driver then says: no word of Redis.
_ALL_BUSY = "No connection available."
#: Seconds between two tries to reach a Redis that is away: at first, and at most.
FIRST_TRY, LAST_TRY = 0.05, 1.0
CLOSE_BOUND = 2.0
_AWAY = (RedisConnectionError, RedisTimeoutError, OSError)
#: It answers, but takes no writes now, or cannot do this; some of it the driver has no class for.
_REFUSED = (ReadOnlyError, OutOfMemoryError, ClusterDownError, TryAgainError)
_CANNOT_NOW = re.compile(r"\b(MISCONF|NOREPLICAS|BUSY|MASTERDOWN|MOVED|ASK|NOPERM|OOM|READONLY)\b")


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script, which Redis knows by its digest."""

    text: str
    digest: str

    @staticmethod
    def of(text: str) -> "Script":
        return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


class RedisLink:
    """Calls to one Redis, whose keys and channels all begin with `prefix`.

    A call that gets no answer begins an outage: until Redis answers again, which is tried in the background,
    every call raises `Unavailable` at once. Nothing is repeated by itself.
    """

    def __init__(self, url: str, prefix: str) -> None:
        """Connects to nothing yet. Raises `StartupError` if the URL is malformed."""
        self.prefix = prefix
        self._url = url
        try:
            self._client: Redis = Redis.from_pool(self._pool(CONNECTIONS))
            self._listening: Redis = Redis.from_pool(self._pool(2))
        except (ValueError, TypeError):
            # Without the cause: its message may repeat a part of the password.
            raise StartupError(
                "bad setting: REDIS_URL: it must look like redis://user:password@host:6379/0"
            ) from None
        self._tries: asyncio.Task[None] | None = None
        self._later: set[asyncio.Task[None]] = set()
        self._closed = False

    def _pool(self, size: int) -> BlockingConnectionPool:
        return BlockingConnectionPool.from_url(
            self._url,
            max_connections=size,
            timeout=POOL_TIMEOUT,
            decode_responses=True,
            socket_connect_timeout=CONNECT_TIMEOUT,
            socket_timeout=CALL_TIMEOUT,
            # The newer protocol leaves connections in the pool unchecked, that were closed meanwhile.
            protocol=2,
            retry=Retry(NoBackoff(), 0),
        )

    @property
    def away(self) -> bool:
        """Whether Redis was found not to answer, and has not answered since."""
        return self._tries is not None

    async def run(self, script: Script, key: str, *arguments: str | int) -> Any:
        """Run a script whose keys all begin with `key`, and so lie in its slot. Raises `Unavailable`."""

        async def evaluate(client: "Redis") -> Any:
            try:
                return await client.evalsha(script.digest, 1, key, *arguments)
            except NoScriptError:
                return await client.eval(script.text, 1, key, *arguments)

        return await self.call(evaluate)

    async def call(self, work: "Callable[[Redis], Awaitable[T]]") -> T:
        """What `work` makes of the client. Raises `Unavailable` if Redis does not answer, or takes no writes."""
        if self._closed or self._tries is not None:
            raise Unavailable("Redis does not answer")
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                return await work(self._client)
        except _AWAY as error:
            if str(error) == _ALL_BUSY:
                raise Unavailable("too much is asked of Redis at once") from error
            self._begin_outage(error)
            raise Unavailable("Redis does not answer") from error
        except ResponseError as error:
            if not _CANNOT_NOW.search(str(error)) and not isinstance(error, _REFUSED):
                raise
            raise Unavailable(f"Redis cannot do this now: {error}") from error

    def later(self, work: Callable[[], Awaitable[None]]) -> None:
        """Let calls go on by themselves whose success nobody waits for. What Redis does not take is dropped."""

        async def run() -> None:
            await asyncio.sleep(LATER)
            try:
                await work()
            except Unavailable:
                logger.debug("Redis was not told, as it does not answer")

        task = asyncio.create_task(run(), name="redis-later")
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    def pubsub(self) -> PubSub:
        """A connection to listen with, which does not hide from its owner that it was lost."""
        return self._listening.pubsub()

    async def check(self) -> None:
        """Warn if Redis does not answer, or is set up to throw entries away."""
        try:
            policy = await self.call(_eviction_policy)
        except Unavailable:
            return  # which the outage has said
        except RedisError as error:
            logger.warning("Redis does not tell what it does when its memory is full: %s", error)
            return
        if policy != "noeviction":
            logger.warning(
                "Redis has the maxmemory-policy %s: it throws queue entries away when its memory is full, which are"
                " then found late; set it to noeviction",
                policy,
            )

    async def aclose(self) -> None:
        """Let go of Redis, within a bound, whether it answers or not."""
        self._closed = True
        tries, self._tries = self._tries, None
        for task in [*self._later, *([tries] if tries else [])]:
            await end(task, CLOSE_BOUND)
        for client in (self._client, self._listening):
            try:
                async with asyncio.timeout(CLOSE_BOUND):
                    await client.aclose()
            except _AWAY as error:
                logger.debug("a connection to Redis was not closed in good order: %s", error)

    def _begin_outage(self, error: Exception) -> None:
        if self._tries is None and not self._closed:
            logger.warning("Redis does not answer; tasks are taken and run without it: %r", error)
            self._tries = asyncio.create_task(self._try_until_back(), name="redis-link")

    async def _try_until_back(self) -> None:
        pause = FIRST_TRY
        while not self._closed:
            await asyncio.sleep(pause)
            pause = min(pause * 2, LAST_TRY)
            try:
                async with asyncio.timeout(CALL_TIMEOUT):
                    await self._client.echo("here")
            except Exception as error:  # noqa: BLE001 - a driver in trouble raises this and that; it is tried again
                logger.debug("Redis does not answer yet: %r", error)
                continue
            logger.info("Redis answers again")
            self._tries = None
            return


async def _eviction_policy(client: "Redis") -> str:
    # Not CONFIG GET, which a hosted Redis often forbids.
    return str((await client.info("memory")).get("maxmemory_policy"))
