"""Anthropic's errors by type and status, and ours in its words."""

import json
from typing import Any

import pytest

from contract import errors as e
from gateway.errors import shown
from providers.wires.anthropic_messages import ANTHROPIC_COUNT, ANTHROPIC_MESSAGES
from providers.wires.anthropic_messages.errors import in_band_error

DATE = b"Wed, 25 Nov 2026 12:00:00 GMT"


def body(kind: str) -> bytes:
    return json.dumps({"type": "error", "error": {"type": kind, "message": "CANARY"}, "request_id": "req_1"}).encode()


@pytest.mark.parametrize(
    ("status", "kind", "cls", "disposition"),
    [
        (400, "invalid_request_error", e.UpstreamRejected, "final"),
        (401, "authentication_error", e.UpstreamAuthFailed, "fail_over"),
        (402, "billing_error", e.QuotaExhausted, "fail_over"),
        (403, "permission_error", e.UpstreamAuthFailed, "fail_over"),
        (404, "not_found_error", e.UpstreamModelNotFound, "fail_over"),
        (409, "conflict_error", e.UpstreamError, "retry_same"),
        (413, "request_too_large", e.UpstreamRejected, "final"),
        (429, "rate_limit_error", e.RateLimited, "fail_over"),
        (500, "api_error", e.UpstreamError, "retry_same"),
        (504, "timeout_error", e.UpstreamError, "retry_same"),
        (529, "overloaded_error", e.UpstreamOverloaded, "retry_same"),
    ],
)
def test_each_documented_error_has_its_class(status: int, kind: str, cls: type[e.AttemptError], disposition: str) -> None:
    for wire in (ANTHROPIC_MESSAGES, ANTHROPIC_COUNT):
        error = wire.decode_error(status, {}, body(kind))
        assert (type(error), error.disposition, error.upstream_status) == (cls, disposition, status)
        assert "CANARY" not in error.message


@pytest.mark.parametrize(("status", "cls"), [(413, e.UpstreamRejected), (429, e.RateLimited), (502, e.UpstreamError), (529, e.UpstreamOverloaded)])
@pytest.mark.parametrize("page", [b"", b"<html>CANARY</html>", b"[]", b'{"error":5}', b"\xff", b'{"error":{"type":null}}'])
def test_a_proxy_s_page_is_classified_by_its_status_alone(status: int, cls: type[e.AttemptError], page: bytes) -> None:
    assert type(ANTHROPIC_MESSAGES.decode_error(status, {}, page)) is cls


def test_a_type_that_says_more_than_its_status_is_heard() -> None:
    assert type(ANTHROPIC_MESSAGES.decode_error(400, {}, body("billing_error"))) is e.QuotaExhausted


@pytest.mark.parametrize("code", ["enforced_spend_limit_reached", "contract_spend_limit_reached"])
def test_a_spend_limit_is_told_from_a_rate_limit_by_its_code(code: str) -> None:
    limited = json.dumps({"type": "error", "error": {"type": "rate_limit_error", "message": "CANARY", "details": {"error_code": code}}}).encode()
    assert type(ANTHROPIC_MESSAGES.decode_error(429, {}, limited)) is e.QuotaExhausted
    assert type(in_band_error(limited)) is e.QuotaExhausted


@pytest.mark.parametrize("details", [None, {}, {"error_code": None}, {"error_code": "ramp_limit_exceeded"}, {"error_code": "new"}])
def test_a_code_that_says_no_more_leaves_the_type_to_say_it(details: Any) -> None:
    limited = json.dumps({"type": "error", "error": {"type": "rate_limit_error", "message": "CANARY", "details": details}}).encode()
    assert type(ANTHROPIC_MESSAGES.decode_error(429, {}, limited)) is e.RateLimited


def refused(message: str) -> bytes:
    return json.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": message}}).encode()


def test_used_up_credit_is_no_fault_of_the_caller_s() -> None:
    told = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."
    assert type(ANTHROPIC_MESSAGES.decode_error(400, {}, refused(told))) is e.QuotaExhausted
    assert type(in_band_error(refused(told))) is e.QuotaExhausted
    assert type(ANTHROPIC_MESSAGES.decode_error(400, {}, refused(f"messages.0.role: {told!r} is not allowed"))) is e.UpstreamRejected


def test_a_server_s_failure_stays_one_whatever_its_body_says() -> None:
    assert type(ANTHROPIC_MESSAGES.decode_error(500, {}, body("invalid_request_error"))) is e.UpstreamError


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({b"retry-after": b"12"}, 12),
        ({b"retry-after": b"Wed, 25 Nov 2026 12:00:30 GMT", b"date": DATE}, 30),
        ({b"date": DATE, b"anthropic-ratelimit-tokens-remaining": b"0", b"anthropic-ratelimit-tokens-reset": b"2026-11-25T12:00:45Z"}, 45),
        (
            {
                b"date": DATE,
                b"anthropic-ratelimit-requests-remaining": b"0",
                b"anthropic-ratelimit-requests-reset": b"2026-11-25T12:00:05Z",
                b"anthropic-ratelimit-input-tokens-remaining": b"0",
                b"anthropic-ratelimit-input-tokens-reset": b"2026-11-25T12:00:20Z",
            },
            20,
        ),
        ({b"date": DATE, b"anthropic-ratelimit-tokens-remaining": b"7", b"anthropic-ratelimit-tokens-reset": b"2026-11-25T12:00:45Z"}, None),
        ({b"anthropic-ratelimit-tokens-remaining": b"0", b"anthropic-ratelimit-tokens-reset": b"2026-11-25T12:00:45Z"}, None),
        ({b"date": DATE, b"anthropic-ratelimit-tokens-remaining": b"0", b"anthropic-ratelimit-tokens-reset": b"soon"}, None),
        ({}, None),
    ],
)
def test_how_long_to_wait_is_read_from_whichever_header_says_so(headers: dict[bytes, bytes], wait_s: float | None) -> None:
    assert ANTHROPIC_MESSAGES.decode_error(429, headers, body("rate_limit_error")).retry_after_s == wait_s


@pytest.mark.parametrize(
    ("kind", "cls"),
    [
        ("overloaded_error", e.UpstreamOverloaded),
        ("rate_limit_error", e.RateLimited),
        ("invalid_request_error", e.UpstreamRejected),
        ("authentication_error", e.UpstreamAuthFailed),
        ("api_error", e.UpstreamError),
        ("timeout_error", e.UpstreamError),
        ("a_new_error", e.UpstreamError),
    ],
)
def test_an_error_event_is_classified_by_its_type_for_it_has_no_status(kind: str, cls: type[e.AttemptError]) -> None:
    assert type(in_band_error(body(kind))) is cls


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (e.AuthenticationFailed("m"), "authentication_error"),
        (e.PermissionDenied("m"), "permission_error"),
        (e.ModelNotFound("m"), "not_found_error"),
        (e.InvalidRequest("m"), "invalid_request_error"),
        (e.RequestTooLarge("m"), "request_too_large"),
        (e.RateLimited("m"), "rate_limit_error"),
        (e.UpstreamOverloaded("m"), "overloaded_error"),
        (e.UpstreamModelNotFound("m"), "not_found_error"),
        (e.UpstreamError("m"), "api_error"),
        (e.StreamCut("m"), "api_error"),
        (e.ServerShuttingDown("m"), "overloaded_error"),
        (e.TurnoutError("m"), "api_error"),
        (e.AttemptsExhausted([e.UpstreamError("first"), e.RateLimited("m")]), "rate_limit_error"),
    ],
)
def test_our_errors_are_told_in_anthropic_s_words(error: e.TurnoutError, kind: str) -> None:
    told: Any = json.loads(ANTHROPIC_MESSAGES.encode_error(error, shown(error).type, "req_9", 2))
    assert (told["type"], told["request_id"]) == ("error", "req_9")
    assert told["error"] == {"type": kind, "message": "m", "code": error.reason, "param": None, "attempts": 2}
