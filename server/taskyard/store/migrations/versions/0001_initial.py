"""The first schema, with the instance and the counters that every deployment has."""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from taskyard.store.types import Json, UtcDateTime

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "agents",
        sa.Column("instance_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("capabilities", Json, server_default="[]", nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "AVAILABLE",
                "BUSY",
                "OFFLINE",
                name="agent_status",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            server_default="AVAILABLE",
            nullable=False,
        ),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("instance_id", "id", name=op.f("pk_agents")),
    )
    counters = op.create_table(
        "counters",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_counters")),
    )
    op.create_table(
        "events",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("instance_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "STATUS",
                "PRIORITY",
                "PROGRESS",
                "STEP",
                "LOG",
                name="event_kind",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("state", Json, nullable=False),
        sa.Column("detail", Json, nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_events")),
        sa.UniqueConstraint("task_id", "version", name="uq_events_task_id_version"),
    )
    instances = op.create_table(
        "instances",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instances")),
    )
    op.create_table(
        "queues",
        sa.Column("instance_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("paused", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("updated_by", sa.Text(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("instance_id", "name", name=op.f("pk_queues")),
    )
    op.create_table(
        "steps",
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "PENDING",
                "RUNNING",
                "COMPLETED",
                "FAILED",
                "SKIPPED",
                name="step_status",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("output", Json, nullable=True),
        sa.Column("started_at", UtcDateTime(), nullable=True),
        sa.Column("finished_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("task_id", "name", name=op.f("pk_steps")),
    )
    with op.batch_alter_table("steps", schema=None) as batch_op:
        batch_op.create_index("ix_steps_task_id_position", ["task_id", "position"], unique=False)

    op.create_table(
        "task_types",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("input_schema", Json, nullable=False),
        sa.Column("output_schema", Json, nullable=True),
        sa.Column("timeout_ms", sa.Integer(), nullable=True),
        sa.Column("max_retries", sa.Integer(), nullable=True),
        sa.Column("capabilities", Json, server_default="[]", nullable=False),
        sa.Column("declared_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_task_types")),
    )
    op.create_table(
        "tasks",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("instance_id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("agent_id", sa.Text(), nullable=True),
        sa.Column("task_type", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), server_default="default", nullable=False),
        sa.Column("priority", sa.Integer(), server_default=sa.text("5"), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "SUBMITTED",
                "SCHEDULED",
                "QUEUED",
                "ASSIGNED",
                "PLANNING",
                "PROCESSING",
                "REVIEW",
                "RETRYING",
                "COMPLETED",
                "FAILED",
                "REJECTED",
                "CANCELLED",
                name="task_status",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("input", Json, nullable=False),
        sa.Column("output", Json, nullable=True),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("request_hash", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("retry_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("max_retries", sa.Integer(), server_default=sa.text("3"), nullable=False),
        sa.Column("lost_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("generation", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("queue_seq", sa.BigInteger(), nullable=True),
        sa.Column("queued_at", UtcDateTime(), nullable=True),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column("lease_until", UtcDateTime(), nullable=True),
        sa.Column("timeout_ms", sa.Integer(), nullable=True),
        sa.Column("deadline_at", UtcDateTime(), nullable=True),
        sa.Column("run_at", UtcDateTime(), nullable=True),
        sa.Column("scheduled_for", UtcDateTime(), nullable=True),
        sa.Column("progress", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("progress_step", sa.Text(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("estimated_cost", sa.Double(), nullable=True),
        sa.Column("actual_cost", sa.Double(), nullable=True),
        sa.Column("quality_score", sa.Double(), nullable=True),
        sa.Column("processing_ms", sa.BigInteger(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=True),
        sa.Column("completed_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tasks")),
        sa.UniqueConstraint("instance_id", "idempotency_key", name="uq_tasks_instance_id_idempotency_key"),
    )
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.create_index(
            "ix_tasks_deadline",
            ["deadline_at"],
            unique=False,
            postgresql_where=sa.text("deadline_at IS NOT NULL"),
            sqlite_where=sa.text("deadline_at IS NOT NULL"),
        )
        batch_op.create_index(
            "ix_tasks_due",
            ["run_at"],
            unique=False,
            postgresql_where=sa.text("status IN ('SCHEDULED', 'RETRYING')"),
            sqlite_where=sa.text("status IN ('SCHEDULED', 'RETRYING')"),
        )
        batch_op.create_index(
            "ix_tasks_finished",
            ["completed_at"],
            unique=False,
            postgresql_where=sa.text("status IN ('COMPLETED', 'FAILED', 'REJECTED', 'CANCELLED')"),
            sqlite_where=sa.text("status IN ('COMPLETED', 'FAILED', 'REJECTED', 'CANCELLED')"),
        )
        batch_op.create_index(
            "ix_tasks_holder",
            ["holder"],
            unique=False,
            postgresql_where=sa.text("holder IS NOT NULL"),
            sqlite_where=sa.text("holder IS NOT NULL"),
        )
        batch_op.create_index(
            "ix_tasks_instance_id_agent_id_created_at",
            ["instance_id", "agent_id", sa.literal_column("created_at DESC")],
            unique=False,
        )
        batch_op.create_index(
            "ix_tasks_instance_id_created_at_id",
            ["instance_id", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
            unique=False,
        )
        batch_op.create_index(
            "ix_tasks_instance_id_updated_at_id",
            ["instance_id", sa.literal_column("updated_at DESC"), sa.literal_column("id DESC")],
            unique=False,
        )
        batch_op.create_index(
            "ix_tasks_instance_id_priority_id",
            ["instance_id", sa.literal_column("priority DESC"), sa.literal_column("id DESC")],
            unique=False,
        )
        batch_op.create_index(
            "ix_tasks_created_at_id",
            [sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
            unique=False,
        )
        batch_op.create_index(
            "ix_tasks_instance_id_queue_created_at",
            ["instance_id", "queue", sa.literal_column("created_at DESC")],
            unique=False,
        )
        batch_op.create_index(
            "ix_tasks_instance_id_owner_created_at",
            ["instance_id", "owner", sa.literal_column("created_at DESC")],
            unique=False,
        )
        batch_op.create_index(
            "ix_tasks_instance_id_status_created_at",
            ["instance_id", "status", sa.literal_column("created_at DESC")],
            unique=False,
        )
        batch_op.create_index(
            "ix_tasks_instance_id_task_type_created_at",
            ["instance_id", "task_type", sa.literal_column("created_at DESC")],
            unique=False,
        )
        batch_op.create_index(
            "ix_tasks_lease",
            ["lease_until"],
            unique=False,
            postgresql_where=sa.text("lease_until IS NOT NULL"),
            sqlite_where=sa.text("lease_until IS NOT NULL"),
        )
        batch_op.create_index(
            "ix_tasks_ready",
            [sa.literal_column("priority DESC"), "queue_seq"],
            unique=False,
            postgresql_where=sa.text("status = 'QUEUED'"),
            sqlite_where=sa.text("status = 'QUEUED'"),
        )
        batch_op.create_index(
            "ix_tasks_ready_seq",
            ["queue_seq"],
            unique=False,
            postgresql_where=sa.text("status = 'QUEUED'"),
            sqlite_where=sa.text("status = 'QUEUED'"),
        )
        batch_op.create_index(
            "ix_tasks_ready_type",
            ["task_type", sa.literal_column("priority DESC"), "queue_seq"],
            unique=False,
            postgresql_where=sa.text("status = 'QUEUED'"),
            sqlite_where=sa.text("status = 'QUEUED'"),
        )
        batch_op.create_index(
            "ix_tasks_ready_agent",
            ["agent_id", sa.literal_column("priority DESC"), "queue_seq"],
            unique=False,
            postgresql_where=sa.text("status = 'QUEUED'"),
            sqlite_where=sa.text("status = 'QUEUED'"),
        )

    op.create_table(
        "workers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "ALIVE",
                "DRAINING",
                "STOPPED",
                name="worker_status",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("queues", Json, nullable=True),
        sa.Column("types", Json, nullable=True),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        sa.Column("running", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("completed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("failed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("heartbeat_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )
    with op.batch_alter_table("workers", schema=None) as batch_op:
        batch_op.create_index("ix_workers_status_heartbeat_at", ["status", "heartbeat_at"], unique=False)

    op.bulk_insert(instances, [{"id": "default", "name": "Default", "created_at": datetime.now(UTC)}])
    op.bulk_insert(counters, [{"name": "event", "value": 0}, {"name": "queue", "value": 0}])
