"""What may name an instance, a task type, a queue or an agent."""

import re

from taskyard.errors import InvalidInput

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@-]{0,99}")


def check_name(value: str, field: str) -> None:
    """Raise `InvalidInput`, which points to `field`, unless this can be such a name."""
    if not _NAME.fullmatch(value):
        raise InvalidInput(
            f"{field} has 1 to 100 letters, digits and '_.:/@-', and begins with a letter or digit",
            path=[field],
        )
