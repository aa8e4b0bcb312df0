"""What a row has measured: kept as a JSON file, from which the table of docs/reliability.md is made."""

import json
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(slots=True)
class Record:
    """One run of one row. `figures` are shown in the order in which they were noted."""

    number: int
    fault: str
    figures: dict[str, str] = field(default_factory=dict)
    verdict: str = "not run"
    day: str = ""
    commit: str = ""

    def note(self, what: str, value: object) -> None:
        """Keep a figure; a float is shown with two digits after the point."""
        self.figures[what] = (
            f"{value:.2f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
        )

    def save(self, folder: Path, verdict: str) -> None:
        """Write it, with the day and the commit of the tree that was tested."""
        self.verdict = verdict
        self.day = f"{datetime.now(UTC):%Y-%m-%d}"
        self.commit = _commit()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.number:02}.json").write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def read_records(folder: Path) -> list[Record]:
    """All that were saved there, by number."""
    found = [Record(**json.loads(path.read_text(encoding="utf-8"))) for path in folder.glob("*.json")]
    return sorted(found, key=lambda record: record.number)


def _commit() -> str:
    """The commit, with a plus if the tree differs from it in what is tested."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--", "*.py", "*.lua") else "")
