"""The command line. A command imports what it needs when it runs, so that help and version come at once."""

from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click

T = TypeVar("T")

#: `taskyard.principal` has them; a test holds the two together.
ROLES = ("user", "agent", "worker", "admin")
#: Ten years, in seconds.
MAX_TTL = 315_576_000


class Commands(click.Group):
    """Shows an error of ours as one plain sentence."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            from taskyard.errors import TaskyardError

            if isinstance(error, TaskyardError):
                raise click.ClickException(error.message) from error
            raise


@click.group(cls=Commands)
def main() -> None:
    """Taskyard: a GraphQL-first task service for AI agents."""


@main.command()
@click.option("--host", help="address to listen on (127.0.0.1)")
@click.option("--port", type=int, help="port to listen on (4000); 0 takes any free one")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="data folder (.taskyard)")
@click.option("--concurrency", type=int, help="tasks to run at once (10)")
@click.option(
    "--import",
    "imports",
    multiple=True,
    metavar="MODULE",
    help="module or .py file with processors; may be repeated",
)
def dev(
    host: str | None, port: int | None, data: Path | None, concurrency: int | None, imports: tuple[str, ...]
) -> None:
    """Run everything in one process on SQLite: web, worker and janitor."""
    from taskyard.settings import load_settings

    settings = load_settings({"host": host, "port": port, "data": data, "concurrency": concurrency})

    from taskyard_web.web_process import run_dev  # after that: a bad setting is told of at once

    _serve(run_dev(settings, imports, click.echo))


@main.command()
@click.option("--host", help="address to listen on (127.0.0.1)")
@click.option("--port", type=int, help="port to listen on (4000); 0 takes any free one")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="data folder (.taskyard)")
def serve(host: str | None, port: int | None, data: Path | None) -> None:
    """Run the web process alone: no worker, no GraphiQL; needs JWT_SECRET and a migrated database.

    With DATABASE_URL and REDIS_URL any number of them serve one deployment; without, one serves the data folder.
    """
    from taskyard.settings import load_settings
    from taskyard_web.web_process import run_serve

    _serve(run_serve(load_settings({"host": host, "port": port, "data": data}), click.echo))


class _Names(click.ParamType[tuple[str, ...]]):
    """Names by comma."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        names = tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else tuple(value)
        if not all(names):
            self.fail("must be names, by comma", param, ctx)
        return names


@main.command()
@click.option("--queues", type=_Names(), default=(), metavar="NAME,...", help="queues to take tasks from (all)")
@click.option("--types", type=_Names(), default=(), metavar="NAME,...", help="task types to run (all it has)")
@click.option("--concurrency", type=int, help="tasks to run at once (10)")
@click.option("--min-priority", type=click.IntRange(1, 10), default=1, help="leave what is less urgent (1)")
@click.option(
    "--import",
    "imports",
    multiple=True,
    metavar="MODULE",
    help="module or .py file with processors; may be repeated",
)
def worker(
    queues: tuple[str, ...],
    types: tuple[str, ...],
    concurrency: int | None,
    min_priority: int,
    imports: tuple[str, ...],
) -> None:
    """Run tasks of a deployment on PostgreSQL (DATABASE_URL); any number of workers share the work."""
    from taskyard.settings import load_settings

    settings = load_settings({"concurrency": concurrency})

    from taskyard_web.worker_process import run_worker  # after that: a bad setting is told of at once

    _serve(run_worker(settings, imports, click.echo, queues=queues, types=types, min_priority=min_priority))


@main.command()
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="data folder (.taskyard)")
@click.option("--json", "as_json", is_flag=True, help="a line of JSON a worker")
def workers(data: Path | None, as_json: bool) -> None:
    """Show which workers are alive, and what they run."""
    from taskyard.settings import load_settings
    from taskyard_web.workers import as_lines, as_table, living

    found = _run(living(load_settings({"data": data})))
    click.echo(as_lines(found) if as_json else as_table(found), nl=False)


@main.command()
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="data folder (.taskyard)")
def migrate(data: Path | None) -> None:
    """Bring the database to the schema of this version: DATABASE_URL, or the one in the data folder."""
    from taskyard.settings import effective, load_settings
    from taskyard.store.database import DataFolder, prepared_engine

    settings = load_settings({"data": data})
    if settings.database_url is not None:
        from taskyard.store.postgres import migrate_postgres

        _run(migrate_postgres(settings.database_url))
        click.echo(f"{effective(settings)['DATABASE_URL']} is up to date")
        return
    folder = DataFolder(settings.data)
    prepared_engine(folder.database, migrate=True).dispose()
    folder.release()
    click.echo(f"{folder.database} is up to date")


def _not_empty(_context: click.Context, _option: click.Parameter, value: T) -> T:
    """Refuse an empty name: no token that bears one is accepted."""
    if "" in (value if isinstance(value, tuple) else (value,)):
        raise click.BadParameter("must not be empty")
    return value


@main.command()
@click.option("--sub", required=True, callback=_not_empty, help="subject: who bears the token")
@click.option("--role", type=click.Choice(ROLES), default="user", show_default=True)
@click.option(
    "--instance",
    "instances",
    multiple=True,
    callback=_not_empty,
    default=("default",),
    show_default=True,
    help="instance it gives access to; may be repeated; '*' is all",
)
@click.option("--ttl", type=click.IntRange(1, MAX_TTL), default=3600, show_default=True, help="seconds it is valid")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="data folder of `dev` (.taskyard)")
def token(sub: str, role: str, instances: tuple[str, ...], ttl: int, data: Path | None) -> None:
    """Print a token, signed with JWT_SECRET or with the secret that `dev` keeps in its data folder."""
    from datetime import timedelta

    from taskyard.auth.tokens import Tokens, known_secret
    from taskyard.clock import SystemClock
    from taskyard.principal import Role
    from taskyard.settings import load_settings

    settings = load_settings({"data": data})
    clock = SystemClock()
    click.echo(Tokens(known_secret(settings), clock).issue(sub, Role(role), list(instances), timedelta(seconds=ttl)))


@main.command()
@click.argument("task_id", required=False)
@click.option("--url", help="address of the server (http://127.0.0.1:4000)")
@click.option("--token", help="token to show (TASKYARD_TOKEN; otherwise made with the secret that `dev` keeps)")
@click.option("--agent", "agent_id", metavar="ID", help="only the tasks of this agent")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="data folder of `dev` (.taskyard)")
@click.pass_context
def watch(
    context: click.Context,
    task_id: str | None,
    url: str | None,
    token: str | None,
    agent_id: str | None,
    data: Path | None,
) -> None:
    """Show tasks as they change: a live table, or a line a change on a pipe.

    With TASK_ID it ends with that task: exit code 0 if it was completed, 1 if not.
    """
    from taskyard.clock import SystemClock
    from taskyard.settings import load_settings
    from taskyard_web.watch import Watch, token_source
    from taskyard_web.watch_view import open_view

    settings = load_settings({"token": token, "data": data})
    clock = SystemClock()
    address = url or f"http://{settings.host}:{settings.port}"
    view, shown = open_view(address, clock)
    following = Watch(address, token_source(settings, clock), view, task_id=task_id, agent_id=agent_id)
    try:
        with shown:
            completed = _run(following.run())
    except KeyboardInterrupt:
        # Without a task there is nothing to wait for: this is how to end it.
        context.exit(0 if task_id is None else 130)
    context.exit(0 if completed else 1)


@main.command()
def schema() -> None:
    """Print the GraphQL schema (SDL)."""
    from taskyard_graphql.schema import export_sdl

    click.echo(export_sdl(), nl=False)


@main.command()
def config() -> None:
    """Print the settings that hold, a line each: VARIABLE=value. Secrets are masked."""
    from taskyard.settings import effective, load_settings

    for variable, value in effective(load_settings()).items():
        click.echo(f"{variable}={value}")


@main.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed_version

    click.echo(installed_version("taskyard"))


def _serve(work: Coroutine[Any, Any, None]) -> None:
    """Run a process that goes on until a signal comes, and that logs."""
    from taskyard_web.logs import log_to_stderr

    log_to_stderr()
    _run(work)


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run in uvloop's event loop."""
    import uvloop

    return uvloop.run(work)
