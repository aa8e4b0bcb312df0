"""A page of tasks, by number and by cursor at once."""

import asyncio
from dataclasses import dataclass, field

import strawberry
from strawberry import Parent

from taskyard.principal import Principal
from taskyard.service.tasks import TaskService
from taskyard.store.listing import Page, Sort, TaskFilter, TaskPage, encode_cursor
from taskyard.task import Task
from taskyard_graphql.types import AITask


@dataclass(slots=True)
class Listing:
    """A page that was read, with what is needed to count the whole list if somebody asks."""

    service: TaskService
    principal: Principal
    wanted: TaskFilter
    sort: Sort
    page: Page
    found: TaskPage
    _total: "asyncio.Task[int] | None" = field(default=None, init=False)

    async def total(self) -> int:
        """The length of the list: counted once, however many fields ask for it at the same time."""
        if self._total is None:
            self._total = asyncio.create_task(self.service.count(self.principal, self.wanted))
        return await self._total

    def cursor(self, index: int) -> str | None:
        return encode_cursor(self.found.tasks[index], self.sort) if self.found.tasks else None


@dataclass(frozen=True, slots=True)
class Edge:
    """A task with its cursor."""

    node: Task
    cursor: str


@strawberry.type
class AITaskEdge:
    node: AITask
    cursor: str


@strawberry.type
class PageInfo:
    @strawberry.field
    def has_next_page(root: Parent[Listing]) -> bool:
        return root.found.has_next

    @strawberry.field
    def has_previous_page(root: Parent[Listing]) -> bool:
        return root.found.has_previous

    @strawberry.field(description="Number of this page, from 1; means nothing to a list read by cursor.")
    def current_page(root: Parent[Listing]) -> int:
        return root.page.number

    @strawberry.field
    async def total_pages(root: Parent[Listing]) -> int:
        return -(-await root.total() // root.page.limit)

    @strawberry.field
    def start_cursor(root: Parent[Listing]) -> str | None:
        return root.cursor(0)

    @strawberry.field
    def end_cursor(root: Parent[Listing]) -> str | None:
        return root.cursor(-1)


@strawberry.type
class AITaskConnection:
    @strawberry.field
    def tasks(root: Parent[Listing]) -> list[AITask]:
        return root.found.tasks  # type: ignore[return-value]  # shown as AITask

    @strawberry.field
    def edges(root: Parent[Listing]) -> list[AITaskEdge]:
        return [Edge(task, encode_cursor(task, root.sort)) for task in root.found.tasks]  # type: ignore[misc]  # shown so

    @strawberry.field(description="How many tasks the whole list has; counted only when asked for.")
    async def total_count(root: Parent[Listing]) -> int:
        return await root.total()

    @strawberry.field
    def page_info(root: Parent[Listing]) -> PageInfo:
        return root  # type: ignore[return-value]  # shown as PageInfo
