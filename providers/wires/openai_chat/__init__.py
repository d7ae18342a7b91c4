"""OpenAI's chat completions format, towards providers and towards clients."""

from providers.wires.openai_chat.wire import OPENAI_CHAT

__all__ = ["OPENAI_CHAT"]
