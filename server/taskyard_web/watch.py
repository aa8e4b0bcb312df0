"""`taskyard watch`: tasks as they change, over the GraphQL subscription."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, suppress
from datetime import datetime, timedelta
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

from gql import Client, GraphQLRequest
from gql.client import AsyncClientSession
from gql.transport.exceptions import TransportError, TransportQueryError
from gql.transport.websockets import WebsocketsTransport
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from websockets.exceptions import ConnectionClosed, InvalidStatus

from taskyard.auth.tokens import Tokens, known_secret
from taskyard.clock import Clock
from taskyard.errors import InvalidInput, NotFound, StartupError, TaskyardError, Unauthenticated, Unavailable
from taskyard.lifecycle import ENDED, TaskStatus
from taskyard.principal import EVERY_INSTANCE, Role
from taskyard.retry import Backoff
from taskyard.settings import Settings
from taskyard_graphql.documents import operation

#: A token that we make for ourselves; a connection that outlives it comes back with a new one.
TOKEN_TTL = timedelta(minutes=10)
RECONNECT = Backoff(base=0.5, cap=10)
#: With this code the server closes a connection whose token is bad or runs out (graphql-transport-ws).
FORBIDDEN = 4403
#: Ended tasks are remembered only to tell news from repetition.
REMEMBERED = 2_000


class WatchedTask(BaseModel):
    """A task as the subscription tells of it. `status` is a text: a newer server may know more of them."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True)

    id: str
    task_type: str
    status: str
    version: int
    attempt: int
    retry_count: int
    max_retries: int
    progress_percentage: float
    current_step: str | None
    error_code: str | None
    error_message: str | None
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None

    @property
    def ended(self) -> bool:
        return self.status in ENDED


class View(Protocol):
    """Where changes are shown."""

    def show(self, task: WatchedTask) -> None: ...

    def lost(self, why: str) -> None:
        """The server is away and is tried again; told at each failed try."""
        ...

    def connected(self) -> None: ...


class Lost(Exception):
    """The connection ended, or none was made: worth another try. The message says why, if that is news."""


def token_source(settings: Settings, clock: Clock) -> Callable[[], str]:
    """The token that was given, or fresh ones from the deployment's secret; makes no secret itself."""
    if settings.token is not None:
        given = settings.token.get_secret_value()
        return lambda: given
    try:
        tokens = Tokens(known_secret(settings), clock)
    except StartupError as error:
        raise StartupError(f"there is no token: give one with --token or TASKYARD_TOKEN; {error.message}") from error
    return lambda: tokens.issue("watch", Role.USER, [EVERY_INSTANCE], TOKEN_TTL)


def socket_url(address: str) -> str:
    """ws://host/graphql of http://host. Raises `InvalidInput` for what is no such address."""
    with suppress(ValueError):
        parts = urlsplit(address)
        scheme = {"http": "ws", "https": "wss"}.get(parts.scheme)
        if scheme and parts.hostname and parts.port != 0:
            path = parts.path.rstrip("/").removesuffix("/graphql") + "/graphql"
            return urlunsplit((scheme, parts.netloc, path, "", ""))
    raise InvalidInput(f"{address!r} is not the address of a server, such as http://127.0.0.1:4000")


class Watch:
    """Follows one task to its end, or all that the token may see for good."""

    def __init__(
        self,
        address: str,
        token: Callable[[], str],
        view: View,
        *,
        task_id: str | None = None,
        agent_id: str | None = None,
    ) -> None:
        self._address = address
        self._url = socket_url(address)
        self._token = token
        self._view = view
        self._task_id = task_id
        self._agent_id = agent_id
        self._seen: dict[str, WatchedTask] = {}
        self._newest: datetime | None = None
        self._failures = 0

    async def run(self) -> bool:
        """Whether the task asked for was completed, once it has ended; without one, never returns.

        Raises a `TaskyardError` where another try would not help.
        """
        while True:
            try:
                return await self._connect()
            except Lost as lost:
                if why := str(lost):
                    self._view.lost(why)
            delay = RECONNECT.delay(self._failures, random.uniform)
            self._failures += 1
            await asyncio.sleep(delay.total_seconds())

    async def _connect(self) -> bool:
        """Follow over one connection. Raises `Lost` when it ends."""
        transport = WebsocketsTransport(
            self._url,
            init_payload={"Authorization": f"Bearer {self._token()}"},
            subprotocols=[WebsocketsTransport.GRAPHQLWS_SUBPROTOCOL],
            close_timeout=2,
        )
        was_open = False
        try:
            async with Client(transport=transport) as session:
                was_open = True
                self._failures = 0
                self._view.connected()
                return await self._follow(session)
        except TransportQueryError as error:
            raise self._told(error) from error
        except (TransportError, TimeoutError) as error:
            raise self._broken(error, was_open) from error

    async def _follow(self, session: AsyncClientSession) -> bool:
        variables = {"taskId": self._task_id, "agentId": self._agent_id}
        request = GraphQLRequest(operation("WatchTasks"), variable_values=variables)
        async with aclosing(session.subscribe(request)) as changes:
            if self._task_id is None:
                await self._catch_up(session, changes)
            async for data in changes:
                task = _task(data)
                self._take(task)
                if self._task_id is not None and task.ended:
                    return task.status == TaskStatus.COMPLETED
        raise Lost(f"The server at {self._address} ended the subscription; trying again.")

    def _take(self, task: WatchedTask) -> None:
        known = self._seen.get(task.id)
        if known is not None and known.version >= task.version:
            return
        if len(self._seen) >= REMEMBERED:
            self._seen = {key: kept for key, kept in self._seen.items() if not kept.ended}
        self._seen[task.id] = task
        self._newest = max(self._newest or task.updated_at, task.updated_at)
        self._view.show(task)

    async def _catch_up(self, session: AsyncClientSession, changes: AsyncGenerator[dict[str, Any], None]) -> None:
        """Subscribe first and list then, so that nothing falls between; versions tell what was told twice."""
        first = asyncio.ensure_future(anext(changes, None))
        try:
            await asyncio.sleep(0)
            for task in await self._recent(session):
                self._take(task)
            if (data := await first) is not None:
                self._take(_task(data))
        finally:
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)

    async def _recent(self, session: AsyncClientSession) -> list[WatchedTask]:
        """What has not ended, and what ended while there was no connection; oldest change first."""
        variables = {"agentIds": None if self._agent_id is None else [self._agent_id]}
        data = await session.execute(GraphQLRequest(operation("RecentTasks"), variable_values=variables))
        tasks = [WatchedTask.model_validate(task) for page in data.values() for task in page["tasks"]]
        newest = self._newest
        return sorted(
            (task for task in tasks if not task.ended or (newest is not None and task.updated_at >= newest)),
            key=lambda task: task.updated_at,
        )

    def _told(self, error: TransportQueryError) -> Exception:
        """What an error of the operation itself means."""
        fault = error.errors[0] if error.errors else {}
        message = str(fault.get("message", error))
        match fault.get("extensions", {}).get("code"):
            case Unauthenticated.code:
                return Unauthenticated(message)
            case NotFound.code:
                return NotFound(message)
            case Unavailable.code:
                return Lost(f"The server at {self._address} ended the subscription: {message}; trying again.")
            case _:
                return TaskyardError(f"the server at {self._address} refused the subscription: {message}")

    def _broken(self, error: BaseException, was_open: bool) -> Exception:
        """What the end of a connection means."""
        for cause in _causes(error):
            if isinstance(cause, ConnectionClosed) and cause.rcvd is not None and cause.rcvd.code == FORBIDDEN:
                # An open connection is closed so when its token runs out: the next one brings a new token.
                if was_open:
                    return Lost()
                return Unauthenticated(
                    f"the server at {self._address} refuses this token: it is not valid, or has expired"
                )
            if isinstance(cause, InvalidStatus) and 400 <= cause.response.status_code < 500:
                return NotFound(
                    f"there is no Taskyard at {self._address}: it answers {cause.response.status_code} to a WebSocket"
                )
        if was_open:
            return Lost(f"The connection to {self._address} was lost; trying again.")
        return Lost(f"There is no answer from {self._address}; trying again.")


def _task(data: dict[str, Any]) -> WatchedTask:
    return WatchedTask.model_validate(data["aiTaskStatusChanged"])


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
