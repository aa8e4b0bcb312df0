"""How watched tasks look: a live table on a terminal, a line a change on a pipe."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from taskyard.clock import Clock
from taskyard.lifecycle import COUNTED_AS_PROCESSING, TaskStatus
from taskyard_web.watch import View, WatchedTask

#: How long an ended task stays in the table, in seconds.
LINGER = 30.0
#: Columns from which there is room for whole ids and longer bars.
WIDE = 132

_COLOURS: Mapping[str, str] = {
    TaskStatus.ASSIGNED: "cyan",
    TaskStatus.PLANNING: "cyan",
    TaskStatus.PROCESSING: "bold cyan",
    TaskStatus.REVIEW: "magenta",
    TaskStatus.RETRYING: "yellow",
    TaskStatus.COMPLETED: "green",
    TaskStatus.FAILED: "bold red",
    TaskStatus.REJECTED: "red",
    TaskStatus.CANCELLED: "dim",
}
#: Where a row stands: the groups, from the top.
_GROUPS = ("running", "waiting", "ended")


def open_view(address: str, clock: Clock) -> tuple[View, AbstractContextManager[object]]:
    """The view that suits standard output, and what to enter while it is shown."""
    console = Console()
    if not sys.stdout.isatty() or console.is_dumb_terminal:
        return Lines(), nullcontext()
    board = Board(address, clock, console)
    return board, Live(get_renderable=board.render, console=console)


class Lines:
    """A plain line a change on standard output, a sentence on standard error when the server comes or goes."""

    def __init__(self) -> None:
        self._away = False

    def show(self, task: WatchedTask) -> None:
        parts = [
            f"{task.updated_at.astimezone():%H:%M:%S}",
            task.id,
            task.task_type,
            task.status,
            f"{task.progress_percentage:.0f}%",
            f"(retry {task.retry_count} of {task.max_retries})" if task.retry_count else "",
            f"{task.error_code}:" if _failed(task) else "",
            _detail(task),
        ]
        click.echo("  ".join(filter(None, map(plain, parts))))

    def lost(self, why: str) -> None:
        if not self._away:
            click.echo(why, err=True)
        self._away = True

    def connected(self) -> None:
        if self._away:
            click.echo("Connected again.", err=True)
        self._away = False


class Board:
    """A table with a row a task: what runs first, then what waits, then what ended a moment ago."""

    def __init__(self, address: str, clock: Clock, console: Console) -> None:
        self._address = address
        self._clock = clock
        self._console = console
        self._rows: dict[str, WatchedTask] = {}
        self._ended: dict[str, float] = {}
        self._notice = f"Connecting to {address} ..."

    def show(self, task: WatchedTask) -> None:
        now = self._clock.monotonic()
        self._ended.pop(task.id, None)
        self._rows[task.id] = task
        if task.ended:
            self._ended[task.id] = now
        for task_id in [key for key, since in self._ended.items() if now - since > LINGER]:
            del self._ended[task_id], self._rows[task_id]

    def lost(self, why: str) -> None:
        self._notice = why

    def connected(self) -> None:
        self._notice = ""

    def render(self) -> RenderableType:
        """The picture at this moment; called from the display's own thread."""
        now = self._clock.monotonic()
        ended = dict(self._ended)
        rows = [task for task in list(self._rows.values()) if now - ended.get(task.id, now) <= LINGER]
        rows.sort(key=lambda task: (_group(task), -ended.get(task.id, 0.0), task.created_at))
        room = max(1, self._console.height - 4)
        parts: list[RenderableType] = [self._table(rows[:room])] if rows else []
        parts.append(self._summary(rows, hidden=len(rows[room:])))
        return Group(*parts)

    def _table(self, tasks: Sequence[WatchedTask]) -> Table:
        wide = self._console.width >= WIDE
        table = Table(box=None, expand=True, padding=(0, 1, 0, 0), header_style="dim")
        table.add_column("id", no_wrap=True)
        table.add_column("type", no_wrap=True, max_width=24 if wide else 15)
        table.add_column("status", no_wrap=True)
        table.add_column("progress", no_wrap=True)
        if wide:
            table.add_column("run", no_wrap=True, justify="right")
        for name in ("retry", "age"):
            table.add_column(name, no_wrap=True, justify="right")
        table.add_column("step or error", no_wrap=True, ratio=1)
        for task in tasks:
            run = [str(task.attempt or "")] if wide else []
            table.add_row(
                # The ids of one minute begin alike: their ends tell them apart.
                Text(plain(task.id if wide else task.id[-8:])),
                Text(plain(task.task_type)),
                Text(plain(task.status), style=_COLOURS.get(task.status, "")),
                _bar(task, 20 if wide else 5),
                *run,
                Text(f"{task.retry_count}/{task.max_retries}", style="yellow" if task.retry_count else "dim"),
                _age(task, self._clock.now()),
                Text(plain(_detail(task)), style="red" if _failed(task) else ""),
            )
        return table

    def _summary(self, rows: Sequence[WatchedTask], hidden: int) -> Text:
        if self._notice:
            return Text(self._notice, style="yellow")
        sizes = Counter(map(_group, rows))
        counted = ", ".join(f"{sizes[group]} {name}" for group, name in enumerate(_GROUPS))
        more = f" ({hidden} more than fit here)" if hidden else ""
        return Text(f"{counted if rows else 'No task yet.'}{more}  {self._address}  Ctrl-C ends.", style="dim")


def plain(text: str) -> str:
    """One line without control characters: a step or an error may hold anything, and a terminal obeys."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def _group(task: WatchedTask) -> int:
    return 2 if task.ended else 0 if task.status in COUNTED_AS_PROCESSING else 1


def _failed(task: WatchedTask) -> bool:
    return task.error_message is not None and (task.ended or task.status == TaskStatus.RETRYING)


def _detail(task: WatchedTask) -> str:
    """What the run is doing, or why the last one failed."""
    return (task.error_message if _failed(task) else task.current_step) or ""


def _bar(task: WatchedTask, width: int) -> RenderableType:
    if _group(task) == 1:
        return ""
    row = Table.grid(padding=(0, 1, 0, 0))
    row.add_row(ProgressBar(completed=task.progress_percentage, width=width), f"{task.progress_percentage:3.0f}%")
    return row


def _age(task: WatchedTask, now: datetime) -> str:
    """Time since it was created, up to its end."""
    seconds = max(0, round(((task.completed_at or now) - task.created_at).total_seconds()))
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02}s"
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours}h{minutes:02}m" if hours < 48 else f"{hours // 24}d"
