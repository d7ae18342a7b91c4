"""Google's errors are told apart by status and structured reason, and their text stays here."""

import json
from typing import Any

import pytest

from contract import errors as e
from providers.wires.gemini import GEMINI


def error(code: int, status: str, *details: Any, headers: dict[bytes, bytes] | None = None, wrapped: bool = False) -> e.AttemptError:
    told: Any = {"error": {"code": code, "message": "their words", "status": status, "details": list(details)}}
    return GEMINI.decode_error(code, headers or {}, json.dumps([told] if wrapped else told).encode())


@pytest.mark.parametrize(
    ("code", "status", "cls"),
    [
        (400, "INVALID_ARGUMENT", e.UpstreamRejected),
        (400, "FAILED_PRECONDITION", e.UpstreamRejected),
        (401, "UNAUTHENTICATED", e.UpstreamAuthFailed),
        (403, "PERMISSION_DENIED", e.UpstreamAuthFailed),
        (404, "NOT_FOUND", e.UpstreamModelNotFound),
        (413, "", e.UpstreamRejected),
        (429, "RESOURCE_EXHAUSTED", e.RateLimited),
        (500, "INTERNAL", e.UpstreamError),
        (503, "UNAVAILABLE", e.UpstreamOverloaded),
        (504, "DEADLINE_EXCEEDED", e.UpstreamError),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_each_status_has_its_class_also_in_an_array(code: int, status: str, cls: type[e.AttemptError], wrapped: bool) -> None:
    found = error(code, status, wrapped=wrapped)
    assert type(found) is cls and found.upstream_status == code
    assert "their words" not in found.message


def test_a_bad_key_comes_with_400_and_is_still_ours() -> None:
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
    assert type(error(400, "INVALID_ARGUMENT", info)) is e.UpstreamAuthFailed


def test_a_limit_of_the_day_is_a_quota_that_is_spent() -> None:
    day = {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}
    minute = {"violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel"}]}
    assert type(error(429, "RESOURCE_EXHAUSTED", day)) is e.QuotaExhausted
    assert type(error(429, "RESOURCE_EXHAUSTED", minute)) is e.RateLimited


@pytest.mark.parametrize(("delay", "wait_s"), [("34s", 34.0), ("1.5s", 1.5), ("99999s", 3600.0), ("soon", None), ("xs", None)])
def test_the_delay_to_retry_is_read(delay: str, wait_s: float | None) -> None:
    assert error(429, "RESOURCE_EXHAUSTED", {"retryDelay": delay}).retry_after_s == wait_s


def test_the_header_goes_before_the_detail() -> None:
    assert error(429, "RESOURCE_EXHAUSTED", {"retryDelay": "34s"}, headers={b"retry-after": b"7"}).retry_after_s == 7.0


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"[5]", b'{"error":"no"}', b'{"error":null}', b"\xff", b"[" * 20000])
def test_a_body_that_says_nothing_leaves_the_status(body: bytes) -> None:
    assert type(GEMINI.decode_error(503, {}, body)) is e.UpstreamOverloaded
