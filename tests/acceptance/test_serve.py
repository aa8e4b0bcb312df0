"""`taskyard serve` and `taskyard migrate`: nothing is made up, nothing is migrated in passing."""

from pathlib import Path

import pytest
from tests.support.process import run_taskyard

pytestmark = pytest.mark.slow

SECRET = {"JWT_SECRET": "s" * 32}


def test_serve_needs_a_secret(tmp_path: Path) -> None:
    said = run_taskyard("serve", "--port", "0", "--data", str(tmp_path / "data"), expect=1)
    assert said == "Error: JWT_SECRET is not set: `serve` needs the key that signs the tokens, 32 bytes or more\n"
    assert not (tmp_path / "data").exists()


def test_serve_refuses_a_short_secret(tmp_path: Path) -> None:
    said = run_taskyard("serve", "--data", str(tmp_path / "data"), env={"JWT_SECRET": "short"}, expect=1)
    assert said == "Error: bad setting: JWT_SECRET: must have at least 32 bytes\n"


def test_serve_migrates_nothing(tmp_path: Path) -> None:
    said = run_taskyard("serve", "--port", "0", "--data", str(tmp_path / "data"), env=SECRET, expect=1)
    assert "run `taskyard migrate` first" in said
    assert "Traceback" not in said
    said = run_taskyard("migrate", "--data", str(tmp_path / "data"))
    assert said == f"{tmp_path}/data/taskyard.db is up to date\n"
