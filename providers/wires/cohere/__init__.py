"""Cohere's v2 format."""

from providers.wires.cohere.embeddings import COHERE_EMBEDDINGS
from providers.wires.cohere.wire import COHERE

__all__ = ["COHERE", "COHERE_EMBEDDINGS"]
