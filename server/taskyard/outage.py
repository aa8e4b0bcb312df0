"""A server that is away, in the log: once when it goes, once when it is back."""

import logging

logger = logging.getLogger(__name__)

#: Seconds between two tries to reach a server that is away: at first, and at most.
FIRST_TRY, LAST_TRY = 0.1, 2.0


class Outage:
    """Says once that something fails, and once that it works again; between them the pauses grow."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._pause = 0.0

    def failed(self, error: Exception) -> float:
        """Seconds to wait before the next try."""
        if not self._pause:
            logger.warning("%s: %s", self._what, _reasons(error))
        self._pause = min(max(self._pause * 2, FIRST_TRY), LAST_TRY)
        return self._pause

    def over(self) -> None:
        if self._pause:
            logger.info("over: %s", self._what)
        self._pause = 0.0


def _reasons(error: BaseException) -> str:
    """What it says and what it came from; of an error of SQLAlchemy the driver's, without the statement."""
    told = []
    each: BaseException | None = error
    while each is not None:
        told.append(str(getattr(each, "orig", None) or each) or type(each).__name__)
        each = each.__cause__
    return "; ".join(dict.fromkeys(told))
