"""What an engine says when it refuses."""

import asyncio
import json

import pytest

from contract import errors
from providers.local.refusal import TellingRefusal, decode_refusal
from tests.providers.local.test_progress import Pieces


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


def told(**error: object) -> bytes:
    return b"data: " + json.dumps({"error": error}).encode() + b"\n\ndata: [DONE]\n\n"


def cut(stream: bytes, step: int) -> list[bytes]:
    return [stream[at : at + step] for at in range(0, len(stream), step)]


async def read(*pieces: bytes) -> bytes:
    found, response = b"", TellingRefusal(Pieces(*pieces), "gpu")
    while chunk := await response.chunk():
        found += chunk
    return found


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_a_refusal_that_a_stream_begins_with_is_told_in_the_engine_s_words(step: int) -> None:
    with pytest.raises(errors.UpstreamRejected, match="the engine 'gpu' refused the request: no such regex") as refused:
        asyncio.run(read(*cut(told(message="no such regex", type="BadRequestError", param=None, code=400), step)))
    assert refused.value.upstream_status == 400
    with pytest.raises(errors.ContextLengthExceeded):
        asyncio.run(read(*cut(told(message="This model's maximum context length is 5 tokens", code=400), step)))


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize(
    "stream",
    [
        told(message="it broke", code=500),
        told(message="it broke"),
        b'data: {"error": 7}\n\n',
        b'data: {"error"',
        b'data: {"id":"x"}\n\n' + told(message="later", code=400),
        b"",
    ],
)
def test_every_other_stream_passes_as_it_is(stream: bytes, step: int) -> None:
    assert asyncio.run(read(*cut(stream, step))) == stream
