"""Token usage in disjoint classes: every token is counted in exactly one of them.

Providers disagree: OpenAI's `prompt_tokens` includes cached tokens and `completion_tokens` includes reasoning, Anthropic's
`input_tokens` excludes both cache classes. Decoders take them apart here, and keep the provider's own object beside it.
Unknown is None, never 0.
"""

from typing import Literal

import msgspec

from contract.raw import ABSENT

BYTES_PER_TOKEN = 4  # of English text with common tokenizers; only for estimates, which are flagged as such
UsageSource = Literal["provider", "estimated"]


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Token counts of one attempt; calls of tools that its provider ran, and those of them that searched the web, or files kept there.

    `raw` is the provider's usage object as it came, as JSON.
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

    @property
    def input_total(self) -> int | None:
        """All input tokens, or None when no input class is known."""
        return _total(self.input_uncached, self.cache_read, self.cache_write_5m, self.cache_write_1h, self.audio_input, self.image_input)

    @property
    def output_total(self) -> int | None:
        """All output tokens, or None when no output class is known."""
        return _total(self.output_visible, self.reasoning, self.audio_output, self.image_output)


def tokens_about(length: int) -> int:
    """How many tokens a text of so many characters or bytes is, about; at least one."""
    return max(1, length // BYTES_PER_TOKEN)


def _total(*classes: int | None) -> int | None:
    known = [count for count in classes if count is not None]
    return sum(known) if known else None
