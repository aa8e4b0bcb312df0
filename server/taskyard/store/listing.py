"""Filters, order and pages of task lists, as SQL.

A cursor is the sort value and id of its row, so that a page continues after that row whatever has
arrived since. `page/limit` counts from the start instead.
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Select, String, and_, cast, false, func, literal, or_, select, tuple_

from taskyard.clock import from_millis, to_millis
from taskyard.errors import InvalidInput
from taskyard.lifecycle import TaskStatus
from taskyard.principal import Scope
from taskyard.store.tables import agents, tasks
from taskyard.task import MAX_PRIORITY, MIN_PRIORITY, Priority, Task

MAX_PAGE = 100
#: Longest text to search for.
MAX_SEARCH = 1000
_BAD_CURSOR = "this cursor does not belong to a list of this order"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: A list may show the agents of its tasks: to ask for their types is another look at the table.
_OF_TYPE = agents.alias("agents_of_type")


class SortField(StrEnum):
    """What a list can be sorted by; tasks without the value come as if it were 1970."""

    CREATED_AT = "created_at"
    UPDATED_AT = "updated_at"
    STARTED_AT = "started_at"
    COMPLETED_AT = "completed_at"
    PRIORITY = "priority"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sort:
    """Order of a list; equal values are ordered by id."""

    field: SortField = SortField.CREATED_AT
    descending: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """What a list keeps; everything given must hold: of a sequence any one value, so nothing of an empty one."""

    statuses: Sequence[TaskStatus] | None = None
    priorities: Sequence[Priority] | None = None
    #: The lowest priority to keep.
    min_priority: int = MIN_PRIORITY
    task_types: Sequence[str] | None = None
    agent_ids: Sequence[str] | None = None
    #: Types of agents; a task without an agent is of none.
    agent_types: Sequence[str] | None = None
    queues: Sequence[str] | None = None
    owners: Sequence[str] | None = None
    instance_id: str | None = None
    created_from: datetime | None = None
    #: Exclusive.
    created_before: datetime | None = None
    #: Kept if the id, type, error message or input has this text, whatever the case of its ASCII letters (of its
    #: other letters, too, where the database's collation knows them). The input is searched as JSON text, whose
    #: spaces between names and values are the database's own.
    search: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Which part of a list: by number, or by cursor (`after` with `first`, `before` with `last`)."""

    limit: int = 20
    number: int = 1
    after: str | None = None
    before: str | None = None
    #: Take the last `limit` rows before `before` instead of the first after `after`.
    backward: bool = False


@dataclass(frozen=True, slots=True)
class TaskPage:
    """A page of tasks, in the order asked for."""

    tasks: list[Task]
    has_next: bool
    has_previous: bool


def within(scope: Scope) -> ColumnElement[bool]:
    """The tenant predicate that every statement over tasks carries."""
    if scope.instances is None:
        return literal(True)
    if not scope.instances:
        return false()
    if len(scope.instances) == 1:
        return tasks.c.instance_id == next(iter(scope.instances))
    return tasks.c.instance_id.in_(sorted(scope.instances))


def matching(scope: Scope, wanted: TaskFilter) -> ColumnElement[bool]:
    """The WHERE of a list."""
    where: list[ColumnElement[bool]] = [within(scope.narrowed(wanted.instance_id))]
    for column, values in (
        (tasks.c.status, wanted.statuses),
        (tasks.c.task_type, wanted.task_types),
        (tasks.c.agent_id, wanted.agent_ids),
        (tasks.c.queue, wanted.queues),
        (tasks.c.owner, wanted.owners),
    ):
        if values is not None:
            where.append(column == values[0] if len(values) == 1 else column.in_(values))
    if wanted.agent_types is not None:
        where.append(_for_agents_of(wanted.agent_types))
    if wanted.min_priority > MIN_PRIORITY:
        where.append(tasks.c.priority >= wanted.min_priority)
    if wanted.priorities is not None:
        where.append(or_(false(), *(tasks.c.priority.between(*_band_limits(band)) for band in wanted.priorities)))
    if wanted.created_from is not None:
        where.append(tasks.c.created_at >= wanted.created_from)
    if wanted.created_before is not None:
        where.append(tasks.c.created_at < wanted.created_before)
    if wanted.search:
        where.append(_having(wanted.search))
    return and_(*where)


def _for_agents_of(types: Sequence[str]) -> ColumnElement[bool]:
    return (
        select(_OF_TYPE.c.id)
        .where(
            _OF_TYPE.c.instance_id == tasks.c.instance_id,
            _OF_TYPE.c.id == tasks.c.agent_id,
            _OF_TYPE.c.type.in_(types),
        )
        .exists()
    )


def _having(text: str) -> ColumnElement[bool]:
    if len(text) > MAX_SEARCH:
        raise InvalidInput(f"the text to search for has at most {MAX_SEARCH} characters", path=["search"])
    ways: list[ColumnElement[bool]] = []
    for column in (tasks.c.id, tasks.c.task_type, tasks.c.error_message, cast(tasks.c.input, String)):
        ways.append(func.lower(column).contains(text.lower(), autoescape=True))
        if not text.isascii():
            # lower() of SQLite, and of PostgreSQL with the collation C, leaves these letters as they are.
            ways.append(column.contains(text, autoescape=True))
    return or_(*ways)


def paged(statement: Select[Any], sort: Sort, page: Page) -> Select[Any]:
    """Order and cut the list; one row more than asked for tells whether it goes on."""
    key = _sort_key(sort)
    descending = sort.descending != page.backward
    for cursor, beyond in ((page.after, True), (page.before, False)):
        if cursor is not None:
            value, task_id = decode_cursor(cursor, sort)
            row, bound = tuple_(key, tasks.c.id), tuple_(literal(value, key.type), literal(task_id))
            statement = statement.where(row > bound if beyond != sort.descending else row < bound)
    statement = statement.order_by(
        *((key.desc(), tasks.c.id.desc()) if descending else (key.asc(), tasks.c.id.asc()))
    )
    offset = (page.number - 1) * page.limit
    return statement.limit(page.limit + 1).offset(offset or None)


def cut(rows: list[Task], page: Page) -> TaskPage:
    """The page from the rows of a `paged` statement."""
    more, rows = len(rows) > page.limit, rows[: page.limit]
    if page.backward:
        return TaskPage(rows[::-1], has_next=page.before is not None, has_previous=more)
    return TaskPage(rows, has_next=more, has_previous=page.after is not None or page.number > 1)


def encode_cursor(task: Task, sort: Sort) -> str:
    """The cursor of a row in a list of this order."""
    value = getattr(task, sort.field)
    if sort.field is not SortField.PRIORITY:
        value = to_millis(value or _EPOCH)
    return base64.urlsafe_b64encode(orjson.dumps([sort.field, value, task.id])).decode().rstrip("=")


def decode_cursor(cursor: str, sort: Sort) -> tuple[Any, str]:
    """Sort value and id of the cursor's row. Raises `InvalidInput` if it is not of such a list."""
    try:
        field, value, task_id = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        moment = from_millis(value)
    except (ValueError, TypeError, OverflowError, OSError, binascii.Error) as error:
        raise InvalidInput(_BAD_CURSOR, path=["cursor"]) from error
    if field != sort.field or not isinstance(task_id, str):
        raise InvalidInput(_BAD_CURSOR, path=["cursor"])
    return value if sort.field is SortField.PRIORITY else moment, task_id


def _sort_key(sort: Sort) -> ColumnElement[Any]:
    column = tasks.c[sort.field]
    return func.coalesce(column, literal(_EPOCH, column.type)) if column.nullable else column


def _band_limits(band: Priority) -> tuple[int, int]:
    low = MIN_PRIORITY if band is Priority.LOW else int(band)
    above = [other for other in Priority if other > band]
    return low, (min(above) - 1 if above else MAX_PRIORITY)
