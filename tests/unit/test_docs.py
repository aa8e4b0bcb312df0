"""The docs say what is so."""

import re
from pathlib import Path

from taskyard.settings import Settings
from taskyard.task import ErrorCode

ROOT = Path(__file__).parents[2]


def test_the_table_of_settings_is_complete() -> None:
    text = (ROOT / "docs/operations.md").read_text()
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| ([^|]*) \| [^|]+ \|$", text.split("## Settings")[1], re.MULTILINE))
    assert {name: default.strip() for name, default in rows.items()} == {
        field.alias: "" if field.default is None else str(field.default) for field in Settings.model_fields.values()
    }


def test_the_table_of_error_codes_is_complete() -> None:
    section = (ROOT / "docs/operations.md").read_text().split("## Why a task failed")[1].split("\n## ")[0]
    assert sorted(re.findall(r"^\| `([A-Z_]+)` \|", section, re.MULTILINE)) == sorted(ErrorCode)


def test_every_link_leads_somewhere() -> None:
    pages = [page for folder in ("docs", "examples", "loadtests") for page in (ROOT / folder).rglob("*.md")]
    assert {"README.md", "processors.md"} <= {page.name for page in pages}
    for page in [*ROOT.glob("*.md"), *pages]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
