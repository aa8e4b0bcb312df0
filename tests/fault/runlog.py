"""The run log that the processors write, outside of Taskyard."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RunLine:
    """A run: when it began, and when and how it ended. Times are seconds since 1970."""

    task_id: str
    attempt: int
    pid: int
    begun: float
    #: None: it never ended, its process died.
    ended: float | None
    #: Whether it ended by itself; not if it was interrupted or raised.
    whole: bool


def read_runs(path: Path) -> Mapping[str, Sequence[RunLine]]:
    """Every run by task, in the order of their begins."""
    begins: list[tuple[str, int, int, float]] = []
    ends: dict[tuple[str, int, int], tuple[float, bool]] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        what, task_id, attempt, pid, at = line.split()
        if what == "b":
            begins.append((task_id, int(attempt), int(pid), float(at)))
        else:
            ends[task_id, int(attempt), int(pid)] = float(at), what == "e"
    runs: defaultdict[str, list[RunLine]] = defaultdict(list)
    for task_id, attempt, pid, at in begins:
        ended, whole = ends.get((task_id, attempt, pid), (None, False))
        runs[task_id].append(RunLine(task_id, attempt, pid, at, ended, whole))
    return runs
