"""Words, sentences and terms of a text."""

import re
from collections import Counter
from dataclasses import dataclass

from document_digest.markdown import blocks
from document_digest.stopwords import STOPWORDS

#: Words that an adult reads in a minute.
READING_SPEED = 230

# U+2019 and U+201D close a quotation; U+3002, U+FF01 and U+FF1F end a sentence without a space.
_END = re.compile(r"[.!?…]+[\"'\u201D\u2019)\]]*\s+|[\u3002\uFF01\uFF1F]+")
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
_GENITIVE = re.compile(r"['\u2019]s$")
#: A full stop after these, or after a single letter, ends no sentence.
_ABBREVIATIONS = frozenset(
    ("approx", "ca", "cf", "dr", "e.g", "etc", "fig", "i.e", "mr", "mrs", "prof", "st", "vgl", "vs", "z.b")
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence with the terms that carry its meaning."""

    text: str
    terms: Counter[str]


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read of a document."""

    name: str
    words: int
    sentences: list[Sentence]
    terms: Counter[str]


def read(name: str, markdown: str) -> Reading:
    """Count and take apart one document."""
    found = blocks(markdown)
    prose = [sentence for block in found if block.prose for sentence in split_sentences(block.text)]
    return Reading(
        name=name,
        words=sum(count_words(block.text) for block in found),
        sentences=[Sentence(sentence, terms(sentence)) for sentence in prose],
        terms=sum((terms(block.text) for block in found), Counter()),
    )


def count_words(text: str) -> int:
    """How many pieces between spaces hold a letter or a digit."""
    return sum(any(sign.isalnum() for sign in piece) for piece in text.split())


def split_sentences(text: str) -> list[str]:
    """The sentences of one block. A sentence may begin small, with a name from a program."""
    sentences: list[str] = []
    start = 0
    for end in _END.finditer(text):
        before = text[start : end.start()].rpartition(" ")[2].strip("\"'([\u201c\u2018").lower()
        abbreviated = end[0][0] == "." and (before in _ABBREVIATIONS or (len(before) == 1 and before.isalpha()))
        pause = end[0].startswith(("...", "…")) and text[end.end() : end.end() + 1].islower()
        if not abbreviated and not pause:
            sentences.append(text[start : end.end()].strip())
            start = end.end()
    return [*sentences, text[start:].strip()] if text[start:].strip() else sentences


def terms(text: str) -> Counter[str]:
    """Its words in small letters, without the English genitive, short ones and stop words."""
    words = (_GENITIVE.sub("", word.casefold()) for word in _WORD.findall(text))
    return Counter(word for word in words if len(word) > 2 and word not in STOPWORDS)


def reading_minutes(words: int) -> float:
    return max(0.1, round(words / READING_SPEED, 1))
