"""Mistral's answers: OpenAI's form with content that may be a list, thinking in it; streamed, whole and as an OpenAI client sees them."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract import errors as e
from contract import events as ev
from contract.finish import Finish
from contract.usage import Usage
from providers.wires.mistral import MISTRAL
from tests.providers.wires.answering import answering

USAGE = {"prompt_tokens": 64, "completion_tokens": 6, "total_tokens": 70, "num_cached_tokens": 32}


def thinking(*pieces: str, **more: Any) -> dict[str, Any]:
    return {"type": "thinking", "thinking": [{"type": "text", "text": piece} for piece in pieces], **more}


def text(piece: str) -> dict[str, Any]:
    return {"type": "text", "text": piece}


def chunk(content: Any = None, finish: str | None = None, index: int = 0, usage: Any = None, **members: Any) -> bytes:
    delta = {**({} if content is None else {"content": content}), **members}
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    body = {"id": "m1", "object": "chat.completion.chunk", "created": 5, "model": "magistral", "choices": [choice]}
    return b"data: %b\n\n" % json.dumps(body | ({"usage": usage} if usage else {}), ensure_ascii=False).encode()


def whole(content: Any, finish: str = "stop", **members: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **members}, "finish_reason": finish}
    return json.dumps({"id": "m1", "object": "chat.completion", "created": 5, "model": "magistral", "choices": [choice], "usage": USAGE}).encode()


DONE = b"data: [DONE]\n\n"
CALL = {"id": "6IgxW8LfZ", "index": 0, "function": {"name": "f", "arguments": '{"a":1}'}}
OTHER = {"id": "7IgxW8LfZ", "index": 1, "function": {"name": "g", "arguments": "{}"}}
THOUGHT = [
    chunk("", role="assistant"),
    chunk([thinking("Hm, ")]),
    chunk([thinking("zwölf", "?")]),
    chunk([thinking(signature="sig", closed=True)]),
    chunk([text("It is ")]),
    chunk("42"),
    chunk("", "stop", usage=USAGE),
    DONE,
]
CALLED = [chunk("", role="assistant"), chunk(tool_calls=[CALL, OTHER]), chunk("", "tool_calls", usage=USAGE), DONE]
STREAMS = {"thinking": THOUGHT, "calls": CALLED}


def decoded(stream: bytes, step: int | None = None) -> list[ev.Event]:
    decoder, step = MISTRAL.stream_decoder(1), step or len(stream)
    return [event for at in range(0, len(stream), step) for event in decoder.feed(stream[at : at + step])] + decoder.end()


def usage_of(events: list[ev.Event]) -> Usage:
    return next(event.usage for event in events if isinstance(event, ev.UsageReported))


def content(events: list[ev.Event]) -> list[Any]:
    return [event for event in events if not isinstance(event, ev.UsageReported)]


def test_thinking_comes_before_the_text_and_is_signed() -> None:
    events = decoded(b"".join(THOUGHT))
    assert content(events) == [
        ev.Started(id="m1", model="magistral", created_s=5),
        ev.ReasoningDelta(text="Hm, "),
        ev.ReasoningDelta(text="zwölf?"),
        ev.ReasoningSignature(signature="sig", maker="mistral"),
        ev.TextDelta(text="It is ", part=1),
        ev.TextDelta(text="42", part=1),
        ev.Finished(finish=Finish("stop", "stop")),
        ev.Ended(),
    ]


def test_usage_comes_in_the_last_chunk_and_its_cached_tokens_are_told_apart() -> None:
    usage = usage_of(decoded(b"".join(THOUGHT)))
    assert (usage.input_uncached, usage.cache_read, usage.output_visible) == (32, 32, 6) and json.loads(bytes(usage.raw)) == USAGE


def test_a_whole_answer_tells_thinking_and_text_apart() -> None:
    events = MISTRAL.decode_response(whole([thinking("Hm", signature="sig"), text("It is "), text("42")]))
    assert content(events)[1:4] == [
        ev.ReasoningDelta(text="Hm"),
        ev.ReasoningSignature(signature="sig", maker="mistral"),
        ev.TextDelta(text="It is 42", part=1),
    ]
    assert usage_of(events).cache_read == 32


def test_calls_that_come_whole_are_told_apart() -> None:
    calls = [event for event in decoded(b"".join(CALLED)) if isinstance(event, ev.ToolCallStarted)]
    assert [(each.id, each.name) for each in calls] == [("6IgxW8LfZ", "f"), ("7IgxW8LfZ", "g")]


@pytest.mark.parametrize(("native", "finish"), [("model_length", Finish("length", "model_length")), ("length", Finish("length", "length"))])
def test_an_answer_that_is_too_long_for_the_model_is_a_length(native: str, finish: Finish) -> None:
    for events in (MISTRAL.decode_response(whole("Hi", native)), decoded(chunk("Hi") + chunk("", native) + DONE)):
        assert [event.finish for event in events if isinstance(event, ev.Finished)] == [finish]


def test_a_finish_that_is_a_failure_is_raised_after_what_came_before() -> None:
    with pytest.raises(e.UpstreamError):
        MISTRAL.decode_response(whole("Hi", "error"))
    decoder = MISTRAL.stream_decoder(1)
    assert ev.TextDelta(text="Hi") in decoder.feed(chunk("Hi") + chunk("", "error"))
    with pytest.raises(e.UpstreamError):
        decoder.feed(DONE)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_is_cut_anywhere_is_never_whole(name: str) -> None:
    stream = b"".join(STREAMS[name])
    finished = stream.index(b'"usage"')
    decoder, seen = MISTRAL.stream_decoder(1), list[ev.Event]()
    for cut in range(finished):
        with pytest.raises(e.StreamCut):
            copy.deepcopy(decoder).end()
        seen += decoder.feed(stream[cut : cut + 1])
    assert ev.Ended() not in seen and len(seen) > 2


@given(st.sampled_from(sorted(STREAMS)), st.lists(st.integers(1, 90), min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
def test_a_stream_says_the_same_however_it_is_sliced(name: str, sizes: list[int]) -> None:
    stream = b"".join(STREAMS[name])
    decoder, at, turn, events = MISTRAL.stream_decoder(1), 0, 0, list[ev.Event]()
    while at < len(stream):
        events += decoder.feed(stream[at : at + sizes[turn % len(sizes)]])
        at, turn = at + sizes[turn % len(sizes)], turn + 1
    assert content(events + decoder.end()) == content(decoded(stream))


def test_two_choices_have_each_their_own_thinking() -> None:
    stream = (
        chunk([thinking("a", signature="s0")]) + chunk([thinking("b", signature="s1")], index=1) + chunk("x", "stop") + chunk("y", "stop", index=1)
    )
    decoder = MISTRAL.stream_decoder(2)
    signed = [event for event in decoder.feed(stream + DONE) if isinstance(event, ev.ReasoningSignature)]
    assert [(each.choice, each.signature) for each in signed] == [(0, "s0"), (1, "s1")]


def test_an_openai_client_gets_a_list_of_content_as_text_and_reasoning() -> None:
    tap = MISTRAL.stream_tap(answering().call, False)
    out = tap.feed(b"".join(THOUGHT)) + tap.end()
    deltas = [json.loads(line[6:])["choices"][0]["delta"] for line in out.decode().split("\n\n") if line and "[DONE]" not in line]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "Hm, zwölf?"
    assert "".join(delta["content"] for delta in deltas) == "It is 42"
    assert tap.complete and tap.usage is not None and tap.finish == Finish("stop", "stop")


def test_an_openai_client_gets_whole_content_as_text_and_all_else_as_it_came() -> None:
    answer = json.loads(MISTRAL.read_unary(whole([thinking("Hm"), text("42")], "model_length")).body)
    choice = answer["choices"][0]
    assert choice == {"index": 0, "message": {"role": "assistant", "content": "42", "reasoning_content": "Hm"}, "finish_reason": "length"}
    plain = whole("42")
    assert MISTRAL.read_unary(plain).body == plain


def test_a_plain_stream_goes_by_as_it_came() -> None:
    stream = b"".join(CALLED)
    for step in (len(stream), 7):
        tap = MISTRAL.stream_tap(answering().call, False)
        assert b"".join(tap.feed(stream[at : at + step]) for at in range(0, len(stream), step)) + tap.end() == stream


@pytest.mark.parametrize("content_", [[5], ["x"], [{"type": "thinking", "thinking": 5}], {"a": 1}])
def test_content_of_a_strange_shape_is_malformed(content_: Any) -> None:
    with pytest.raises(e.MalformedResponse):
        MISTRAL.decode_response(whole(content_))


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (
            422,
            b'{"object":"error","message":{"detail":[{"type":"extra_forbidden","loc":["body","user"]}]},"type":"invalid_request_error"}',
            e.UpstreamRejected,
        ),
        (400, b'{"object":"error","message":"CANARY","type":"invalid_request_error","code":"3230"}', e.UpstreamRejected),
        (401, b'{"detail":"Unauthorized"}', e.UpstreamAuthFailed),
        (429, b'{"object":"error","message":"CANARY","type":"rate_limited","code":"1300"}', e.RateLimited),
        (503, b"upstream connect error", e.UpstreamOverloaded),
    ],
)
def test_a_refusal_is_classified_and_its_text_stays_behind(status: int, body: bytes, kind: type[e.AttemptError]) -> None:
    error = MISTRAL.decode_error(status, {}, body)
    assert type(error) is kind and "CANARY" not in error.message


AS_OBJECT = {"id": "8IgxW8LfZ", "index": 0, "function": {"name": "get_w", "arguments": {"c": 1}}}


def test_arguments_that_come_as_an_object_are_text() -> None:
    stream = chunk(tool_calls=[AS_OBJECT]) + chunk("", "tool_calls") + DONE
    for events in (decoded(stream), MISTRAL.decode_response(whole("", "tool_calls", tool_calls=[AS_OBJECT]))):
        assert "".join(event.arguments for event in events if isinstance(event, ev.ToolCallDelta)) == '{"c":1}'


def test_an_openai_client_gets_arguments_that_came_as_an_object_as_text() -> None:
    context = answering()
    told = json.loads(MISTRAL.read_unary(whole("", "tool_calls", tool_calls=[AS_OBJECT])).body)
    assert told["choices"][0]["message"]["tool_calls"] == [AS_OBJECT | {"function": {"name": "get_w", "arguments": '{"c":1}'}}]
    tap = MISTRAL.stream_tap(context.call, False)
    out = tap.feed(chunk(tool_calls=[AS_OBJECT]) + chunk("", "tool_calls") + DONE) + tap.end()
    first = json.loads(out.split(b"\n\n")[0].removeprefix(b"data: "))
    assert first["choices"][0]["delta"]["tool_calls"][0]["function"] == {"name": "get_w", "arguments": '{"c":1}'}
