"""Errors of a Responses provider: classified by status and code, in bodies, failed responses and error events; its text goes no further."""

import json
from typing import Any

import pytest

from contract import errors as e
from providers.wires.openai_responses import OPENAI_RESPONSES
from providers.wires.openai_responses.errors import BY_CODE, decode_error, in_band_error

CANARY = "canary sk-CANARY"


def error(code: Any = None, **more: Any) -> dict[str, Any]:
    return {"message": CANARY, "code": code, **more}


def assert_is(found: e.AttemptError, kind: type[e.AttemptError]) -> None:
    assert type(found) is kind
    assert "canary" not in f"{found} {found.message} {found.reason} {found.param} {found.args}".lower()


def raised(*stream: Any) -> e.AttemptError:
    decoder = OPENAI_RESPONSES.stream_decoder(1)
    with pytest.raises(e.AttemptError) as caught:
        for event in stream:
            decoder.feed(b"data: %b\n\n" % json.dumps(event).encode())
        decoder.end()
    return caught.value


CODES = [
    ("rate_limit_exceeded", e.RateLimited),
    ("insufficient_quota", e.QuotaExhausted),
    ("context_length_exceeded", e.ContextLengthExceeded),
    ("server_error", e.UpstreamError),
    *BY_CODE.items(),
    ("a_new_code", e.UpstreamError),
    (None, e.UpstreamError),
    (["canary"], e.UpstreamError),
]


@pytest.mark.parametrize(("code", "kind"), CODES, ids=[str(code) for code, _ in CODES])
def test_a_code_means_the_same_in_a_failed_response_an_error_event_and_a_whole_answer(code: Any, kind: type[e.AttemptError]) -> None:
    failed = {"id": "r", "object": "response", "status": "failed", "output": [], "error": error(code)}
    assert_is(raised({"type": "response.failed", "response": failed}), kind)
    assert_is(raised({"type": "error", **error(code, param=None)}), kind)
    assert_is(raised({"type": "error", "error": error(code)}), kind)
    with pytest.raises(e.AttemptError) as caught:
        OPENAI_RESPONSES.decode_response(json.dumps(failed).encode())
    assert_is(caught.value, kind)


def test_a_failure_that_does_not_say_why_is_one_all_the_same() -> None:
    assert_is(raised({"type": "response.failed", "response": {"status": "failed", "output": [], "error": None}}), e.UpstreamError)
    assert_is(raised({"type": "response.failed"}), e.UpstreamError)
    assert_is(raised({"type": "error"}), e.UpstreamError)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, None, e.UpstreamRejected),
        (400, "context_length_exceeded", e.ContextLengthExceeded),
        (400, "cyber_policy", e.ContentPolicyRefused),
        (400, "invalid_image_url", e.UpstreamRejected),
        (401, "invalid_api_key", e.UpstreamAuthFailed),
        (404, "model_not_found", e.UpstreamModelNotFound),
        (429, "rate_limit_exceeded", e.RateLimited),
        (429, "insufficient_quota", e.QuotaExhausted),
        (500, "server_error", e.UpstreamError),
        (503, "server_is_overloaded", e.UpstreamOverloaded),
    ],
)
def test_a_refusal_is_classified_by_status_and_code(status: int, code: str | None, kind: type[e.AttemptError]) -> None:
    assert_is(decode_error(status, {}, json.dumps({"error": error(code)}).encode()), kind)


@pytest.mark.parametrize("body", [b"", b"<html>canary", b"null", b"[]", b'{"error":[]}', b'{"error":"canary"}', b'{"error":{"code":7}}', b"\xff"])
def test_a_body_of_any_shape_is_classified(body: bytes) -> None:
    assert_is(decode_error(400, {}, body), e.UpstreamRejected)
    assert_is(in_band_error(body), e.UpstreamError)


def test_the_wait_and_the_field_are_kept() -> None:
    body = json.dumps({"error": error("invalid_image_url", param="input[0].content[1].image_url")}).encode()
    found = decode_error(400, {b"retry-after": b"7"}, body)
    assert (found.param, found.retry_after_s, found.upstream_status) == ("input[0].content[1].image_url", 7.0, 400)


def test_what_came_before_a_failure_is_told_first() -> None:
    decoder = OPENAI_RESPONSES.stream_decoder(1)
    created = {"type": "response.created", "response": {"id": "r", "status": "in_progress"}}
    text = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "Hi"}
    events = decoder.feed(b"".join([b"data: %b\n\n" % json.dumps(event).encode() for event in (created, text, {"type": "error", **error()})]))
    assert len(events) == 2
    with pytest.raises(e.UpstreamError):
        decoder.end()


def test_our_own_error_is_openai_s_object() -> None:
    body = OPENAI_RESPONSES.encode_error(e.InvalidRequest("wrong", param="input"), "invalid_request_error", "req_1", 0)
    told = json.loads(body)["error"]
    assert (told["message"], told["type"], told["param"], told["code"]) == ("wrong", "invalid_request_error", "input", "invalid_request")
