"""The ASGI app: GraphQL, the health check and the start page over one running core."""

from functools import partial

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute

from taskyard.runtime import Runtime
from taskyard_graphql.app import GraphQLApp
from taskyard_graphql.graphiql import graphiql_assets, graphiql_page
from taskyard_graphql.schema import build_schema
from taskyard_web.health import health_route
from taskyard_web.start_page import start_page


def build_app(runtime: Runtime, *, graphiql: bool) -> Starlette:
    """The app of one process. `graphiql` serves the in-browser IDE at /graphql to those who ask for HTML."""
    graphql = GraphQLApp(build_schema(), runtime, ide=graphiql_page() if graphiql else None)
    routes: list[BaseRoute] = [
        Route("/", partial(start_page, graphiql=graphiql)),
        Route("/graphql", graphql),
        WebSocketRoute("/graphql", graphql),
        health_route(runtime),
    ]
    if graphiql:
        routes.append(Mount("/graphiql", graphiql_assets()))
    return Starlette(routes=routes)
