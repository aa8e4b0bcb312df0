"""One root for every error that a caller may see, each with a stable code.

The code is part of the contract: GraphQL shows it in `extensions.code`, REST in problem details.
Anything that is not a `TaskyardError` is unexpected: it is masked and logged.
"""

from collections.abc import Sequence
from typing import ClassVar

#: So many characters of what was sent are repeated in a message.
_ECHO = 100


def named(text: str) -> str:
    """A text that was sent, in quotes and cut to a length that fits into a message."""
    return repr(text if len(text) <= _ECHO else f"{text[:_ECHO]}...")


class TaskyardError(Exception):
    """The root. `code` is stable, the message is for people, `path` is the place of the fault."""

    code: ClassVar[str] = "ERROR"

    def __init__(self, message: str, *, path: Sequence[str | int] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.path = list(path) if path is not None else None


class Unauthenticated(TaskyardError):
    """No token, or one that is bad or expired."""

    code = "UNAUTHENTICATED"


class Forbidden(TaskyardError):
    """The token's role may not do this."""

    code = "FORBIDDEN"


class NotFound(TaskyardError):
    """It does not exist, or belongs to another instance: the two are never told apart.

    One thing is told: whoever chooses an id learns whether any instance has it (docs/decisions/0005).
    """

    code = "NOT_FOUND"


class InvalidInput(TaskyardError):
    """What was sent breaks a rule; `path` says where."""

    code = "INVALID_INPUT"


class IllegalTransition(TaskyardError):
    """The lifecycle has no such move."""

    code = "ILLEGAL_TRANSITION"

    def __init__(self, current: str, wanted: str, why: str = "") -> None:
        super().__init__(f"a task that is {current} cannot become {wanted}" + (f": {why}" if why else ""))
        self.current = current
        self.wanted = wanted


class LeaseLost(TaskyardError):
    """The claim under which this was to be written is no longer the task's own: it was thrown away."""

    code = "LEASE_LOST"


class IdempotencyConflict(TaskyardError):
    """The idempotency key was already used with another body."""

    code = "IDEMPOTENCY_CONFLICT"


class IdTaken(TaskyardError):
    """The chosen id already names another task."""

    code = "ID_TAKEN"


class Conflict(TaskyardError):
    """Others kept changing the task while this was tried; try again."""

    code = "CONFLICT"


class Unavailable(TaskyardError):
    """The service cannot take this now.

    Most often nothing was written; but where the answer of a server was lost on its way, a write may stand.
    Whoever tries again does so by compare-and-set or under an idempotency key.
    """

    code = "UNAVAILABLE"


class StartupError(TaskyardError):
    """The process cannot start as it is set up; the message says what to mend."""

    code = "CANNOT_START"
