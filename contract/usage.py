"""Token usage in disjoint classes: every token is counted in exactly one of them.

Providers disagree: OpenAI's `prompt_tokens` includes cached tokens and `completion_tokens` includes reasoning, Anthropic's
`input_tokens` excludes both cache classes. Decoders take them apart here, and keep the provider's own object beside it.
Unknown is None, never 0.
"""

from typing import Literal

import msgspec

from contract.raw import ABSENT

BYTES_PER_TOKEN = 4  # of English text with common tokenizers; only for estimates, which are flagged as such
MOST_TOKENS = 1 << 24  # beyond this a count is a fault of whoever sent it: no model reads or writes so many
UsageSource = Literal["provider", "estimated"]


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Token counts of one attempt; calls of tools that its provider ran and charges for, and those of them that were searches.

    `raw` is the provider's usage object as it came, as JSON. `service_tier`: flex, priority …; None: the standard one, or none was said. Where the
    tier is all that was told, "" is the standard one.
    """

    input_uncached: int | None = None
    cache_read: int | None = None
    cache_write_5m: int | None = None
    cache_write_1h: int | None = None
    audio_input: int | None = None
    image_input: int | None = None
    output_visible: int | None = None
    reasoning: int | None = None
    audio_output: int | None = None
    image_output: int | None = None
    server_tool_calls: int | None = None
    web_searches: int | None = None
    file_searches: int | None = None
    source: UsageSource = "provider"
    raw: msgspec.Raw = ABSENT
    service_tier: str | None = None

    @property
    def input_total(self) -> int | None:
        """All input tokens, or None when no input class is known."""
        total = self.input_uncached
        if self.cache_read is not None:
            total = self.cache_read + (total or 0)
        if self.cache_write_5m is not None:
            total = self.cache_write_5m + (total or 0)
        if self.cache_write_1h is not None:
            total = self.cache_write_1h + (total or 0)
        if self.audio_input is not None:
            total = self.audio_input + (total or 0)
        if self.image_input is not None:
            total = self.image_input + (total or 0)
        return total

    @property
    def output_total(self) -> int | None:
        """All output tokens, or None when no output class is known."""
        total = self.output_visible
        if self.reasoning is not None:
            total = self.reasoning + (total or 0)
        if self.audio_output is not None:
            total = self.audio_output + (total or 0)
        if self.image_output is not None:
            total = self.image_output + (total or 0)
        return total


def tells_tier_alone(usage: Usage) -> bool:
    """Whether it has no counts: the answer told its tier, and its usage never came."""
    return usage.service_tier is not None and usage == Usage(service_tier=usage.service_tier)


COUNTS = Usage.__struct_fields__.index("source")  # a usage begins with so many counts


def other_tool_calls(usage: Usage) -> int:
    """Calls of tools that its provider ran and charges for, beside searches: code, pictures, and what else it counts."""
    calls = usage.server_tool_calls
    return max(0, calls - (usage.web_searches or 0) - (usage.file_searches or 0)) if calls else 0


def tokens_about(length: int) -> int:
    """How many tokens a text of so many characters or bytes is, about; at least one."""
    return max(1, length // BYTES_PER_TOKEN)
