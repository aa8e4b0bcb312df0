"""From Markdown (or plain text) to the text that a reader sees, block by block."""

import re
from dataclasses import dataclass

_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r"^ {0,3}#{1,6}\s+(.*?)\s*#*\s*$")
_UNDERLINE = re.compile(r"^ {0,3}(=+|-+)\s*$")
_TABLE_RULE = re.compile(r"^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$")
_ITEM = re.compile(r"^\s*(?:[-*+]|\d{1,9}[.)])\s+(?:\[[ xX]\]\s+)?")
_QUOTE = re.compile(r"^\s*(?:>\s?)+")
_REFERENCE = re.compile(r"^ {0,3}\[[^\]]+\]:\s+\S+.*$")
_INLINE = (
    (re.compile(r"!?\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])"), r"\1"),  # links and images
    (re.compile(r"<(?:https?://|mailto:)([^>\s]+)>"), r"\1"),
    (re.compile(r"</?[A-Za-z][^>]*>"), ""),
    (re.compile(r"`+([^`]*)`+"), r"\1"),
    (re.compile(r"(\*{1,3}|~~)(?=\S)(.+?)(?<=\S)\1"), r"\2"),
    (re.compile(r"(?<!\w)(_{1,3})(?=\S)(.+?)(?<=\S)\1(?!\w)"), r"\2"),
    (re.compile(r"\\([!-/:-@\[-`{-~])"), r"\1"),
)


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, list item, heading or table row. Only `prose` has sentences."""

    text: str
    prose: bool


def blocks(markdown: str) -> list[Block]:
    """The blocks in order, without markup; code in fences is left out."""
    found: list[Block] = []
    lines: list[str] = []
    fence = ""

    def close(*, prose: bool = True) -> None:
        text = _plain(" ".join(lines))
        lines.clear()
        if text:
            found.append(Block(text, prose))

    for line in _COMMENT.sub("", markdown).splitlines():
        mark = _FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence):
                fence = ""
        elif mark:
            close()
            fence = mark[1]
        elif not line.strip() or _REFERENCE.match(line):
            close()
        elif heading := _HEADING.match(line):
            close()
            lines.append(heading[1])
            close(prose=False)
        elif _UNDERLINE.match(line) and "|" not in line:
            close(prose=False)  # what stood above was a heading, or nothing: then this is a rule
        elif line.lstrip().startswith("|"):
            close()
            if not _TABLE_RULE.match(line):
                lines.append(line.strip().strip("|").replace("|", " "))
                close(prose=False)
        else:
            text = _QUOTE.sub("", line)
            if _ITEM.match(text):
                close()
            lines.append(_ITEM.sub("", text))
    close()
    return found


def _plain(text: str) -> str:
    for pattern, replacement in _INLINE:
        text = pattern.sub(replacement, text)
    return " ".join(text.split())
