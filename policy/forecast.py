"""What a request may expect of a target: what its statistics come to at one moment."""

from typing import TYPE_CHECKING

import msgspec

from policy.prediction import Outlook
from policy.sketch import Distribution

if TYPE_CHECKING:
    from policy.reuse import Key, ReusablePlan

KNOWN = 3.0  # answers from which on a target is not cold any more


class Forecast(msgspec.Struct, frozen=True):
    """What a request of this length at this load may expect. None: nothing is known. Seconds, tokens, shares from 0 to 1.

    `samples`: the weight of the answers behind it, where those of other lengths and loads weigh less (below 1: a cold target); not below KNOWN once
    the target gave so many at all. For a streamed answer the TTFT is from when the target took the request, and `token_s` is between two tokens; a
    unary answer shows no first token, and `token_s` is its whole time over its tokens.
    """

    samples: float = 0.0
    ttft_mean_s: float | None = None
    ttft_p50_s: float | None = None
    ttft_p95_s: float | None = None
    token_s_mean: float | None = None
    token_s_p95: float | None = None
    total_mean_s: float | None = None
    total_p95_s: float | None = None
    output_mean: float | None = None
    error_rate: float = 0.0
    failing: float = 0.0  # of it, what is no chance, in 95 of 100 cases
    limited_rate: float = 0.0
    cache_share: float | None = None
    waste_factor: float = 1.0  # attempts that are paid for, for each answer
    waits: Distribution | None = None  # the TTFT's, or for a unary answer the total time's
    outputs: Distribution | None = None
    median_s: float | None = None  # TTFT's as the cells say, without the level
    remembered: bool = False  # it gave enough answers once, however little these weigh by now
    begins: Distribution | None = None  # of a unary answer's forecast: the TTFT that the target's streamed ones show; None: too little is known
    begins_samples: float = 0.0  # the weight of the answers behind that, as `samples` is of its own
    memo: dict[int, Outlook] = msgspec.field(default_factory=dict)  # what `policy.predict` made of it, by what was asked
    reusables: "dict[Key, ReusablePlan]" = msgspec.field(default_factory=dict)  # plans whose first candidate it was looked up for (policy/reuse.py)

    def changed(self, **fields: object) -> "Forecast":
        """The same with other fields: nothing that was made of this one is made of that one."""
        return msgspec.structs.replace(self, **fields, memo={}, reusables={})

    def within(self, ttft_s: float) -> float | None:
        """How likely the first token, or a unary answer, comes within `ttft_s`."""
        return None if self.waits is None else self.waits.within(ttft_s)

    def expected_output(self, max_tokens: int | None) -> float | None:
        """The tokens of an answer that may have `max_tokens`."""
        if max_tokens is None or self.outputs is None:
            return self.output_mean
        return self.outputs.mean_up_to(max_tokens)
