"""An upstream's error is classified by status and structured code, and none of its text goes further."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract import errors as e
from providers.wires.failure import MAX_RETRY_AFTER_S, retry_after_s
from providers.wires.openai_chat import OPENAI_CHAT
from providers.wires.openai_chat.errors import BY_CODE, in_band_error

CANARY = "canary sk-CANARY"


def body_of(**error: Any) -> bytes:
    return json.dumps({"error": {"message": CANARY, **error}}).encode()


def decoded(status: int, body: bytes, headers: dict[bytes, bytes] | None = None) -> e.AttemptError:
    return OPENAI_CHAT.decode_error(status, headers or {}, body)


BY_STATUS = [
    (301, e.MalformedResponse),
    (204, e.MalformedResponse),
    (400, e.UpstreamRejected),
    (401, e.UpstreamAuthFailed),
    (402, e.QuotaExhausted),
    (403, e.UpstreamAuthFailed),
    (404, e.UpstreamModelNotFound),
    (405, e.UpstreamRejected),
    (408, e.UpstreamError),
    (409, e.UpstreamError),
    (413, e.UpstreamRejected),
    (415, e.UpstreamRejected),
    (422, e.UpstreamRejected),
    (425, e.UpstreamError),
    (429, e.RateLimited),
    (451, e.UpstreamRejected),
    (500, e.UpstreamError),
    (501, e.UpstreamError),
    (502, e.UpstreamError),
    (503, e.UpstreamOverloaded),
    (504, e.UpstreamError),
    (529, e.UpstreamOverloaded),
    (599, e.UpstreamError),
]
NO_DETAILS = [
    b"",
    b"<html>canary sk-CANARY</html>",
    b'"canary sk-CANARY"',
    b"null",
    b"[]",
    b"[5]",
    b"{}",
    b'{"error":null}',
    b'{"error":"canary sk-CANARY"}',
    b'{"error":[]}',
    b'{"error":{"message":"\xff"}}',
    b'{"error":{"message":"canary',
    b"[" * 100_000,
    b'{"detail":[{"loc":["body","canary sk-CANARY"],"msg":"canary"}]}',
    body_of(),
    body_of(code=None, type=None, param=None),
    body_of(code=["canary"], type={"canary": 1}, param=5),
    body_of(code="canary", type="canary", param="canary sk-CANARY"),
]


def assert_says_nothing_of_theirs(error: e.AttemptError) -> None:
    shown = f"{error} {error.message} {error.reason} {error.param} {error.args}"
    assert "canary" not in shown.lower()


@pytest.mark.parametrize("body", NO_DETAILS, ids=[f"{n} {body[:30]!r}" for n, body in enumerate(NO_DETAILS)])
@pytest.mark.parametrize(("status", "error"), BY_STATUS)
def test_a_body_without_a_known_code_is_classified_by_status_alone(status: int, error: type[e.AttemptError], body: bytes) -> None:
    found = decoded(status, body)
    assert type(found) is error
    assert (found.upstream_status, found.param, found.reason) == (status, None, error.code)
    assert_says_nothing_of_theirs(found)


CODES = [
    (400, body_of(code="context_length_exceeded", type="invalid_request_error", param="messages"), e.ContextLengthExceeded, "messages"),
    (400, body_of(code=400, type="exceed_context_size_error", n_ctx=512), e.ContextLengthExceeded, None),
    (400, body_of(code="content_filter", param="prompt", innererror={"code": "ResponsibleAIPolicyViolation"}), e.ContentPolicyRefused, "prompt"),
    (400, body_of(code="content_policy_violation"), e.ContentPolicyRefused, None),
    (400, body_of(code="invalid_api_key"), e.UpstreamAuthFailed, None),
    (400, body_of(code="model_not_found"), e.UpstreamModelNotFound, None),
    (
        400,
        body_of(type="invalid_request_error", param="messages[0].content[1].image_url.url"),
        e.UpstreamRejected,
        "messages[0].content[1].image_url.url",
    ),
    (400, body_of(code="unsupported_parameter", param="max_tokens"), e.UpstreamRejected, "max_tokens"),
    (401, body_of(code="invalid_api_key", type="invalid_request_error"), e.UpstreamAuthFailed, None),
    (403, body_of(code="insufficient_quota"), e.QuotaExhausted, None),
    (404, body_of(code="model_not_found", type="invalid_request_error", param="model"), e.UpstreamModelNotFound, "model"),
    (429, body_of(code="insufficient_quota", type="insufficient_quota"), e.QuotaExhausted, None),
    (429, body_of(code="rate_limit_exceeded", type="tokens"), e.RateLimited, None),
    (429, body_of(code="billing_hard_limit_reached"), e.QuotaExhausted, None),
    (429, body_of(code=None, type="engine_overloaded_error"), e.UpstreamOverloaded, None),
    (503, body_of(code="rate_limit_exceeded"), e.RateLimited, None),
    (500, body_of(code="rate_limit_exceeded"), e.UpstreamError, None),
    (500, body_of(code="context_length_exceeded"), e.UpstreamError, None),
    (302, body_of(code="rate_limit_exceeded"), e.MalformedResponse, None),
    (400, b'[{"error":{"code":400,"message":"canary sk-CANARY","status":"INVALID_ARGUMENT"}}]', e.UpstreamRejected, None),
    (400, b'{"object":"error","message":"canary","type":"BadRequestError","param":"n","code":400}', e.UpstreamRejected, "n"),
    (400, b'{"error":null,"object":"error","message":"canary","code":"context_length_exceeded"}', e.ContextLengthExceeded, None),
]


@pytest.mark.parametrize(("status", "body", "error", "param"), CODES, ids=[f"{n} {body[:90]!r}" for n, (_, body, _, _) in enumerate(CODES)])
def test_a_structured_code_says_more_than_the_status(status: int, body: bytes, error: type[e.AttemptError], param: str | None) -> None:
    found = decoded(status, body)
    assert type(found) is error
    assert (found.upstream_status, found.param, found.reason) == (status, param, error.code)
    assert (param is None) == ("`" not in found.message)
    assert_says_nothing_of_theirs(found)


@pytest.mark.parametrize("code", BY_CODE)
def test_a_code_means_the_same_in_code_and_in_type(code: str) -> None:
    assert type(decoded(400, body_of(code=code))) is type(decoded(400, body_of(type=code))) is BY_CODE[code]
    assert type(in_band_error(body_of(code=code))) is BY_CODE[code]


@pytest.mark.parametrize(
    "param",
    ["", " ", "a b", "messages[0", "messages[]", "messages[x]", "a..b", ".a", "a.", "1a", "é", "<b>", "a\n", "a`", "x" * 65, "a" + ".b" * 13, 5, []],
)  # fmt: skip
def test_a_param_that_is_no_path_of_a_field_is_left_out(param: object) -> None:
    found = decoded(400, body_of(param=param))
    assert found.param is None and "`" not in found.message


@given(st.text(), st.text(), st.text(), st.sampled_from([400, 404, 429, 500, 503]))
@settings(max_examples=100, deadline=None)
def test_an_error_says_the_same_whatever_the_texts_of_the_upstream(message: str, code: str, kind: str, status: int) -> None:
    if code in BY_CODE or kind in BY_CODE:
        return
    found = decoded(status, json.dumps({"error": {"message": message, "code": code, "type": kind}}).encode())
    plain = decoded(status, b"")
    assert (type(found), found.message, found.reason, found.param) == (type(plain), plain.message, plain.reason, None)


IN_BAND = [
    ({"message": CANARY}, e.UpstreamError),
    ({"message": CANARY, "code": 429}, e.RateLimited),
    ({"message": CANARY, "code": 402}, e.QuotaExhausted),
    ({"message": CANARY, "code": 400, "type": "BadRequestError"}, e.UpstreamRejected),
    ({"message": CANARY, "code": 404, "type": "NotFoundError"}, e.UpstreamModelNotFound),
    ({"message": CANARY, "code": 502, "metadata": {"provider_name": CANARY}}, e.UpstreamError),
    ({"message": CANARY, "code": 503}, e.UpstreamOverloaded),
    ({"message": CANARY, "code": 200}, e.UpstreamError),
    ({"message": CANARY, "code": 10**30}, e.UpstreamError),
    ({"message": CANARY, "code": True}, e.UpstreamError),
    ({"message": CANARY, "type": "invalid_request_error"}, e.UpstreamRejected),
    ({"message": CANARY, "type": "authentication_error"}, e.UpstreamAuthFailed),
    ({"message": CANARY, "type": "server_error", "code": "canary"}, e.UpstreamError),
    ({"message": CANARY, "type": "invalid_request_error", "code": "context_length_exceeded"}, e.ContextLengthExceeded),
    ({"message": CANARY, "type": "overloaded_error"}, e.UpstreamOverloaded),
    ({"message": CANARY, "code": "content_filter", "param": CANARY}, e.ContentPolicyRefused),
    ({}, e.UpstreamError),
    (CANARY, e.UpstreamError),
    ([CANARY], e.UpstreamError),
]


@pytest.mark.parametrize("wrapped", [True, False], ids=["in error", "bare"])
@pytest.mark.parametrize(("details", "error"), IN_BAND, ids=[f"{n} {str(details)[31:70]}" for n, (details, _) in enumerate(IN_BAND)])
def test_an_error_object_under_a_200_is_an_error(details: object, error: type[e.AttemptError], wrapped: bool) -> None:
    found = in_band_error(json.dumps({"error": details} if wrapped else details).encode())
    assert type(found) is error and found.upstream_status == 200
    assert_says_nothing_of_theirs(found)


DATE = b"Wed, 21 Oct 2026 07:28:00 GMT"
WAITS: list[tuple[dict[bytes, bytes], float | None]] = [
    ({}, None),
    ({b"retry-after": b"7"}, 7.0),
    ({b"retry-after": b"0"}, 0.0),
    ({b"retry-after": b" 7 "}, 7.0),
    ({b"retry-after": b"1.5"}, 1.5),
    ({b"retry-after": b"-1"}, None),
    ({b"retry-after": b"999999999"}, MAX_RETRY_AFTER_S),
    ({b"retry-after": b"9" * 5000}, MAX_RETRY_AFTER_S),
    ({b"retry-after-ms": b"250"}, 0.25),
    ({b"retry-after-ms": b"250", b"retry-after": b"7"}, 0.25),
    ({b"retry-after-ms": b"-5"}, None),
    ({b"retry-after-ms": b"nan"}, None),
    ({b"retry-after-ms": b"soon"}, None),
    ({b"retry-after-ms": b"soon", b"retry-after": b"7"}, 7.0),
    ({b"retry-after-ms": b"", b"retry-after": b"7"}, 7.0),
    ({b"retry-after": b"Wed, 21 Oct 2026 07:28:30 GMT", b"date": DATE}, 30.0),
    ({b"retry-after": b"Wed, 21 Oct 2026 09:28:30 +0200", b"date": DATE}, 30.0),
    ({b"retry-after": b"Thu, 22 Oct 2026 07:28:30 GMT", b"date": DATE}, MAX_RETRY_AFTER_S),
    ({b"retry-after": b"Wed, 21 Oct 2026 07:27:00 GMT", b"date": DATE}, None),
    ({b"retry-after": b"Wed, 21 Oct 2026 07:28:30 GMT"}, None),
    ({b"retry-after": b"Wed, 21 Oct 2026 07:28:30 GMT", b"date": b"yesterday"}, None),
    ({b"retry-after": b"Wed, 21 Oct 2026 07:28:30 -0000", b"date": DATE}, None),
    ({b"retry-after": b"Wed, 21 Oct 99999 07:28:30 GMT", b"date": DATE}, None),
    ({b"retry-after": b"Wed, 21 Oct 2026 07:28:" + b"9" * 60 + b" GMT", b"date": DATE}, None),
    ({b"retry-after": b"Wed, 21 Oct 2026 07:28:30 +" + b"9" * 60, b"date": DATE}, None),
    ({b"retry-after": b""}, None),
    ({b"retry-after": b"."}, None),
    ({b"retry-after": b"soon"}, None),
    ({b"retry-after": b"\xff\xfe"}, None),
    ({b"retry-after": b"7, 8", b"date": DATE}, None),
    ({b"retry-after": b"1e3"}, None),
]


@pytest.mark.parametrize(("headers", "wait_s"), WAITS, ids=[str(headers)[:90] for headers, _ in WAITS])
def test_the_wait_is_what_the_headers_say_or_nothing(headers: dict[bytes, bytes], wait_s: float | None) -> None:
    assert decoded(429, b"", headers).retry_after_s == wait_s


@given(
    st.sampled_from([b"retry-after", b"retry-after-ms"]), st.binary(max_size=40) | st.text("0123456789 ,:+-GMTWedOctJan", max_size=40).map(str.encode)
)
@settings(max_examples=300, deadline=None)
def test_no_header_can_make_the_wait_anything_but_sane(name: bytes, value: bytes) -> None:
    wait_s = retry_after_s({name: value, b"date": DATE})
    assert wait_s is None or 0 <= wait_s <= MAX_RETRY_AFTER_S
