"""OpenAI's embeddings format."""

from providers.wires.openai_embeddings.wire import OPENAI_EMBEDDINGS

__all__ = ["OPENAI_EMBEDDINGS"]
