"""The bus by Redis PubSub."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio import Redis

from taskyard.events.remote_bus import RemoteBus
from taskyard.redis_link import CONNECT_TIMEOUT, RedisLink

#: Bytes of a message: far below what Redis lets wait for a slow listener.
LIMIT = 512 * 1024
#: A listener that has heard nothing for so many seconds asks whether Redis is still there, and waits as long.
SILENCE = 5.0


class RedisChannel:
    """One channel, `<prefix>:events`: a cluster carries it to every node."""

    limit = LIMIT

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._name = f"{link.prefix}:events"

    async def hear(self, connected: Callable[[], None], heard: Callable[[str], None]) -> None:
        pubsub = self._link.pubsub()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT * 2):
                await pubsub.subscribe(self._name)
            asked = False
            while True:
                message = await pubsub.get_message(timeout=SILENCE)
                if message is None and asked:
                    raise TimeoutError("Redis has fallen silent")
                if message is None:
                    await pubsub.ping()
                    asked = True
                    continue
                asked = False
                if message["type"] == "subscribe":
                    connected()
                elif message["type"] == "message":
                    heard(message["data"])
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py has not typed it

    async def send(self, messages: Sequence[str]) -> None:
        async def publish(client: "Redis") -> Any:
            async with client.pipeline(transaction=False) as pipeline:
                for message in messages:
                    pipeline.publish(self._name, message)
                return await pipeline.execute()

        await self._link.call(publish)

    async def close(self) -> None:
        """Nothing to do: the link belongs to its maker."""


class RedisBus(RemoteBus):
    """`Bus` over the Redis of a link, which outlives it."""

    def __init__(self, link: RedisLink) -> None:
        super().__init__(RedisChannel(link), "redis-bus")
