"""Anthropic's count_tokens: passed on, asked for in another dialect's name, or estimated and said so."""

import json
from typing import Any

import msgspec
import pytest

from contract import errors as e
from contract.call import Call
from providers.address import Chosen
from providers.build import routes_of
from providers.registry import PROVIDER_KINDS
from providers.routes import Prepared
from providers.wires.anthropic_messages import ANTHROPIC_COUNT, ANTHROPIC_MESSAGES
from providers.wires.facts import Facts
from providers.wires.losses import Losses
from providers.wires.openai_chat import OPENAI_CHAT

ASKED: Any = [{"role": "user", "content": "Hello?"}]
Json = dict[str, Any]


def call(**fields: Any) -> Call:
    raws = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in {"model": "m", "messages": ASKED, **fields}.items()}
    body = msgspec.json.encode(raws)
    return Call(request_id="r", dialect="anthropic_count_tokens", model="m", stream=False, include_usage=False, choices=1, body=body, fields=raws)


def prepared(kind: str, asked: Call) -> Prepared:
    return routes_of(PROVIDER_KINDS[kind], Chosen(name="p"))["anthropic_count_tokens"].prepare(asked, "up", "hints")


def counted(body: bytes) -> Json:
    found: Json = json.loads(body)
    return found


def test_at_anthropic_the_client_s_body_goes_by_with_the_model_set() -> None:
    asked = call(system="s", tools=[], thinking={"type": "adaptive"}, not_yet_known=1)
    ready = prepared("anthropic", asked)
    assert ready.path.endswith("/messages/count_tokens") and ready.notes == ()
    assert counted(ready.body) == {"model": "up", "messages": ASKED, "system": "s", "tools": [], "thinking": {"type": "adaptive"}, "not_yet_known": 1}
    assert ready.read is not None and ready.read(b'{"input_tokens":7,"more":1}').body == b'{"input_tokens":7,"more":1}'


@pytest.mark.parametrize("kind", ["openai-compatible", "mistral", "cohere", "deepseek"])
def test_a_provider_that_cannot_count_is_not_asked_and_the_estimate_says_so(kind: str) -> None:
    ready = prepared(kind, call(messages=[{"role": "user", "content": "word " * 1000}]))
    assert ready.ready is not None and ready.notes == ((b"x-turnout-estimated", b"input_tokens"),)
    assert 1000 <= counted(ready.ready.body)["input_tokens"] <= 1500


def test_a_picture_s_bytes_are_not_estimated_as_text() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 400_000}}
    ready = prepared("openai-compatible", call(messages=[{"role": "user", "content": [image, {"type": "text", "text": "What is it?"}]}]))
    assert ready.ready is not None and counted(ready.ready.body)["input_tokens"] < 5_000


@pytest.mark.parametrize("kind", ["gemini", "openai", "bedrock"])
def test_a_provider_that_counts_in_another_way_is_asked(kind: str) -> None:
    ready = prepared(kind, call())
    assert ready.ready is None and "Hello?" in ready.body.decode() and not any(name == b"x-turnout-estimated" for name, _ in ready.notes)


def test_a_request_that_is_none_is_refused_where_it_is_estimated_too() -> None:
    for kind in ("openai-compatible", "gemini"):
        with pytest.raises(e.InvalidRequest):
            prepared(kind, call(messages=[{"role": "user", "content": 5}]))


def test_another_dialect_s_request_is_counted_without_its_answer_s_part() -> None:
    body = {"model": "m", "messages": [{"role": "system", "content": "s"}, *ASKED], "max_tokens": 5, "temperature": 0.5, "stop": "END"}
    request = OPENAI_CHAT.decode_request(json.dumps(body).encode())
    sent = counted(ANTHROPIC_MESSAGES.encode_count_request(request, "claude-x", Facts(), Losses()))
    assert sent == {"model": "claude-x", "system": "s", "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello?"}]}]}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"input_tokens":"7"}', b"\xff"])
def test_what_is_no_count_is_malformed(body: bytes) -> None:
    with pytest.raises(e.MalformedResponse):
        ANTHROPIC_COUNT.read_unary(body)


def test_a_count_has_no_output_and_costs_nothing() -> None:
    usage = ANTHROPIC_COUNT.read_unary(b'{"input_tokens":7}').usage
    assert usage is not None and (usage.input_total, usage.output_total) == (0, 0)


def test_a_count_is_no_stream() -> None:
    with pytest.raises(e.MalformedResponse):
        ANTHROPIC_COUNT.stream_tap(call(), False)
