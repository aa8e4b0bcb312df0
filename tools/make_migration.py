"""`make migration NAME="add tasks.colour"`: write the migration from the newest one to today's tables."""

import subprocess
import sys

from alembic import command
from alembic.config import Config
from alembic.script import Script
from sqlalchemy import create_engine

from taskyard.store import migrate


def make_migration(message: str) -> None:
    """Write the difference between the tables and a temporary database at the newest migration."""
    known = migrate.revisions()
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        if known:
            migrate.upgrade(connection)
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(migrate.SCRIPTS).replace("%", "%%"))
        config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
        script = command.revision(config, message, autogenerate=True, rev_id=f"{len(known) + 1:04}")
    engine.dispose()
    assert isinstance(script, Script)
    for arguments in (["check", "--fix", "--select", "I,F401"], ["format"]):
        subprocess.run([sys.executable, "-m", "ruff", *arguments, "--quiet", script.path], check=True)
    print(f"{script.path}: read it, mend it, and move the data that has to move")


if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1].strip():
        sys.exit('say what the migration does: make migration NAME="add tasks.colour"')
    make_migration(sys.argv[1].strip())
