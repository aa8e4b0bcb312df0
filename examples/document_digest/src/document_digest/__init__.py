"""The task type `document_digest`: what is in some texts, at a glance."""

from document_digest.processor import document_digest

__all__ = ["document_digest"]
