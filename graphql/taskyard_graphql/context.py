"""What resolvers are given: who asks, the services, a loader for the large parts of tasks."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from strawberry.dataloader import DataLoader
from strawberry.types import Info as StrawberryInfo

from taskyard.principal import Principal, authenticated
from taskyard.runtime import Runtime
from taskyard.task import Payload


class Context:
    """One HTTP request, or one WebSocket connection with all its operations."""

    def __init__(self, runtime: Runtime, principal: Principal | None) -> None:
        self.runtime = runtime
        self._principal = principal
        #: Set by the WebSocket protocol: the payload of `connection_init`.
        self.connection_params: dict[str, Any] = {}
        # Only batches: a connection lives long, and a remembered answer would grow stale.
        self._payloads: DataLoader[str, Payload | None] = DataLoader(self._load_payloads, cache=False)

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

    async def _load_payloads(self, task_ids: list[str]) -> Sequence[Payload | None]:
        found = await self.runtime.tasks.payloads(self.principal, task_ids)
        return [found.get(task_id) for task_id in task_ids]


Info: TypeAlias = StrawberryInfo[Context, None]
