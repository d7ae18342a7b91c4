"""How long a provider wants to be left alone, in every spelling; and that no spelling of nonsense is believed."""

import time
from email.utils import formatdate

import pytest

from providers.wires.failure import MAX_RETRY_AFTER_S, retry_after_s

DATE = {b"date": b"Wed, 25 Nov 2026 15:00:00 GMT"}
SPELLINGS: list[tuple[dict[bytes, bytes], float | None]] = [
    ({b"retry-after-ms": b"1500"}, 1.5),
    ({b"retry-after-ms": b"250", b"retry-after": b"9"}, 0.25),
    ({b"x-ms-retry-after-ms": b"30"}, 0.03),
    ({b"retry-after": b"7"}, 7.0),
    ({b"retry-after": b" 0.5 "}, 0.5),
    ({b"retry-after": b"Wed, 25 Nov 2026 15:00:42 GMT", **DATE}, 42.0),
    ({b"retry-after": b"Wed, 25 Nov 2026 15:00:42 GMT"}, None),
    ({b"retry-after": b"Wed, 25 Nov 2026 14:00:00 GMT", **DATE}, None),
    ({b"retry-after": b"soon", **DATE}, None),
    ({b"retry-after": b"-3"}, None),
    ({b"retry-after": b"1e9"}, None),
    ({b"retry-after": b"999999"}, MAX_RETRY_AFTER_S),
    ({b"retry-after-ms": b"nan"}, None),
    ({b"x-ratelimit-remaining-requests": b"0", b"x-ratelimit-reset-requests": b"6m0s"}, 360.0),
    ({b"x-ratelimit-remaining-tokens": b"0", b"x-ratelimit-reset-tokens": b"1.5s"}, 1.5),
    ({b"x-ratelimit-remaining-tokens": b"0", b"x-ratelimit-reset-tokens": b"20ms"}, 0.02),
    ({b"x-ratelimit-remaining-tokens": b"0", b"x-ratelimit-reset-tokens": b"1h0m2s"}, MAX_RETRY_AFTER_S),
    ({b"x-ratelimit-remaining-tokens": b"17", b"x-ratelimit-reset-tokens": b"6m0s"}, None),
    ({b"x-ratelimit-remaining-tokens": b"0", b"x-ratelimit-reset-tokens": b""}, None),
    ({b"anthropic-ratelimit-requests-remaining": b"0", b"anthropic-ratelimit-requests-reset": b"2026-11-25T15:00:12Z", **DATE}, 12.0),
    ({b"anthropic-ratelimit-input-tokens-remaining": b"0", b"anthropic-ratelimit-input-tokens-reset": b"nonsense", **DATE}, None),
    ({b"x-ratelimit-remaining": b"0", b"x-ratelimit-reset": b"1795618807000", **DATE}, 7.0),
    ({b"x-ratelimit-remaining": b"0", b"x-ratelimit-reset": b"1795618802", **DATE}, 2.0),
    ({b"x-ratelimit-remaining": b"0", b"x-ratelimit-reset": b"1795618807000"}, None),
    ({}, None),
]


@pytest.mark.parametrize(("headers", "seconds"), SPELLINGS, ids=[str(n) for n in range(len(SPELLINGS))])
def test_a_wait_is_read_in_every_spelling(headers: dict[bytes, bytes], seconds: float | None) -> None:
    assert retry_after_s(headers) == seconds


def test_of_several_limits_that_are_used_up_the_last_to_reset_counts() -> None:
    used_up = {b"x-ratelimit-remaining-requests": b"0", b"x-ratelimit-remaining-tokens": b"0"}
    assert retry_after_s({**used_up, b"x-ratelimit-reset-requests": b"2s", b"x-ratelimit-reset-tokens": b"5s"}) == 5.0


def test_a_date_is_read_against_our_clock_where_the_provider_tells_none() -> None:
    wait_s = retry_after_s({b"retry-after": formatdate(time.time() + 30, usegmt=True).encode()})
    assert wait_s is not None and 20 < wait_s <= 30
