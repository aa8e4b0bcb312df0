"""What several processes share: parts played by one of them at a time, and how far the relay has come."""

import sqlalchemy as sa
from alembic import op

from taskyard.store.types import UtcDateTime

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("until", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    counters = sa.table("counters", sa.column("name"), sa.column("value"))
    # What was in a queue before this is found by filling its index anew.
    head = sa.select(sa.literal("relay"), counters.c.value).where(counters.c.name == "event")
    op.execute(counters.insert().from_select(["name", "value"], head))
    if op.get_bind().dialect.name == "postgresql":
        # Taken without a lock; on SQLite, with its one writer, the counter row `queue` serves.
        op.execute("CREATE SEQUENCE task_queue_seq")
