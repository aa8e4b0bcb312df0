"""Serving an ASGI app until told to stop. The signals are ours, so that stopping has an order."""

import asyncio
import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from taskyard.errors import StartupError

#: How long open connections may take to end.
CLOSE_BOUND = 5
#: An idle connection is kept so many seconds: longer than proxies keep theirs (Caddy: 120), which would otherwise
#: send a request over one that is just being closed.
KEEP_ALIVE = 130


def bind(host: str, port: int) -> socket.socket:
    """A listening address. Raises `StartupError` in plain words."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise StartupError(
                f"port {port} on {host} is taken: stop what listens there, or choose another with --port"
            ) from error
        raise StartupError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    except OverflowError as error:
        listener.close()
        raise StartupError(f"bad port {port}: {error}") from error
    return listener


class Server:
    """uvicorn in our event loop, without its own signal handlers."""

    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
        self._listener = listener
        self._server = _Uvicorn(
            uvicorn.Config(
                app,
                log_level="warning",
                lifespan="off",
                ws="websockets-sansio",
                ws_max_size=1 << 20,
                timeout_graceful_shutdown=CLOSE_BOUND,
                timeout_keep_alive=KEEP_ALIVE,
            )
        )
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return once requests are answered."""
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._listener]), name="http")
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait({self._serving, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._serving.done():
            self._serving.result()

    async def stop(self) -> None:
        """Take no more requests, let those that are running end."""
        if self._serving is not None:
            self._server.should_exit = True
            await self._serving
            self._serving = None


class _Uvicorn(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
