"""Real processes: `taskyard dev`, `serve` and `worker`, started as a user starts them, on free ports."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, Self

import httpx

from taskyard.auth.tokens import Tokens, kept_secret
from taskyard.clock import SystemClock
from taskyard.principal import DEFAULT_INSTANCE, Role
from taskyard.store.database import DATABASE_FILE, prepared_engine

TASKYARD = Path(sys.executable).parent / "taskyard"
#: These machines are slow at times: a bound for what should take a second.
PATIENCE = 180.0


@cache
def _migrated() -> bytes:
    """An empty database at the newest schema: migrating once for all processes of a test run."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / DATABASE_FILE
        prepared_engine(path, migrate=True).dispose()
        return path.read_bytes()


class TaskyardProcess:
    """A command that runs until it is told to stop. Use as a context manager; `stop` and `kill` end it."""

    executable = TASKYARD

    def __init__(self, *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
        self.output = ""
        self._name = arguments[0]
        self._over = False
        self._printed = threading.Condition()
        self._process = subprocess.Popen(
            [str(self.executable), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=clean_environment(env),
            cwd=cwd,
        )
        # Read on all the while: a process whose pipe is full stands still.
        self._reader = threading.Thread(target=self._read, name="taskyard's output", daemon=True)
        self._reader.start()
        self.wait_for("Ctrl-C stops.")

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_for(self, text: str) -> None:
        """Wait until the process has printed this. Fails with what it printed instead."""
        with self._printed:
            if not self._printed.wait_for(lambda: text in self.output or self._over, PATIENCE):
                self._process.kill()
            if text in self.output:
                return
        self.ended()
        raise AssertionError(f"taskyard {self._name} never printed {text!r}, but:\n{self.output}")

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal and wait for nothing."""
        self._process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and give the exit code; what was printed is in `output`."""
        self._process.send_signal(number)
        return self.ended()

    def kill(self) -> None:
        self._process.kill()
        self.ended()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.stop()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as pipe:
            for line in pipe:
                with self._printed:
                    self.output += line.decode(errors="replace")
                    self._printed.notify_all()
        with self._printed:
            self._over = True
            self._printed.notify_all()

    def ended(self) -> int:
        """Wait for its end, and give the exit code once all that was printed has been read."""
        code = self._process.wait(timeout=PATIENCE)
        self._reader.join(timeout=PATIENCE)
        return code

    def _find(self, pattern: str) -> str:
        found = re.search(pattern, self.output)
        assert found is not None, self.output
        return found[1]


class ServerProcess(TaskyardProcess):
    """One that answers requests."""

    #: An administrator's, for operations that name no other.
    token: str

    def __init__(self, command: str, *arguments: str, **options: Any) -> None:
        super().__init__(command, "--port", "0", *arguments, **options)
        self.address = self._find(r"ready at (\S+)")

    def graphql(
        self,
        query: str,
        variables: Mapping[str, Any] | None = None,
        *,
        token: str | None = None,
        name: str | None = None,
    ) -> dict[str, Any]:
        """POST an operation and give the whole response."""
        answer = httpx.post(
            f"{self.address}/graphql",
            json={"query": query, "variables": variables or {}, "operationName": name},
            headers={"Authorization": f"Bearer {token or self.token}"},
            timeout=PATIENCE,
            verify=False,  # loading the certificates of the world takes longer than the request
            trust_env=False,
        )
        body: dict[str, Any] = answer.json()
        return body

    def data_of(self, query: str, variables: Mapping[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        """The data of an operation that must succeed."""
        body = self.graphql(query, variables, **options)
        assert "errors" not in body, body
        data: dict[str, Any] = body["data"]
        return data


class DevProcess(ServerProcess):
    """`taskyard dev`.

    A folder that does not exist yet is made with its database ready, unless it is to be `fresh`.
    """

    def __init__(
        self, data: Path, *arguments: str, fresh: bool = False, cwd: Path | None = None, **options: Any
    ) -> None:
        self.data = data
        if not fresh and not data.exists():
            data.mkdir(mode=0o700)
            (data / DATABASE_FILE).write_bytes(_migrated())
        super().__init__("dev", "--data", str(data), *arguments, cwd=cwd or data.parent, **options)
        self.token = self._find(r"administrator\):\s*(\S+)")

    def make_token(self, sub: str, role: str, *instances: str, ttl: int = 3600) -> str:
        """As `taskyard token` makes it, without a process for each."""
        return _token(kept_secret(self.data), sub, role, instances, ttl)


class ServeProcess(ServerProcess):
    """`taskyard serve` with a secret of the environment, over a migrated folder or as the environment says."""

    secret = "the secret of a deployment, 32 bytes and more"

    def __init__(self, data: Path | None = None, *, env: Mapping[str, str] | None = None) -> None:
        folder = [] if data is None else ["--data", str(data)]
        super().__init__("serve", *folder, env={"JWT_SECRET": self.secret} | dict(env or {}))
        self.token = self.make_token("admin", "admin")

    def make_token(self, sub: str, role: str) -> str:
        return _token(self.secret, sub, role)


class WorkerProcess(TaskyardProcess):
    """`taskyard worker` over what the environment says."""

    def __init__(self, *arguments: str, env: Mapping[str, str]) -> None:
        super().__init__("worker", *arguments, env=env)
        self.id = self._find(r"the worker (\S+) is ready")


def _token(secret: str, sub: str, role: str, instances: Sequence[str] = (), ttl: int = 3600) -> str:
    tokens = Tokens(secret, SystemClock())
    return tokens.issue(sub, Role(role), list(instances) or [DEFAULT_INSTANCE], timedelta(seconds=ttl))


def run_taskyard(
    *arguments: str, env: Mapping[str, str] | None = None, expect: int = 0, cwd: Path | None = None
) -> str:
    """Run a command to its end and give what it printed on both streams."""
    done = subprocess.run(
        [str(TASKYARD), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=clean_environment(env),
        timeout=PATIENCE,
        cwd=cwd,
        check=False,
    )
    assert done.returncode == expect, done.stdout.decode()
    return done.stdout.decode()


def clean_environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    """The environment without any setting of Taskyard's."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("TASKYARD_") and name not in ("JWT_SECRET", "DATABASE_URL", "REDIS_URL")
    }
    return kept | dict(extra or {})


def eventually(check: Any, *, within: float = PATIENCE, every: float = 0.05) -> Any:
    """Call `check` until it gives something true, and give that: for what happens in another process."""
    deadline = time.monotonic() + within
    while not (found := check()):
        assert time.monotonic() < deadline, f"{check} gave {found!r} for {within} s"
        time.sleep(every)
    return found
