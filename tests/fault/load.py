"""The load: tasks submitted over GraphQL at a steady rate, each until it is acknowledged."""

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import httpx
from tests.fault.scale import Scale

#: How long the server is waited for before the same is sent again.
TRY_SECONDS = 10.0
#: So long after the last task was due, the load gives up what is not acknowledged.
GRACE = 120.0
BATCH = 100
#: What is due within so many seconds is sent together.
TICK = 0.05
#: Requests under way at a time; the others wait for their turn.
AT_ONCE = 32

CREATE = "mutation Create($input: CreateAITaskInput!) { createAITask(input: $input) { id } }"
CANCEL = "mutation Cancel($id: ID!) { cancelAITask(id: $id) { id } }"
CREATE_MANY = """mutation CreateMany($inputs: [CreateAITaskInput!]!) {
  createAITasksBatch(inputs: $inputs) { tasks { id } errors { code message } }
}"""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A task that the service has accepted. Times are seconds since 1970."""

    task_id: str
    key: str
    sent: float
    at: float
    tries: int


class Client:
    """Operations against whichever of the servers answers. `addresses` is asked anew for each try."""

    def __init__(self, addresses: Callable[[], Sequence[str]], token: str) -> None:
        self._addresses = addresses
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {token}"},
            timeout=TRY_SECONDS,
            limits=httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE),
            verify=False,
            trust_env=False,
        )
        self._turn = 0
        # Not left to the pool, whose work grows with the square of those that wait.
        self._under_way = asyncio.Semaphore(AT_ONCE)
        #: Tries that came to nothing, by reason.
        self.refused: Counter[str] = Counter()
        #: Errors that a client must never see, whatever is broken behind the service.
        self.unexpected: list[Mapping[str, Any]] = []

    async def once(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """One try on the next server: the whole answer. Raises `Refused` if it says that it cannot."""
        addresses = self._addresses()
        address = addresses[self._turn % len(addresses)]
        self._turn += 1
        try:
            async with self._under_way:
                answer = await self._http.post(
                    f"{address}/graphql", json={"query": query, "variables": dict(variables)}
                )
            body: dict[str, Any] = answer.json()
        except (httpx.HTTPError, OSError, ValueError) as error:
            raise self._refused(type(error).__name__) from error
        codes = {error.get("extensions", {}).get("code", "") for error in body.get("errors", [])}
        if answer.status_code == 503 or "UNAVAILABLE" in codes:
            raise self._refused("UNAVAILABLE")
        if "INTERNAL" in codes:
            self.unexpected += body["errors"]
            raise self._refused("INTERNAL")
        return body

    async def until_done(self, query: str, variables: Mapping[str, Any], deadline: float) -> tuple[Any, int]:
        """Try until it is done or the deadline (`time.monotonic`) has passed: the data, and the number of tries."""
        tries = 0
        while True:
            tries += 1
            try:
                body = await self.once(query, variables)
            except Refused:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)
                continue
            assert "errors" not in body, body
            return body["data"], tries

    async def aclose(self) -> None:
        await self._http.aclose()

    def _refused(self, reason: str) -> "Refused":
        self.refused[reason] += 1
        return Refused(reason)


class Refused(Exception):
    """The service did not take it; nothing is known of whether it was written."""


class Load:
    """Submits `rate` tasks a second for `seconds`. Use as a context manager: its end waits for the last answer."""

    def __init__(
        self,
        addresses: Callable[[], Sequence[str]],
        token: str,
        scale: Scale,
        *,
        task_type: str = "work",
        priorities: Sequence[str] = ("NORMAL",),
        seed: int = 1,
    ) -> None:
        self._addresses = addresses
        self._token = token
        self._scale = scale
        self._task_type = task_type
        self._priorities = priorities
        self._random = random.Random(seed)
        self.acknowledged: list[Acknowledged] = []
        self.refused: Counter[str] = Counter()
        self.unexpected: Sequence[Mapping[str, Any]] = ()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._began = time.monotonic()

    @property
    def total(self) -> int:
        return round(self._scale.rate * self._scale.seconds)

    @property
    def lasts(self) -> bool:
        """Whether there is more to come."""
        return time.monotonic() < self._began + self._scale.seconds

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._thread.join(self._scale.seconds + GRACE + TRY_SECONDS + 10)
        if kind is None:
            assert not self._thread.is_alive(), "the load does not end"
            if self._failed is not None:
                raise AssertionError(f"the load failed: {self._failed!r}") from self._failed

    def _run(self) -> None:
        try:
            asyncio.run(self._submit_all())
        except BaseException as error:  # noqa: BLE001 - raised where the load is waited for
            self._failed = error

    async def _submit_all(self) -> None:
        client = Client(self._addresses, self._token)
        sent = 0
        try:
            async with asyncio.TaskGroup() as group:
                while sent < self.total:
                    due = min(self.total, int((time.monotonic() - self._began) * self._scale.rate) + 1, sent + BATCH)
                    if due > sent:
                        group.create_task(self._submit(client, range(sent, due)))
                        sent = due
                    await asyncio.sleep(TICK)
        finally:
            self.refused, self.unexpected = client.refused, client.unexpected
            await client.aclose()

    async def _submit(self, client: Client, numbers: Sequence[int]) -> None:
        orders = [
            {
                "taskType": self._task_type,
                "inputData": {"ms": self._random.randint(1, 400)},
                "priority": self._random.choice(self._priorities),
                "idempotencyKey": f"load-key-{number}",
            }
            for number in numbers
        ]
        sent = time.time()
        ids, tries = await _submit_batch(client, orders, self._began + self._scale.seconds + GRACE)
        now = time.time()
        for order, task_id in zip(orders, ids, strict=True):
            self.acknowledged.append(Acknowledged(task_id, str(order["idempotencyKey"]), sent, now, tries))


def submit_many(
    addresses: Callable[[], Sequence[str]], token: str, orders: Sequence[Mapping[str, Any]], key: str
) -> list[str]:
    """Submit these in batches, in order, each until it is acknowledged; gives their ids. `key` makes them known."""

    async def submit() -> list[str]:
        client = Client(addresses, token)
        ids: list[str] = []
        try:
            for first in range(0, len(orders), BATCH):
                inputs = [
                    {**order, "idempotencyKey": f"{key}-{first + number}"}
                    for number, order in enumerate(orders[first : first + BATCH])
                ]
                made, _ = await _submit_batch(client, inputs, time.monotonic() + GRACE)
                ids += made
        finally:
            await client.aclose()
        return ids

    return asyncio.run(submit())


async def _submit_batch(
    client: Client, inputs: Sequence[Mapping[str, Any]], deadline: float
) -> tuple[list[str], int]:
    """Submit these until all of them are acknowledged: their ids, and the number of tries."""
    tries = 0
    while True:
        data, more = await client.until_done(CREATE_MANY, {"inputs": inputs}, deadline)
        tries += more
        made = data["createAITasksBatch"]
        codes = {error["code"] for error in made["errors"]}
        if not codes:
            return [task["id"] for task in made["tasks"]], tries
        # Those that were written are known by their keys: the same is sent again.
        assert codes == {"UNAVAILABLE"}, made["errors"]
        assert time.monotonic() < deadline, made["errors"]
        client.refused["UNAVAILABLE"] += 1
        await asyncio.sleep(0.2)


def cancel_many(addresses: Callable[[], Sequence[str]], token: str, ids: Sequence[str]) -> None:
    """Cancel these, one after the other; each must be possible."""

    async def cancel() -> None:
        client = Client(addresses, token)
        try:
            for task_id in ids:
                await client.until_done(CANCEL, {"id": task_id}, time.monotonic() + GRACE)
        finally:
            await client.aclose()

    asyncio.run(cancel())
