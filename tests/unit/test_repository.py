"""What must never be committed."""

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SKIPPED = {".dev", ".git", ".venv", "node_modules"}


def lock_files() -> list[Path]:
    found = [ROOT / "requirements.lock", ROOT / "tools" / "bootstrap.lock"]
    for top in ROOT.iterdir():
        if top.is_dir() and top.name not in SKIPPED:
            found += [path for path in top.rglob("package-lock.json") if not SKIPPED & set(path.parts)]
    return sorted(found)


def without_funding(node: Any) -> Any:
    """The lock file of npm repeats where each author takes donations; no package comes from there."""
    if isinstance(node, dict):
        return {key: without_funding(value) for key, value in node.items() if key != "funding"}
    return [without_funding(value) for value in node] if isinstance(node, list) else node


@pytest.mark.parametrize("path", lock_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_lock_file_is_tied_to_one_index(path: Path) -> None:
    content = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        content = json.dumps(without_funding(json.loads(content)))
    assert content
    assert "://" not in content


@pytest.mark.parametrize("package", ["graphql", "tests/graphql"])
def test_no_package_of_ours_shadows_graphql_core(package: str) -> None:
    assert not (ROOT / package / "__init__.py").exists()
