"""OpenAI's Responses format."""

from providers.wires.openai_responses.wire import OPENAI_RESPONSES

__all__ = ["OPENAI_RESPONSES"]
