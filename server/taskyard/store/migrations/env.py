"""What Alembic runs for every command; the connection comes from `taskyard.store.migrate`."""

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import JSON

from taskyard.store.indexes import metadata
from taskyard.store.types import UtcDateTime


def _render_item(kind: str, item: Any, autogenerate: AutogenContext) -> str | Literal[False]:
    """Write our column types by their names."""
    if kind != "type" or not isinstance(item, UtcDateTime | JSON):
        return False
    name = "Json" if isinstance(item, JSON) else "UtcDateTime"
    autogenerate.imports.add(f"from taskyard.store.types import {name}")
    return "Json" if name == "Json" else "UtcDateTime()"


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    render_item=_render_item,
    compare_server_default=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
