"""The deployment files as tests read them."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "deploy.md"
COMPOSE = ROOT / "compose.yaml"
DOCKERFILE = ROOT / "Dockerfile"


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction of the Dockerfile: its keyword, its options (`--from=build`), the rest."""

    keyword: str
    options: tuple[str, ...]
    rest: str

    @property
    def words(self) -> list[str]:
        """The rest, in its JSON form or else split at blanks."""
        words: list[str] = json.loads(self.rest) if self.rest.startswith("[") else self.rest.split()
        return words


def stages() -> list[list[Step]]:
    """The steps of each stage; what stands before the first FROM belongs to none."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    found: list[list[Step]] = []
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if not line.strip():
            continue
        keyword, _, rest = line.partition(" ")
        options = []
        while (option := re.match(r"--\S+ ", rest.lstrip())) is not None:
            options.append(option[0].strip())
            rest = rest.lstrip()[option.end() :]
        step = Step(keyword, tuple(options), rest.strip())
        if keyword == "FROM":
            found.append([])
        if found:
            found[-1].append(step)
    return found


def compose() -> dict[str, Any]:
    """compose.yaml with its merges carried out."""
    content: dict[str, Any] = YAML(typ="safe").load(COMPOSE.read_text())
    return content


def docs_blocks(language: str) -> list[str]:
    """The code blocks of docs/deploy.md in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", DOCS.read_text(), re.MULTILINE | re.DOTALL)
