"""What resolvers are given: who asks, the services, loaders for what hangs on tasks."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, TypeAlias

from strawberry.dataloader import DataLoader
from strawberry.types import Info as StrawberryInfo

from taskyard.principal import Principal, authenticated
from taskyard.runtime import Runtime
from taskyard.task import Event, Payload, Step

#: Task id, after which version, how many.
_EventsKey: TypeAlias = tuple[str, int, int]


class Context:
    """One HTTP request, or one WebSocket connection with all its operations."""

    def __init__(self, runtime: Runtime, principal: Principal | None) -> None:
        self.runtime = runtime
        self._principal = principal
        #: Set by the WebSocket protocol: the payload of `connection_init`.
        self.connection_params: dict[str, Any] = {}
        # Only batches: a connection lives long, and a remembered answer would grow stale.
        self._payloads: DataLoader[str, Payload | None] = DataLoader(self._load_payloads, cache=False)
        self._steps: DataLoader[str, Sequence[Step]] = DataLoader(self._load_steps, cache=False)
        self._events: DataLoader[_EventsKey, Sequence[Event]] = DataLoader(self._load_events, cache=False)

    @property
    def principal(self) -> Principal:
        """Who asks. Raises `Unauthenticated` if no token was sent."""
        return authenticated(self._principal)

    def authenticate(self, token: str) -> Principal:
        """Take this token as the connection's own."""
        self._principal = self.runtime.tokens.verify(token)
        return self._principal

    async def payload(self, task_id: str) -> Payload | None:
        """The input and output of a task; those asked for at the same time are read together."""
        return await self._payloads.load(task_id)

    async def steps(self, task_id: str) -> Sequence[Step]:
        """The plan of a task that the caller has been shown; read together as well."""
        return await self._steps.load(task_id)

    async def events(self, task_id: str, after_version: int, limit: int) -> Sequence[Event]:
        """What happened to a task that the caller has been shown; read together as well."""
        return await self._events.load((task_id, after_version, limit))

    async def _load_payloads(self, task_ids: list[str]) -> Sequence[Payload | None]:
        found = await self.runtime.tasks.payloads(self.principal, task_ids)
        return [found.get(task_id) for task_id in task_ids]

    async def _load_steps(self, task_ids: list[str]) -> Sequence[Sequence[Step]]:
        found = await self.runtime.tasks.steps_of(self.principal, task_ids)
        return [found.get(task_id, ()) for task_id in task_ids]

    async def _load_events(self, keys: list[_EventsKey]) -> Sequence[Sequence[Event] | BaseException]:
        parts: dict[tuple[int, int], list[str]] = defaultdict(list)
        for task_id, *part in keys:
            parts[part[0], part[1]].append(task_id)
        tasks = self.runtime.tasks
        read = await asyncio.gather(
            *(tasks.events_of(self.principal, task_ids, *part) for part, task_ids in parts.items()),
            return_exceptions=True,
        )
        found = dict(zip(parts, read, strict=True))
        return [
            events if isinstance(events := found[after, limit], BaseException) else events.get(task_id, ())
            for task_id, after, limit in keys
        ]


Info: TypeAlias = StrawberryInfo[Context, None]
