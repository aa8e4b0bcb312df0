"""Generated from schema.prisma by `make schema`: change that file, not this one."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Enum,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from taskyard.store.types import Json, UtcDateTime

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

task_status = Enum(
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
)

event_kind = Enum(
    "STATUS",
    "PRIORITY",
    "PROGRESS",
    "STEP",
    "LOG",
    name="event_kind",
    native_enum=False,
    create_constraint=True,
    length=32,
)

step_status = Enum(
    "PENDING",
    "RUNNING",
    "COMPLETED",
    "FAILED",
    "SKIPPED",
    name="step_status",
    native_enum=False,
    create_constraint=True,
    length=32,
)

agent_status = Enum(
    "AVAILABLE",
    "BUSY",
    "OFFLINE",
    name="agent_status",
    native_enum=False,
    create_constraint=True,
    length=32,
)

worker_status = Enum(
    "ALIVE",
    "DRAINING",
    "STOPPED",
    name="worker_status",
    native_enum=False,
    create_constraint=True,
    length=32,
)

# A tenant: everything belongs to one.
instances = Table(
    "instances",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

# Who does the work. Ids are the tenant's own, so the key is the pair.
agents = Table(
    "agents",
    metadata,
    Column("instance_id", Text),
    Column("id", Text),
    Column("name", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("capabilities", Json, nullable=False, server_default="[]"),
    Column("status", agent_status, nullable=False, server_default="AVAILABLE"),
    Column("owner", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("instance_id", "id"),
)

# One piece of work. No foreign keys: this row is written on the hot path.
tasks = Table(
    "tasks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("instance_id", Text, nullable=False),
    # Subject of the token that submitted it.
    Column("owner", Text, nullable=False),
    Column("agent_id", Text, nullable=True),
    Column("task_type", Text, nullable=False),
    Column("queue", Text, nullable=False, server_default="default"),
    # 1 to 10, 10 first.
    Column("priority", Integer, nullable=False, server_default=text("5")),
    Column("status", task_status, nullable=False),
    # Rises by one at each change; every event carries the value it made.
    Column("version", Integer, nullable=False, server_default=text("1")),
    Column("input", Json, nullable=False),
    Column("output", Json, nullable=True),
    Column("idempotency_key", Text, nullable=True),
    # Digest of what was submitted: tells a repeat from a conflict.
    Column("request_hash", Text, nullable=False),
    # Rises at each claim, never reset: it fences the writes of a run.
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    # Failed runs, compared with max_retries; zeroed by an explicit retry.
    Column("retry_count", Integer, nullable=False, server_default=text("0")),
    Column("max_retries", Integer, nullable=False, server_default=text("3")),
    # Leases that ran out.
    Column("lost_count", Integer, nullable=False, server_default=text("0")),
    # Rises each time the task enters a queue; an older queue entry is stale.
    Column("generation", Integer, nullable=False, server_default=text("0")),
    # Place in the line of its priority, given at the first entry and kept.
    Column("queue_seq", BigInteger, nullable=True),
    Column("queued_at", UtcDateTime, nullable=True),
    # Worker id, or subject of the remote agent, that holds the claim.
    Column("holder", Text, nullable=True),
    Column("lease_until", UtcDateTime, nullable=True),
    Column("timeout_ms", Integer, nullable=True),
    # When the running attempt must have ended.
    Column("deadline_at", UtcDateTime, nullable=True),
    # When a SCHEDULED or RETRYING task is due.
    Column("run_at", UtcDateTime, nullable=True),
    Column("scheduled_for", UtcDateTime, nullable=True),
    Column("progress", Double, nullable=False, server_default=text("0")),
    Column("progress_step", Text, nullable=True),
    Column("error_code", Text, nullable=True),
    Column("error_message", Text, nullable=True),
    Column("estimated_cost", Double, nullable=True),
    Column("actual_cost", Double, nullable=True),
    Column("quality_score", Double, nullable=True),
    Column("processing_ms", BigInteger, nullable=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime, nullable=True),
    # When it reached an end: COMPLETED, FAILED, REJECTED or CANCELLED.
    Column("completed_at", UtcDateTime, nullable=True),
    UniqueConstraint("instance_id", "idempotency_key", name="uq_tasks_instance_id_idempotency_key"),
)
Index("ix_tasks_instance_id_created_at_id", tasks.c.instance_id, tasks.c.created_at.desc(), tasks.c.id.desc())
Index("ix_tasks_instance_id_updated_at_id", tasks.c.instance_id, tasks.c.updated_at.desc(), tasks.c.id.desc())
Index("ix_tasks_instance_id_priority_id", tasks.c.instance_id, tasks.c.priority.desc(), tasks.c.id.desc())
Index("ix_tasks_created_at_id", tasks.c.created_at.desc(), tasks.c.id.desc())
Index(
    "ix_tasks_instance_id_status_created_at", tasks.c.instance_id, tasks.c.status, tasks.c.created_at.desc()
)
Index(
    "ix_tasks_instance_id_agent_id_created_at",
    tasks.c.instance_id,
    tasks.c.agent_id,
    tasks.c.created_at.desc(),
)
Index(
    "ix_tasks_instance_id_task_type_created_at",
    tasks.c.instance_id,
    tasks.c.task_type,
    tasks.c.created_at.desc(),
)
Index("ix_tasks_instance_id_owner_created_at", tasks.c.instance_id, tasks.c.owner, tasks.c.created_at.desc())
Index("ix_tasks_instance_id_queue_created_at", tasks.c.instance_id, tasks.c.queue, tasks.c.created_at.desc())

# One thing that happened to a task: append-only, the audit trail and the live feed.
events = Table(
    "events",
    metadata,
    # Gapless, in the order of commits: the cursor.
    Column("seq", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=False),
    Column("task_id", Text, nullable=False),
    Column("instance_id", Text, nullable=False),
    # The task's version after this event.
    Column("version", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("kind", event_kind, nullable=False),
    # Subject of the token, or `worker:<id>`, `system:<part>`.
    Column("actor", Text, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    # The task's small fields after the change, times in milliseconds since 1970.
    Column("state", Json, nullable=False),
    # What only this kind of event tells.
    Column("detail", Json, nullable=True),
    UniqueConstraint("task_id", "version", name="uq_events_task_id_version"),
)

# A number taken inside the writing transaction (`event` and `queue`), or how far a reader of the log has come.
counters = Table(
    "counters",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

# One entry of a task's execution plan.
steps = Table(
    "steps",
    metadata,
    Column("task_id", Text),
    Column("name", Text),
    Column("position", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("status", step_status, nullable=False),
    Column("output", Json, nullable=True),
    Column("started_at", UtcDateTime, nullable=True),
    Column("finished_at", UtcDateTime, nullable=True),
    PrimaryKeyConstraint("task_id", "name"),
)
Index("ix_steps_task_id_position", steps.c.task_id, steps.c.position)

# A named line of ready tasks; a row exists once somebody has set something about it.
queues = Table(
    "queues",
    metadata,
    Column("instance_id", Text),
    Column("name", Text),
    Column("paused", Boolean, nullable=False, server_default=text("false")),
    Column("updated_by", Text, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("instance_id", "name"),
)

# A type of task as a worker declared it.
task_types = Table(
    "task_types",
    metadata,
    Column("name", Text, primary_key=True),
    Column("description", Text, nullable=False),
    Column("input_schema", Json, nullable=False),
    Column("output_schema", Json, nullable=True),
    Column("timeout_ms", Integer, nullable=True),
    Column("max_retries", Integer, nullable=True),
    Column("capabilities", Json, nullable=False, server_default="[]"),
    Column("declared_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)

# A process that claims tasks, with its last heartbeat and figures.
workers = Table(
    "workers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("status", worker_status, nullable=False),
    # Names of the queues it serves; null: all.
    Column("queues", Json, nullable=True),
    # Names of the types it runs; null: any.
    Column("types", Json, nullable=True),
    Column("concurrency", Integer, nullable=False),
    Column("running", Integer, nullable=False, server_default=text("0")),
    Column("completed", BigInteger, nullable=False, server_default=text("0")),
    Column("failed", BigInteger, nullable=False, server_default=text("0")),
    Column("started_at", UtcDateTime, nullable=False),
    Column("heartbeat_at", UtcDateTime, nullable=False),
)
Index("ix_workers_status_heartbeat_at", workers.c.status, workers.c.heartbeat_at)

# A part that one process of a deployment plays at a time, for as long as it renews it.
leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("until", UtcDateTime, nullable=False),
)
