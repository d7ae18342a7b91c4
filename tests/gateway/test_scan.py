"""A long body that is looked through once says what searches say."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errors import InvalidRequest
from gateway.asking import most_prompt_tokens
from gateway.peek import deeper, read_chat_call, too_deep
from gateway.scan import LONG, scan

LONGER = " ".join(["word"] * LONG)  # no escape, no quote
TEXT = st.text(alphabet='ab"\\{}[]:,\nü', max_size=12)
JSON = st.recursive(TEXT, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=20)


@settings(max_examples=200, deadline=None)
@given(JSON, st.integers(1, 6))
def test_it_nests_as_deep_as_the_slow_proof_says(value: object, limit: int) -> None:
    body = msgspec.json.encode([LONGER, value])
    seen = scan(body)
    assert seen is not None and deeper(seen.outside, limit) == too_deep(body, limit)


@settings(max_examples=200, deadline=None)
@given(JSON, st.sampled_from(["file_id", "reasoning_signature", "image_url"]))
def test_every_name_of_a_member_is_found(value: object, name: str) -> None:
    seen = scan(msgspec.json.encode([LONGER, value, {name: value}]))
    assert seen is not None and name.encode() in seen.names


def test_a_short_body_and_one_of_many_escapes_are_searched() -> None:
    assert scan(b"{}") is None and scan(b'{"a":"' + b"\\u00fc" * LONG + b'"}') is None


def test_a_long_body_that_nests_too_deep_is_refused_and_one_at_the_limit_is_not() -> None:
    def body(depth: int) -> bytes:
        return b'{"model":"m","messages":[{"role":"user","content":"%b"}],"x":%b%b}' % (LONGER.encode(), b"[" * depth, b"]" * depth)

    assert read_chat_call("req_1", body(63), []).names is not None
    with pytest.raises(InvalidRequest, match="64 levels"):
        read_chat_call("req_1", body(64), [])


def test_what_a_long_body_holds_is_known_by_its_names() -> None:
    def call(part: bytes, text: bytes = LONGER.encode()) -> tuple[bool, int]:
        read = read_chat_call("req_1", b'{"model":"m","messages":[{"role":"user","content":[%b,"%b"]}]}' % (part, text), [])
        return read.may_hold_state, most_prompt_tokens(read) - len(read.body)

    assert call(b'"file_id"') == (True, 0)
    assert call(b'{"thought_signature":"x"}')[0] and call(b'{"image_url":"http://a/b"}')[1] == 5000
    assert call(b'"of a file_id"') == (False, 0)
    data = b"data:image/png;base64," + b"A" * 50_000
    assert call(b'{"image_url":{"url":"%b"}}' % data)[1] < 5000 * 2 - 50_000 + 200
