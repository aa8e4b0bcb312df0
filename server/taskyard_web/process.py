"""One process over SQLite: `taskyard dev` with a worker and GraphiQL, `taskyard serve` without."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, aclosing, closing
from datetime import timedelta

from taskyard.errors import StartupError
from taskyard.principal import DEFAULT_INSTANCE, Role
from taskyard.runtime import Runtime, open_embedded
from taskyard.settings import Settings
from taskyard_web.app import build_app
from taskyard_web.ending import bounded_end
from taskyard_web.first_task import curl_line
from taskyard_web.server import Server, bind, stop_signal
from taskyard_workers.janitor import Janitor
from taskyard_workers.loading import load_processors
from taskyard_workers.worker import Worker

#: The token printed at start is good for so long.
TOKEN_TTL = timedelta(hours=12)


Say = Callable[[str], None]


async def run_dev(settings: Settings, imports: Sequence[str], say: Say) -> None:
    """Web, worker and janitor until a signal comes. Raises `StartupError` if it cannot start."""
    async with bounded_end():
        await _dev(settings, imports, say)


async def _dev(settings: Settings, imports: Sequence[str], say: Say) -> None:
    with closing(bind(settings.host, settings.port)) as listener:
        processors = load_processors(imports, demo=settings.demo_processors)
        runtime = await open_embedded(settings)
        async with aclosing(runtime):
            worker = Worker(runtime, processors)
            await _run(runtime, listener, say, _dev_greeting, worker=worker)


async def run_serve(settings: Settings, say: Say) -> None:
    """Web and janitor until a signal comes: no worker, no GraphiQL, no secret of its own making.

    Raises `StartupError` if it cannot start, or if the schema is not the one of this version.
    """
    if settings.jwt_secret is None:
        raise StartupError("JWT_SECRET is not set: `serve` needs the key that signs the tokens, 32 bytes or more")
    with closing(bind(settings.host, settings.port)) as listener:
        runtime = await open_embedded(settings, migrate=False)
        async with aclosing(runtime):
            await _run(runtime, listener, say, _serve_greeting, worker=None)


async def _run(
    runtime: Runtime,
    listener: socket.socket,
    say: Say,
    greeting: Callable[[Runtime, str], str],
    *,
    worker: Worker | None,
) -> None:
    """Start in order, wait for a signal, stop in order: what runs ends before the streams and the server."""
    stopped = asyncio.ensure_future(stop_signal())
    janitor = Janitor(runtime.maintenance)
    server = Server(build_app(runtime, graphiql=worker is not None), listener)
    try:
        if worker is not None:
            await worker.start()
        janitor.start()
        await server.start()
        host = runtime.settings.host
        host = f"[{host}]" if ":" in host else host
        say(greeting(runtime, f"http://{host}:{listener.getsockname()[1]}"))
        await stopped
        say("stopping: running tasks have a moment to end (press Ctrl-C again to stop at once)")
    finally:
        stopped.cancel()
        async with AsyncExitStack() as stopping:
            stopping.push_async_callback(server.stop)
            stopping.push_async_callback(runtime.hub.stop)
            if worker is not None:
                stopping.push_async_callback(worker.stop)
            stopping.push_async_callback(janitor.stop)


def _serve_greeting(runtime: Runtime, address: str) -> str:
    return f"Taskyard is ready at {address}\ndata in {runtime.settings.data.resolve()}\n\nCtrl-C stops."


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
