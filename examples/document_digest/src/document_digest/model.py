"""What is asked and what is answered. The limits become the JSON Schema that checks a task before it is queued."""

from typing import Annotated

from pydantic import BaseModel, Field


class Document(BaseModel):
    """A text, plain or Markdown."""

    name: str = Field(min_length=1, max_length=200)
    text: str = Field(min_length=1, max_length=500_000)


class DigestOrder(BaseModel):
    """One document or many, and how long the digest should be."""

    documents: Annotated[list[Document], Field(min_length=1, max_length=100)]
    sentences: int = Field(default=3, ge=1, le=20, description="longest summary of a document")
    keywords: int = Field(default=8, ge=1, le=50, description="how many of each document, and of all")


class Keyword(BaseModel):
    """A word that sets a document apart: often in it, seldom in the others."""

    word: str
    count: int
    score: float


class DocumentDigest(BaseModel):
    """One document at a glance."""

    name: str
    words: int
    sentences: int
    reading_minutes: float
    keywords: list[Keyword]
    summary: list[str] = Field(description="key sentences, in the order of the text")


class Totals(BaseModel):
    """All documents together."""

    documents: int
    words: int
    sentences: int
    reading_minutes: float
    keywords: list[Keyword]


class Digest(BaseModel):
    """The answer."""

    documents: list[DocumentDigest]
    totals: Totals
