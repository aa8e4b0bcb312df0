"""GraphiQL in a real browser: it runs queries and subscriptions, and asks nobody but its own server."""

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import strawberry
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount, Route, WebSocketRoute
from strawberry.asgi import GraphQL
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.types import Info

from taskyard_graphql.graphiql import graphiql_assets, graphiql_page
from taskyard_web.start_page import start_page

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("assets")]


@strawberry.type
class Query:
    @strawberry.field
    def caller(self, info: Info[Any, None]) -> str:
        return str(info.context["request"].headers.get("authorization"))


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def count(self, info: Info[Any, None], to: int) -> AsyncGenerator[str]:
        for number in range(1, to + 1):
            yield f"{number} for {info.context['connection_params'].get('Authorization')}"


@pytest.fixture
async def base() -> AsyncIterator[str]:
    """The address of a server on a free port; the listening socket holds early callers until it is up."""
    api: GraphQL[Any, None] = GraphQL(
        strawberry.Schema(Query, subscription=Subscription),
        graphql_ide=None,
        subscription_protocols=[GRAPHQL_TRANSPORT_WS_PROTOCOL],
    )
    app = Starlette(
        routes=[
            Route("/", start_page),
            Route("/graphql", lambda _: graphiql_page(), methods=["GET"]),
            Route("/graphql", api),
            WebSocketRoute("/graphql", api),
            Mount("/graphiql", graphiql_assets()),
        ]
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await serving


async def test_query_and_subscription_with_the_token_and_no_other_origin(
    base: str, run_script: Callable[..., Awaitable[dict[str, Any]]], tmp_path: Path
) -> None:
    seen = await run_script(
        "graphiql.mjs",
        base=base,
        token="t0ken",
        screenshot=str(tmp_path / "graphiql.png"),
        colorScheme="light",
    )

    assert seen["tokenBox"] == "t0ken"
    assert "Bearer t0ken" in seen["query"]
    assert "3 for Bearer t0ken" in seen["subscription"]
    host = base.removeprefix("http://")
    elsewhere = [url for url in seen["requests"] if not url.startswith((f"{base}/", f"ws://{host}/", "data:"))]
    assert elsewhere == []
    assert f"ws://{host}/graphql" in seen["requests"]
    assert not any("t0ken" in url for url in seen["requests"])
    assert seen["violations"] == []
    assert seen["errors"] == []
