"""Responses to Responses: bytes go by unchanged and whole, and what was read of them is right, wherever they were cut."""

import json
from typing import Any

import pytest
from msgspec import Raw

from contract import errors as e
from contract.call import Call
from gateway.peek import RESPONSES, Reader
from providers.wires.facts import Facts
from providers.wires.openai_responses import OPENAI_RESPONSES
from providers.wires.openai_responses.tap import ResponsesStreamTap, read_unary
from tests.providers.sse_oracle import events_of
from tests.providers.wires.responses_machine import run

USAGE = {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 2}}
MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [{"type": "output_text", "text": "wörld"}]}
THOUGHT = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "enc-1"}
CALL = {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}", "status": "completed"}
OUR_ERROR = b'{"error":{"message":"it broke","code":"upstream_stream_truncated"}}'


def response(status: str = "completed", **more: Any) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "model": "m", "status": status, "output": [], "usage": None, "error": None, **more}


def event(kind: str, number: int, **more: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), json.dumps({"type": kind, "sequence_number": number, **more}, ensure_ascii=False).encode())


def delta(number: int, text: str) -> bytes:
    return event("response.output_text.delta", number, item_id="msg_1", output_index=1, content_index=0, delta=text, logprobs=[])


CREATED = event("response.created", 0, response=response("in_progress"))
PROGRESS = event("response.in_progress", 1, response=response("in_progress"))
FIRST = [
    CREATED,
    PROGRESS,
    event("response.output_item.added", 2, output_index=0, item={"id": "rs_1", "type": "reasoning", "summary": []}),
    event("response.output_item.done", 3, output_index=0, item=THOUGHT),
    event("response.output_item.added", 4, output_index=1, item={"id": "msg_1", "type": "message", "content": []}),
]
REST = [
    delta(5, "wö"),
    event("response.new_thing.happened", 6, strange=[1, {"delta": None}]),
    b": a comment\n\n",
    delta(7, "rld"),
    event("response.output_item.done", 8, output_index=1, item=MESSAGE),
]
LAST = event("response.completed", 9, response=response(output=[{**THOUGHT, "encrypted_content": "enc-2"}, MESSAGE], usage=USAGE, store=False))
STREAM = b"".join([*FIRST, *REST, LAST])


def fed(*chunks: bytes, kept: bool = False) -> tuple[ResponsesStreamTap, bytes]:
    tap = ResponsesStreamTap(kept)
    return tap, b"".join([tap.feed(chunk) for chunk in chunks])


def test_a_stream_goes_by_untouched_and_is_read() -> None:
    tap, sent = fed(STREAM)
    assert sent == STREAM and tap.complete and tap.finished and tap.error is None and tap.upstream_id == "resp_1"
    assert tap.finish is not None and (tap.finish.reason, tap.finish.native) == ("stop", "completed")
    assert tap.usage is not None and (tap.usage.input_uncached, tap.usage.cache_read, tap.usage.reasoning) == (5, 4, 2)
    assert json.loads(tap.whole)["output"][1] == MESSAGE and tap.tokens_seen == 2


def test_nothing_is_sent_before_the_first_output() -> None:
    tap, sent = fed(*FIRST)
    assert sent == b"" and not tap.content_seen
    assert tap.feed(REST[0]) == b"".join(FIRST) + REST[0] and tap.content_seen


def test_a_call_is_output_from_its_beginning() -> None:
    begun = event("response.output_item.added", 2, output_index=0, item={**CALL, "arguments": "", "status": "in_progress"})
    tap, sent = fed(CREATED, begun)
    assert sent == CREATED + begun
    tap.feed(event("response.completed", 3, response=response(output=[CALL])))
    assert tap.finish is not None and tap.finish.reason == "tool_calls"


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_a_stream_cut_at_every_byte_is_whole_events_and_never_whole(newline: bytes) -> None:
    """The last event may lack its blank line: what is there of it is whole JSON."""
    stream = STREAM.replace(b"\n", newline)
    lengths = [len(piece) + 2 for piece in STREAM.split(b"\n\n")[:-1]]
    boundaries = {sum(lengths[:count]) for count in range(len(lengths) + 1)}
    for cut in range(len(stream)):
        tap, sent = fed(stream[:cut])
        sent = (sent + tap.end()).replace(b"\r\n", b"\n")
        assert STREAM.startswith(sent) and len(sent) in boundaries
        assert tap.complete == (sent == STREAM) == (cut >= len(stream) - 2 * len(newline))
        assert tap.complete or isinstance(tap.error, e.StreamCut)


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_a_stream_in_slices_goes_by_the_same(size: int) -> None:
    tap, sent = fed(*[STREAM[at : at + size] for at in range(0, len(STREAM), size)])
    assert sent == STREAM and tap.complete and tap.bound == fed(STREAM)[0].bound


def test_both_encryptions_of_a_thought_bind() -> None:
    assert fed(STREAM)[0].bound == ["enc-1", "enc-2"]


def test_a_kept_answer_s_id_binds_and_another_s_does_not() -> None:
    assert fed(STREAM, kept=True)[0].bound == ["enc-1", "enc-2", "resp_1"]


def test_what_follows_the_terminal_event_is_not_sent() -> None:
    assert fed(STREAM + delta(10, "more"), delta(11, "more"))[1] == STREAM


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        ({"reason": "max_output_tokens"}, "length"),
        ({"reason": "content_filter"}, "content_filter"),
        ({"reason": "new"}, "unknown"),
        (None, "unknown"),
    ],
)
def test_an_incomplete_answer_says_why(details: Any, reason: str) -> None:
    last = event("response.incomplete", 9, response=response("incomplete", incomplete_details=details))
    tap, _ = fed(*FIRST, *REST, last)
    assert tap.complete and tap.finish is not None and tap.finish.reason == reason


FAILED = event("response.failed", 9, response=response("failed", error={"code": "rate_limit_exceeded", "message": "CANARY"}, usage=USAGE))
ERROR = event("error", 9, code="server_error", message="CANARY", param=None)


@pytest.mark.parametrize(("failure", "kind"), [(FAILED, e.RateLimited), (ERROR, e.UpstreamError)], ids=["failed", "error"])
def test_a_failure_before_any_output_fails_the_attempt_and_nobody_hears_of_it(failure: bytes, kind: type[e.AttemptError]) -> None:
    tap, sent = fed(*FIRST, failure)
    assert sent == b"" and type(tap.error) is kind and "CANARY" not in str(tap.error) and not tap.complete


def test_a_failure_after_some_output_is_told_in_our_words_and_what_it_cost_is_known() -> None:
    tap, sent = fed(*FIRST, *REST, FAILED, delta(10, "more"))
    assert sent == b"".join([*FIRST, *REST]) and type(tap.error) is e.RateLimited
    assert tap.usage is not None and tap.usage.output_total == 5
    ((name, text),) = events_of(tap.in_band(OUR_ERROR))
    told = json.loads(text)
    assert (name, told["sequence_number"], told["response"]["id"]) == ("response.failed", 9, "resp_1")
    assert told["response"]["usage"] == USAGE and told["response"]["error"] == {"code": "upstream_stream_truncated", "message": "it broke"}
    assert "CANARY" not in text


def test_our_own_failure_of_a_begun_stream_is_a_failed_response_of_the_same_id() -> None:
    begun = event("response.output_item.added", 2, output_index=0, item={"id": "m", "type": "message", "content": [], "status": "in_progress"})
    part = event("response.content_part.added", 3, item_id="m", output_index=0, content_index=0, part={"type": "output_text", "text": ""})
    text = event("response.output_text.delta", 4, item_id="m", output_index=0, content_index=0, delta="x")
    tap, sent = fed(CREATED, PROGRESS, begun, part, text)
    machine = run(sent + tap.in_band(OUR_ERROR))
    assert machine.ended == "response.failed" and machine.id == "resp_1"
    assert machine.final["error"] == {"code": "upstream_stream_truncated", "message": "it broke"}


@pytest.mark.parametrize(
    "bad",
    [b"data: {oops\n\n", b'data: {"type":"response.output_text.delta","delta":"\xff"}\n\n', b'data: {"type":"response.completed","response":[]}\n\n'],
    ids=["no JSON", "no UTF-8", "another shape"],
)
def test_an_event_that_cannot_be_read_ends_the_answer_after_what_was_good(bad: bytes) -> None:
    tap, sent = fed(*FIRST, *REST, bad, LAST)
    assert sent == b"".join([*FIRST, *REST]) and isinstance(tap.error, e.MalformedResponse) and not tap.complete


def test_events_of_unknown_types_and_shapes_pass() -> None:
    odd = b'data: 5\n\ndata: {"type":7}\n\ndata: {"type":"response.x","item":null,"output_index":"?"}\n\n'
    assert fed(*FIRST, *REST, odd, LAST)[1] == b"".join([*FIRST, *REST, odd, LAST])


# --- the request -----------------------------------------------------------------------------------------------------
def call_of(body: str) -> Call:
    return Reader(RESPONSES).read("r1", body.encode(), [])


ODD = '"input":[{"type":"new","x":1.10}],"tools":[{"type":"namespace","n":[true , null]}],"zzz":{"b":1e3, "a":2}'


@pytest.mark.parametrize(
    ("body", "stream", "wanted"),
    [
        ('{"model":"a",%s}', False, '{"model":"b",%s}'),
        ('{%s,"stream":true,"model":"a"}', True, '{%s,"stream":true,"model":"b"}'),
        ('{"model":"a",%s,"stream":true,"stream_options":{"x":1}}', False, '{"model":"b",%s,"stream":false}'),
    ],
)
def test_a_rewritten_request_changes_only_the_fields_that_are_ours(body: str, stream: bool, wanted: str) -> None:
    rewritten = OPENAI_RESPONSES.rewrite_request(call_of(body % ODD), "b", Facts(), stream=stream, ask_usage=False)
    assert rewritten.decode() == wanted % ODD


def test_a_provider_s_other_names_are_used() -> None:
    facts = Facts(renames={"user": "safety_identifier"})
    rewritten = OPENAI_RESPONSES.rewrite_request(call_of('{"model":"a","user":"u"}'), "b", facts, stream=False, ask_usage=False)
    assert json.loads(rewritten) == {"model": "b", "safety_identifier": "u"}


# --- the whole answer ------------------------------------------------------------------------------------------------
def test_a_whole_answer_is_kept_as_it_came_and_read() -> None:
    body = b" \n" + json.dumps(response(output=[THOUGHT, CALL], usage=USAGE)).encode()
    answer = read_unary(body)
    assert answer.body == body and answer.upstream_id == "resp_1" and answer.bound == ["enc-1", "resp_1"]
    assert answer.finish is not None and answer.finish.reason == "tool_calls"
    assert answer.usage is not None and bytes(answer.usage.raw) == bytes(Raw(json.dumps(USAGE).encode()))


def test_an_answer_that_is_not_kept_binds_nothing_by_its_id() -> None:
    assert read_unary(json.dumps(response(store=False)).encode()).bound == []


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_an_answer_still_being_made_in_the_background_passes_without_a_reason(status: str) -> None:
    assert read_unary(json.dumps(response(status)).encode()).finish is None


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", e.MalformedResponse),
        (b"<html>CANARY", e.MalformedResponse),
        (b"[]", e.MalformedResponse),
        (b'{"id":"x"}', e.MalformedResponse),
        (b'{"id":"\xff","output":[]}', e.MalformedResponse),
        (b'{"output":[5]}', e.MalformedResponse),
        (b'{"output":' + b"[" * 100_000, e.MalformedResponse),
        (b'{"error":{"message":"CANARY"}}', e.UpstreamError),
        (json.dumps(response("failed", error={"code": "rate_limit_exceeded", "message": "CANARY"})).encode(), e.RateLimited),
    ],
    ids=range(9),
)
def test_what_is_no_answer_under_a_200_is_an_error(body: bytes, kind: type[e.AttemptError]) -> None:
    for read in (read_unary, OPENAI_RESPONSES.decode_response):
        with pytest.raises(e.AttemptError) as caught:
            read(body)
        assert type(caught.value) is kind and "CANARY" not in str(caught.value)


def test_a_step_of_a_tool_is_progress_and_a_sign_of_life_is_none() -> None:
    tap = ResponsesStreamTap(kept=False)
    seen = []
    for sent in (
        b'data: {"type":"response.web_search_call.searching","output_index":0,"item_id":"w"}\n\n',
        b'data: {"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"a"}\n\n',
        b'data: {"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":""}\n\n',
        b'data: {"type":"keepalive"}\n\n',
        b": ping\n\n",
        b'data: {"type":"response.out',
    ):
        tap.progressed = False
        tap.feed(sent)
        seen.append(tap.progressed)
    assert tap.error is None and seen == [True, True, False, False, False, False]
