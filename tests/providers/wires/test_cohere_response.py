"""Cohere's answers and streams as documented (docs.cohere.com/v2/docs/streaming), and its errors."""

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
from providers.wires.cohere import COHERE
from providers.wires.cohere.response import FAILURES

BILLED = {"billed_units": {"input_tokens": 41.0, "output_tokens": 25.0}, "cached_tokens": 144, "tokens": {"input_tokens": 1441, "output_tokens": 54}}
CITATION = {"start": 0, "end": 3, "text": "Sun", "type": "TEXT_CONTENT"}
WEB = {"type": "document", "id": "d1", "document": {"url": "https://x", "title": "X", "n": 3}}


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(b"event: %b\ndata: %b\n\n" % (each["type"].encode(), json.dumps(each, ensure_ascii=False).encode()) for each in events)


def start() -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
    return {"type": "message-start", "id": "a1", "delta": {"message": message}}


def delta(kind: str, index: int, **message: Any) -> dict[str, Any]:
    return {"type": kind, "index": index, "delta": {"message": message}}


def text(index: int, piece: str, kind: str = "text", **more: Any) -> dict[str, Any]:
    return {**delta("content-delta", index, content={kind: piece}), **more}


def end(reason: str | None = "COMPLETE", usage: Any = BILLED, **more: Any) -> dict[str, Any]:
    return {"type": "message-end", "id": "a1", "delta": {"finish_reason": reason, "usage": usage, **more}}


def call(kind: str, index: int, **function: str) -> dict[str, Any]:
    named = {"id": f"weather_{index}", "type": "function"} if kind == "start" else {}
    return delta(f"tool-call-{kind}", index, tool_calls={**named, "function": function})


OPEN = delta("content-start", 0, content={"type": "text", "text": ""})
ANSWERED = [start(), OPEN, text(0, "Sun "), text(0, "shïnes"), delta("citation-start", 0, citations={**CITATION, "sources": [WEB]})]
ANSWERED += [{"type": "citation-end", "index": 0}, {"type": "content-end", "index": 0}, end()]
THOUGHT = [start(), delta("content-start", 0, content={"type": "thinking", "thinking": ""}), text(0, "Hm", "thinking"), text(0, "…", "thinking")]
THOUGHT += [{"type": "content-end", "index": 0}, delta("content-start", 1, content={"type": "text", "text": ""}), text(1, "42"), end()]
CALLED = [start(), delta("tool-plan-delta", 0, tool_plan="I will "), delta("tool-plan-delta", 0, tool_plan="look")]
CALLED += [call("start", 0, name="weather", arguments=""), call("delta", 0, arguments='{"city":'), call("delta", 0, arguments='"Rom"}')]
CALLED += [{"type": "tool-call-end", "index": 0}, call("start", 1, name="clock", arguments=""), {"type": "tool-call-end", "index": 1}]
CALLED += [end("TOOL_CALL")]
STREAMS = {"text": ANSWERED, "thinking": THOUGHT, "tool calls": CALLED}
WHOLE: dict[str, dict[str, Any]] = {
    "text": {"content": [{"type": "text", "text": "Sun shïnes"}], "citations": [{**CITATION, "sources": [WEB]}]},
    "thinking": {"content": [{"type": "thinking", "thinking": "Hm…"}, {"type": "text", "text": "42"}]},
    "tool calls": {
        "tool_plan": "I will look",
        "tool_calls": [
            {"id": "weather_0", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rom"}'}},
            {"id": "weather_1", "type": "function", "function": {"name": "clock", "arguments": ""}},
        ],
    },
}


def decoded(stream: bytes, size: int | None = None) -> list[ev.Event]:
    decoder = COHERE.stream_decoder(1)
    step = size or len(stream)
    return [event for at in range(0, len(stream), step) for event in decoder.feed(stream[at : at + step])] + decoder.end()


def answer(finish: str = "COMPLETE", message: Any = None, **more: Any) -> bytes:
    message = message or {"content": [{"type": "text", "text": "Hi"}]}
    return json.dumps({"id": "a1", "finish_reason": finish, "message": {"role": "assistant", **message}, "usage": BILLED, **more}).encode()


def merged(events: list[ev.Event]) -> list[ev.Event]:
    """The pieces of each part put together."""
    found: list[ev.Event] = []
    for event in events:
        last = found[-1] if found else None
        if isinstance(event, ev.TextDelta | ev.ReasoningDelta) and type(event) is type(last) and last.part == event.part:
            found[-1] = type(event)(text=last.text + event.text, part=event.part)
        elif isinstance(event, ev.ToolCallDelta) and isinstance(last, ev.ToolCallDelta):
            found[-1] = ev.ToolCallDelta(arguments=last.arguments + event.arguments, part=event.part)
        else:
            found.append(event)
    return found


def kinds(events: list[ev.Event]) -> list[Any]:
    """Events that compare: raw JSON apart."""
    plain = []
    for event in events:
        match event:
            case ev.UsageReported():
                usage = event.usage
                plain.append((usage.input_uncached, usage.cache_read, usage.output_visible, json.loads(bytes(usage.raw))))
            case ev.Annotated():
                place = (event.start, event.end, event.part)
                plain.append((event.url, event.title, event.cited_text, *place, json.loads(bytes(event.annotation))))  # type: ignore[arg-type]
            case _:
                plain.append(event)  # type: ignore[arg-type]
    return plain


def test_a_stream_is_read_in_order() -> None:
    assert kinds(decoded(sse(*CALLED))) == [
        ev.Started(id="a1", model="", created_s=0),
        ev.ReasoningDelta(text="I will "),
        ev.ReasoningDelta(text="look"),
        ev.ToolCallStarted(id="weather_0", name="weather", part=1),
        ev.ToolCallDelta(arguments='{"city":', part=1),
        ev.ToolCallDelta(arguments='"Rom"}', part=1),
        ev.ToolCallStarted(id="weather_1", name="clock", part=2),
        ev.Finished(finish=Finish("tool_calls", "TOOL_CALL")),
        (41, None, 25, BILLED),
        ev.Ended(),
    ]


@pytest.mark.parametrize("name", STREAMS)
def test_a_whole_answer_is_its_stream_that_came_at_once(name: str) -> None:
    finish = "TOOL_CALL" if name == "tool calls" else "COMPLETE"
    assert kinds(COHERE.decode_response(answer(finish, WHOLE[name]))) == kinds(merged(decoded(sse(*STREAMS[name]))))


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_is_cut_anywhere_is_never_whole(name: str) -> None:
    stream = sse(*STREAMS[name])
    whole, decoder, seen = decoded(stream), COHERE.stream_decoder(1), list[ev.Event]()
    for cut in range(len(stream) - 2):  # but for its last two line ends
        with pytest.raises(e.StreamCut):
            copy.deepcopy(decoder).end()
        seen += decoder.feed(stream[cut : cut + 1])
        assert kinds(seen) == kinds(whole[: len(seen)])
    assert ev.Ended() not in seen


@given(st.sampled_from(sorted(STREAMS)), st.lists(st.integers(1, 60), min_size=1, max_size=8), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_stream_says_the_same_however_it_is_sliced(name: str, sizes: list[int], crlf: bool) -> None:
    stream = sse(*STREAMS[name])
    whole = kinds(decoded(stream))
    stream = stream.replace(b"\n", b"\r\n") if crlf else stream
    decoder, at, turn, events = COHERE.stream_decoder(1), 0, 0, list[ev.Event]()
    while at < len(stream):
        events += decoder.feed(stream[at : at + sizes[turn % len(sizes)]])
        at, turn = at + sizes[turn % len(sizes)], turn + 1
    assert kinds(events + decoder.end()) == whole


@pytest.mark.parametrize(
    ("native", "reason"),
    [("COMPLETE", "stop"), ("STOP_SEQUENCE", "stop"), ("MAX_TOKENS", "length"), ("TOOL_CALL", "tool_calls"), ("NOVEL", "unknown")],
)
def test_a_finish_is_ours_with_coheres_word_kept(native: str, reason: Any) -> None:
    for events in (COHERE.decode_response(answer(native)), decoded(sse(start(), text(0, "Hi"), end(native)))):
        assert [event.finish for event in events if isinstance(event, ev.Finished)] == [Finish(reason, native)]


@pytest.mark.parametrize("native", sorted(FAILURES))
def test_a_finish_that_is_a_failure_is_raised_after_what_came_before(native: str) -> None:
    with pytest.raises(e.UpstreamError):
        COHERE.decode_response(answer(native))
    decoder = COHERE.stream_decoder(1)
    assert len(decoder.feed(sse(start(), text(0, "Hi"), end(native)))) == 2
    with pytest.raises(e.UpstreamError):
        decoder.feed(b"")


def test_an_error_in_the_last_event_is_raised_without_its_text() -> None:
    with pytest.raises(e.UpstreamError) as caught:
        decoded(sse(end("COMPLETE", error="CANARY")))
    assert "CANARY" not in str(caught.value)


def test_an_answer_that_does_not_say_why_it_ended_is_malformed() -> None:
    with pytest.raises(e.MalformedResponse):
        decoded(sse(start(), end(None)))
    with pytest.raises(e.MalformedResponse):
        COHERE.decode_response(b'{"id":"a","message":{"content":[]}}')


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"message":"no such model"}', b'{"message":{"content":5},"finish_reason":"COMPLETE"}']
)
def test_what_is_no_answer_is_malformed(body: bytes) -> None:
    with pytest.raises(e.MalformedResponse):
        COHERE.decode_response(body)


def test_events_that_nobody_knows_are_passed_over() -> None:
    odd = {"type": "new-thing", "index": "x", "delta": ["?"]}
    debug = {"type": "debug", "prompt": "…"}
    assert kinds(decoded(sse(start(), odd, debug, *ANSWERED[1:]))) == kinds(decoded(sse(*ANSWERED)))


def test_a_piece_of_a_call_that_never_began_is_malformed() -> None:
    with pytest.raises(e.MalformedResponse):
        decoded(sse(start(), call("delta", 0, arguments="{}"), end()))


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        (BILLED, (41, None, 25)),
        ({"tokens": {"input_tokens": 9, "output_tokens": 2}, "cached_tokens": 4}, (5, 4, 2)),
        ({"billed_units": {"search_units": 1}, "tokens": {"input_tokens": 9}}, (9, None, None)),
        ({"tokens": "?"}, (None, None, None)),
    ],
)
def test_what_is_billed_is_counted_and_the_rest_is_kept(told: Any, usage: tuple[int | None, ...]) -> None:
    events = decoded(sse(start(), text(0, "Hi"), end(usage=told)))
    found = next(event.usage for event in events if isinstance(event, ev.UsageReported))
    assert (found.input_uncached, found.cache_read, found.output_visible) == usage
    assert json.loads(bytes(found.raw)) == told


def test_usage_that_is_not_told_is_unknown() -> None:
    assert not [event for event in decoded(sse(start(), end(usage=None))) if isinstance(event, ev.UsageReported)]
    assert Usage().input_total is None


def test_citations_belong_to_the_text_they_are_of_and_those_of_a_plan_are_left_out() -> None:
    cited = [{**CITATION, "content_index": 1}, {**CITATION, "content_index": 0, "text": "One"}, {**CITATION, "type": "PLAN"}]
    message = {"content": [{"type": "text", "text": "One"}, {"type": "text", "text": "Sun"}], "citations": cited}
    events = COHERE.decode_response(answer(message=message))
    assert [(event.cited_text, event.part) for event in events if isinstance(event, ev.Annotated)] == [("One", 0), ("Sun", 1)]


def test_a_citation_of_a_strange_shape_goes_on_as_it_is() -> None:
    events = COHERE.decode_response(answer(message={"content": [{"type": "text", "text": "One"}], "citations": [{"start": "?"}]}))
    assert [json.loads(bytes(event.annotation)) for event in events if isinstance(event, ev.Annotated)] == [{"start": "?"}]


def test_log_probabilities_are_told_as_openais() -> None:
    piece = {"text": "Hi", "token_ids": [4, 5], "logprobs": [-0.5, -0.25]}
    wanted = {"content": [{"token": "Hi", "logprob": -0.75, "bytes": None, "top_logprobs": []}]}
    for events in (decoded(sse(start(), text(0, "Hi", logprobs=piece), end())), COHERE.decode_response(answer(logprobs=[piece]))):
        assert [json.loads(bytes(event.logprobs)) for event in events if isinstance(event, ev.TextDelta)] == [wanted]


def test_a_call_without_an_id_is_given_one_of_its_answer() -> None:
    message = {"tool_calls": [{"function": {"name": "a"}}, {"function": {"name": "b"}}]}
    events = COHERE.decode_response(answer("TOOL_CALL", message))
    assert [event.id for event in events if isinstance(event, ev.ToolCallStarted)] == ["call_a1_0", "call_a1_1"]
