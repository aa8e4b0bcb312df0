"""What must never be committed, and what `make clean` must not leave."""

import json
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SKIPPED = {".dev", ".git", ".venv", "node_modules"}


def lock_files() -> list[Path]:
    found = [ROOT / "requirements.lock", ROOT / "requirements-runtime.lock", ROOT / "tools" / "bootstrap.lock"]
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


def output_of(*command: str) -> list[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def test_make_clean_removes_all_that_was_made_but_the_data() -> None:
    removed = [
        word
        for line in output_of("make", "--no-print-directory", "-n", "clean")
        for word in line.removeprefix("rm -rf ").split()
    ]
    made = output_of("git", "ls-files", "--others", "--ignored", "--exclude-from=.gitignore", "--directory")
    kept = ("*.log", "*__pycache__", ".taskyard", ".env")
    left = [
        path for path in made if not any(fnmatch(path.rstrip("/"), pattern) for pattern in (*kept, *removed, "*.pyc"))
    ]
    assert ".venv/" in made
    assert ".taskyard" not in removed
    assert [path for path in left if not any(path.startswith(f"{folder}/") for folder in removed)] == []
