"""The scales that measurements are sorted by, log buckets and lengths of prompts: one for all, so that what one part counted another can add up."""

from math import floor, log2

STEPS = 4  # buckets per doubling: a quantile is right within 19 %
LOWEST, HIGHEST = -30 * STEPS, 30 * STEPS - 1  # from a nanosecond to 34 years: what is beyond counts as the nearest
LEAST, MOST = 2.0**-30, 2.0**30 * (1 - 1e-12)

PROMPTS = ("<=256", "<=1k", "<=4k", "<=16k", "<=64k", ">64k")  # tokens
_PROMPT_AT = tuple(min(len(PROMPTS) - 1, max(0, (bits - 7) // 2)) for bits in range(65))


def bucket_of(value: float) -> int:
    """The bucket of a number: that from 2**(bucket / STEPS) up to the next edge."""
    if not LEAST <= value <= MOST:
        value = MOST if value > MOST else LEAST
    return floor(log2(value) * STEPS)


def prompt_at(tokens: int) -> int:
    """Which of PROMPTS a prompt of so many tokens is."""
    return _PROMPT_AT[(tokens - 1).bit_length()] if tokens > 1 else 0
