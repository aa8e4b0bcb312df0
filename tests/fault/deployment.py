"""A whole deployment for a fault test: PostgreSQL, Redis, `serve` and workers, all of them its own."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Self

from tests.fault.history import query
from tests.fault.load import Load, cancel_many, submit_many
from tests.fault.program import Program
from tests.fault.proxy import Proxy
from tests.fault.runlog import read_runs
from tests.fault.scale import Scale
from tests.support.process import run_taskyard
from tests.support.servers import PostgresServer, RedisServer

from taskyard.auth.tokens import Tokens
from taskyard.clock import SystemClock
from taskyard.principal import DEFAULT_INSTANCE, Role

SECRET = "the secret of a deployment, 32 bytes and more"
PREFIX = "fault"
PROCESSORS = Path(__file__).parent / "processors.py"
#: Seconds between two looks for a process that died.
REVIVE_EVERY = 0.1
#: How long a task that must end is waited for.
END_PATIENCE = 120.0


class Deployment:
    """Servers and processes. Use as a context manager; at its end all of them are killed, whatever happened.

    `links`: the processes reach PostgreSQL and Redis through proxies, other ones for `serve` than for the workers.
    """

    def __init__(
        self,
        folder: Path,
        scale: Scale,
        *,
        serves: int = 1,
        workers: int | None = None,
        links: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.scale = scale
        self.run_log = folder / "runs.txt"
        #: The dependency of `dependent` is down while this is there.
        self.down = folder / "down"
        self.postgres = PostgresServer()
        self.redis = RedisServer()
        self.serves: list[Program] = []
        self.workers: list[Program] = []
        #: Every worker that ever was.
        self.all_workers: list[Program] = []
        self.proxies: dict[str, Proxy] = {}
        self._count = {"serve": serves, "worker": scale.workers if workers is None else workers}
        self._links = links
        self._settings = dict(settings or {})
        self._made = 0
        self._open = ExitStack()
        self._random = random.Random(1)
        self.token = Tokens(SECRET, SystemClock()).issue("admin", Role.ADMIN, [DEFAULT_INSTANCE], timedelta(hours=2))

    # -- where things are ---------------------------------------------------------------------

    @property
    def database_url(self) -> str:
        """Straight to the database, past every proxy."""
        return self.postgres.url()

    def addresses(self) -> list[str]:
        """Where the running servers are reached."""
        if "http" in self.proxies:
            return [f"http://127.0.0.1:{self.proxies['http'].port}"]
        return self._addresses

    def environment(self, part: str) -> dict[str, str]:
        """What a process of this part (`serve` or `worker`) is given."""
        postgres, redis = self.postgres.port, self.redis.port
        if self._links:
            postgres, redis = self.proxies[f"{part}-database"].port, self.proxies[f"{part}-redis"].port
        return {
            "DATABASE_URL": f"postgresql://postgres@127.0.0.1:{postgres}/postgres",
            "REDIS_URL": f"redis://127.0.0.1:{redis}/0",
            "TASKYARD_REDIS_PREFIX": PREFIX,
            "JWT_SECRET": SECRET,
            "TASKYARD_LEASE_SECONDS": str(self.scale.lease),
            "TASKYARD_HEARTBEAT_SECONDS": str(self.scale.beat),
            "TASKYARD_DRAIN_SECONDS": "10",
            "RUN_LOG": str(self.run_log),
            "DEPENDENCY_DOWN": str(self.down),
            **self._settings,
        }

    # -- what is done to it -------------------------------------------------------------------

    def start_serve(self, launcher: Sequence[str] = (), **settings: str) -> Program:
        """One more web process, ready."""
        serve = self._start("serve", ["--port", "0"], launcher, settings)
        serve.wait_ready()
        self.serves.append(serve)
        self._addresses = [_address(one) for one in self.serves]
        return serve

    def drop_serve(self, serve: Program) -> None:
        """No more requests go there."""
        self.serves.remove(serve)
        self._addresses = [_address(one) for one in self.serves]

    def link(self, proxy: Proxy) -> Proxy:
        """Start a proxy that ends with the deployment."""
        return self._open.enter_context(proxy)

    def start_worker(
        self, launcher: Sequence[str] = (), *arguments: str, ready: bool = True, **settings: str
    ) -> Program:
        """One more worker; with `ready` once it claims."""
        options = ["--import", str(PROCESSORS), "--concurrency", str(self.scale.slots), *arguments]
        worker = self._start("worker", options, launcher, settings)
        self.workers.append(worker)
        self.all_workers.append(worker)
        if ready:
            worker.wait_ready()
        return worker

    def replace(self, worker: Program) -> Program:
        """A new worker in the place of one that is gone; it is not waited for."""
        self.workers.remove(worker)
        return self.start_worker(ready=False)

    def catch(
        self,
        load: Load,
        count: int = 1,
        *,
        among: Sequence[Program] | None = None,
        running: Sequence[str] | None = None,
    ) -> list[Program]:
        """So many workers, stopped (SIGSTOP) while they run something (one of these tasks), chosen at random.

        Another one works and can go on. None if the load ends before there are such.
        """
        while load.lasts:
            ready = [one for one in self.workers if one.ready]
            chosen = [one for one in ready if among is None or one in among]
            if len(ready) > count <= len(chosen):
                chosen = self._random.sample(chosen, count)
                # Stopped first, and looked at then: what it runs now cannot end any more.
                for one in chosen:
                    one.freeze()
                if {one.pid for one in chosen} <= self._busy(running):
                    return chosen
                for one in chosen:
                    one.thaw()
            time.sleep(0.05)
        return []

    def _busy(self, running: Sequence[str] | None) -> set[int]:
        """The processes that have begun something (one of these tasks), and not ended it."""
        runs = read_runs(self.run_log)
        return {run.pid for task_id in running or runs for run in runs.get(task_id, ()) if run.ended is None}

    @contextmanager
    def revived(self) -> Iterator[None]:
        """Workers that end by themselves are replaced, as a supervisor does."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(REVIVE_EVERY):
                for worker in list(self.workers):
                    if not worker.running:
                        worker.ended()
                        self.replace(worker)

        thread = threading.Thread(target=watch, name="supervisor", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(60)

    def load(self, **options: object) -> Load:
        """The load of this scale; it begins with the `with`."""
        return Load(self.addresses, self.token, self.scale, **options)  # type: ignore[arg-type]  # handed on as they are

    def submit(
        self, orders: Sequence[Mapping[str, object]], key: str, through: Sequence[Program] | None = None
    ) -> list[str]:
        """Submit these in batches; gives their ids. `through`: by these servers alone, in this order."""
        addresses = self.addresses if through is None else lambda: [_address(one) for one in through]
        return submit_many(addresses, self.token, orders, key)

    def cancel(self, ids: Sequence[str]) -> None:
        """Cancel these tasks, which must not have ended."""
        cancel_many(self.addresses, self.token, ids)

    def until_ended(self, ids: Sequence[str]) -> None:
        """Wait until these tasks have ended."""
        statement = "SELECT count(*) FROM tasks WHERE id = ANY($1) AND completed_at IS NOT NULL"
        deadline = time.monotonic() + END_PATIENCE
        while query(self.database_url, statement, list(ids))[0][0] < len(ids):
            assert time.monotonic() < deadline, f"not all of {list(ids)[:5]} end"
            time.sleep(0.2)

    def lost_leases(self) -> int:
        """How many leases have run out so far."""
        return int(query(self.database_url, "SELECT coalesce(sum(lost_count), 0) FROM tasks")[0][0])

    def logs(self) -> str:
        """The ends of what all the processes said."""
        return "\n".join(f"--- {one.name}\n{one.tail()}" for one in (*self.serves, *self.all_workers))

    # -- start and end ------------------------------------------------------------------------

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            opening.callback(self._kill_all)
            opening.enter_context(self.postgres)
            opening.enter_context(self.redis)
            opening.callback(self._kill_all)
            if self._links:
                for part in ("serve", "worker"):
                    self.proxies[f"{part}-database"] = opening.enter_context(Proxy(self.postgres.port))
                    self.proxies[f"{part}-redis"] = opening.enter_context(Proxy(self.redis.port))
            run_taskyard("migrate", env={"DATABASE_URL": self.database_url})
            for _ in range(self._count["serve"]):
                self.start_serve()
            if self._links:
                port = int(self._addresses[0].rpartition(":")[2])
                self.proxies["http"] = opening.enter_context(Proxy(port))
            started = [self.start_worker(ready=False) for _ in range(self._count["worker"])]
            for worker in started:
                worker.wait_ready()
            self._open = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _start(
        self, part: str, arguments: Sequence[str], launcher: Sequence[str], settings: Mapping[str, str]
    ) -> Program:
        self._made += 1
        return Program(
            f"{part}-{self._made}",
            [part, *arguments],
            env=self.environment(part) | dict(settings),
            folder=self.folder,
            launcher=launcher,
        )

    def _kill_all(self) -> None:
        for program in (*self.all_workers, *self.serves):
            program.kill()


def _address(serve: Program) -> str:
    return serve.find(r"ready at (\S+)")


def every(seconds: float, while_: Callable[[], bool]) -> Iterator[int]:
    """Count up once in so many seconds while the condition holds: the rhythm of a fault."""
    number, due = 0, time.monotonic()
    while while_():
        yield number
        number += 1
        due = max(due + seconds, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
