"""The proxy of the fault tests breaks a link as it is told, and only so."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from tests.fault.proxy import Proxy

PATIENCE = 60.0
#: Short of what any network of this machine takes to deliver.
MOMENT = 0.2


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that gives back what it gets, with a full stop at its end."""
    listener = socket.create_server(("127.0.0.1", 0))

    def talk(connection: socket.socket) -> None:
        with connection:
            try:
                while got := connection.recv(1 << 16):
                    connection.sendall(got + b".")
            except OSError:
                return

    def listen() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(PATIENCE)


@pytest.fixture
def proxy(echo: int) -> Iterator[Proxy]:
    with Proxy(echo) as proxy:
        yield proxy


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE)


def say(connection: socket.socket, words: bytes) -> bytes:
    """What comes back, up to its full stop."""
    connection.sendall(words)
    got = b""
    while not got.endswith(b"."):
        chunk = connection.recv(1 << 16)
        if not chunk:
            raise ConnectionResetError("closed")
        got += chunk
    return got


def test_it_forwards(proxy: Proxy) -> None:
    with connect(proxy) as one, connect(proxy) as two:
        assert say(one, b"hello") == b"hello."
        assert say(two, b"you") == b"you."


def test_what_a_cut_holds_back_is_delivered_after_it(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        say(connection, b"before")
        proxy.cut()
        connection.sendall(b"during")
        connection.settimeout(MOMENT)
        with pytest.raises(TimeoutError):
            connection.recv(100)
        connection.settimeout(PATIENCE)
        proxy.heal()
        assert connection.recv(100) == b"during."


def test_a_cut_answers_no_new_connection(proxy: Proxy) -> None:
    proxy.cut()
    with connect(proxy) as connection:
        connection.settimeout(MOMENT)
        connection.sendall(b"hello")
        with pytest.raises(TimeoutError):
            connection.recv(100)
        connection.settimeout(PATIENCE)
        proxy.heal()
        assert connection.recv(100) == b"hello."


def test_a_slow_link_takes_its_time_and_keeps_the_order(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        proxy.slow(0.2, 0.1)
        began = time.monotonic()
        for number in range(3):
            assert say(connection, b"%d" % number) == b"%d." % number
        assert time.monotonic() - began >= 3 * 0.1
        proxy.heal()
        assert say(connection, b"again") == b"again."


def test_a_reset_breaks_the_connections_that_there_are(proxy: Proxy) -> None:
    with connect(proxy) as connection, connect(proxy) as other:
        say(connection, b"hello")
        say(other, b"hello")
        assert proxy.reset(0) == 0
        assert proxy.reset() == 2
        with pytest.raises(ConnectionResetError):
            say(connection, b"hello")
    with connect(proxy) as connection:
        assert say(connection, b"anew") == b"anew."


def test_a_swallowed_reply_is_of_the_request_that_was_meant(proxy: Proxy) -> None:
    with connect(proxy) as connection, connect(proxy) as other:
        proxy.swallow(b"order", lambda reply: reply.endswith(b"."))
        assert say(connection, b"question") == b"question."
        with pytest.raises(ConnectionResetError):
            say(connection, b"an order")
        assert say(other, b"another order") == b"another order."
    assert proxy.swallowed == 1


def test_a_target_that_is_away_is_a_reset() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    # Where it is noticed depends on how fast the reset comes.
    with Proxy(port) as proxy, pytest.raises(ConnectionResetError), connect(proxy) as connection:
        say(connection, b"hello")
