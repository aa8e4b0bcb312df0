"""`taskyard dev`, which has everything in one process, and `taskyard serve`, which has the web."""

import socket
from collections.abc import Sequence
from contextlib import aclosing, closing
from datetime import timedelta

from taskyard.errors import StartupError
from taskyard.principal import DEFAULT_INSTANCE, Role
from taskyard.runtime import Runtime, open_embedded, open_runtime
from taskyard.settings import Settings
from taskyard_web.app import build_app
from taskyard_web.ending import bounded_end
from taskyard_web.first_task import curl_line
from taskyard_web.process import Say, run, where
from taskyard_web.server import Server, bind
from taskyard_workers.loading import load_processors
from taskyard_workers.worker import Worker

#: The token printed at start is good for so long.
TOKEN_TTL = timedelta(hours=12)


async def run_dev(settings: Settings, imports: Sequence[str], say: Say) -> None:
    """Web, worker and janitor until a signal comes. Raises `StartupError` if it cannot start."""
    async with bounded_end():
        await _dev(settings, imports, say)


async def _dev(settings: Settings, imports: Sequence[str], say: Say) -> None:
    with closing(bind(settings.host, settings.port)) as listener:
        processors = load_processors(imports, demo=settings.demo_processors)
        async with aclosing(await open_embedded(settings)) as runtime:
            server = Server(build_app(runtime, graphiql=True), listener)
            greeting = _dev_greeting(runtime, _address(settings, listener))
            if settings.database_url or settings.redis_url:
                say("DATABASE_URL and REDIS_URL are for `serve` and `worker`: `dev` uses its data folder alone")
            await run(runtime, greeting, say, server=server, worker=Worker(runtime, processors))


async def run_serve(settings: Settings, say: Say) -> None:
    """Web and janitor until a signal comes: no worker, no GraphiQL, no secret of its own making.

    Raises `StartupError` if it cannot start, or if the schema is not the one of this version.
    """
    if settings.jwt_secret is None:
        raise StartupError("JWT_SECRET is not set: `serve` needs the key that signs the tokens, 32 bytes or more")
    with closing(bind(settings.host, settings.port)) as listener:
        async with aclosing(await open_runtime(settings)) as runtime:
            server = Server(build_app(runtime, graphiql=False), listener)
            greeting = f"Taskyard is ready at {_address(settings, listener)}\n{where(settings)}\n\nCtrl-C stops."
            await run(runtime, greeting, say, server=server)


def _address(settings: Settings, listener: socket.socket) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{listener.getsockname()[1]}"


def _dev_greeting(runtime: Runtime, address: str) -> str:
    """What a newcomer needs: the address, a token, a line to copy."""
    token = runtime.tokens.issue("dev", Role.ADMIN, [DEFAULT_INSTANCE], TOKEN_TTL)
    return (
        f"Taskyard is ready at {address} (GraphiQL: {address}/graphql#token={token})\n"
        f"data in {runtime.settings.data.resolve()}\n\n"
        f"token (12 hours, administrator):\n{token}\n\n"
        "create a task:\n"
        f"{curl_line(f'{address}/graphql', token)}\n\n"
        "Ctrl-C stops."
    )
