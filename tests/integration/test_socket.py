"""The socket over a real core, with a client that does only what it is told: who is cut off leaves nothing behind."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import pytest
from tests.support.asgi import AsgiSocket
from tests.support.clock import FakeClock
from tests.support.core import PATIENCE, claim, number, submit

from taskyard.principal import Principal, Role
from taskyard.runtime import Runtime
from taskyard.task import Metrics
from taskyard_graphql.app import GraphQLApp
from taskyard_graphql.context import Context
from taskyard_graphql.limits import MAX_DOCUMENT, MAX_OPERATIONS
from taskyard_graphql.schema import build_schema
from taskyard_graphql.socket import SocketHandler

CREATE = 'mutation { createAITask(input: {taskType: "by_hand", inputData: {}}) { id } }'
TASKS = "subscription { aiTaskStatusChanged { id } }"
QUEUE = "subscription { taskQueueUpdated { queuedTasks } }"


@pytest.fixture
def app(runtime: Runtime) -> GraphQLApp:
    return GraphQLApp(build_schema(), runtime)


def token(runtime: Runtime, seconds: float = 3600) -> str:
    return runtime.tokens.issue("user-1", Role.USER, ["default"], timedelta(seconds=seconds))


async def until(check: Callable[[], bool]) -> None:
    """Wait for what nobody announces."""
    async with asyncio.timeout(PATIENCE):
        while not check():
            await asyncio.sleep(0)


async def subscribe(runtime: Runtime, client: AsgiSocket, query: str, operation_id: str = "1") -> None:
    """Begin a subscription, and let it come to rest."""
    before = len(runtime.hub._subscribers)
    client.run(query, operation_id)
    await until(lambda: len(runtime.hub._subscribers) > before)
    if query == QUEUE:  # begins with the figures as they are
        assert (await client.hear())["type"] == "next"


async def test_an_output_is_read_anew_for_each_operation(runtime: Runtime, app: GraphQLApp, user: Principal) -> None:
    query = "{ aiTasks { tasks { inputData outputData } } }"
    await submit(runtime, user, input={"n": 1})
    async with AsgiSocket(app) as client:
        await client.init(token(runtime))
        before = await client.answer(query)
        _, run = await claim(runtime)
        await runtime.claims.complete(run, {"n": 2}, Metrics())
        after = await client.answer(query)
    assert before["aiTasks"]["tasks"] == [{"inputData": {"n": 1}, "outputData": None}]
    assert after["aiTasks"]["tasks"] == [{"inputData": {"n": 1}, "outputData": {"n": 2}}]


# -- the end of a token -----------------------------------------------------------------------


async def test_an_expired_token_ends_all_that_it_began(runtime: Runtime, app: GraphQLApp, clock: FakeClock) -> None:
    async with AsgiSocket(app) as client:
        given = token(runtime, 1)
        clock.advance(0.95)
        await client.init(given)
        await subscribe(runtime, client, TASKS)
        assert await client.closed() == 4403
        await until(lambda: not runtime.hub._subscribers)
        client.run(CREATE, "2")
    assert await number(runtime, "SELECT count(*) FROM tasks") == 0


async def test_the_timer_of_a_token_goes_with_its_connection(
    runtime: Runtime, app: GraphQLApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers: list[SocketHandler] = []

    class Noted(SocketHandler):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            handlers.append(self)

    monkeypatch.setattr(app, "graphql_transport_ws_handler_class", Noted)
    async with AsgiSocket(app) as client:
        await client.init(token(runtime))
        timer = handlers[0]._expiry
        assert timer is not None
        assert not timer.cancelled()
    assert timer.cancelled()


# -- the end of a subscription ----------------------------------------------------------------


@pytest.mark.parametrize("query", [TASKS, QUEUE])
async def test_who_vanishes_is_no_subscriber_any_more(runtime: Runtime, app: GraphQLApp, query: str) -> None:
    async with AsgiSocket(app) as client:
        await client.init(token(runtime))
        await subscribe(runtime, client, query)
        await client.vanish()
        assert runtime.hub._subscribers == set()


@pytest.mark.parametrize("query", [TASKS, QUEUE])
async def test_who_completes_is_no_subscriber_any_more(runtime: Runtime, app: GraphQLApp, query: str) -> None:
    async with AsgiSocket(app) as client:
        await client.init(token(runtime))
        await subscribe(runtime, client, query)
        client.say(type="complete", id="1")
        await until(lambda: not runtime.hub._subscribers)
        await subscribe(runtime, client, query)  # the id is free again, and the connection of use


@pytest.mark.parametrize("query", [TASKS, QUEUE])
async def test_a_stream_that_is_closed_between_two_results_leaves_nothing(
    runtime: Runtime, user: Principal, query: str
) -> None:
    stream = await build_schema().stream(query, context_value=Context(runtime, user))
    async with aclosing(stream):
        first = asyncio.ensure_future(anext(stream))
        await until(lambda: bool(runtime.hub._subscribers))
        await submit(runtime, user)
        async with asyncio.timeout(PATIENCE):
            assert (await first).errors is None
    # At once, and not when the garbage is collected.
    assert runtime.hub._subscribers == set()


# -- limits -----------------------------------------------------------------------------------


async def test_who_does_not_say_who_it_is_is_cut_off(runtime: Runtime) -> None:
    app = GraphQLApp(build_schema(), runtime, init_timeout=timedelta(milliseconds=10))
    async with AsgiSocket(app) as client:
        assert await client.closed() == 4408


async def test_one_operation_too_many_is_refused_and_the_others_go_on(
    runtime: Runtime, app: GraphQLApp, user: Principal
) -> None:
    async with AsgiSocket(app) as client:
        await client.init(token(runtime))
        for index in range(MAX_OPERATIONS):
            await subscribe(runtime, client, TASKS, str(index))
        client.run(TASKS, "surplus")
        refused = await client.hear()
        assert (refused["type"], refused["id"]) == ("error", "surplus")
        assert refused["payload"][0]["extensions"] == {"code": "TOO_MANY_OPERATIONS"}
        client.say(type="complete", id="0")
        await until(lambda: len(runtime.hub._subscribers) < MAX_OPERATIONS)
        await subscribe(runtime, client, TASKS, "surplus")
        await submit(runtime, user)
        heard = [await client.hear() for _ in range(MAX_OPERATIONS)]
    assert {message["id"] for message in heard} == {"surplus", *map(str, range(1, MAX_OPERATIONS))}
    assert {message["type"] for message in heard} == {"next"}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("query A { __typename } query B { __typename }", "Must provide operation name"),
        ("{ __typename }" + " " * MAX_DOCUMENT, f"at most {MAX_DOCUMENT} characters"),
    ],
    ids=["two operations", "too long"],
)
async def test_a_document_that_is_refused_leaves_the_connection_open(
    runtime: Runtime, app: GraphQLApp, query: str, message: str
) -> None:
    async with AsgiSocket(app) as client:
        await client.init(token(runtime))
        client.run(query)
        refused = await client.hear()
        assert (refused["type"], refused["id"]) == ("error", "1")
        (error,) = refused["payload"]
        assert message in error["message"]
        assert error["extensions"] == {"code": "BAD_REQUEST"}
        assert await client.answer("{ __typename }") == {"__typename": "Query"}


async def test_a_document_of_too_many_tokens_is_not_parsed(runtime: Runtime, app: GraphQLApp) -> None:
    async with AsgiSocket(app) as client:
        await client.init(token(runtime))
        client.run("{" + " __typename" * 2000 + "}")
        assert await client.closed() == 4400
