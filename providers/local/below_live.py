"""What batch work may have of an engine beside live traffic: how much of its prompts at once, after whose, and how many slots."""

from math import exp

import msgspec

LIVE_SHARE = 8  # of so many slots batch work leaves one free, and one at least: who is interactive finds it at once
BATCH_AT_ONCE = 2048  # tokens of batch work's prompts, about. An H100 reads so many of an 8B model in some 50 ms, and what decodes waits no longer
REMEMBERED_S = 10.0  # over which requests a second are told


class BelowLive(msgspec.Struct, frozen=True, kw_only=True):
    """`prompt_tokens` of batch work are read at once; `after_live`: none of them go in while a live prompt is in the engine and not read.

    `slots_per_live`: for each live request a second batch work leaves so many more slots free, up to all but one of `LIVE_SHARE`.
    """

    prompt_tokens: int = BATCH_AT_ONCE
    after_live: bool = False
    slots_per_live: float = 0.0

    def prompt_has_room(self, tokens: int, batch: int, live: int) -> bool:
        """Whether a prompt of batch work may go in, beside so many tokens that are being read."""
        if self.after_live and live:
            return False
        return not batch or batch + tokens <= self.prompt_tokens

    def slots(self, slots: int, live_per_s: float) -> int:
        """How many of an engine's slots may be in use when batch work takes one."""
        most = slots - max(1, slots // LIVE_SHARE) if slots > 1 else slots
        return max(min(most, max(1, slots // LIVE_SHARE)), most - round(self.slots_per_live * live_per_s))


class Arrivals:
    """Requests a second, the older the less. Pure."""

    def __init__(self) -> None:
        self._per_s = 0.0
        self._now = 0.0

    def per_s(self, now: float) -> float:
        self._per_s *= exp(min(0.0, self._now - now) / REMEMBERED_S)
        self._now = now
        return self._per_s

    def came(self, now: float) -> None:
        self._per_s = self.per_s(now) + 1 / REMEMBERED_S
