"""Anthropic's Messages format."""

from providers.wires.anthropic_messages.count import ANTHROPIC_COUNT
from providers.wires.anthropic_messages.wire import ANTHROPIC_MESSAGES

__all__ = ["ANTHROPIC_COUNT", "ANTHROPIC_MESSAGES"]
