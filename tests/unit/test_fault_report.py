"""The table of the fault tests is made of what was measured, and of nothing else."""

from pathlib import Path

import pytest
from tests.fault.record import Record, read_records
from tests.fault.report import BEGIN, END, PAGE, filled

TABLE = f"""# Page

{BEGIN}
| # | fault | measured | verdict | run |
|---|---|---|---|---|
| 1 | worker death | kills: 9 | passed | 2026-03-01, abc |
| 12 | crash | crashes: 2 | failed | 2026-03-01, abc |
{END}

The end.
"""


def a_record(number: int, **figures: object) -> Record:
    record = Record(number, "a fault", verdict="passed", day="2026-03-02", commit="def")
    for what, value in figures.items():
        record.note(what, value)
    return record


def test_a_row_that_was_run_replaces_its_line_and_no_other() -> None:
    page = filled(TABLE, [a_record(12, crashes=3), a_record(2, tasks=18000, slowest=1.234, cut="a | b")])
    assert page.splitlines()[4:10] == [
        "|---|---|---|---|---|",
        "| 1 | worker death | kills: 9 | passed | 2026-03-01, abc |",
        "| 2 | a fault | tasks: 18,000; slowest: 1.23; cut: a \\| b | passed | 2026-03-02, def |",
        "| 12 | a fault | crashes: 3 | passed | 2026-03-02, def |",
        END,
        "",
    ]
    assert page.endswith("\n\nThe end.\n")
    assert filled(page, []) == page


def test_a_page_without_its_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="has no"):
        filled("# Page\n", [])


def test_a_record_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    record = a_record(3, deaths=4)
    record.save(tmp_path, "failed")
    (found,) = read_records(tmp_path)
    assert (found.number, found.figures, found.verdict) == (3, {"deaths": "4"}, "failed")
    assert found.commit


def test_the_page_has_its_markers() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert filled(page, []) == page
