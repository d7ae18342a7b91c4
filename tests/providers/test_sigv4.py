"""Requests are signed as botocore signs them."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.credentials import AmazonSigner
from providers.sigv4 import Credentials, Request, Scope, sign
from providers.wires.bedrock import BEDROCK, BEDROCK_EMBEDDINGS
from tests.providers.sigv4_oracle import authorization

KEY = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
TEMPORARY = Credentials("ASIAEXAMPLE", "secret/+=", "IQoJb3JpZ2luX2VjEXAMPLE/+==")
NOW = datetime(2026, 11, 25, 12, 34, 56, tzinfo=UTC)
MODELS = [
    "anthropic.claude-sonnet-4-5-20250929-v1:0",
    "us.anthropic.claude-sonnet-4-6",
    "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-pro-v1:0",
    "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/a1b2c3d4e5f6",
    "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-v2:1",
    "arn:aws:sagemaker:us-west-2:123456789012:endpoint/my-model",
    "my model+~%",
]
_text = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30)
_segment = st.text(min_size=1, max_size=20).filter(lambda text: text not in (".", "..")).map(lambda text: quote(text, safe=""))
_word = st.text(max_size=6).map(lambda text: quote(text, safe="-_.~"))
_pair = st.tuples(_word.filter(bool), _word).map(lambda pair: f"{pair[0]}={pair[1]}")
_pairs = st.lists(_pair | _word.filter(bool), max_size=4)
_name = st.sampled_from(["content-type", "accept", "x-amz-target", "x-amzn-bedrock-trace", "x-custom"])
_header_value = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
_credentials = st.builds(Credentials, _text, _text, st.none() | _text)
_times = st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31), timezones=st.just(UTC))


def expected(request: Request, credentials: Credentials, region: str, now: datetime) -> str:
    key = (credentials.access_key_id, credentials.secret_access_key, credentials.session_token)
    headers = {name.decode(): value.decode() for name, value in request.headers}
    url = f"https://{request.host}{request.path}" + (f"?{request.query}" if request.query else "")
    return authorization(request.method, url, headers, request.body, key=key, region=region, stamp=now.strftime("%Y%m%dT%H%M%SZ"))


def signed(request: Request, credentials: Credentials, region: str = "us-east-1", now: datetime = NOW) -> dict[bytes, bytes]:
    return dict(sign(request, credentials, Scope(region, "bedrock"), now))


@settings(max_examples=300, deadline=None)
@given(
    method=st.sampled_from(["GET", "POST", "PUT"]),
    host=st.sampled_from(["bedrock-runtime.us-east-1.amazonaws.com", "127.0.0.1:8123", "vpce-0a1b.bedrock-runtime.eu-west-1.vpce.amazonaws.com"]),
    segments=st.lists(_segment, max_size=4),
    pairs=_pairs,
    headers=st.dictionaries(_name, _header_value, max_size=4),
    body=st.binary(max_size=200),
    credentials=_credentials,
    region=st.sampled_from(["us-east-1", "eu-central-1", "ap-northeast-3", "us-gov-west-1"]),
    now=_times,
)
def test_a_request_is_signed_as_botocore_signs_it(
    method: str,
    host: str,
    segments: list[str],
    pairs: list[str],
    headers: dict[str, str],
    body: bytes,
    credentials: Credentials,
    region: str,
    now: Any,
) -> None:
    names = tuple((name.encode(), value.encode()) for name, value in headers.items())
    request = Request(method, host, "/" + "/".join(segments), "&".join(pairs), names, body)
    assert signed(request, credentials, region, now)[b"authorization"].decode() == expected(request, credentials, region, now)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("credentials", [KEY, TEMPORARY], ids=["lasting", "temporary"])
def test_the_path_of_a_model_is_signed_as_botocore_signs_it(model: str, credentials: Credentials) -> None:
    for path in (BEDROCK.path(model, True), BEDROCK.path(model, False), BEDROCK.count_path(model), BEDROCK_EMBEDDINGS.path(model)):
        request = Request("POST", "bedrock-runtime.us-east-1.amazonaws.com", path, "", ((b"content-type", b"application/json"),), b"{}")
        assert signed(request, credentials)[b"authorization"].decode() == expected(request, credentials, "us-east-1", NOW)


def test_a_model_is_one_segment_of_its_path() -> None:
    assert BEDROCK.path(MODELS[2], True).count("/") == 3
    assert BEDROCK.path(MODELS[0], False) == "/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse"


def test_temporary_credentials_send_their_token_and_sign_it() -> None:
    found = signed(Request("POST", "h", "/"), TEMPORARY)
    assert found[b"x-amz-security-token"] == b"IQoJb3JpZ2luX2VjEXAMPLE/+=="
    assert b"SignedHeaders=host;x-amz-date;x-amz-security-token" in found[b"authorization"]


def test_lasting_credentials_send_no_token() -> None:
    assert b"x-amz-security-token" not in signed(Request("POST", "h", "/"), KEY)


def test_another_body_has_another_signature() -> None:
    one, two = (signed(Request("POST", "h", "/", body=body), KEY) for body in (b"{}", b"{ }"))
    assert one[b"authorization"] != two[b"authorization"]


@pytest.mark.parametrize("credentials", [KEY, TEMPORARY], ids=["lasting", "temporary"])
async def test_the_signer_signs_what_is_sent_at_the_time_it_is_sent(credentials: Credentials) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    path, body = "/base" + BEDROCK.path(MODELS[0], True) + "?trace=1", b'{"messages":[]}'
    found = dict(await AmazonSigner(credentials, "eu-west-1").headers("127.0.0.1:8123", path, body))
    stamp = datetime.strptime(found[b"x-amz-date"].decode(), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert before <= stamp <= datetime.now(UTC)
    key = (credentials.access_key_id, credentials.secret_access_key, credentials.session_token)
    url, date = f"http://127.0.0.1:8123{path}", found[b"x-amz-date"].decode()
    told = {"content-type": "application/json"}
    assert found[b"authorization"].decode() == authorization("POST", url, told, body, key=key, region="eu-west-1", stamp=date)


def test_credentials_are_shown_without_their_secrets() -> None:
    assert repr(TEMPORARY) == "Credentials('ASIAEXAMPLE')"


def test_a_secret_is_in_no_header() -> None:
    shown = b" ".join(signed(Request("POST", "h", "/"), KEY).values())
    assert KEY.secret_access_key.encode() not in shown
