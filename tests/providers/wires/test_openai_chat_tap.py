"""OpenAI chat to OpenAI chat: bytes go by unchanged and whole, and what was read of them is right, wherever they were cut."""

import json
from itertools import accumulate
from typing import Any

import pytest

from contract import errors as e
from contract.call import Call
from contract.usage import Usage
from gateway.peek import read_chat_call
from providers.sse import EVENT_LIMIT
from providers.wires.facts import Facts
from providers.wires.openai_chat import OPENAI_CHAT
from providers.wires.openai_chat.tap import ChatStreamTap, read_unary, rewrite_request
from tests.providers.wires.chat_streams import DONE, FINISH, ROLE, STREAMS, USAGE, Stream, chunk, delta, texts

EVERY = pytest.mark.parametrize("stream", STREAMS, ids=[stream.name for stream in STREAMS])


def pass_through(tap: ChatStreamTap, *chunks: bytes) -> bytes:
    return b"".join([tap.feed(piece) for piece in chunks])


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def found(tap: ChatStreamTap) -> dict[str, object]:
    names = ("content_seen", "finished", "complete", "upstream_id", "usage", "finish", "tokens_seen")
    return {name: getattr(tap, name) for name in names} | {"error": repr(tap.error)}


def without_raw(usage: Usage | None) -> tuple[int | None, int | None] | None:
    return None if usage is None else (usage.input_total, usage.output_total)


@EVERY
def test_a_whole_stream_goes_by_as_it_came(stream: Stream) -> None:
    tap = ChatStreamTap(stream.choices, strip_usage=False)
    out = tap.feed(stream.all) + tap.end()
    assert out == stream.all + (b"" if stream.terminal else DONE)
    assert tap.complete and tap.error is None


@EVERY
def test_what_was_read_of_a_whole_stream_is_right(stream: Stream) -> None:
    tap = ChatStreamTap(stream.choices, strip_usage=False)
    tap.feed(stream.all)
    tap.end()
    assert (tap.tokens_seen, tap.finish, tap.upstream_id, tap.finished) == (stream.tokens_seen, stream.finish, stream.id, True)
    assert without_raw(tap.usage) == stream.tokens


@EVERY
def test_usage_that_the_client_did_not_ask_for_is_read_and_left_out(stream: Stream) -> None:
    tap = ChatStreamTap(stream.choices, strip_usage=True)
    out = tap.feed(stream.all) + tap.end()
    assert out == b"".join(event for event in stream.events if event != stream.stripped) + (b"" if stream.terminal else DONE)
    assert without_raw(tap.usage) == stream.tokens


@EVERY
@pytest.mark.parametrize("strip", [False, True], ids=["kept", "stripped"])
def test_fed_byte_by_byte_gives_the_same_as_fed_whole(stream: Stream, strip: bool) -> None:
    whole, bitten = ChatStreamTap(stream.choices, strip), ChatStreamTap(stream.choices, strip)
    assert whole.feed(stream.all) + whole.end() == pass_through(bitten, *bytewise(stream.all)) + bitten.end()
    assert found(whole) == found(bitten)


@EVERY
def test_only_whole_events_go_by_wherever_the_bytes_are_cut(stream: Stream) -> None:
    prefixes = {*accumulate(stream.events, initial=b"")}
    for at in range(len(stream.all) + 1):
        tap = ChatStreamTap(stream.choices, strip_usage=False)
        first = tap.feed(stream.all[:at])
        assert first in prefixes and (not first or first.count(b"data: ") + first.count(b": ") > 0)
        assert first + tap.feed(stream.all[at:]) + tap.end() == stream.all + (b"" if stream.terminal else DONE)


@EVERY
def test_nothing_goes_by_before_the_first_output(stream: Stream) -> None:
    tap = ChatStreamTap(stream.choices, strip_usage=False)
    assert pass_through(tap, *stream.events[: stream.held]) == b"" and not tap.content_seen
    assert tap.feed(stream.events[stream.held]) == b"".join(stream.events[: stream.held + 1]) and tap.content_seen


@EVERY
@pytest.mark.parametrize("strip", [False, True], ids=["kept", "stripped"])
def test_a_cut_stream_is_never_made_to_look_whole(stream: Stream, strip: bool) -> None:
    sent = [event for event in stream.events if not (strip and event == stream.stripped)]
    prefixes = {*accumulate(sent, initial=b"")}
    closed = {prefix.replace(b"\r\n", b"\n") for prefix in prefixes}
    done = stream.all.rfind(b"data: [DONE]") if stream.terminal else len(stream.all)
    whole_at = done + len(b"data: [DONE]")
    for at in range(len(stream.all)):
        tap = ChatStreamTap(stream.choices, strip)
        out = tap.feed(stream.all[:at])
        assert out in prefixes
        seen = found(tap)
        tail = tap.end()
        if tap.complete:
            assert tap.error is None and tap.finished
            assert tail.endswith(DONE) or (tail == b"" and at >= whole_at)
            continue
        assert isinstance(tap.error, e.StreamCut)
        assert b"[DONE]" not in out + tail and not seen["finished"]
        assert (out + tail).replace(b"\r\n", b"\n") in closed


@EVERY
def test_a_stream_cut_before_its_last_finish_is_cut(stream: Stream) -> None:
    finishes = [n for n, event in enumerate(stream.events) if b'"finish_reason": "' in event and b'"finish_reason": ""' not in event]
    before = b"".join(stream.events[: finishes[-1]])
    for at in range(len(before) + 1):
        tap = ChatStreamTap(stream.choices, strip_usage=False)
        out = tap.feed(before[:at]) + tap.end()
        assert isinstance(tap.error, e.StreamCut) and not tap.complete and not tap.finished
        assert b"[DONE]" not in out


def test_a_terminal_event_without_a_finish_reason_ends_the_answer_and_adds_nothing() -> None:
    tap = ChatStreamTap(1, strip_usage=False)
    stream = b"".join([ROLE, *texts("Hi"), DONE])
    assert tap.feed(stream) + tap.end() == stream
    assert tap.complete and not tap.finished and tap.finish is None


def test_bytes_after_the_terminal_event_are_ignored() -> None:
    tap = ChatStreamTap(1, strip_usage=False)
    stream = b"".join([*texts("Hi"), FINISH, DONE])
    assert tap.feed(stream + b"data: junk\n\n") == stream
    assert tap.feed(b"data: junk\n\n") == b"" == tap.end()
    assert tap.error is None


@pytest.mark.parametrize("last", ["data: [DONE]", "data: [DONE]\n"])
def test_a_terminal_event_needs_no_blank_line(last: str) -> None:
    tap = ChatStreamTap(1, strip_usage=False)
    before = b"".join([*texts("Hi"), FINISH])
    assert tap.feed(before + last.encode()) + tap.end() == before + DONE
    assert tap.complete and tap.error is None


GOOD = b"".join([ROLE, *texts("Hi")])
ERRORS = [
    (b'data: {"error":{"message":"CANARY","type":"server_error","code":null}}\n\n', e.UpstreamError),
    (b'data: {"error":{"message":"CANARY","code":429}}\n\n', e.RateLimited),
    (b'data: {"error":{"message":"CANARY","code":"insufficient_quota"}}\n\n', e.QuotaExhausted),
    (b'data: {"error":"CANARY"}\n\n', e.UpstreamError),
    (b'event: error\ndata: {"error":{"message":"CANARY","code":"context_length_exceeded"}}\n\n', e.ContextLengthExceeded),
    (b'event: error\ndata: {"message":"CANARY","type":"overloaded_error"}\n\n', e.UpstreamOverloaded),
    (b'event: error\ndata: "CANARY"\n\n', e.UpstreamError),
    (b'data: {"object":"error","message":"CANARY","type":"BadRequestError","param":null,"code":400}\n\n', e.UpstreamRejected),
    (b'data: {"object":"error","error":null,"message":"CANARY","code":503}\n\n', e.UpstreamOverloaded),
    (b'data: {"id":5,"error":{"message":"CANARY","code":429},"choices":"?"}\n\n', e.RateLimited),
    (chunk(delta(finish="error", content=""), error={"code": 502, "message": "CANARY"}), e.UpstreamError),
    (chunk(delta(finish="error")), e.UpstreamError),
    (chunk(delta(finish="insufficient_system_resource")), e.UpstreamError),
    (chunk(delta(finish="abort")), e.UpstreamError),
    (chunk({**delta(finish="error"), "error": {"code": 429, "message": "CANARY"}}), e.RateLimited),
    (b'data: {"error":{"message":"\xff","code":429}}\n\n', e.UpstreamError),
    (b"data: CANARY\n\n", e.MalformedResponse),
    (b"data: <html>CANARY</html>\n\n", e.MalformedResponse),
    (b'data: {"id":"CANARY\n\n', e.MalformedResponse),
    (b'data: {"id":5,"choices":[\n\n', e.MalformedResponse),
    (b'data: {"id":"\xff"}\n\n', e.MalformedResponse),
    (b'data: {"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n\n", e.MalformedResponse),
    (b"data: " + b"x" * EVENT_LIMIT + b"\n\n", e.AnswerTooLarge),
    (b'data: {"id":"CANARY"}{"id":"CANARY"}\n\n', e.MalformedResponse),
    (b'data: {"id":"CANARY"\n\ndata: }{}\n\n', e.MalformedResponse),
    (b'data: {"choices":[{}\n\ndata: {}]}\n\n', e.MalformedResponse),
]


@pytest.mark.parametrize(("bad", "error"), ERRORS, ids=[f"{n} {bad[:40]!r}" for n, (bad, _) in enumerate(ERRORS)])
def test_what_was_good_before_an_error_goes_by_and_nothing_after_it(bad: bytes, error: type[e.AttemptError]) -> None:
    tap = ChatStreamTap(1, strip_usage=False)
    assert tap.feed(GOOD + bad + FINISH) + tap.feed(DONE) + tap.end() == GOOD
    assert type(tap.error) is error
    assert not tap.complete and tap.finish is None
    assert "CANARY" not in f"{tap.error} {tap.error.reason} {tap.error.param}"


@pytest.mark.parametrize(("bad", "error"), ERRORS, ids=[f"{n} {bad[:40]!r}" for n, (bad, _) in enumerate(ERRORS)])
def test_an_error_before_the_first_output_lets_nothing_by(bad: bytes, error: type[e.AttemptError]) -> None:
    tap = ChatStreamTap(1, strip_usage=False)
    assert tap.feed(ROLE + bad) + tap.feed(FINISH) + tap.end() == b""
    assert type(tap.error) is error and not tap.content_seen


def test_an_error_object_that_ends_a_stream_needs_no_blank_line() -> None:
    tap = ChatStreamTap(1, strip_usage=False)
    assert tap.feed(GOOD + b'data: {"error":{"message":"x","code":429}}') + tap.end() == GOOD
    assert type(tap.error) is e.RateLimited


@pytest.mark.parametrize("empty", ['""', "null", "[]", "{}"])
@pytest.mark.parametrize("name", ["content", "tool_calls", "reasoning_content", "reasoning", "refusal", "function_call", "audio"])
def test_an_empty_member_of_a_delta_is_no_output(name: str, empty: str) -> None:
    tap = ChatStreamTap(1, strip_usage=False)
    assert tap.feed(f'data: {{"choices":[{{"index":0,"delta":{{"role":"assistant","{name}":{empty}}}}}]}}\n\n'.encode()) == b""
    assert not tap.content_seen and tap.tokens_seen == 0


@pytest.mark.parametrize(
    "member",
    [
        '"content":" "',
        '"content":[{"text":"x"}]',
        '"tool_calls":[{"index":0}]',
        '"reasoning":"x"',
        '"refusal":"x"',
        '"audio":{"id":"a"}',
    ],
)
def test_output_of_any_kind_lets_the_held_events_go(member: str) -> None:
    tap = ChatStreamTap(1, strip_usage=False)
    event = f'data: {{"choices":[{{"index":0,"delta":{{{member}}}}}]}}\n\n'.encode()
    assert tap.feed(ROLE) + tap.feed(event) == ROLE + event
    assert tap.tokens_seen >= 1


def test_usage_is_cumulative_and_its_last_is_the_truth() -> None:
    tap = ChatStreamTap(1, strip_usage=True)
    first = chunk(delta(content="Hi"), usage={"prompt_tokens": 9, "completion_tokens": 1})
    assert tap.feed(first + FINISH + USAGE + DONE) == first + FINISH + DONE
    assert without_raw(tap.usage) == (9, 4)


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_no_tokens_of_thoughts_that_passed_is_not_believed(name: str) -> None:
    told = {"prompt_tokens": 9, "completion_tokens": 4, "completion_tokens_details": {"reasoning_tokens": 0}}
    for thought, counted in ((chunk(delta(**{name: "Hm"})), None), (chunk(delta(content="Hm")), 0)):
        tap = ChatStreamTap(1, strip_usage=False)
        tap.feed(ROLE + thought + chunk(delta(content="Hi"), usage=told) + FINISH + DONE)
        assert tap.usage is not None and (tap.usage.reasoning, tap.usage.output_visible) == (counted, 4)


# --- the request -----------------------------------------------------------------------------------------------------
def call_of(body: str) -> Call:
    return read_chat_call("req_1", body.encode(), [])


MESSAGES = '"messages":[{"role":"user","content":"H\\u00e9 \\ud83e\\udd80\\/"}]'
REWRITES = [
    # the client's body, model, stream, ask for usage, what the upstream gets
    ('{"model":"a",%s}', "a", False, False, '{"model":"a",%s}'),
    ('{ "model" : "a" , %s }', "a", False, True, '{"model":"a",%s}'),
    ('{"model":"dear","x":1,%s,"model":"a","x":2}', "a", False, False, '{"model":"a","x":2,%s}'),
    ('{"model":"a",%s}', "b", False, False, '{"model":"b",%s}'),
    ('{%s,"model":"a","zzz":1,"aaa":[1, 2]}', "b", False, False, '{%s,"model":"b","zzz":1,"aaa":[1, 2]}'),
    ('{"model":"a","stream":true,%s}', "a", True, True, '{"model":"a","stream":true,%s,"stream_options":{"include_usage":true}}'),
    ('{"model":"a","stream":true,%s}', "b", True, False, '{"model":"b","stream":true,%s}'),
    ('{"model":"a","stream":false,%s}', "a", True, False, '{"model":"a","stream":true,%s}'),
    (
        '{"model":"a","stream":null,"stream_options":null,%s}',
        "a",
        True,
        True,
        '{"model":"a","stream":true,"stream_options":{"include_usage":true},%s}',
    ),
    ('{"model":"a","stream":true,"stream_options":{"include_usage":true},%s}', "a", True, True, None),
    (
        '{"model":"a","stream":true,"stream_options":{"include_usage":true,"x":[1, 2]},%s}',
        "b",
        True,
        True,
        '{"model":"b","stream":true,"stream_options":{"include_usage":true,"x":[1, 2]},%s}',
    ),
    (
        '{"model":"a","stream":true,"stream_options":{"include_obfuscation":false},%s}',
        "a",
        True,
        True,
        '{"model":"a","stream":true,"stream_options":{"include_obfuscation":false,"include_usage":true},%s}',
    ),
    (
        '{"model":"a","stream":true,"stream_options":{"include_obfuscation":false,"include_usage":false},%s}',
        "b",
        True,
        False,
        '{"model":"b","stream":true,"stream_options":{"include_obfuscation":false,"include_usage":false},%s}',
    ),
    ('{"model":"a","stream":true,"stream_options":{"include_usage":true},%s,"n":2}', "a", False, False, '{"model":"a","stream":false,%s,"n":2}'),
    (
        '{"model":"a",%s,"temperature":1.0e-1,"seed":12345678901234567890123}',
        "b",
        False,
        False,
        '{"model":"b",%s,"temperature":1.0e-1,"seed":12345678901234567890123}',
    ),
    (
        '{"model":"a","m\\u00f6del":"\\u00e9","k\\"\\\\":{ "a":1,"a":2 },%s}',
        "b",
        False,
        False,
        '{"model":"b","mödel":"\\u00e9","k\\"\\\\":{ "a":1,"a":2 },%s}',
    ),
    ('{"model":"a",%s}', 'b"\\é', False, False, '{"model":"b\\"\\\\é",%s}'),
]


@pytest.mark.parametrize(("body", "model", "stream", "ask_usage", "wanted"), REWRITES, ids=[str(n) for n in range(len(REWRITES))])
def test_a_rewritten_request_changes_only_the_fields_that_are_ours(body: str, model: str, stream: bool, ask_usage: bool, wanted: str | None) -> None:
    call = call_of(body % MESSAGES)
    assert rewrite_request(call, model, Facts(), stream=stream, ask_usage=ask_usage).decode() == (wanted or body) % MESSAGES
    assert call.body.decode() == body % MESSAGES


def test_the_wire_gives_a_tap_for_the_number_of_choices_that_were_asked_for() -> None:
    tap = OPENAI_CHAT.stream_tap(call_of(f'{{"model":"a","n":2,{MESSAGES}}}'), strip_usage=False)
    tap.feed(GOOD + FINISH)
    assert not tap.finished
    tap.feed(chunk(delta(1, finish="stop")))
    assert tap.finished


# --- the whole answer ------------------------------------------------------------------------------------------------
ANSWER = (
    b'{"id":"chatcmpl-1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":%b}],'
    b'"usage":%b}'
)


@pytest.mark.parametrize("lead", [b"", b"\n\n\n", b"  \r\n"])
def test_a_whole_answer_is_read_and_kept_as_it_came(lead: bytes) -> None:
    body = lead + ANSWER % (b'"length"', b'{"prompt_tokens":3,"completion_tokens":1}')
    answer = read_unary(body)
    assert (answer.body, answer.upstream_id, without_raw(answer.usage)) == (body, "chatcmpl-1", (3, 1))
    assert answer.finish is not None and answer.finish.reason == "length"


@pytest.mark.parametrize("native", [b"null", b'""'])
def test_a_whole_answer_without_reason_or_usage_has_none(native: bytes) -> None:
    answer = read_unary(ANSWER % (native, b"null"))
    assert answer.finish is None and answer.usage is None


BOUND = [
    ({"reasoning_details": [{"type": "reasoning.text", "text": "x", "signature": "sig/1=="}]}, ["sig/1=="]),
    ({"reasoning_details": [{"type": "reasoning.encrypted", "data": "AbC+"}]}, ["AbC+"]),
    ({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f"}, "extra_content": {"google": {"thought_signature": "t1"}}}]}, ["t1"]),
    ({"content": "hi", "extra_content": {"google": {"thought_signature": "t2"}}}, ["t2"]),
    ({"content": '"signature": "no"', "tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"data":"x"}'}}]}, []),
]


@pytest.mark.parametrize(("message", "states"), BOUND, ids=[str(states) for _, states in BOUND])
def test_opaque_states_are_found_in_streams_and_whole_answers(message: dict[str, Any], states: list[str]) -> None:
    tap = ChatStreamTap(1, strip_usage=False)
    tap.feed(chunk({"index": 0, "delta": message}) + FINISH + DONE)
    assert tap.bound == states
    body = json.dumps({"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
    assert read_unary(body).bound == states


UNARY_ERRORS = [
    (b"", e.MalformedResponse),
    (b"<html>CANARY</html>", e.MalformedResponse),
    (b"[]", e.MalformedResponse),
    (b"{}", e.MalformedResponse),
    (b'{"choices":[]}', e.MalformedResponse),
    (b'{"choices":null}', e.MalformedResponse),
    (b'{"id":"\xff","choices":[{}]}', e.MalformedResponse),
    (b"[" * 100_000, e.MalformedResponse),
    (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", e.MalformedResponse),
    (b'{"error":{"message":"CANARY"}}', e.UpstreamError),
    (b'{"error":"CANARY"}', e.UpstreamError),
    (b'{"error":{"message":"\xff"}}', e.UpstreamError),
    (b'{"id":"x","error":{"message":"CANARY","code":"rate_limit_exceeded"}}', e.RateLimited),
    (ANSWER % (b'"error"', b"null"), e.UpstreamError),
    (b'{"object":"error","message":"CANARY","type":"NotFoundError","code":404}', e.UpstreamModelNotFound),
]


@pytest.mark.parametrize(("body", "error"), UNARY_ERRORS, ids=[f"{n} {body[:40]!r}" for n, (body, _) in enumerate(UNARY_ERRORS)])
def test_what_is_no_answer_under_a_200_is_an_error(body: bytes, error: type[e.AttemptError]) -> None:
    for read in (read_unary, OPENAI_CHAT.decode_response):
        with pytest.raises(e.AttemptError) as caught:
            read(body)
        assert type(caught.value) is error and "CANARY" not in str(caught.value)


@pytest.mark.parametrize("after", [b"", texts(" there")[0], FINISH])
def test_a_line_that_is_no_field_is_not_read(after: bytes) -> None:
    """A JSON object below the data, and one that stands where an event would begin."""
    tap, bitten = ChatStreamTap(1, strip_usage=False), ChatStreamTap(1, strip_usage=False)
    stray = b'{"usage":{"prompt_tokens":7,"completion_tokens":7},"choices":[{"index":0,"delta":{"content":"CANARY"}}]}'
    sent = texts("Hi")[0][:-1] + stray + b"\n\n" + stray + b"\n\n" + after
    assert tap.feed(sent) == pass_through(bitten, *bytewise(sent)) == sent
    assert found(tap) == found(bitten) and tap.usage is None


def test_an_event_with_empty_data_is_left_out() -> None:
    tap = ChatStreamTap(1, strip_usage=False)
    text = chunk(delta(content="a"))
    assert tap.feed(ROLE + b"data:\n\n" + text + b"data: \n\n" + FINISH + DONE) == ROLE + text + FINISH + DONE
    assert tap.complete and tap.error is None
