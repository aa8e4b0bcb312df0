"""The example package: its analysis by itself, then installed beside a real process and given real documents."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from tests.support.process import PATIENCE, DevProcess, eventually

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "document_digest"
FILES = sorted([ROOT / "README.md", EXAMPLE / "README.md", *(ROOT / "docs").glob("*.md")])

CREATE = "mutation ($input: CreateAITaskInput!) { createAITask(input: $input) { id } }"
TASK = """
query ($id: ID!) {
  aiTask(id: $id) {
    status errorCode errorMessage outputData
    steps { name status output }
    events(limit: 500) { kind detail status }
  }
}
"""


@pytest.fixture
def analysis(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(EXAMPLE / "src")
    from document_digest import ranking, text  # noqa: PLC0415 - not a package of Taskyard's

    class Analysis:
        read = staticmethod(text.read)
        split_sentences = staticmethod(text.split_sentences)
        rarity = staticmethod(ranking.rarity)
        keywords = staticmethod(ranking.keywords)
        summary = staticmethod(ranking.summary)

    return Analysis


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three? four", ["One.", "Two!", "Three?", "four"]),
        ("Dr. Who came, e.g. by bus. He left.", ["Dr. Who came, e.g. by bus.", "He left."]),
        ('He said "No." She went on ... and on.', ['He said "No."', "She went on ... and on."]),
        ("Version 1.5 is out. attempt rises.", ["Version 1.5 is out.", "attempt rises."]),
        ("你好。再见。", ["你好。", "再见。"]),
    ],
)
def test_sentences(analysis: Any, text: str, sentences: list[str]) -> None:
    assert analysis.split_sentences(text) == sentences


def test_markup_and_code_are_no_words(analysis: Any) -> None:
    markdown = (
        "# The *title*\n\nSee [the guide](http://example.org/a/b) and `make run`.\n\n"
        "```sh\nnot counted at all\n```\n\n- [x] done\n\n| a | b |\n|---|---|\n| c | d |\n\n---\n<!-- nor this -->\n"
    )
    reading = analysis.read("sample", markdown)
    # The title; see the guide and make run; done; a b c d.
    assert reading.words == 2 + 6 + 1 + 4
    assert [sentence.text for sentence in reading.sentences] == ["See the guide and make run.", "done"]


def test_keywords_are_what_sets_a_document_apart(analysis: Any) -> None:
    tide = analysis.read("tide", "The moon pulls the harbour water. The harbour water rises. Boats wait.")
    bread = analysis.read("bread", "Flour and water make dough. The dough rises. Yeast makes dough rise.")
    weights = analysis.rarity([tide, bread])
    assert analysis.keywords(tide.terms, weights, 1)[0].word == "harbour"
    assert (analysis.keywords(bread.terms, weights, 1)[0].word, bread.terms["dough"]) == ("dough", 3)
    assert weights["water"] < weights["moon"], "what both have tells less"


def test_a_summary_does_not_repeat_itself(analysis: Any) -> None:
    first = "The queue keeps every accepted task safe until a worker claims it."
    text = f"{first} {first} Workers renew their leases with a heartbeat every few seconds. Tea is nice."
    reading = analysis.read("text", text)
    summary = analysis.summary(reading, analysis.rarity([reading]), 2)
    assert summary == [first, "Workers renew their leases with a heartbeat every few seconds."]


# -- as a package beside a real process -----------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevProcess]:
    """With the built wheel on the path, as an installer would unpack it, and no `--import`."""
    folder = tmp_path_factory.mktemp("digest")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=EXAMPLE, check=True, timeout=PATIENCE)
    (wheel,) = folder.glob("*.whl")
    with ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    with DevProcess(folder / "data", env={"PYTHONPATH": str(folder / "installed")}) as running:
        yield running


@pytest.fixture(scope="module")
def done(server: DevProcess) -> dict[str, Any]:
    """The task that digested the project's own documents, once it has ended."""
    documents = [{"name": str(file.relative_to(ROOT)), "text": file.read_text()} for file in FILES]
    order = {"taskType": "document_digest", "inputData": {"documents": documents, "sentences": 4}}
    task_id = server.data_of(CREATE, {"input": order})["createAITask"]["id"]

    def ended() -> dict[str, Any] | None:
        task: dict[str, Any] = server.data_of(TASK, {"id": task_id})["aiTask"]
        return task if task["status"] in ("COMPLETED", "FAILED") else None

    task: dict[str, Any] = eventually(ended)
    assert task["status"] == "COMPLETED", task["errorMessage"]
    return task


def visible_text(markdown: str) -> str:
    """What a reader sees, by another's parser: the independent count."""
    texts: list[str] = []

    def walk(tokens: list[Token]) -> None:
        for token in tokens:
            if token.type in ("text", "code_inline"):
                texts.append(token.content)
            elif token.type in ("softbreak", "hardbreak"):
                texts.append(" ")
            elif token.children is not None:
                walk(token.children)
                texts.append("\n")

    walk(MarkdownIt("commonmark").enable("table").parse(markdown))
    return "".join(texts)


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_counts_keywords_and_summary_are_the_documents_own(done: dict[str, Any], file: Path) -> None:
    (digest,) = (one for one in done["outputData"]["documents"] if one["name"] == str(file.relative_to(ROOT)))
    text = visible_text(file.read_text())
    words = [piece for piece in text.split() if re.search(r"\w", piece)]
    assert digest["words"] == pytest.approx(len(words), rel=0.02)
    assert digest["reading_minutes"] == pytest.approx(len(words) / 230, abs=0.1)
    assert len(digest["keywords"]) == 8
    for keyword in digest["keywords"]:
        # A word by itself, or with the genitive; not a part of another or of one with a hyphen.
        word = (
            rf"(?<![^\W\d_])(?<![^\W\d_][-'\u2019]){re.escape(keyword['word'])}(?:['\u2019]s)?(?!['\u2019-]?[^\W\d_])"
        )
        assert keyword["count"] == pytest.approx(len(re.findall(word, text.casefold())), abs=1), keyword
        assert keyword["word"] not in ("the", "and", "for", "with")
    assert [keyword["score"] for keyword in digest["keywords"]] == sorted(
        (keyword["score"] for keyword in digest["keywords"]), reverse=True
    )
    whole = " ".join(text.split())
    places = [whole.find(sentence) for sentence in digest["summary"]]
    assert 1 <= len(places) <= 4
    assert -1 not in places, "a sentence that is not in the text"
    assert places == sorted(places), "not in the order of the text"


@pytest.mark.slow
def test_totals_add_up(done: dict[str, Any]) -> None:
    documents, totals = done["outputData"]["documents"], done["outputData"]["totals"]
    assert [one["name"] for one in documents] == [str(file.relative_to(ROOT)) for file in FILES]
    assert totals["documents"] == len(FILES)
    for figure in ("words", "sentences"):
        assert totals[figure] == sum(one[figure] for one in documents)
    assert "task" in [keyword["word"] for keyword in totals["keywords"]]


@pytest.mark.slow
def test_progress_steps_and_log_tell_of_each_file(done: dict[str, Any]) -> None:
    assert [step["status"] for step in done["steps"]] == ["COMPLETED"] * len(FILES)
    logs = [event["detail"]["message"] for event in done["events"] if event["kind"] == "LOG"]
    for number, file in enumerate(FILES, 1):
        name = str(file.relative_to(ROOT))
        assert f"{number}/{len(FILES)} {name}" == done["steps"][number - 1]["name"]
        assert any(line.startswith(f"{name}: ") for line in logs)
    assert sum(event["kind"] == "PROGRESS" for event in done["events"]) == 2 * len(FILES) + 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"documents": []}, ["inputData", "documents"]),
        ({"documents": [{"name": "a", "text": 5}]}, ["inputData", "documents", "0", "text"]),
        ({"documents": [{"name": "a", "text": "b"}], "sentences": 0}, ["inputData", "sentences"]),
    ],
)
def test_a_bad_order_is_refused_with_its_place(server: DevProcess, data: Any, path: list[str]) -> None:
    (error,) = server.graphql(CREATE, {"input": {"taskType": "document_digest", "inputData": data}})["errors"]
    assert error["extensions"]["code"] == "INVALID_INPUT"
    assert [str(part) for part in error["extensions"]["path"]] == path


@pytest.mark.slow
def test_the_script_prints_a_digest_and_says_what_is_wrong(server: DevProcess, tmp_path: Path) -> None:
    def submit(*files: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(EXAMPLE / "submit.py"), "--url", server.address, *map(str, files)]
        environment = {**os.environ, "TASKYARD_TOKEN": server.token}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)

    good = submit(ROOT / "README.md", EXAMPLE / "README.md")
    assert good.returncode == 0, good.stderr
    assert re.search(r"\n  \d+ words, \d+ sentences, [\d.]+ minutes to read\n  about: \w+ \(\d+\),", good.stdout)
    assert "all 2 documents" in good.stdout
    assert "100% 2 documents digested" in good.stderr.splitlines()

    empty = tmp_path / "empty.md"
    empty.touch()
    bad = submit(empty)
    assert bad.returncode == 1
    assert "inputData.documents.0.text" in bad.stderr
