"""Mistral's chat format: OpenAI's, with differences."""

from providers.wires.mistral.wire import MISTRAL

__all__ = ["MISTRAL"]
