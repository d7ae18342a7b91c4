"""Converse answers are read right, streamed and whole; one that is cut never looks whole, one that fails says how."""

import copy
import json
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from contract import errors as e
from contract import events as ev
from contract.finish import FinishReason
from contract.raw import ABSENT
from contract.usage import Usage
from providers.wires.bedrock import BEDROCK
from tests.providers.eventstream_bytes import event, exception, message

Json = dict[str, Any]
USAGE = {"inputTokens": 9, "outputTokens": 4, "totalTokens": 13}
START = event("messageStart", role="assistant")
METADATA = event("metadata", usage=USAGE, metrics={"latencyMs": 5})
HIDDEN = b64encode(b"hidden").decode()


def delta(index: int, **members: Any) -> bytes:
    return event("contentBlockDelta", contentBlockIndex=index, delta=members)


def opened(index: int, **start: Any) -> bytes:
    return event("contentBlockStart", contentBlockIndex=index, start=start)


def closed(index: int) -> bytes:
    return event("contentBlockStop", contentBlockIndex=index)


def stop(reason: str) -> bytes:
    return event("messageStop", stopReason=reason)


def use(index: int, call: str, name: str, *pieces: str, **more: Any) -> list[bytes]:
    start = opened(index, toolUse={"toolUseId": call, "name": name, **more})
    return [start, *(delta(index, toolUse={"input": piece}) for piece in pieces), closed(index)]


def texts(index: int, *pieces: str) -> list[bytes]:
    return [*(delta(index, text=piece) for piece in pieces), closed(index)]


def read(*events: bytes, size: int = 1 << 20) -> list[ev.Event]:
    data, decoder = b"".join(events), BEDROCK.stream_decoder(1)
    return [found for at in range(0, len(data), size) for found in decoder.feed(data[at : at + size])] + decoder.end()


def answered(*events: bytes, reason: str = "end_turn") -> list[ev.Event]:
    """The content's events of a stream with these in its midst."""
    found = read(START, *events, stop(reason), METADATA)
    assert isinstance(found[0], ev.Started) and [type(each) for each in found[-3:]] == [ev.Finished, ev.UsageReported, ev.Ended]
    return found[1:-3]


def whole(*content: Json, reason: str = "end_turn", **more: Any) -> list[ev.Event]:
    body = {"output": {"message": {"role": "assistant", "content": list(content)}}, "stopReason": reason, "usage": USAGE, "metrics": {}, **more}
    found = BEDROCK.decode_response(json.dumps(body, indent=1).encode())
    assert isinstance(found[0], ev.Started) and [type(each) for each in found[-3:]] == [ev.Finished, ev.UsageReported, ev.Ended]
    return found[1:-3]


def joined(events: list[ev.Event]) -> list[ev.Event]:
    """The same answer with the deltas of one part as one, and arguments as JSON writes them."""
    out: list[ev.Event] = []
    for each in events:
        last = out[-1] if out else None
        if isinstance(each, ev.TextDelta) and isinstance(last, ev.TextDelta) and each.part == last.part:
            out[-1] = ev.TextDelta(text=last.text + each.text, part=each.part)
        elif isinstance(each, ev.ReasoningDelta) and isinstance(last, ev.ReasoningDelta) and each.part == last.part:
            out[-1] = ev.ReasoningDelta(text=last.text + each.text, part=each.part)
        elif isinstance(each, ev.ToolCallDelta) and isinstance(last, ev.ToolCallDelta) and each.part == last.part:
            out[-1] = ev.ToolCallDelta(arguments=last.arguments + each.arguments, part=each.part)
        else:
            out.append(each)
    return [ev.ToolCallDelta(arguments=json.dumps(json.loads(d.arguments)), part=d.part) if isinstance(d, ev.ToolCallDelta) else d for d in out]


RAN = {"toolUseId": "t9", "name": "nova_code_interpreter", "type": "server_tool_use"}
RESULT = {"toolUseId": "t9", "type": "nova_code_interpreter_result", "status": "success"}
CITED = {
    "title": "T",
    "sourceContent": [{"text": "so "}, {"text": "said"}],
    "location": {"web": {"url": "https://example.com/", "domain": "example.com"}},
}
# name: the blocks of a whole answer, and the same as a stream
SAME: dict[str, tuple[list[Json], list[bytes]]] = {
    "text": ([{"text": "Grüße 🦀"}], texts(0, "Grü", "ße", " 🦀")),
    "empty text": ([{"text": ""}, {"text": "x"}], [*texts(0, ""), *texts(1, "x")]),
    "calls": (
        [
            {"text": "So."},
            {"toolUse": {"toolUseId": "a", "name": "weather", "input": {"city": 'B"r'}}},
            {"toolUse": {"toolUseId": "b", "name": "clock", "input": {"z": [1]}}},
        ],
        [*texts(0, "So."), *use(1, "a", "weather", '{"ci', 'ty": "B', '\\"r"}'), *use(2, "b", "clock", '{"z":[', "1]}")],
    ),
    "a call that says it is one": (
        [{"toolUse": {"toolUseId": "a", "name": "weather", "input": {"c": 1}, "type": "tool_use"}}],
        use(0, "a", "weather", '{"c":1}', type="tool_use"),
    ),
    "signed reasoning": (
        [{"reasoningContent": {"reasoningText": {"text": "Hm, so", "signature": "sig"}}}, {"text": "42"}],
        [
            delta(0, reasoningContent={"text": "Hm, "}),
            delta(0, reasoningContent={"text": "so"}),
            delta(0, reasoningContent={"signature": "sig"}),
            closed(0),
            *texts(1, "42"),
        ],
    ),
    "reasoning without text": (
        [{"reasoningContent": {"reasoningText": {"text": "", "signature": "sig"}}}, {"text": "42"}],
        [delta(0, reasoningContent={"text": ""}), delta(0, reasoningContent={"signature": "sig"}), closed(0), *texts(1, "42")],
    ),
    "unsigned reasoning": (
        [{"reasoningContent": {"reasoningText": {"text": "Hm"}}}, {"text": "42"}],
        [delta(0, reasoningContent={"text": "Hm"}), closed(0), *texts(1, "42")],
    ),
    "withheld reasoning": (
        [{"reasoningContent": {"redactedContent": HIDDEN}}, {"text": "42"}],
        [delta(0, reasoningContent={"redactedContent": HIDDEN}), closed(0), *texts(1, "42")],
    ),
    "a citation": (
        [{"citationsContent": {"content": [{"text": "As they "}, {"text": "say"}], "citations": [CITED]}}],
        [delta(0, text="As they "), delta(0, text="say"), delta(0, citation=CITED), closed(0)],
    ),
    "a tool of the provider": (
        [
            {"toolUse": {**RAN, "input": {"snippet": "1+1"}}},
            {"toolResult": {**RESULT, "content": [{"json": {"out": "2"}}, {"text": "!"}]}},
            {"text": "2"},
        ],
        [
            *use(0, "t9", "nova_code_interpreter", '{"snippet"', ':"1+1"}', type="server_tool_use"),
            opened(1, toolResult=RESULT),
            delta(1, toolResult=[{"json": {"out": "2"}}]),
            delta(1, toolResult=[{"text": "!"}]),
            closed(1),
            *texts(2, "2"),
        ],
    ),
    "an image": (
        [{"image": {"format": "png", "source": {"bytes": "iVBORw0KGgo="}}}],
        [opened(0, image={"format": "png"}), delta(0, image={"source": {"bytes": "iVBORw0KGgo="}}), closed(0)],
    ),
}  # fmt: skip


def plain(events: list[ev.Event]) -> list[ev.Event]:
    """Without the raw forms of citations, whose white space differs."""
    return [replace(each, annotation=ABSENT) if isinstance(each, ev.Annotated) else each for each in joined(events)]


@pytest.mark.parametrize("name", SAME)
def test_a_whole_answer_is_its_stream_come_at_once(name: str) -> None:
    content, stream = SAME[name]
    assert plain(answered(*stream)) == plain(whole(*content))
    assert any(isinstance(found, ev.ContentEvent) for found in answered(*stream))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(SAME)), st.integers(1, 300))
def test_a_stream_is_the_same_in_pieces_of_any_size(name: str, size: int) -> None:
    events = [START, *SAME[name][1], stop("end_turn"), METADATA]
    assert read(*events, size=size) == read(*events)


@pytest.mark.parametrize("name", SAME)
def test_a_stream_that_is_cut_at_any_byte_is_whole_only_after_its_message_has_stopped(name: str) -> None:
    before = b"".join([START, *SAME[name][1], stop("end_turn")])
    stream, decoder = before + METADATA, BEDROCK.stream_decoder(1)
    for cut in range(len(stream)):
        try:
            copy.deepcopy(decoder).end()
            assert cut == len(before)
        except e.StreamCut:
            assert cut != len(before)
        decoder.feed(stream[cut : cut + 1])
    assert decoder.end() == []


def test_a_stream_without_its_metadata_is_whole_and_its_usage_not_known() -> None:
    found = read(START, *texts(0, "Hi"), stop("end_turn"))
    assert [type(each) for each in found] == [ev.Started, ev.TextDelta, ev.Finished, ev.Ended]


def test_a_stream_does_not_end_before_its_metadata() -> None:
    decoder = BEDROCK.stream_decoder(1)
    assert not any(isinstance(each, ev.Ended) for each in decoder.feed(START + stop("end_turn")))
    assert [type(each) for each in decoder.feed(METADATA)] == [ev.UsageReported, ev.Ended]
    assert decoder.feed(delta(0, text="late")) == decoder.end() == []


def test_a_stream_that_begins_with_content_has_a_beginning() -> None:
    assert isinstance(read(*texts(0, "Hi"), stop("end_turn"), METADATA)[0], ev.Started)


def test_a_call_without_arguments_has_empty_ones() -> None:
    assert answered(*use(0, "a", "now")) == [ev.ToolCallStarted(id="a", name="now")]
    assert answered(*use(0, "a", "now", ""))[1:] == []
    assert whole({"toolUse": {"toolUseId": "a", "name": "now", "input": {}}})[1] == ev.ToolCallDelta(arguments="{}")
    assert whole({"toolUse": {"toolUseId": "a", "name": "now", "input": None}})[1] == ev.ToolCallDelta(arguments="")


def test_reasoning_says_who_made_it_and_is_closed_by_its_signature() -> None:
    signed = answered(*SAME["signed reasoning"][1])
    assert signed[2] == ev.ReasoningSignature(signature="sig", maker="bedrock")
    assert answered(*SAME["unsigned reasoning"][1])[1] == ev.ReasoningSignature(signature="", maker="bedrock")
    assert answered(*SAME["withheld reasoning"][1])[0] == ev.ReasoningSignature(signature=HIDDEN, maker="bedrock", redacted=True)


def test_a_citation_is_told_with_its_source() -> None:
    found = answered(*SAME["a citation"][1])[-1]
    assert isinstance(found, ev.Annotated)
    assert (found.url, found.title, found.cited_text, found.maker) == ("https://example.com/", "T", "so said", "bedrock")
    assert json.loads(bytes(found.annotation)) == CITED


def test_what_the_provider_runs_itself_is_no_call_of_the_client_s() -> None:
    found = answered(*SAME["a tool of the provider"][1])
    assert [each.kind for each in found if isinstance(each, ev.NativeOutput)] == ["toolUse", "toolResult"]
    assert not any(isinstance(each, ev.ToolCallStarted | ev.ToolCallDelta) for each in found)


REASONS: list[tuple[str, FinishReason]] = [
    ("end_turn", "stop"),
    ("stop_sequence", "stop"),
    ("max_tokens", "length"),
    ("model_context_window_exceeded", "length"),
    ("tool_use", "tool_calls"),
    ("guardrail_intervened", "content_filter"),
    ("content_filtered", "content_filter"),
    ("something_new", "unknown"),
]


@pytest.mark.parametrize(("native", "reason"), REASONS)
def test_a_reason_is_one_of_the_closed_set_with_its_own_word(native: str, reason: FinishReason) -> None:
    body = {"output": {"message": {"role": "assistant", "content": []}}, "stopReason": native, "usage": USAGE}
    for found in (read(START, stop(native), METADATA), BEDROCK.decode_response(json.dumps(body).encode())):
        finish = next(each.finish for each in found if isinstance(each, ev.Finished))
        assert (finish.reason, finish.native) == (reason, native)


def test_the_stop_sequence_that_was_met_is_told() -> None:
    fields = {"stop_sequence": "END"}
    body = {"output": {"message": {"content": []}}, "stopReason": "stop_sequence", "usage": USAGE, "additionalModelResponseFields": fields}
    ended = event("messageStop", stopReason="stop_sequence", additionalModelResponseFields=fields)
    for found in (read(START, ended, METADATA), BEDROCK.decode_response(json.dumps(body).encode())):
        assert [each.finish.stop_sequence for each in found if isinstance(each, ev.Finished)] == ["END"]


@pytest.mark.parametrize("native", ["malformed_model_output", "malformed_tool_use"])
def test_a_reason_that_is_a_failure_is_an_error(native: str) -> None:
    body = {"output": {"message": {"role": "assistant", "content": []}}, "stopReason": native, "usage": USAGE}
    with pytest.raises(e.UpstreamError):
        BEDROCK.decode_response(json.dumps(body).encode())
    decoder = BEDROCK.stream_decoder(1)
    assert decoder.feed(START + stop(native) + METADATA) != []
    with pytest.raises(e.UpstreamError):
        decoder.end()
    with pytest.raises(e.UpstreamError):
        decoder.feed(METADATA)


COUNTS: list[tuple[Json, Usage]] = [
    ({}, Usage(input_uncached=9, output_visible=4)),
    ({"cacheReadInputTokens": 0, "cacheWriteInputTokens": 0}, Usage(input_uncached=9, output_visible=4, cache_read=0, cache_write_5m=0)),
    ({"cacheReadInputTokens": 70, "cacheWriteInputTokens": 30}, Usage(input_uncached=9, output_visible=4, cache_read=70, cache_write_5m=30)),
    (
        {"cacheWriteInputTokens": 30, "cacheDetails": [{"ttl": "1h", "inputTokens": 20}, {"ttl": "5m", "inputTokens": 10}]},
        Usage(input_uncached=9, output_visible=4, cache_write_5m=10, cache_write_1h=20),
    ),
    ({"inputTokens": "?"}, Usage()),
]  # fmt: skip


@pytest.mark.parametrize(("more", "usage"), COUNTS)
def test_usage_is_counted_in_classes_that_do_not_overlap_and_kept_as_it_came(more: Json, usage: Usage) -> None:
    given = {**USAGE, **more}
    found = read(START, stop("end_turn"), event("metadata", usage=given, metrics={"latencyMs": 1}))
    told = next(each.usage for each in found if isinstance(each, ev.UsageReported))
    assert json.loads(bytes(told.raw)) == given
    assert Usage(told.input_uncached, told.cache_read, told.cache_write_5m, told.cache_write_1h, output_visible=told.output_visible) == usage


def test_output_before_a_failure_is_told_first() -> None:
    decoder = BEDROCK.stream_decoder(1)
    found = decoder.feed(START + delta(0, text="Hi") + exception("throttlingException") + delta(0, text="late"))
    assert found[1:] == [ev.TextDelta(text="Hi")]
    with pytest.raises(e.RateLimited):
        decoder.feed(METADATA)
    with pytest.raises(e.RateLimited):
        decoder.end()


def test_a_broken_message_behind_a_whole_one_is_malformed_and_no_cut() -> None:
    decoder = BEDROCK.stream_decoder(1)
    assert len(decoder.feed(START + delta(0, text="Hi") + b"\xff" * 16)) == 2
    with pytest.raises(e.MalformedResponse):
        decoder.end()


@pytest.mark.parametrize("payload", [b"{", b"[]", b'{"contentBlockIndex":"x"}', b"\xff", b'{"delta":{"text":5}}', b"[" * 100_000])
def test_an_event_that_cannot_be_read_ends_the_stream_as_malformed(payload: bytes) -> None:
    decoder = BEDROCK.stream_decoder(1)
    decoder.feed(START)
    with pytest.raises(e.MalformedResponse):
        decoder.feed(message({":event-type": "contentBlockDelta", ":message-type": "event"}, payload))
    with pytest.raises(e.MalformedResponse):
        decoder.end()


def test_arguments_of_a_call_that_never_began_are_malformed() -> None:
    decoder = BEDROCK.stream_decoder(1)
    decoder.feed(START)
    with pytest.raises(e.MalformedResponse):
        decoder.feed(delta(0, toolUse={"input": "{}"}))


_json = st.recursive(st.none() | st.booleans() | st.integers(-2, 9) | st.text(max_size=4), lambda inner: st.lists(inner, max_size=2), max_leaves=4)
_delta = st.one_of(
    st.builds(lambda text: {"text": text}, st.text(max_size=4)),
    st.builds(lambda text: {"toolUse": {"input": text}}, st.text(max_size=4)),
    st.builds(lambda text: {"reasoningContent": {"text": text}}, st.text(max_size=4)),
    st.builds(lambda text: {"reasoningContent": {"signature": text}}, st.text(max_size=4)),
    st.builds(lambda result: {"toolResult": result}, _json),
    st.dictionaries(st.sampled_from(["text", "toolUse", "reasoningContent", "citation", "image"]), _json, max_size=2),
)
_begin: Any = st.sampled_from(
    [{"toolUse": {"toolUseId": "a", "name": "f"}}, {"toolUse": RAN}, {"toolResult": RESULT}, {"image": {}}, {}, None, {"toolUse": {}}]
)
_index = st.integers(0, 3)
_told = st.one_of(
    st.builds(lambda index, given: delta(index, **given), _index, _delta),
    st.builds(lambda index, start: event("contentBlockStart", contentBlockIndex=index, start=start), _index, _begin),
    st.builds(closed, _index),
    st.sampled_from([START, METADATA, stop("end_turn"), stop("tool_use"), exception("throttlingException")]),
    st.builds(lambda kind, given: event(kind, given=given), st.text(max_size=5), _json),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_told, max_size=12), st.integers(20, 400))
def test_any_events_are_an_answer_or_an_error_and_arguments_follow_their_call(events: list[bytes], size: int) -> None:
    try:
        found = read(*events, size=size)
    except e.AttemptError:
        return
    assert isinstance(found[0], ev.Started) and isinstance(found[-1], ev.Ended)
    assert [type(each) for each in found].count(ev.Started) == [type(each) for each in found].count(ev.Ended) == 1
    began: set[int] = set()
    for each in found:
        if isinstance(each, ev.ToolCallStarted):
            assert each.id and each.part not in began
            began.add(each.part)
        assert not isinstance(each, ev.ToolCallDelta) or each.part in began


def test_events_of_a_new_kind_are_passed_over() -> None:
    assert answered(event("somethingNew", a=1), *texts(0, "Hi"), delta(1, somethingNew={"a": 1})) == [ev.TextDelta(text="Hi")]


NO_ANSWERS = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"<html>",
    b"{}",
    b'{"output":{}}',
    b'{"output":{"message":{"content":[]}}}',
    b'{"message":"CANARY"}',
    b"[" * 100_000,
]


NO_BLOCKS = [b"5", b'{"text":"\xff"}', b'{"text":5}']


@pytest.mark.parametrize("body", NO_ANSWERS + [b'{"output":{"message":{"content":[%b]}},"stopReason":"end_turn"}' % block for block in NO_BLOCKS])
def test_a_body_that_is_no_answer_is_malformed(body: bytes) -> None:
    with pytest.raises(e.MalformedResponse) as failed:
        BEDROCK.decode_response(body)
    assert "CANARY" not in str(failed.value)
