"""What a process consists of: `taskyard dev` has everything, `taskyard serve` the web, `taskyard worker` a worker."""

import asyncio
import gc
import socket
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, aclosing, closing
from datetime import timedelta

from taskyard.errors import StartupError
from taskyard.principal import DEFAULT_INSTANCE, Role
from taskyard.runtime import Runtime, open_embedded, open_runtime
from taskyard.settings import Settings, effective
from taskyard.task import MIN_PRIORITY
from taskyard_web.app import build_app
from taskyard_web.ending import bounded_end
from taskyard_web.first_task import curl_line
from taskyard_web.server import Server, bind, stop_signal
from taskyard_workers.janitor import Janitor
from taskyard_workers.loading import chosen, load_processors
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
        async with aclosing(await open_embedded(settings)) as runtime:
            server = Server(build_app(runtime, graphiql=True), listener)
            greeting = _dev_greeting(runtime, _address(settings, listener))
            if settings.database_url or settings.redis_url:
                say("DATABASE_URL and REDIS_URL are for `serve` and `worker`: `dev` uses its data folder alone")
            await _run(runtime, greeting, say, server=server, worker=Worker(runtime, processors))


async def run_serve(settings: Settings, say: Say) -> None:
    """Web and janitor until a signal comes: no worker, no GraphiQL, no secret of its own making.

    Raises `StartupError` if it cannot start, or if the schema is not the one of this version.
    """
    if settings.jwt_secret is None:
        raise StartupError("JWT_SECRET is not set: `serve` needs the key that signs the tokens, 32 bytes or more")
    with closing(bind(settings.host, settings.port)) as listener:
        async with aclosing(await open_runtime(settings)) as runtime:
            server = Server(build_app(runtime, graphiql=False), listener)
            greeting = f"Taskyard is ready at {_address(settings, listener)}\n{_where(settings)}\n\nCtrl-C stops."
            await _run(runtime, greeting, say, server=server)


async def run_worker(
    settings: Settings,
    imports: Sequence[str],
    say: Say,
    *,
    queues: Sequence[str] = (),
    types: Sequence[str] = (),
    min_priority: int = MIN_PRIORITY,
) -> None:
    """A worker and a janitor until a signal comes. Without `queues` and `types`: of every queue, all it can run.

    Raises `StartupError` if it cannot start, or if the schema is not the one of this version.
    """
    if settings.database_url is None:
        raise StartupError(
            "DATABASE_URL is not set: `worker` needs PostgreSQL; over SQLite one process does everything,"
            " which is `taskyard dev`"
        )
    async with bounded_end():
        processors = chosen(load_processors(imports, demo=settings.demo_processors), types)
        if types:
            # No other, not even by a processor that would take any.
            settings = settings.model_copy(update={"default_processor": None})
        async with aclosing(await open_runtime(settings)) as runtime:
            worker = Worker(runtime, processors, queues=queues or None, min_priority=min_priority)
            greeting = f"the worker {worker.id} is ready\n{_where(settings)}\n\nCtrl-C stops."
            await _run(runtime, greeting, say, worker=worker)


async def _run(
    runtime: Runtime, greeting: str, say: Say, *, server: Server | None = None, worker: Worker | None = None
) -> None:
    """Start in order, wait for a signal, stop in order: what runs ends before the streams and the server."""
    stopped = asyncio.ensure_future(stop_signal())
    janitor = Janitor(runtime.maintenance, runtime.duty, runtime.relay)
    try:
        if worker is not None:
            await worker.start()
        janitor.start()
        if server is not None:
            await server.start()
        # What was made until now stays: no collection need look at it again, while somebody waits.
        gc.collect()
        gc.freeze()
        say(greeting)
        await stopped
        say("stopping: running tasks have a moment to end (press Ctrl-C again to stop at once)")
    finally:
        stopped.cancel()
        async with AsyncExitStack() as stopping:
            if server is not None:
                stopping.push_async_callback(server.stop)
            stopping.push_async_callback(runtime.hub.stop)
            stopping.push_async_callback(janitor.stop)
            if worker is not None:
                stopping.push_async_callback(worker.stop)


def _address(settings: Settings, listener: socket.socket) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{listener.getsockname()[1]}"


def _where(settings: Settings) -> str:
    """Where the tasks are, without a password."""
    if settings.database_url is None:
        return f"data in {settings.data.resolve()}"
    shown = effective(settings)
    return f"data in {shown['DATABASE_URL']}" + (f", queue in {shown['REDIS_URL']}" if settings.redis_url else "")


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
