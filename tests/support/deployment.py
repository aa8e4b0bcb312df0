"""A deployment as it runs in production: processes that share nothing but PostgreSQL and Redis."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.process import ServeProcess, WorkerProcess

#: Short, so that what a dead worker held is soon free: seconds.
LEASE = 2


@dataclass
class Deployment:
    """Its environment, and the processes that run."""

    env: Mapping[str, str]
    servers: list[ServeProcess] = field(default_factory=list)
    workers: list[WorkerProcess] = field(default_factory=list)

    @property
    def server(self) -> ServeProcess:
        return self.servers[0]

    def start_worker(self, *arguments: str, env: Mapping[str, str] | None = None) -> WorkerProcess:
        worker = WorkerProcess(*arguments, env={**self.env, **(env or {})})
        self.workers.append(worker)
        return worker

    def start_server(self) -> ServeProcess:
        server = ServeProcess(env=self.env)
        self.servers.append(server)
        return server


def environment(database_url: str, redis_url: str | None = None, redis_prefix: str = "test") -> dict[str, str]:
    """The settings of a deployment with short leases."""
    settings = {
        "DATABASE_URL": database_url,
        "JWT_SECRET": ServeProcess.secret,
        "TASKYARD_LEASE_SECONDS": str(LEASE),
        "TASKYARD_HEARTBEAT_SECONDS": "0.5",
    }
    if redis_url is not None:
        settings |= {"REDIS_URL": redis_url, "TASKYARD_REDIS_PREFIX": redis_prefix}
    return settings


@contextmanager
def deployed(
    env: Mapping[str, str], *, servers: int = 1, workers: int = 1, imports: Sequence[Path] = (), concurrency: int = 4
) -> Iterator[Deployment]:
    """Start so many processes at once; whatever still runs in the end is stopped."""
    arguments = ["--concurrency", str(concurrency), *(part for path in imports for part in ("--import", str(path)))]
    with ExitStack() as stack:
        deployment = Deployment(env)
        stack.callback(_end, deployment)
        with ThreadPoolExecutor(servers + workers) as together:
            starting = [together.submit(deployment.start_server) for _ in range(servers)]
            starting += [together.submit(deployment.start_worker, *arguments) for _ in range(workers)]  # type: ignore[misc]  # either kind
        for one in starting:
            one.result()
        yield deployment


def _end(deployment: Deployment) -> None:
    """At once: what a stop does has tests of its own."""
    for process in [*deployment.servers, *deployment.workers]:
        process.kill()
