"""Why an answer ended: a closed set, with the provider's own word kept beside it.

`unknown` is a reason that no table knows: it is kept, shown as the native word, and never turned into `stop`.
Reasons that mean a failure (Gemini's MALFORMED_FUNCTION_CALL, Cohere's ERROR …) are not here: they are raised.
"""

from typing import Literal

import msgspec

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "paused", "unknown"]


class Finish(msgspec.Struct, frozen=True, omit_defaults=True):
    """`native` is the provider's word; `stop_sequence` the one that matched, when the provider says so."""

    reason: FinishReason
    native: str | None = None
    stop_sequence: str | None = None
