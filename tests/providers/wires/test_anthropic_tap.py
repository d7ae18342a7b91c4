"""Anthropic to Anthropic: bytes pass as they came, whole events at a time, and are read on the way."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract import errors as e
from contract.call import Call
from contract.finish import Finish
from providers.wires.anthropic_messages import ANTHROPIC_MESSAGES
from providers.wires.anthropic_messages.tap import MessagesStreamTap
from providers.wires.facts import Facts
from providers.wires.seal import Seal, seal
from tests.providers.sse_oracle import events_of
from tests.providers.wires.anthropic_streams import STREAMS, TEXT, Stream, event

Json = dict[str, Any]
CALL = Call(request_id="r", dialect="anthropic_messages", model="m", stream=True, include_usage=True, choices=1, body=b"{}", fields={})


def tap() -> MessagesStreamTap:
    return ANTHROPIC_MESSAGES.stream_tap(CALL, False)


def each(streams: list[Stream]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("stream", streams, ids=[stream.name for stream in streams])


@each(STREAMS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_stream_goes_by_as_it_came_however_it_is_sliced(stream: Stream, data: st.DataObject) -> None:
    at = sorted(data.draw(st.lists(st.integers(0, len(stream.all)), max_size=15)))
    watched = tap()
    out = b"".join(watched.feed(stream.all[a:b]) for a, b in zip([0, *at], [*at, len(stream.all)], strict=True)) + watched.end()
    assert out == stream.all and watched.complete and watched.finished and watched.error is None
    assert (watched.finish, watched.upstream_id, watched.bound) == (stream.finish, "msg_1", stream.bound)
    assert watched.usage is not None and (watched.usage.input_total, watched.usage.output_total) == stream.tokens


@each(STREAMS)
def test_a_stream_that_is_cut_at_any_byte_is_never_whole_and_lets_no_half_event_through(stream: Stream) -> None:
    whole = [data for _, data in events_of(stream.all)]
    for cut in range(len(b"".join(stream.events[:-1]).rstrip())):
        watched = tap()
        out = watched.feed(stream.all[:cut]) + watched.end()
        passed = [data for _, data in events_of(out)]
        assert passed == whole[: len(passed)] and out.replace(b"\r\n", b"\n")[-2:] in (b"", b"\n\n")
        assert isinstance(watched.error, e.StreamCut) and not watched.complete


@each(STREAMS)
@pytest.mark.parametrize("blank", [0, 1], ids=["its event cut", "its event whole"])
def test_a_stream_that_has_told_why_it_ended_is_whole_without_its_last_event(stream: Stream, blank: int) -> None:
    watched = tap()
    told = b"".join(stream.events[:-1])
    out = watched.feed(told if blank else told.rstrip()) + watched.end()
    assert [(name, json.loads(data)) for name, data in events_of(out)] == [(name, json.loads(data)) for name, data in events_of(stream.all)]
    assert watched.complete and watched.error is None and watched.finish == stream.finish


@each(STREAMS)
def test_nothing_goes_before_the_first_output(stream: Stream) -> None:
    watched = tap()
    before = stream.events[: stream.held]
    assert b"".join(map(watched.feed, before)) == b"" and not watched.content_seen
    assert watched.feed(stream.events[stream.held]) == b"".join(stream.events[: stream.held + 1]) and watched.content_seen


def test_bytes_after_the_end_are_left_out() -> None:
    watched = tap()
    assert watched.feed(TEXT.all + event("ping")) == TEXT.all
    assert watched.feed(TEXT.all) == b"" and watched.end() == b""


def test_unknown_events_and_blocks_go_by() -> None:
    new = event("content_block_pause", index=0, reason={"of": "a kind"}) + b": a comment\n\n" + event("message_delta_2")
    stream = TEXT.events[0] + new + b"".join(TEXT.events[1:])
    watched = tap()
    assert watched.feed(stream) + watched.end() == stream and watched.error is None


def test_json_of_a_strange_shape_goes_by() -> None:
    watched = tap()
    stream = TEXT.events[0] + b'event: new\ndata: {"type":"new","index":"zero","delta":5}\n\n' + b"".join(TEXT.events[1:])
    assert watched.feed(stream) + watched.end() == stream and watched.error is None


@pytest.mark.parametrize(
    ("kind", "raised"),
    [("overloaded_error", e.UpstreamOverloaded), ("api_error", e.UpstreamError), ("rate_limit_error", e.RateLimited), ("new_error", e.UpstreamError)],
)
def test_an_error_event_ends_the_answer_and_what_came_before_it_goes(kind: str, raised: type[e.AttemptError]) -> None:
    watched = tap()
    good = b"".join(TEXT.events[:3])
    out = watched.feed(good + event("error", error={"type": kind, "message": "CANARY"}) + b"".join(TEXT.events[3:]))
    assert out == good and isinstance(watched.error, raised) and "CANARY" not in str(watched.error)
    assert watched.feed(TEXT.all) == b"" and not watched.complete


def test_an_error_without_an_event_s_name_is_one_too() -> None:
    watched = tap()
    watched.feed(b'data: {"type":"error","error":{"type":"overloaded_error","message":"x"}}\n\n')
    assert isinstance(watched.error, e.UpstreamOverloaded)


@pytest.mark.parametrize("bad", [b"event: x\ndata: {\n\n", b"data: <html>\n\n", b'data: {"type":"content_block_delta","delta":{"text":"\xff"}}\n\n'])
def test_what_is_no_json_ends_the_answer(bad: bytes) -> None:
    watched = tap()
    good = b"".join(TEXT.events[:3])
    assert watched.feed(good + bad) == good
    assert isinstance(watched.error, e.MalformedResponse)


def test_an_error_of_ours_is_an_event_of_anthropic_s() -> None:
    assert tap().in_band(b'{"type":"error"}') == b'event: error\ndata: {"type":"error"}\n\n'


def call(**fields: Any) -> Call:
    raws = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in fields.items()}
    return msgspec.structs.replace(CALL, body=msgspec.json.encode(raws), fields=raws, stream=bool(fields.get("stream")), may_hold_state=True)


def rewritten(asked: Call) -> Json:
    body: Json = json.loads(ANTHROPIC_MESSAGES.rewrite_request(asked, "up", Facts(), stream=asked.stream, ask_usage=True))
    return body


def test_the_client_s_body_goes_on_with_the_model_set() -> None:
    fields = {"max_tokens": 5, "messages": [{"role": "user", "content": "x"}], "stream": True, "not_yet_known": {"a": [None]}}
    assert rewritten(call(model="m", **fields)) == {"model": "up", **fields}


def test_what_we_put_into_another_s_answers_does_not_reach_anthropic() -> None:
    ours = seal(Seal("chat/m", "openai_responses", "enc"))
    cited = {"type": "web_search_result_location", "url": "u", "title": "t", "cited_text": "c", "encrypted_index": ours}
    real = {"type": "thinking", "thinking": "h", "signature": "RXJ1"}
    messages = [
        {"role": "user", "content": "a"},
        {
            "role": "assistant",
            "content": [{"type": "thinking", "thinking": "Hm", "signature": ours}, {"type": "text", "text": "b", "citations": [cited]}],
        },
        {"role": "assistant", "content": [{"type": "redacted_thinking", "data": ours}]},
        {"role": "assistant", "content": [real, {"type": "tool_use", "id": "i", "name": "n", "input": {}}]},
    ]
    assert rewritten(call(model="m", messages=messages))["messages"] == [
        messages[0],
        {"role": "assistant", "content": [{"type": "text", "text": "b"}]},
        messages[3],
    ]


def test_a_whole_answer_is_read() -> None:
    thinking = [{"type": "thinking", "thinking": "h", "signature": "RXJ1"}, {"type": "redacted_thinking", "data": "ZGF0YQ"}]
    usage = {"input_tokens": 3, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 7, "output_tokens": 11}
    more = {"stop_reason": "stop_sequence", "stop_sequence": "END", "container": {"id": "container_1"}}
    body = json.dumps({"id": "msg_1", "type": "message", "content": thinking, "usage": usage, **more}).encode()
    answer = ANTHROPIC_MESSAGES.read_unary(body)
    assert answer.body == body and answer.upstream_id == "msg_1" and answer.finish == Finish("stop", "stop_sequence", "END")
    assert answer.bound == ["RXJ1", "ZGF0YQ", "container_1"]
    assert answer.usage is not None
    assert (answer.usage.input_uncached, answer.usage.cache_write_5m, answer.usage.cache_read, answer.usage.output_total) == (3, 5, 7, 11)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"<html>", b"[]", b"{}", b'{"type":"message","content":5}', b'{"content":null}', b'{"id":"\xff","content":[]}']
)
def test_what_is_no_message_is_malformed(body: bytes) -> None:
    with pytest.raises(e.MalformedResponse):
        ANTHROPIC_MESSAGES.read_unary(body)


@pytest.mark.parametrize("body", [{"type": "error", "error": {"type": "overloaded_error"}}, {"error": {"type": "overloaded_error"}, "content": []}])
def test_an_error_under_a_200_is_raised(body: Json) -> None:
    with pytest.raises(e.UpstreamOverloaded):
        ANTHROPIC_MESSAGES.read_unary(json.dumps(body).encode())
