"""Bedrock's errors are classified by the exception's name, else by status, in answers and within streams; their text goes no further."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract import errors as e
from providers.wires.bedrock import BEDROCK, BEDROCK_EMBEDDINGS
from providers.wires.bedrock.errors import BY_NAME
from tests.providers.eventstream_bytes import exception, message
from tests.providers.wires.bedrock_oracle import service

CANARY = "CANARY-upstream-text"
KINDS: list[tuple[int, str, type[e.AttemptError]]] = [
    (400, "ValidationException", e.UpstreamRejected),
    (400, "ServiceQuotaExceededException", e.QuotaExhausted),
    (400, "ThrottlingException", e.RateLimited),
    (400, "IncompleteSignatureException", e.UpstreamAuthFailed),
    (400, "RequestExpired", e.UpstreamAuthFailed),
    (400, "RequestTimeoutException", e.UpstreamError),
    (403, "AccessDeniedException", e.UpstreamAuthFailed),
    (403, "UnrecognizedClientException", e.UpstreamAuthFailed),
    (403, "ExpiredTokenException", e.UpstreamAuthFailed),
    (403, "InvalidSignatureException", e.UpstreamAuthFailed),
    (403, "IncompleteSignature", e.UpstreamAuthFailed),
    (404, "ResourceNotFoundException", e.UpstreamModelNotFound),
    (408, "ModelTimeoutException", e.UpstreamError),
    (424, "ModelErrorException", e.UpstreamError),
    (424, "ModelStreamErrorException", e.UpstreamError),
    (429, "ThrottlingException", e.RateLimited),
    (429, "ModelNotReadyException", e.UpstreamOverloaded),
    (500, "InternalServerException", e.UpstreamError),
    (503, "ServiceUnavailableException", e.UpstreamOverloaded),
]


def body_of(**members: Any) -> bytes:
    return json.dumps({"message": CANARY, **members}).encode()


def assert_says_nothing_of_theirs(error: e.AttemptError) -> None:
    assert "canary" not in f"{error} {error.message} {error.reason} {error.param} {error.args}".lower()


def decoded(status: int, headers: dict[bytes, bytes], body: bytes) -> e.AttemptError:
    error = BEDROCK.decode_error(status, headers, body)
    assert_says_nothing_of_theirs(error)
    assert error.upstream_status == status
    assert type(BEDROCK_EMBEDDINGS.decode_error(status, headers, body)) is type(error)
    return error


@pytest.mark.parametrize(("status", "name", "kind"), KINDS)
def test_an_exception_is_classified_by_its_name_in_any_of_its_places(status: int, name: str, kind: type[e.AttemptError]) -> None:
    address = "http://internal.amazon.com/coral/com.amazon.bedrock/"
    for written in (name, f"{name}:{address}", f"com.amazon.coral.service#{name}"):
        assert type(decoded(status, {b"x-amzn-errortype": written.encode()}, body_of())) is kind
        assert type(decoded(status, {}, body_of(__type=written))) is kind


def test_every_error_that_amazon_s_model_lists_has_its_class() -> None:
    for operation in ("Converse", "ConverseStream", "InvokeModel", "CountTokens"):
        for shape in service().operation_model(operation).error_shapes:
            assert shape.name in BY_NAME
            status = shape.metadata["error"]["httpStatusCode"]
            named = decoded(status, {b"x-amzn-errortype": shape.name.encode()}, body_of())
            assert type(named) is type(decoded(status, {}, body_of())) or shape.name in ("ModelNotReadyException", "ServiceQuotaExceededException")


BY_STATUS: list[tuple[int, type[e.AttemptError]]] = [
    (301, e.MalformedResponse),
    (400, e.UpstreamRejected),
    (401, e.UpstreamAuthFailed),
    (403, e.UpstreamAuthFailed),
    (404, e.UpstreamModelNotFound),
    (408, e.UpstreamError),
    (413, e.UpstreamRejected),
    (424, e.UpstreamError),
    (429, e.RateLimited),
    (500, e.UpstreamError),
    (502, e.UpstreamError),
    (503, e.UpstreamOverloaded),
]
NO_DETAILS = [b"", b"<html>CANARY</html>", b"null", b"[]", b'"CANARY"', b'{"__type":5}', b'{"__type":"CANARY"}', b"[" * 100_000, b"\xff", body_of()]


@pytest.mark.parametrize("body", NO_DETAILS)
@pytest.mark.parametrize(("status", "kind"), BY_STATUS)
def test_an_error_without_a_known_name_is_classified_by_status(status: int, kind: type[e.AttemptError], body: bytes) -> None:
    assert type(decoded(status, {}, body)) is kind
    assert type(decoded(status, {b"x-amzn-errortype": b"CanaryException"}, body)) is kind


def test_how_long_to_wait_is_told() -> None:
    assert decoded(429, {b"retry-after": b"7", b"x-amzn-errortype": b"ThrottlingException"}, body_of()).retry_after_s == 7
    assert decoded(429, {}, body_of()).retry_after_s is None


IN_STREAM: list[tuple[str, type[e.AttemptError]]] = [
    ("internalServerException", e.UpstreamError),
    ("modelStreamErrorException", e.UpstreamError),
    ("modelTimeoutException", e.UpstreamError),
    ("serviceUnavailableException", e.UpstreamOverloaded),
    ("throttlingException", e.RateLimited),
    ("validationException", e.UpstreamRejected),
    ("ThrottlingException", e.RateLimited),
    ("canaryException", e.UpstreamError),
    ("", e.UpstreamError),
]


@pytest.mark.parametrize(("name", "kind"), IN_STREAM)
def test_an_exception_in_a_stream_is_raised_as_its_class(name: str, kind: type[e.AttemptError]) -> None:
    decoder = BEDROCK.stream_decoder(1)
    with pytest.raises(e.AttemptError) as failed:
        decoder.feed(exception(name, CANARY, originalStatusCode=500, originalMessage=CANARY))
    assert type(failed.value) is kind
    assert_says_nothing_of_theirs(failed.value)
    with pytest.raises(kind):
        decoder.end()


def test_every_exception_that_amazon_s_model_has_in_a_stream_is_known() -> None:
    members = service().operation_model("ConverseStream").output_shape.members["stream"].members
    names = {name for name, shape in members.items() if shape.metadata.get("exception")}
    assert names and names <= {name for name, _ in IN_STREAM}


def test_an_error_in_a_stream_without_an_exception_is_raised_too() -> None:
    for code, kind in (("InternalError", e.UpstreamError), ("ThrottlingException", e.RateLimited)):
        with pytest.raises(kind) as failed:
            BEDROCK.stream_decoder(1).feed(message({":message-type": "error", ":error-code": code, ":error-message": CANARY}, b""))
        assert_says_nothing_of_theirs(failed.value)


@settings(max_examples=150, deadline=None)
@given(st.integers(300, 599), st.text(max_size=40), st.binary(max_size=60))
def test_any_error_has_a_class_and_shows_nothing(status: int, name: str, body: bytes) -> None:
    error = BEDROCK.decode_error(status, {b"x-amzn-errortype": name.encode()}, body)
    assert error.message.isascii() and len(error.message) < 120
