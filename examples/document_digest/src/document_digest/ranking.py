"""What matters in a text: TF-IDF for its words, likeness to the whole for its sentences."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from document_digest.model import Keyword
from document_digest.text import Reading, Sentence

#: A summary takes sentences of so many terms, unless it finds none.
FEWEST_TERMS, MOST_TERMS = 4, 40
#: A sentence this like one that was taken says nothing new.
REPETITION = 0.6

Weights = Mapping[str, float]


def rarity(documents: Sequence[Reading]) -> dict[str, float]:
    """The weight of each term: the fewer documents have it, the more it tells of one (smoothed IDF)."""
    having = Counter(term for document in documents for term in document.terms)
    return {term: math.log((1 + len(documents)) / (1 + count)) + 1 for term, count in having.items()}


def keywords(counts: Counter[str], weights: Weights, wanted: int) -> list[Keyword]:
    """The terms that set a text apart, best first. The score is TF-IDF: share of the text times rarity."""
    total = counts.total()
    scored = [(count / total * weights[term], term, count) for term, count in counts.items()]
    scored.sort(key=lambda one: (-one[0], one[1]))
    return [Keyword(word=term, count=count, score=round(score, 4)) for score, term, count in scored[:wanted]]


def summary(document: Reading, weights: Weights, wanted: int) -> list[str]:
    """The sentences most like the document as a whole that do not repeat each other, in its order."""
    whole = _vector(document.terms, weights)
    fit = [one for one in document.sentences if FEWEST_TERMS <= one.terms.total() <= MOST_TERMS]
    candidates = [(sentence, _vector(sentence.terms, weights)) for sentence in fit or document.sentences]
    candidates.sort(key=lambda one: -_likeness(one[1], whole))
    taken: list[tuple[Sentence, Weights]] = []
    for sentence, vector in candidates:
        if len(taken) == wanted:
            break
        if all(_likeness(vector, other) < REPETITION for _, other in taken):
            taken.append((sentence, vector))
    chosen = {id(sentence) for sentence, _ in taken}
    return [sentence.text for sentence in document.sentences if id(sentence) in chosen]


def _vector(counts: Counter[str], weights: Weights) -> Weights:
    """Of length 1, so that a product of two is their cosine; repeating a word counts for less and less."""
    raw = {term: (1 + math.log(count)) * weights[term] for term, count in counts.items()}
    length = math.sqrt(sum(value * value for value in raw.values()))
    return {term: value / length for term, value in raw.items()}


def _likeness(one: Weights, other: Weights) -> float:
    small, large = sorted((one, other), key=len)
    return sum(value * large.get(term, 0.0) for term, value in small.items())
