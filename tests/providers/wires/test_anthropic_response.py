"""Anthropic's answers to events: the same whole and streamed, however the stream is sliced, and never whole when it was cut."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from contract import errors as e
from contract import events as ev
from contract.finish import Finish
from contract.usage import Usage
from providers.wires.anthropic_messages import ANTHROPIC_MESSAGES
from providers.wires.anthropic_messages.usage import decode_usage, encode_usage
from tests.providers.wires.anthropic_machine import run
from tests.providers.wires.anthropic_streams import STREAMS, TEXT, Stream, block, call, delta, ended, event, start, stop, text

Json = dict[str, Any]


def each(streams: list[Stream]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("stream", streams, ids=[stream.name for stream in streams])


def decoded(stream: bytes, at: list[int] | None = None) -> list[ev.Event]:
    decoder = ANTHROPIC_MESSAGES.stream_decoder(1)
    places = [0, *(at or []), len(stream)]
    return [found for a, b in pairwise(places) for found in decoder.feed(stream[a:b])] + decoder.end()


def said(events: list[ev.Event]) -> list[tuple[str, str]]:
    """Kind and text, part by part."""
    found: list[tuple[str, str]] = []

    def add(kind: str, piece: str) -> None:
        if found and found[-1][0] == kind and kind in ("text", "thinking", "call"):
            piece = found.pop()[1] + piece
        found.append((kind, piece))

    for told in events:
        match told:
            case ev.TextDelta():
                add("text", told.text)
            case ev.ReasoningDelta():
                add("thinking", told.text)
            case ev.ReasoningSignature():
                found.append(("redacted" if told.redacted else "signature", told.signature))
            case ev.ToolCallStarted():
                found.append(("call", f"{told.id} {told.name} "))
            case ev.ToolCallDelta():
                add("call", told.arguments)
            case ev.Annotated():
                found.append(("cited", told.cited_text or ""))
            case ev.NativeOutput():
                found.append(("native", told.kind))
    return found


def assert_says(events: list[ev.Event], stream: Stream) -> None:
    assert said(events) == stream.said
    assert events[0] == ev.Started(id="msg_1", model="claude-x", created_s=0)
    finished, reported, last = events[-3:]
    assert isinstance(reported, ev.UsageReported) and (reported.usage.input_total, reported.usage.output_total) == stream.tokens
    assert (finished, last) == (ev.Finished(finish=stream.finish), ev.Ended())
    parts = [found.part for found in events if isinstance(found, ev.ContentEvent)]
    assert parts == sorted(parts)


@each(STREAMS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_stream_is_decoded_right_however_it_is_sliced(stream: Stream, data: st.DataObject) -> None:
    at = sorted(data.draw(st.lists(st.integers(0, len(stream.all)), max_size=15)))
    assert_says(decoded(stream.all, at), stream)


@each(STREAMS)
def test_a_stream_is_decoded_right_byte_by_byte(stream: Stream) -> None:
    assert_says(decoded(stream.all, list(range(1, len(stream.all)))), stream)


@each(STREAMS)
def test_a_stream_that_has_told_why_it_ended_is_whole_without_its_last_event(stream: Stream) -> None:
    decoder = ANTHROPIC_MESSAGES.stream_decoder(1)
    assert_says(decoder.feed(b"".join(stream.events[:-1])) + decoder.end(), stream)


@each(STREAMS)
def test_a_stream_that_is_cut_at_any_byte_is_never_whole(stream: Stream) -> None:
    for cut in range(len(b"".join(stream.events[:-1]).rstrip())):
        decoder = ANTHROPIC_MESSAGES.stream_decoder(1)
        events = decoder.feed(stream.all[:cut])
        with pytest.raises(e.StreamCut):
            decoder.end()
        assert not any(isinstance(found, ev.Ended) for found in events)


@each([stream for stream in STREAMS if stream.name != "CRLF"])
def test_a_whole_answer_says_the_same_as_its_stream(stream: Stream) -> None:
    message = run(stream.all).message
    assert_says(ANTHROPIC_MESSAGES.decode_response(json.dumps(message).encode()), stream)


def test_a_native_block_is_kept_as_if_it_had_come_at_once() -> None:
    stream = next(each_ for each_ in STREAMS if each_.name == "a server tool")
    native = next(found for found in decoded(stream.all) if isinstance(found, ev.NativeOutput))
    assert json.loads(bytes(native.raw)) == {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}}
    assert native.maker == "anthropic_messages"


def test_input_that_a_call_began_with_counts_where_no_piece_of_it_comes() -> None:
    began = block(0, "tool_use", id="toolu_a", name="f", input={"a": 1})
    assert said(decoded(b"".join([start(), began, stop(0), *ended()]))) == [("call", 'toolu_a f {"a": 1}')]


def test_what_came_before_an_error_event_is_told_first() -> None:
    decoder = ANTHROPIC_MESSAGES.stream_decoder(1)
    events = decoder.feed(b"".join(TEXT.events[:3]) + event("error", error={"type": "overloaded_error", "message": "CANARY"}))
    assert said(events) == [("text", "Hel")]
    with pytest.raises(e.UpstreamOverloaded):
        decoder.feed(TEXT.all)
    with pytest.raises(e.UpstreamOverloaded) as caught:
        decoder.end()
    assert "CANARY" not in caught.value.message


@pytest.mark.parametrize(
    "stream",
    [
        b"data: {\n\n",
        b"event: message_start\ndata: <html>\n\n",
        block(0, "text", text=""),
        start() + delta(0, "text_delta", text="x"),
        start() + b'data: {"type":"content_block_delta","index":"x"}\n\n',
        start() + b'data: {"type":"content_block_start","index":0,"content_block":5}\n\n',
    ],
)
def test_a_stream_that_is_none_is_malformed(stream: bytes) -> None:
    decoder = ANTHROPIC_MESSAGES.stream_decoder(1)
    with pytest.raises(e.MalformedResponse):
        decoder.feed(stream)
        decoder.feed(b"")


def test_unknown_events_are_passed_over() -> None:
    stream = TEXT.events[0] + event("new", index="zero") + event("ping") + b"".join(TEXT.events[1:])
    assert said(decoded(stream)) == TEXT.said


def test_a_stream_without_a_reason_to_stop_ended_for_an_unknown_one() -> None:
    events = decoded(b"".join([start(), *text(0, "Hi"), event("message_stop")]))
    assert ev.Finished(finish=Finish("unknown")) in events


def test_a_second_message_start_changes_nothing() -> None:
    stream = TEXT.events[0] + TEXT.events[0] + b"".join(TEXT.events[1:])
    assert sum(isinstance(found, ev.Started) for found in decoded(stream)) == 1


def test_usage_is_the_last_report_with_what_the_first_alone_told() -> None:
    stream = b"".join([start(cache_read_input_tokens=7), *text(0, "Hi"), *ended(output=40, input_tokens=50, cache_creation_input_tokens=None)])
    (usage,) = [found.usage for found in decoded(stream) if isinstance(found, ev.UsageReported)]
    assert (usage.input_uncached, usage.cache_read, usage.cache_write_5m, usage.output_visible) == (50, 7, None, 40)


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        ({"input_tokens": 3, "output_tokens": 5}, Usage(input_uncached=3, output_visible=5)),
        ({"input_tokens": 3, "cache_read_input_tokens": None}, Usage(input_uncached=3)),
        ({"cache_read_input_tokens": 0, "cache_creation_input_tokens": 9}, Usage(cache_read=0, cache_write_5m=9)),
        (
            {"cache_creation_input_tokens": 9, "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 7}},
            Usage(cache_write_5m=2, cache_write_1h=7),
        ),
        ({"output_tokens": 9, "output_tokens_details": {"thinking_tokens": 4}}, Usage(output_visible=5, reasoning=4)),
        ({"server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1}}, Usage(server_tool_calls=2, web_searches=2)),
        ({"input_tokens": "many"}, Usage()),
    ],
)
def test_usage_is_taken_apart_and_what_is_unknown_stays_so(raw: Json, usage: Usage) -> None:
    found = decode_usage(Raw(json.dumps(raw).encode()))
    assert json.loads(bytes(found.raw)) == raw
    names = [name for name in usage.__struct_fields__ if name not in ("source", "raw")]
    assert {name: getattr(found, name) for name in names} == {name: getattr(usage, name) for name in names}


counts = st.none() | st.integers(0, 10**6)


@given(
    st.builds(Usage, input_uncached=counts, cache_read=counts, cache_write_5m=counts, cache_write_1h=counts, output_visible=counts, reasoning=counts)
)
def test_usage_that_is_encoded_and_decoded_has_the_same_sums(usage: Usage) -> None:
    again = decode_usage(Raw(json.dumps(encode_usage(usage)).encode()))
    assert (again.input_total or 0, again.output_total or 0) == (usage.input_total or 0, usage.output_total or 0)
    assert (again.cache_read, again.reasoning) == (usage.cache_read, usage.reasoning)


def test_pieces_of_two_calls_are_two_parts() -> None:
    events = decoded(b"".join([start(), *call(0, "a", "f", "{}"), *call(1, "b", "g", "{}"), *ended("tool_use")]))
    assert [(found.id, found.part) for found in events if isinstance(found, ev.ToolCallStarted)] == [("a", 0), ("b", 1)]


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b"[]", b"{}", b'{"content":null}', b'{"content":[5]}', b'{"id":"\xff","content":[]}'])
def test_a_whole_answer_that_is_none_is_malformed(body: bytes) -> None:
    with pytest.raises(e.MalformedResponse):
        ANTHROPIC_MESSAGES.decode_response(body)


def test_an_error_under_a_200_is_raised() -> None:
    with pytest.raises(e.RateLimited):
        ANTHROPIC_MESSAGES.decode_response(b'{"type":"error","error":{"type":"rate_limit_error","message":"CANARY"}}')
