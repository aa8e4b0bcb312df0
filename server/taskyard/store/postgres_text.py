"""The statements of PostgreSQL's writer: each takes a group of writes of any kinds, whatever their shapes.

`WRITE` does all of it in one statement: rows, then events. A group that must share a transaction with others goes
as `APPLY` for each, then `NUMBER` for each, so that the counter of events is locked last.
(docs/decisions/0006-postgresql-one-statement-a-group.md)

Items come as JSON documents, one a task; a task is in a group once. What does not come back was not allowed.
"""

from collections.abc import Sequence

from sqlalchemy import Column
from sqlalchemy.dialects.postgresql.base import PGDialect

from taskyard.store.tables import tasks
from taskyard.task import REST_FIELDS, STATE_FIELDS, TIMES

#: Columns that a change may set, those that it may raise by one, and those that it may set to the task's deadline.
_KEYS = {"id", "instance_id", "version", "idempotency_key", "queue_seq"}
FIXED = frozenset(_KEYS | {"input", "request_hash", "created_at", "updated_at"})
SETTABLE = tuple(column.name for column in tasks.columns if column.name not in FIXED)
RAISABLE = frozenset({"attempt", "generation", "retry_count", "lost_count"})
DEADLINES = frozenset({"lease_until", "deadline_at"})

#: An input of fewer bytes is given back by the statement that claims its task.
SMALL = 2000

_COLUMNS = tuple(column.name for column in tasks.columns)
_DIALECT = PGDialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's own has no types


def _typed(*columns: Column[object]) -> str:
    return ", ".join(f"{column.name} {column.type.compile(dialect=_DIALECT)}" for column in columns)


def _pairs(table: str, names: Sequence[str]) -> str:
    """Names and values for `jsonb_build_object`, times in milliseconds since 1970."""
    return ", ".join(
        f"'{name}', (extract(epoch FROM {table}.{name}) * 1000)::bigint"
        if name in TIMES
        else f"'{name}', {table}.{name}"
        for name in names
    )


def _state(table: str) -> str:
    """The small fields of the row, as an event carries them."""
    return f"jsonb_build_object({_pairs(table, STATE_FIELDS)})"


#: What a claimer needs of the row beside the state. PostgreSQL sends it before the commit, with the counter locked:
#: where it is not small, it is read afterwards.
_REST = f"""CASE WHEN c.whole AND t.output IS NULL
    AND CASE WHEN pg_column_size(t.input) < {SMALL} THEN octet_length(t.input::text) < {SMALL} END -- packed, then not
THEN jsonb_build_object(
    {_pairs("t", REST_FIELDS)}, 'input', t.input, 'agent', (
        SELECT jsonb_build_object('id', a.id, 'name', a.name, 'type', a.type)
        FROM agents AS a WHERE a.instance_id = t.instance_id AND a.id = t.agent_id
    )
) END"""


def _assignment(name: str) -> str:
    value = f"CASE WHEN c.given ? '{name}' THEN c.{name}"
    if name in DEADLINES:
        value += (
            f" WHEN c.deadlines ? '{name}' THEN $1::timestamptz"
            f" + coalesce(t.timeout_ms, (c.deadlines ->> '{name}')::bigint) * interval '1 ms'"
        )
    value += f" ELSE t.{name} END"
    return f"{name} = {value} + (c.raised ? '{name}')::int" if name in RAISABLE else f"{name} = {value}"


# $1 now, $2 what the events tell: by task id [place in the group, kind, actor, detail],
# $3 the new tasks, $4 the changes; both in the order of the group, so that places in line are, too.
# Rows are written in the order of their ids: two groups that meet wait for each other, and never in a ring.
# The status is hidden from the planner, which would otherwise drive from an index on it.
_APPLY = f"""
WITH new AS MATERIALIZED (
    SELECT given.*, CASE WHEN given.status = 'QUEUED' THEN nextval('task_queue_seq') END AS place
    FROM unnest($3::jsonb[]) AS item (doc), LATERAL jsonb_to_record(item.doc) AS given ({_typed(*tasks.columns)})
),
inserted AS (
    INSERT INTO tasks AS t ({", ".join(_COLUMNS)})
    SELECT {", ".join("coalesce(place, queue_seq)" if name == "queue_seq" else name for name in _COLUMNS)}
    FROM new ORDER BY id
    ON CONFLICT DO NOTHING
    RETURNING t.id, t.instance_id, t.version, t.attempt, {_state("t")} AS state,
        NULL::jsonb AS rest
),
change AS MATERIALIZED (
    SELECT item.*, given.*, CASE WHEN given.status = 'QUEUED' THEN nextval('task_queue_seq') END AS place
    FROM unnest($4::jsonb[]) AS change (doc),
        LATERAL jsonb_to_record(change.doc) AS item (
            task_id text, statuses text[], if_attempt int, if_generation int, if_version int,
            lease_before timestamptz, if_instance text,
            given jsonb, raised jsonb, deadlines jsonb, step jsonb, whole boolean
        ),
        LATERAL jsonb_to_record(item.given) AS given ({_typed(*(tasks.c[name] for name in SETTABLE))})
),
changed AS (
    UPDATE tasks AS t
    SET updated_at = $1::timestamptz, version = t.version + 1, queue_seq = coalesce(t.queue_seq, c.place),
        {", ".join(_assignment(name) for name in SETTABLE)}
    FROM (SELECT * FROM change ORDER BY task_id) AS c
    WHERE t.id = c.task_id AND t.status || '' = ANY (c.statuses)
        AND (c.if_attempt IS NULL OR t.attempt = c.if_attempt)
        AND (c.if_generation IS NULL OR t.generation = c.if_generation)
        AND (c.if_version IS NULL OR t.version = c.if_version)
        AND (c.lease_before IS NULL OR t.lease_until < c.lease_before)
        AND (c.if_instance IS NULL OR t.instance_id = c.if_instance)
    RETURNING t.id, t.instance_id, t.version, t.attempt, {_state("t")} AS state, c.step,
        {_REST} AS rest
),
stepped AS (
    INSERT INTO steps (task_id, name, position, attempt, status, output, started_at, finished_at)
    SELECT changed.id, step.name, (SELECT count(*) + 1 FROM steps AS s WHERE s.task_id = changed.id), changed.attempt,
        step.status, step.output, CASE WHEN step.status <> 'PENDING' THEN $1::timestamptz END,
        CASE WHEN step.status IN ('COMPLETED', 'FAILED', 'SKIPPED') THEN $1::timestamptz END
    FROM changed, LATERAL jsonb_to_record(changed.step) AS step (name text, status text, output jsonb)
    WHERE changed.step IS NOT NULL
    ON CONFLICT (task_id, name) DO UPDATE
    SET status = excluded.status, attempt = excluded.attempt, output = coalesce(excluded.output, steps.output),
        finished_at = excluded.finished_at,
        started_at = CASE WHEN steps.attempt = excluded.attempt
            THEN coalesce(steps.started_at, excluded.started_at) ELSE excluded.started_at END
    RETURNING 1
),
written AS (
    SELECT id, instance_id, version, attempt, state, rest, $2::jsonb -> id AS about FROM inserted
    UNION ALL SELECT id, instance_id, version, attempt, state, rest, $2::jsonb -> id FROM changed
),
"""

_EVENT = "seq, task_id, instance_id, version, attempt, kind, actor, at, state, detail"
_TOLD = "r.about ->> 1, r.about ->> 2, $1::timestamptz, r.state, nullif(r.about -> 3, 'null')"
#: Whoever is told leaves out what is null: what one statement sends stays small.
_ROW = "id AS task_id, instance_id, version, jsonb_strip_nulls(state) AS state, rest"

# The counter's row is locked once every other row is: only then does the number of events come to be known.
WRITE = f"""{_APPLY}
ready AS MATERIALIZED (
    SELECT *, row_number() OVER (ORDER BY (about ->> 0)::int) AS place FROM written
),
total AS MATERIALIZED (
    SELECT (SELECT count(*) FROM ready) + 0 * (SELECT count(*) FROM stepped) AS events
),
head AS (
    UPDATE counters SET value = value + (SELECT events FROM total)
    WHERE name = 'event' AND (SELECT events FROM total) > 0
    RETURNING value - (SELECT events FROM total) AS seq
),
told AS (
    INSERT INTO events ({_EVENT})
    SELECT head.seq + r.place, r.id, r.instance_id, r.version, r.attempt, {_TOLD}
    FROM head, ready AS r ORDER BY r.place
)
SELECT head.seq + ready.place AS seq, {_ROW} FROM head, ready
"""

APPLY = f"""{_APPLY.rstrip().rstrip(",")}
SELECT 0::bigint AS seq, {_ROW} FROM written
"""

# $1 now, $2 rows in the order of their events: [id, kind, actor, detail, instance id, version, attempt, state].
NUMBER = f"""
WITH head AS (
    UPDATE counters SET value = value + cardinality($2::jsonb[]) WHERE name = 'event'
    RETURNING value - cardinality($2::jsonb[]) AS seq
)
INSERT INTO events ({_EVENT})
SELECT head.seq + r.place, r.about ->> 0, r.about ->> 4, (r.about ->> 5)::int, (r.about ->> 6)::int,
    {_TOLD.replace("r.state", "r.about -> 7")}
FROM head, unnest($2::jsonb[]) WITH ORDINALITY AS r (about, place) ORDER BY r.place
RETURNING seq
"""
