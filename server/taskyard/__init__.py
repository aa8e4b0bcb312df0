"""Taskyard's core: tasks, their lifecycle, storage, queue and events. It knows no web framework."""

from taskyard.errors import TaskyardError
from taskyard.processor import PermanentError, TaskContext, processor

__all__ = ["PermanentError", "TaskContext", "TaskyardError", "processor"]
