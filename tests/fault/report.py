"""Fills the table of docs/reliability.md from what the rows have measured: `python -m tests.fault.report FOLDER`.

Only what stands between the markers is written. A row that was not run keeps its line, with its own date.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.fault.record import ROOT, Record, read_records

PAGE = ROOT / "docs" / "reliability.md"
BEGIN = "<!-- measured: begin -->"
END = "<!-- measured: end -->"
HEAD = ("| # | fault | measured | verdict | run |", "|---|---|---|---|---|")
_LINE = re.compile(r"\| (\d+) \|")


def line_of(record: Record) -> str:
    """The line of a row."""
    measured = "; ".join(f"{what}: {value}" for what, value in record.figures.items())
    cells = (str(record.number), record.fault, measured, record.verdict, f"{record.day}, {record.commit}")
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def filled(page: str, records: Sequence[Record]) -> str:
    """The page with the lines of these rows in place of their older ones."""
    before, begin, rest = page.partition(BEGIN)
    table, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} and {END}")
    lines: Mapping[int, str] = _lines(table) | {record.number: line_of(record) for record in records}
    written = "\n".join((*HEAD, *(lines[number] for number in sorted(lines))))
    return f"{before}{BEGIN}\n{written}\n{END}{after}"


def _lines(table: str) -> dict[int, str]:
    """The lines that are there, by the number of their row."""
    return {int(found[1]): line for line in table.splitlines() if (found := _LINE.match(line))}


if __name__ == "__main__":
    records = read_records(Path(sys.argv[1]))
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), records), encoding="utf-8")
    print("\n".join((*HEAD, *map(line_of, records))))
