"""The contract's structs survive JSON, and OpenAI's chat format carries what it can carry there and back."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from contract import events as ev
from contract import requests as r
from contract.call import Call
from contract.errors import StreamCut
from contract.finish import Finish
from contract.usage import Usage
from providers.wires.facts import Facts
from providers.wires.losses import Losses
from providers.wires.openai_chat import OPENAI_CHAT
from tests.contract import openai
from tests.contract.event_sequences import answers
from tests.contract.native import natives
from tests.contract.strategies import CALLS, FINISHES, any_events, any_requests, part_kinds, usages
from tests.providers.wires.answering import answering
from tests.providers.wires.chat_requests import with_usage

FEW = settings(max_examples=80, deadline=None)


def survives(value: Any, kind: Any) -> None:
    encoded = msgspec.json.encode(value)
    decoded = msgspec.json.decode(encoded, type=kind)
    assert decoded == value
    assert msgspec.json.encode(decoded) == encoded


# --- JSON ------------------------------------------------------------------------------------------------------------
@given(any_requests(raw=True))
@settings(max_examples=60, deadline=None)
def test_a_request_survives_json(request: r.ChatRequest) -> None:
    survives(request, r.ChatRequest)


@pytest.mark.parametrize("kind", [*part_kinds(raw=True)])
@given(st.data())
@settings(max_examples=25, deadline=None)
def test_a_part_of_every_kind_survives_json(kind: str, data: st.DataObject) -> None:
    survives(data.draw(part_kinds(raw=True)[kind]), r.Part)


@given(any_events(raw=True))
@settings(max_examples=250, deadline=None)
def test_an_event_survives_json(event: ev.Event) -> None:
    survives(event, ev.Event)


@given(usages(raw=True))
@FEW
def test_usage_survives_json(usage: Usage) -> None:
    survives(usage, Usage)


@given(FINISHES)
@FEW
def test_a_finish_survives_json(finish: Finish) -> None:
    survives(finish, Finish)


@given(CALLS)
@FEW
def test_a_call_survives_json(call: Call) -> None:
    survives(call, Call)


OBJECT = Raw(b'{"a":[1,"\\u00e9"]}')
WITH_JSON: list[tuple[Any, Any]] = [
    (r.TextPart(text="x", cache_control=OBJECT), r.Part),
    (r.FunctionTool(name="x", parameters=OBJECT), r.Tool),
    (r.FunctionTool(name="x", cache_control=OBJECT), r.Tool),
    (r.JsonSchemaFormat(name="x", schema=OBJECT), r.ResponseFormat),
    (ev.TextDelta(text="x", logprobs=OBJECT), ev.Event),
    (ev.RefusalDelta(text="x", logprobs=OBJECT), ev.Event),
    (Usage(raw=OBJECT), Usage),
]


@pytest.mark.parametrize(("value", "kind"), WITH_JSON, ids=[f"{type(value).__name__} {n}" for n, (value, _) in enumerate(WITH_JSON)])
def test_optional_json_survives_json(value: Any, kind: Any) -> None:
    survives(value, kind)


# --- OpenAI chat -----------------------------------------------------------------------------------------------------
@given(openai.requests())
@settings(max_examples=100, deadline=None)
def test_a_request_that_openai_chat_can_carry_comes_back_the_same(request: r.ChatRequest) -> None:
    losses = Losses()
    assert OPENAI_CHAT.decode_request(OPENAI_CHAT.encode_request(request, request.model, Facts(), losses)) == with_usage(request)
    assert losses.fatal == losses.hints == []


@given(openai.answers())
@settings(max_examples=60, deadline=None)
def test_a_whole_answer_says_the_same_after_encoding_and_decoding(answer: tuple[int, list[ev.Event]]) -> None:
    _, events = answer
    assert openai.content(OPENAI_CHAT.decode_response(OPENAI_CHAT.encode_response(events, answering()))) == openai.content(events)


def streamed(events: list[ev.Event]) -> bytes:
    encoder = OPENAI_CHAT.stream_encoder(answering())
    return b"".join([encoder.feed(event) for event in events])


def decoded(choices: int, *chunks: bytes) -> list[ev.Event]:
    decoder = OPENAI_CHAT.stream_decoder(choices)
    return [event for chunk in chunks for event in decoder.feed(chunk)] + decoder.end()


@given(openai.answers())
@settings(max_examples=60, deadline=None)
def test_a_streamed_answer_says_the_same_after_encoding_and_decoding(answer: tuple[int, list[ev.Event]]) -> None:
    choices, events = answer
    assert openai.content(decoded(choices, streamed(events))) == openai.content(events)


@given(answers())
@FEW
def test_what_only_another_format_knows_is_in_a_whole_answer_and_in_a_streamed_one(events: list[ev.Event]) -> None:
    (choice,) = msgspec.json.decode(OPENAI_CHAT.encode_response(events, answering()))["choices"]
    chunks = [msgspec.json.decode(line[6:]) for line in streamed(events).split(b"\n\n")[:-1] if not line.endswith(b"[DONE]")]
    deltas = [told["delta"] for chunk in chunks for told in chunk["choices"]]
    assert choice["message"].get("native_output", []) == natives(events) == [each for delta in deltas for each in delta.get("native_output", ())]


@given(openai.answers())
@settings(max_examples=4, deadline=None)
def test_a_streamed_answer_says_the_same_wherever_it_is_cut_in_two(answer: tuple[int, list[ev.Event]]) -> None:
    choices, events = answer
    stream = streamed(events)
    whole = decoded(choices, stream)
    assert decoded(choices, *[stream[at : at + 1] for at in range(len(stream))]) == whole
    for at in range(len(stream)):
        assert decoded(choices, stream[:at], stream[at:]) == whole


@given(openai.answers())
@settings(max_examples=4, deadline=None)
def test_a_streamed_answer_that_ends_before_its_last_finish_is_cut(answer: tuple[int, list[ev.Event]]) -> None:
    choices, events = answer
    last = max(at for at, event in enumerate(events) if isinstance(event, ev.Finished))
    stream = streamed(events[:last])
    for at in range(len(stream) + 1):
        with pytest.raises(StreamCut):
            decoded(choices, stream[:at])


@given(openai.answers(), st.booleans())
@FEW
def test_usage_is_streamed_only_to_a_client_that_asked(answer: tuple[int, list[ev.Event]], asked: bool) -> None:
    _, events = answer
    encoder = OPENAI_CHAT.stream_encoder(answering(include_usage=asked))
    stream = b"".join([encoder.feed(event) for event in events])
    assert (b'"usage":' in stream) == (asked and any(isinstance(event, ev.UsageReported) for event in events))
