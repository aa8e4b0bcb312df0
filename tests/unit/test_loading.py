"""Finding processors, and a plain word for everything that can be wrong with them."""

import json
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import BaseModel

from taskyard.errors import StartupError
from taskyard.processor import TaskContext, marked, processor
from taskyard_workers.loading import load_from, load_processors, source_of

ONE = """
from taskyard import processor

@processor("{name}", timeout=5, max_retries=2, capabilities=["x"])
async def work(value: dict, ctx) -> dict:
    '''What it does.'''
    return value
"""


@pytest.fixture(autouse=True)
def clean_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Imports made from a folder of the test's own, forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(path: str, text: str = ONE, name: str = "mail") -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text.replace("{name}", name))
    return path


def entry_point(tmp_path: Path, target: str, name: str = "extra") -> None:
    """Install a distribution that names this target."""
    folder = tmp_path / "demo_plugin-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: demo-plugin\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(f"[taskyard.processors]\n{name} = {target}\n")
    sys.path.insert(0, str(tmp_path))


def test_the_demo_processors_or_none() -> None:
    assert sorted(load_processors([], demo=True)) == ["delay", "echo", "mock_content", "random_failure"]
    assert load_processors([], demo=False) == {}


def test_a_file_by_its_path(tmp_path: Path) -> None:
    path = write(str(tmp_path / "folder" / "mine.py"))
    found = load_processors([path], demo=False)["mail"]
    assert (found.name, found.timeout, found.max_retries) == ("mail", timedelta(seconds=5), 2)
    assert (found.description, found.capabilities) == ("What it does.", ("x",))
    assert load_processors([path, path], demo=False)["mail"] is found, "the same file is the same processor"


def test_a_file_that_is_called_as_a_module_is(tmp_path: Path) -> None:
    write("json.py")
    write("a/work.py", name="a")
    write("b/work.py", name="b")
    assert sorted(load_processors(["json.py", "a/work.py", "b/work.py"], demo=False)) == ["a", "b", "mail"]
    assert sys.modules["json"] is json


def test_a_module_of_the_working_folder() -> None:
    write("my_processors.py")
    assert list(load_processors(["my_processors"], demo=False)) == ["mail"]
    write("my_package/__init__.py", "")
    write("my_package/parts.py", name="part")
    assert list(load_processors(["my_package.parts"], demo=False)) == ["part"]


@pytest.mark.parametrize("target", ["plugin_module", "plugin_module:work"])
def test_the_entry_points_of_packages(tmp_path: Path, target: str) -> None:
    write("plugin_module.py")
    entry_point(tmp_path, target)
    assert sorted(load_processors([], demo=True)) == ["delay", "echo", "mail", "mock_content", "random_failure"]
    assert list(load_processors(["plugin_module"], demo=False)) == ["mail"], "named twice is found once"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("def broken(:", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("from taskyard import processor\n@processor('x')\ndef plain(v, ctx): pass", "must be an async function"),
        ("from taskyard import processor\n@processor('x')\nasync def none(): pass", "must take an input"),
    ],
)
def test_what_cannot_be_imported(tmp_path: Path, text: str, word: str) -> None:
    write("broken.py", text)
    write("broken_module.py", text)
    for name in ("broken.py", "broken.py", "broken_module"):  # twice: a failure leaves no half module
        with pytest.raises(StartupError) as caught:
            load_processors([name], demo=False)
        assert caught.value.message.startswith(f"{name} cannot be imported: ")
        assert word in caught.value.message
    entry_point(tmp_path, "broken_module")
    with pytest.raises(StartupError, match=r"^extra cannot be imported: "):
        load_processors([], demo=False)


@pytest.mark.parametrize("name", ["nowhere.py", "no/such/folder/x.py", "."])
def test_what_is_not_there(name: str) -> None:
    with pytest.raises(StartupError) as caught:
        load_processors([name], demo=False)
    assert name in caught.value.message


def test_a_module_without_processors() -> None:
    write("empty.py", "x = 1")
    with pytest.raises(StartupError, match=r"empty.py holds no processor: mark one with @processor"):
        load_processors(["empty.py"], demo=False)


def test_an_entry_point_that_is_no_processor(tmp_path: Path) -> None:
    write("plugin_module.py", "thing = 5")
    entry_point(tmp_path, "plugin_module:thing")
    with pytest.raises(StartupError, match="the entry point 'extra' holds no processor"):
        load_processors([], demo=False)


def test_a_type_declared_twice() -> None:
    write("first.py")
    write("second.py")
    with pytest.raises(StartupError, match=r"second.py declares the task type 'mail', which is declared already"):
        load_processors(["first.py", "second.py"], demo=False)
    write("echoing.py", name="echo")
    with pytest.raises(StartupError, match=r"echoing.py declares the task type 'echo'"):
        load_processors(["echoing.py"], demo=True)


def test_a_type_declared_twice_in_one_module() -> None:
    write("twice.py", ONE + ONE.replace("work", "other"))
    with pytest.raises(StartupError, match=r"twice.py declares the task type 'mail', which is declared already"):
        load_processors(["twice.py"], demo=False)


def test_one_processor_under_two_names() -> None:
    write("alias.py", ONE + "\nagain = work\n")
    assert list(load_processors(["alias.py"], demo=False)) == ["mail"]


def test_what_a_processor_declares() -> None:
    class Order(BaseModel):
        topic: str

    @processor("typed", timeout=timedelta(minutes=1))
    async def typed(order: Order, ctx: TaskContext) -> list[int]:
        return []

    @processor("bare")
    async def bare(value, ctx):  # type: ignore[no-untyped-def]
        return value

    found = marked(typed)
    assert found is not None
    spec = found.declared()
    assert (spec.name, spec.timeout, spec.max_retries) == ("typed", timedelta(minutes=1), None)
    assert spec.input_schema["required"] == ["topic"]
    assert spec.output_schema == {"type": "array", "items": {"type": "integer"}}
    free = marked(bare)
    assert free is not None
    assert (free.declared().input_schema, free.declared().description) == ({}, "")
    assert marked(object()) is None


def test_where_another_process_finds_a_processor(tmp_path: Path) -> None:
    path = write(str(tmp_path / "mine.py"))
    write("my_module.py", name="moduled")
    write("makes.py", "def make(name):\n" + ONE.replace("\n", "\n    ") + "\n    return work\n", name="made")
    write("made.py", "from makes import make\nmade = make('made')\n")
    found = load_processors([path, "my_module", "made"], demo=False)
    for name, source in (("mail", path), ("moduled", "my_module")):
        assert source_of(found[name]) == source
        assert load_from(source, name) is found[name]
    assert source_of(found["made"]) is None, "it stands in no module that its function names"
    with pytest.raises(StartupError, match="my_module holds no processor named 'mail'"):
        load_from("my_module", "mail")
