"""`taskyard worker`. It loads nothing of the web: a worker that died is soon replaced."""

from collections.abc import Sequence
from contextlib import aclosing

from taskyard.errors import StartupError
from taskyard.runtime import open_runtime
from taskyard.settings import Settings
from taskyard.task import MIN_PRIORITY
from taskyard_web.ending import bounded_end
from taskyard_web.process import Say, run, where
from taskyard_workers.loading import chosen, load_processors
from taskyard_workers.worker import Worker


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
            greeting = f"the worker {worker.id} is ready\n{where(settings)}\n\nCtrl-C stops."
            await run(runtime, greeting, say, worker=worker)
