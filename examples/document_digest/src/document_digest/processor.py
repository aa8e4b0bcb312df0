"""The processor: two passes over the documents, since what is rare is known only when all were read."""

import asyncio
from collections import Counter

from document_digest.model import Digest, DigestOrder, DocumentDigest, Totals
from document_digest.ranking import keywords, rarity, summary
from document_digest.text import Reading, read, reading_minutes
from taskyard import TaskContext, processor
from taskyard.processor import PermanentError
from taskyard.task import StepStatus


@processor("document_digest", timeout=300, max_retries=1, capabilities=["text-analysis"])
async def document_digest(order: DigestOrder, ctx: TaskContext) -> Digest:
    """Digest texts: word counts, reading time, keywords by TF-IDF, a summary of key sentences."""
    total = len(order.documents)
    # Two documents may bear the same name, two steps may not.
    steps = [f"{number}/{total} {document.name}" for number, document in enumerate(order.documents, 1)]
    readings: list[Reading] = []
    for done, document in enumerate(order.documents):
        await ctx.progress(50 * done / total, f"reading {document.name}")
        await ctx.step(steps[done])
        # In a thread: it would hold up every other task of the worker here. A cancelled run ends at an await.
        readings.append(await asyncio.to_thread(read, document.name, document.text))
    if not any(reading.words for reading in readings):
        raise PermanentError("there is no word in any of the documents", code="NO_TEXT")

    weights = rarity(readings)
    digests: list[DocumentDigest] = []
    for done, reading in enumerate(readings):
        await ctx.progress(50 + 50 * done / total, f"summing up {reading.name}")
        digest = DocumentDigest(
            name=reading.name,
            words=reading.words,
            sentences=len(reading.sentences),
            reading_minutes=reading_minutes(reading.words),
            keywords=keywords(reading.terms, weights, order.keywords),
            summary=await asyncio.to_thread(summary, reading, weights, order.sentences),
        )
        digests.append(digest)
        await ctx.step(steps[done], StepStatus.COMPLETED, {"words": digest.words, "sentences": digest.sentences})
        await ctx.log(f"{reading.name}: {digest.words} words in {digest.sentences} sentences")
    await ctx.progress(100, f"{total} documents digested")
    words = sum(reading.words for reading in readings)
    terms = sum((reading.terms for reading in readings), Counter())
    return Digest(
        documents=digests,
        totals=Totals(
            documents=total,
            words=words,
            sentences=sum(len(reading.sentences) for reading in readings),
            reading_minutes=reading_minutes(words),
            # Over all of them what they have in common counts: frequency alone.
            keywords=keywords(terms, dict.fromkeys(terms, 1.0), order.keywords),
        ),
    )
