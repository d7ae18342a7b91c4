"""Google's generateContent format, of the Gemini API and of Vertex AI."""

from providers.wires.gemini.embeddings import GEMINI_EMBEDDINGS, VERTEX_EMBEDDINGS
from providers.wires.gemini.wire import GEMINI

__all__ = ["GEMINI", "GEMINI_EMBEDDINGS", "VERTEX_EMBEDDINGS"]
