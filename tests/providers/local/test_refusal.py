"""What an engine says when it refuses."""

import json

import pytest

from contract import errors
from providers.local.refusal import decode_refusal


@pytest.mark.parametrize(
    ("status", "body", "cls", "told"),
    [
        (
            400,
            {"error": {"message": "temperature must be\n a number", "code": 400}},
            errors.UpstreamRejected,
            "the engine 'cpu' refused the request: temperature must be a number",
        ),
        (400, {"message": "no grammar", "object": "error"}, errors.UpstreamRejected, "the engine 'cpu' refused the request: no grammar"),
        (400, {"error": {"message": "x" * 1000}}, errors.UpstreamRejected, "the engine 'cpu' refused the request: " + "x" * 500),
        (400, {"error": {"message": 7}}, errors.UpstreamRejected, "the provider refused the request (HTTP 400)"),
        (400, "nothing", errors.UpstreamRejected, "the provider refused the request (HTTP 400)"),
        (
            400,
            {"error": {"message": "This model's maximum context length is 5 tokens"}},
            errors.ContextLengthExceeded,
            "the request is longer than the model's context (HTTP 400)",
        ),
        (500, {"error": {"message": "oh"}}, errors.UpstreamError, "the provider failed (HTTP 500)"),
    ],
)
def test_a_request_at_fault_hears_the_engine_s_own_words_and_nothing_else_changes(status: int, body: object, cls: type, told: str) -> None:
    error = decode_refusal("cpu", status, {}, json.dumps(body).encode())
    assert (type(error), error.message, error.upstream_status) == (cls, told, status)
