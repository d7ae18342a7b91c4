"""Responses answers, streamed and whole, to the contract's events: what the recorded ones do not show."""

import json
from typing import Any

import pytest
from hypothesis import given, settings

from contract import errors as e
from contract import events as ev
from contract.finish import Finish
from providers.wires.openai_responses import OPENAI_RESPONSES
from tests.contract.event_sequences import answers
from tests.providers.wires.answering import answering
from tests.providers.wires.responses_machine import told


def event(kind: str, **more: Any) -> bytes:
    return b"data: %b\n\n" % json.dumps({"type": kind, **more}).encode()


def response(*output: Any, status: str = "completed", **more: Any) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "created_at": 1.5, "model": "m", "status": status, "output": list(output), "error": None, **more}


CREATED = event("response.created", response=response(status="in_progress"))
DONE = event("response.completed", response=response())


def decoded(*stream: bytes) -> list[ev.Event]:
    decoder = OPENAI_RESPONSES.stream_decoder(1)
    return [found for piece in stream for found in decoder.feed(piece)] + decoder.end()


def content(*stream: bytes) -> list[ev.Event]:
    """Between `Started` and `Finished`."""
    events = decoded(CREATED, *stream, DONE)
    return events[1:-2]


def whole(*output: Any, **more: Any) -> list[ev.Event]:
    return OPENAI_RESPONSES.decode_response(json.dumps(response(*output, **more)).encode())


def delta(text: str, output: int = 0, piece: int = 0, kind: str = "output_text", **more: Any) -> bytes:
    return event(f"response.{kind}.delta", output_index=output, content_index=piece, delta=text, **more)


def item_event(step: str, output: int, item: dict[str, Any]) -> bytes:
    return event(f"response.output_item.{step}", output_index=output, item=item)


CALL = {"type": "function_call", "id": "fc", "call_id": "c", "name": "f", "arguments": ""}


def test_an_answer_begins_with_its_identity_and_ends_with_finish_usage_and_end() -> None:
    usage = {"input_tokens": 3, "output_tokens": 4}
    events = decoded(CREATED, delta("Hi"), event("response.completed", response=response(usage=usage)))
    assert events[:2] == [ev.Started(id="resp_1", model="m", created_s=1), ev.TextDelta(text="Hi")]
    assert [type(found) for found in events[2:]] == [ev.Finished, ev.UsageReported, ev.Ended]


SEARCHED = [
    {"type": "web_search_call", "id": "w1", "status": "completed", "action": {"type": "search", "query": "x"}},
    {"type": "web_search_call", "id": "w2", "status": "completed", "action": {"type": "open_page", "url": "https://example.org"}},
    {"type": "file_search_call", "id": "f1", "status": "completed", "queries": ["y"]},
    {"type": "file_search_call", "id": "f2", "status": "completed", "queries": ["z"]},
    {"type": "code_interpreter_call", "id": "c1", "status": "completed", "container_id": "cntr_1", "code": "1", "outputs": None},
    {"type": "mcp_call", "id": "m1", "server_label": "x", "name": "f", "arguments": "{}"},
]


def test_tools_that_cost_more_than_tokens_are_counted_by_the_items_of_the_answer() -> None:
    usage = {"input_tokens": 3, "output_tokens": 4}
    events = decoded(CREATED, delta("Hi"), event("response.completed", response=response(usage=usage, output=SEARCHED)))
    (told,) = [each.usage for each in events if isinstance(each, ev.UsageReported)]
    assert (told.web_searches, told.file_searches, told.server_tool_calls) == (1, 2, 4)
    plain = decoded(CREATED, delta("Hi"), event("response.completed", response=response(usage=usage)))
    assert [each.usage.server_tool_calls for each in plain if isinstance(each, ev.UsageReported)] == [None]


def test_calls_that_xai_tells_go_before_the_items() -> None:
    """Its searches on X come as calls of custom tools."""
    calls = {
        "web_search_calls": 1,
        "x_search_calls": 3,
        "file_search_calls": 0,
        "mcp_calls": 5,
        "document_search_calls": 2,
    }
    usage = {"input_tokens": 3, "output_tokens": 4, "num_server_side_tools_used": 11, "server_side_tool_usage_details": calls}
    events = decoded(CREATED, delta("Hi"), event("response.completed", response=response(usage=usage, output=SEARCHED)))
    (told,) = [each.usage for each in events if isinstance(each, ev.UsageReported)]
    assert (told.web_searches, told.file_searches, told.server_tool_calls) == (1, 2, 6)


def test_each_content_part_is_a_part_of_its_own() -> None:
    assert content(delta("a"), delta("b", piece=1), delta("c", output=1), delta("d", output=1)) == [
        ev.TextDelta(text="a", part=0),
        ev.TextDelta(text="b", part=1),
        ev.TextDelta(text="c", part=2),
        ev.TextDelta(text="d", part=2),
    ]


def test_a_refusal_is_told_in_pieces_or_at_once() -> None:
    assert content(delta("no", kind="refusal")) == [ev.RefusalDelta(text="no")]
    item = {"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}
    assert whole(item)[1] == ev.RefusalDelta(text="no")


def test_calls_whose_arguments_come_in_turns_stay_apart_and_are_not_told_twice() -> None:
    begun = [item_event("added", n, {**CALL, "id": f"fc{n}", "call_id": f"c{n}"}) for n in (0, 1)]
    turns = [event("response.function_call_arguments.delta", output_index=n, delta=text) for n, text in ((0, "{"), (1, "["), (0, "}"), (1, "]"))]
    done = [item_event("done", n, {**CALL, "call_id": f"c{n}", "arguments": "all of it"}) for n in (0, 1)]
    assert content(*begun, *turns, *done) == [
        ev.ToolCallStarted(id="c0", name="f", part=0),
        ev.ToolCallStarted(id="c1", name="f", part=1),
        ev.ToolCallDelta(arguments="{", part=0),
        ev.ToolCallDelta(arguments="[", part=1),
        ev.ToolCallDelta(arguments="}", part=0),
        ev.ToolCallDelta(arguments="]", part=1),
    ]


def test_an_item_that_comes_only_when_it_is_done_is_told_then() -> None:
    assert content(item_event("done", 0, {**CALL, "arguments": "{}"})) == [
        ev.ToolCallStarted(id="c", name="f"),
        ev.ToolCallDelta(arguments="{}"),
    ]
    assert content(item_event("done", 0, {"type": "message", "content": [{"type": "output_text", "text": "Hi"}]})) == [ev.TextDelta(text="Hi")]


def test_an_answer_that_is_only_in_the_terminal_event_is_told_then() -> None:
    message = {"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}
    events = decoded(CREATED, event("response.completed", response=response(message, {**CALL, "arguments": "{}"})))
    assert events[1] == ev.TextDelta(text="Hi") and ev.Finished(finish=Finish("tool_calls", "completed")) in events


def test_a_custom_tool_s_call_is_a_call() -> None:
    custom = {"type": "custom_tool_call", "id": "x", "call_id": "c", "name": "patch", "input": ""}
    pieces = event("response.custom_tool_call_input.delta", output_index=0, delta="***")
    assert content(item_event("added", 0, custom), pieces, item_event("done", 0, {**custom, "input": "***"})) == [
        ev.ToolCallStarted(id="c", name="patch"),
        ev.ToolCallDelta(arguments="***"),
    ]


def test_reasoning_s_pieces_are_paragraphs_and_its_encryption_closes_it() -> None:
    pieces = [
        event("response.reasoning_summary_text.delta", output_index=0, summary_index=n, delta=text) for n, text in ((0, "a"), (0, "b"), (1, "c"))
    ]
    text = event("response.reasoning_text.delta", output_index=0, content_index=0, delta="d")
    done = item_event("done", 0, {"type": "reasoning", "id": "rs", "summary": [{"text": "ab"}, {"text": "c"}], "encrypted_content": "e"})
    assert content(*pieces, text, done) == [
        ev.ReasoningDelta(text="a"),
        ev.ReasoningDelta(text="b"),
        ev.ReasoningDelta(text="\n\nc"),
        ev.ReasoningDelta(text="\n\nd"),
        ev.ReasoningSignature(signature="e", maker="openai_responses", id="rs"),
    ]


def test_an_annotation_is_told_once() -> None:
    note = {"type": "url_citation", "url": "https://x.test", "title": "X", "start_index": 0, "end_index": 2}
    added = event("response.output_text.annotation.added", output_index=0, content_index=0, annotation_index=0, annotation=note)
    message = {"type": "message", "content": [{"type": "output_text", "text": "Hi", "annotations": [note, {"type": "file_path", "file_id": "f"}]}]}
    found = [told for told in content(delta("Hi"), added, item_event("done", 0, message)) if isinstance(told, ev.Annotated)]
    assert [(note.url, note.title, note.start, note.end) for note in found] == [("https://x.test", "X", 0, 2), (None, None, None, None)]


def test_log_probabilities_are_in_chat_s_form() -> None:
    (found,) = content(delta("Hi", logprobs=[{"token": "Hi", "logprob": -1}]))
    assert isinstance(found, ev.TextDelta) and json.loads(bytes(found.logprobs)) == {"content": [{"token": "Hi", "logprob": -1}]}


def test_what_only_this_format_knows_is_kept_whole() -> None:
    item = {"type": "web_search_call", "id": "ws", "status": "completed", "action": {"type": "search", "query": "x"}}
    (found,) = content(item_event("added", 0, item), event("response.web_search_call.searching", output_index=0), item_event("done", 0, item))
    assert isinstance(found, ev.NativeOutput) and found.kind == "web_search_call" and json.loads(bytes(found.raw)) == item


@pytest.mark.parametrize(
    ("status", "details", "finish"),
    [
        ("completed", None, Finish("stop", "completed")),
        ("incomplete", {"reason": "max_output_tokens"}, Finish("length", "max_output_tokens")),
        ("incomplete", {"reason": "content_filter"}, Finish("content_filter", "content_filter")),
        ("incomplete", {"reason": "steered"}, Finish("unknown", "steered")),
        ("incomplete", None, Finish("unknown", "incomplete")),
        ("brand_new", None, Finish("unknown", "brand_new")),
    ],
)
def test_status_and_details_say_why_it_ended(status: str, details: Any, finish: Finish) -> None:
    assert ev.Finished(finish=finish) in whole(status=status, incomplete_details=details)


@pytest.mark.parametrize("status", ["queued", "in_progress", "cancelled"])
def test_an_answer_that_is_not_whole_is_none(status: str) -> None:
    with pytest.raises(e.MalformedResponse):
        whole(status=status)


def test_unknown_events_and_shapes_are_passed_over() -> None:
    odd = b'data: 5\n\ndata: {"type":7}\n\ndata: {"type":"response.new","item":[],"output_index":"x"}\n\n: comment\n\n'
    assert content(odd, delta("Hi"), odd) == [ev.TextDelta(text="Hi")]


def test_what_comes_after_the_end_is_not_read() -> None:
    assert decoded(CREATED, DONE, delta("more"), b"data: {oops\n\n", b"data: [DONE]\n\n")[-1] == ev.Ended()


@pytest.mark.parametrize(
    "bad",
    [
        b"data: {oops\n\n",
        b'data: {"type":"response.output_text.delta","output_index":"x","delta":"a"}\n\n',
        b'data: {"type":"response.completed","response":5}\n\n',
        b'data: {"type":"response.output_text.delta","delta":"\xff"}\n\n',
        event("response.function_call_arguments.delta", output_index=3, delta="{}"),
    ],
    ids=["no JSON", "wrong index", "no response", "no UTF-8", "arguments of no call"],
)
def test_what_cannot_be_read_is_an_error_after_what_was_good(bad: bytes) -> None:
    decoder = OPENAI_RESPONSES.stream_decoder(1)
    assert decoder.feed(CREATED + delta("Hi") + bad)[-1] == ev.TextDelta(text="Hi")
    with pytest.raises(e.MalformedResponse):
        decoder.feed(DONE)
    with pytest.raises(e.MalformedResponse):
        decoder.end()


def test_a_stream_without_its_end_was_cut() -> None:
    with pytest.raises(e.StreamCut):
        decoded(CREATED, delta("Hi"))
    with pytest.raises(e.StreamCut):
        decoded(CREATED, delta("Hi"), DONE[:-10])


@settings(max_examples=30, deadline=None)
@given(answers())
def test_a_legal_stream_in_any_slices_is_the_same_and_cut_at_any_event_is_cut(events: list[Any]) -> None:
    encoder = OPENAI_RESPONSES.stream_encoder(answering("openai_responses"))
    stream = b"".join([encoder.feed(event) for event in events])
    assert decoded(*[stream[at : at + 5] for at in range(0, len(stream), 5)]) == decoded(stream)
    pieces = stream.split(b"\n\n")
    assert len(pieces) == len(told(stream)) + 1
    for count in range(len(pieces) - 1):
        with pytest.raises(e.StreamCut):
            decoded(b"".join([piece + b"\n\n" for piece in pieces[:count]]))
