"""Taskyard's core: tasks, their lifecycle, storage, queue and events. It knows no web framework."""

import importlib
from typing import TYPE_CHECKING, Any

from taskyard.errors import TaskyardError
from taskyard.lifecycle import TaskStatus
from taskyard.processor import PermanentError, TaskContext, processor
from taskyard.task import NewTask, Task

if TYPE_CHECKING:
    from taskyard.library import TaskQueue
    from taskyard_workers.manager import TaskManager

__all__ = [
    "NewTask",
    "PermanentError",
    "Task",
    "TaskContext",
    "TaskManager",
    "TaskQueue",
    "TaskStatus",
    "TaskyardError",
    "processor",
]

#: What needs the whole core, or is not of it, is imported when it is asked for.
_LATER = {"TaskQueue": "taskyard.library", "TaskManager": "taskyard_workers.manager"}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)
