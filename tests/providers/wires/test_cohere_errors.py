"""Cohere's refusals: its bodies hold a text alone, so the status says what is meant."""

import pytest

from contract import errors as e
from providers.wires.cohere import COHERE, COHERE_EMBEDDINGS


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, e.UpstreamRejected),
        (401, e.UpstreamAuthFailed),
        (402, e.QuotaExhausted),
        (403, e.UpstreamAuthFailed),
        (404, e.UpstreamModelNotFound),
        (422, e.UpstreamRejected),
        (429, e.RateLimited),
        (498, e.UpstreamAuthFailed),
        (499, e.UpstreamError),
        (500, e.UpstreamError),
        (503, e.UpstreamOverloaded),
        (504, e.UpstreamError),
        (302, e.MalformedResponse),
    ],
)
def test_a_status_says_which_error_it_is(status: int, kind: type[e.AttemptError]) -> None:
    for wire in (COHERE, COHERE_EMBEDDINGS):
        error = wire.decode_error(status, {}, b'{"message":"CANARY too many tokens"}')
        assert type(error) is kind and "CANARY" not in error.message and error.upstream_status == status


def test_how_long_to_wait_is_read() -> None:
    assert COHERE.decode_error(429, {b"retry-after": b"7"}, b"").retry_after_s == 7
