"""OpenAI's legacy completions format."""

from providers.wires.openai_completions.wire import OPENAI_COMPLETIONS

__all__ = ["OPENAI_COMPLETIONS"]
