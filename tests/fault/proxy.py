"""A TCP link that can be cut, slowed, reset, and robbed of a reply. It runs in a thread of its own."""

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Self, TypeVar

T = TypeVar("T")

CHUNK = 1 << 16
PATIENCE = 60.0
#: RST instead of FIN when the socket is closed.
_LINGER_NONE = struct.pack("ii", 1, 0)


class Proxy:
    """Forwards to `port` on this machine. Use as a context manager; `port` of it is where to connect."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.port = 0
        #: Replies that were thrown away.
        self.swallowed = 0
        self._random = random.Random(port)
        self._delay = 0.0
        self._jitter = 0.0
        self._pattern: bytes | None = None
        self._whole: Callable[[bytes], bool] = bool
        self._links: set[_Link] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def cut(self) -> None:
        """Nothing goes through any more, in neither direction, and nobody is told."""
        self._do(self._open.clear)

    def heal(self) -> None:
        """All goes through again, at full speed: what was held back, too."""

        def healed() -> None:
            self._open.set()
            self._delay = self._jitter = 0.0
            self._pattern = None

        self._do(healed)

    def slow(self, delay: float, jitter: float) -> None:
        """A round trip takes `delay` plus or minus `jitter` seconds more; the order is kept."""

        def slowed() -> None:
            self._delay, self._jitter = delay / 2, jitter / 2

        self._do(slowed)

    def reset(self, share: float = 1.0) -> int:
        """Break this share of the connections; gives how many that were."""

        def broken() -> int:
            chosen = [link for link in self._links if self._random.random() < share]
            for link in chosen:
                link.abort()
            return len(chosen)

        return self._do(broken)

    def swallow(self, pattern: bytes, whole: Callable[[bytes], bool] = bool) -> None:
        """Throw away the reply to the next request that holds this, up to its end, and break its connection.

        `whole` says of a chunk whether a reply ends with it.
        """

        def armed() -> None:
            self._pattern, self._whole = pattern, whole

        self._do(armed)

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = self._call(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    # -- in the proxy's thread ----------------------------------------------------------------

    async def _listen(self) -> int:
        self._open = asyncio.Event()
        self._open.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def _close(self) -> None:
        self._server.close()
        for link in set(self._links):
            link.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=PATIENCE)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer)
        self._links.add(link)
        try:
            # A link that is cut takes no new connections either.
            await self._open.wait()
            their_reader, link.server = await asyncio.open_connection("127.0.0.1", self._target)
            pumps = (
                self._pump(link, reader, link.server, upwards=True),
                self._pump(link, their_reader, writer, upwards=False),
            )
            await asyncio.gather(*pumps, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            # The target is away, or the test is over: this end hears of it by the reset.
            return
        finally:
            self._links.discard(link)
            link.abort()

    async def _pump(
        self, link: "_Link", reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, upwards: bool
    ) -> None:
        """Forward until this end closes and all it said is delivered; then the whole link is broken."""
        line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        sender = asyncio.create_task(self._send(line, writer))
        try:
            due = 0.0
            while chunk := await reader.read(CHUNK):
                if upwards and self._pattern is not None and self._pattern in chunk:
                    self._pattern = None
                    link.robbed = True
                elif not upwards and link.robbed:
                    if self._whole(chunk):
                        # The server has done its work, and nobody will know.
                        self.swallowed += 1
                        return
                    continue
                pause = max(0.0, self._delay + self._random.uniform(-self._jitter, self._jitter))
                due = max(due, self._loop.time() + pause)
                line.put_nowait((due, chunk))
            line.put_nowait((due, b""))
            await sender
        finally:
            sender.cancel()
            await asyncio.wait({sender}, timeout=PATIENCE)
            link.abort()

    async def _send(self, line: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter) -> None:
        """Write each chunk when it is due; an empty one ends it."""
        with suppress(OSError):
            while True:
                due, chunk = await line.get()
                if (pause := due - self._loop.time()) > 0:
                    await asyncio.sleep(pause)
                await self._open.wait()
                if not chunk:
                    return
                writer.write(chunk)
                await writer.drain()

    # -- between the threads ------------------------------------------------------------------

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    def _do(self, change: Callable[[], T]) -> T:
        done: Future[T] = Future()
        self._loop.call_soon_threadsafe(lambda: done.set_result(change()))
        return done.result(PATIENCE)


class _Link:
    """One connection through the proxy."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.client = client
        self.server: asyncio.StreamWriter | None = None
        self.robbed = False

    def abort(self) -> None:
        for writer in (self.client, self.server):
            if writer is not None:
                found: socket.socket | None = writer.get_extra_info("socket")
                if found is not None:
                    with suppress(OSError):
                        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
                writer.transport.abort()
