"""Partial indexes on `tasks`, for which Prisma has no syntax, and the conditions of loops, which most of them cover.

A planner takes a partial index only for a query that says its condition in the same words, with
constants and not with parameters: use the conditions of this module in such queries.
"""

from sqlalchemy import ColumnElement, Index, literal_column

from taskyard.lifecycle import ENDED, HELD, TaskStatus
from taskyard.store.tables import metadata, tasks

__all__ = ["AT_AN_END", "DUE", "HAS_DEADLINE", "HAS_HOLDER", "IS_HELD", "LEASED", "READY", "metadata"]


def _status_in(*statuses: TaskStatus) -> ColumnElement[bool]:
    words: list[ColumnElement[str]] = [literal_column(f"'{status}'") for status in statuses]
    return tasks.c.status == words[0] if len(words) == 1 else tasks.c.status.in_(words)


#: May be claimed now, unless the queue is paused.
READY = _status_in(TaskStatus.QUEUED)
#: Waits for `run_at`.
DUE = _status_in(TaskStatus.SCHEDULED, TaskStatus.RETRYING)
#: Somebody works on it, or is about to.
IS_HELD = _status_in(*(status for status in TaskStatus if status in HELD))
AT_AN_END = _status_in(*(status for status in TaskStatus if status in ENDED))
LEASED = tasks.c.lease_until.is_not(None)
HAS_DEADLINE = tasks.c.deadline_at.is_not(None)
HAS_HOLDER = tasks.c.holder.is_not(None)


def _partial(name: str, *columns: ColumnElement[object], where: ColumnElement[bool]) -> None:
    Index(f"ix_tasks_{name}", *columns, postgresql_where=where, sqlite_where=where)


_partial("ready", tasks.c.priority.desc(), tasks.c.queue_seq, where=READY)
_partial("ready_seq", tasks.c.queue_seq, where=READY)
_partial("ready_type", tasks.c.task_type, tasks.c.priority.desc(), tasks.c.queue_seq, where=READY)
_partial("ready_agent", tasks.c.agent_id, tasks.c.priority.desc(), tasks.c.queue_seq, where=READY)
_partial("due", tasks.c.run_at, where=DUE)
_partial("lease", tasks.c.lease_until, where=LEASED)
_partial("deadline", tasks.c.deadline_at, where=HAS_DEADLINE)
_partial("finished", tasks.c.completed_at, where=AT_AN_END)
_partial("holder", tasks.c.holder, where=HAS_HOLDER)
