"""Events of any provider as Anthropic's answers: legal streams, and the same message streamed and whole."""

import json
from typing import Any

import pytest
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given, settings
from msgspec import Raw
from pydantic import TypeAdapter

from contract import events as ev
from contract.finish import Finish
from contract.usage import Usage
from providers.wires.anthropic_messages import ANTHROPIC_MESSAGES
from providers.wires.seal import unseal
from tests.contract.event_sequences import answers, cut_answers
from tests.contract.native import natives
from tests.providers.wires.answering import answering
from tests.providers.wires.anthropic_machine import Machine, run

ANSWERING = answering("anthropic_messages")
STARTED = ev.Started(id="msg_1", model="claude-x", created_s=0)
STOP = ev.Finished(finish=Finish("stop"))
EVENTS: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
Json = dict[str, Any]


def streamed(events: list[Any]) -> bytes:
    return b"".join(map(ANTHROPIC_MESSAGES.stream_encoder(ANSWERING).feed, events))


def whole(events: list[Any]) -> Json:
    body: Json = json.loads(ANTHROPIC_MESSAGES.encode_response(events, ANSWERING))
    return body


def blocks(*content: Any, finish: ev.Finished = STOP) -> list[Json]:
    """The content of an answer, which is the same streamed and whole."""
    events = [STARTED, *content, finish, ev.Ended()]
    found: list[Json] = run(streamed(events)).message["content"]
    assert found == whole(events)["content"]
    return found


def comparable(message: Json) -> Json:
    """Input that is no object is put right only where the whole of it is known."""
    content = [{**block, "input": None} if block["type"] == "tool_use" else block for block in message["content"]]
    return {**message, "content": content}


@settings(max_examples=100, deadline=None)
@given(answers())
def test_every_answer_is_a_legal_stream_and_what_it_makes_up_is_the_whole_answer(events: list[Any]) -> None:
    stream = streamed(events)
    machine = legal(stream)
    assert machine.ended
    assert comparable(machine.message) == comparable(whole(events))
    assert machine.message.get("native_output", []) == natives(events, "anthropic_messages")


@settings(max_examples=25, deadline=None)
@given(answers(choices=2, audio=True))
def test_other_alternatives_and_audio_are_not_in_the_stream(events: list[Any]) -> None:
    first = [event for event in events if getattr(event, "choice", 0) == 0]
    assert streamed(events) == streamed(first)
    assert whole(events) == whole(first)


@settings(max_examples=40, deadline=None)
@given(cut_answers())
def test_an_answer_that_was_cut_is_legal_so_far_and_does_not_end_but_for_an_error(events: list[Any]) -> None:
    encoder = ANTHROPIC_MESSAGES.stream_encoder(ANSWERING)
    stream = b"".join(map(encoder.feed, events))
    assert not legal(stream).ended
    machine = legal(stream + encoder.in_band(b'{"type":"error","error":{"type":"api_error","message":"cut"},"request_id":"r"}'))
    assert machine.failed is not None and not machine.ended


def legal(stream: bytes) -> Machine:
    """Through the machine, but for arguments that are no JSON: those go as they came."""
    lines = [json.loads(line[6:]) for line in stream.decode().split("\n") if line.startswith("data: ")]
    machine, broken = Machine(), set()
    pieces: dict[int, str] = {}
    for event in lines:
        if event["type"] == "content_block_delta" and event["delta"]["type"] == "input_json_delta":
            pieces[event["index"]] = pieces.get(event["index"], "") + event["delta"]["partial_json"]
    for index, text in pieces.items():
        try:
            json.loads(text)
        except ValueError:
            broken.add(index)
    for event in lines:
        if event["type"] == "content_block_delta" and event["index"] in broken:
            event["delta"] = {"type": "input_json_delta", "partial_json": ""}
        machine.feed(event["type"], event)
    return machine


def test_an_answer_is_what_the_sdk_s_types_say() -> None:
    usage = Usage(input_uncached=3, cache_read=4, cache_write_5m=5, output_visible=6, reasoning=7)
    events = [
        STARTED,
        ev.ReasoningDelta(text="hm"),
        ev.ReasoningSignature(signature="c2ln", maker="anthropic_messages"),
        ev.TextDelta(text="Hi", part=1),
        ev.ToolCallStarted(id="toolu_1", name="f", part=2),
        ev.Finished(finish=Finish("tool_calls")),
        ev.UsageReported(usage=usage),
        ev.Ended(),
    ]
    message = Message.model_validate(whole(events), strict=True)
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
    assert message.usage.input_tokens == 3 and message.usage.cache_read_input_tokens == 4 and message.usage.output_tokens == 13
    for line in streamed(events).decode().split("\n"):
        if line.startswith("data: "):
            EVENTS.validate_python(json.loads(line[6:]))


def test_what_nobody_told_is_filled_in_from_the_call() -> None:
    message = whole([ev.TextDelta(text="Hi"), STOP, ev.Ended()])
    assert (message["id"], message["model"]) == ("msg_r1", "asked")


def test_parallel_calls_that_come_in_turns_are_one_block_each() -> None:
    found = blocks(
        ev.ToolCallStarted(id="a", name="f"),
        ev.ToolCallStarted(id="b", name="g", part=1),
        ev.ToolCallDelta(arguments='{"x"', part=0),
        ev.ToolCallDelta(arguments='{"y"', part=1),
        ev.ToolCallDelta(arguments=":1}", part=0),
        ev.ToolCallDelta(arguments=":2}", part=1),
    )
    assert [(block["id"], block["input"]) for block in found] == [("a", {"x": 1}), ("b", {"y": 2})]


def test_text_after_a_call_is_not_lost() -> None:
    found = blocks(ev.ToolCallStarted(id="a", name="f"), ev.TextDelta(text="so", part=1), ev.ToolCallDelta(arguments="{}", part=0))
    assert [block["type"] for block in found] == ["tool_use", "text"]


def test_a_call_without_arguments_has_an_empty_object() -> None:
    assert blocks(ev.ToolCallStarted(id="a", name="f"), ev.ToolCallDelta(arguments=""))[0]["input"] == {}


@pytest.mark.parametrize(("arguments", "object_"), [("[1]", {"_arguments": [1]}), ('{"a":', {"_arguments": '{"a":'})])
def test_arguments_that_are_no_object_become_a_member_of_one_in_a_whole_answer(arguments: str, object_: Json) -> None:
    events = [STARTED, ev.ToolCallStarted(id="a", name="f"), ev.ToolCallDelta(arguments=arguments), STOP, ev.Ended()]
    assert whole(events)["content"][0]["input"] == object_


def test_reasoning_of_another_wire_is_sealed_with_its_target() -> None:
    (block,) = blocks(ev.ReasoningDelta(text="hm"), ev.ReasoningSignature(signature="enc", maker="openai_responses", id="rs_1"))
    found = unseal(block["signature"])
    assert found is not None and (found.target, found.maker, found.signature, found.id) == ("t0", "openai_responses", "enc", "rs_1")


def test_reasoning_that_nobody_signed_has_a_seal_of_ours_for_clients_want_one() -> None:
    (block,) = blocks(ev.ReasoningDelta(text="hm"))
    found = unseal(block["signature"])
    assert found is not None and (found.target, found.maker, found.signature) == ("t0", "", "")


def test_a_signature_of_anthropic_s_own_goes_as_it_is() -> None:
    found = blocks(ev.ReasoningDelta(text="hm"), ev.ReasoningSignature(signature="RXJ1", maker="anthropic_messages"))
    assert found == [{"type": "thinking", "thinking": "hm", "signature": "RXJ1"}]


def test_withheld_reasoning_is_a_block_of_its_own() -> None:
    found = blocks(ev.ReasoningSignature(signature="RXJ1", maker="anthropic_messages", redacted=True))
    assert found == [{"type": "redacted_thinking", "data": "RXJ1"}]


def test_a_call_s_signature_goes_before_it_in_a_block_that_comes_back() -> None:
    sealed, call = blocks(ev.ToolCallStarted(id="a", name="f", signature="thought", maker="gemini"))
    found = unseal(sealed["data"])
    assert sealed["type"] == "redacted_thinking" and call["id"] == "a"
    assert found is not None and (found.maker, found.signature, found.call_id) == ("gemini", "thought", "a")


def test_a_refusal_is_text() -> None:
    assert blocks(ev.RefusalDelta(text="No."), finish=ev.Finished(finish=Finish("content_filter"))) == [{"type": "text", "text": "No."}]


def test_a_citation_of_another_wire_is_a_search_result_of_its_url() -> None:
    told = ev.Annotated(annotation=Raw(b"{}"), maker="openai_responses", url="https://a.example/", title="A", cited_text="so")
    (block,) = blocks(ev.TextDelta(text="So."), told)
    (cited,) = block["citations"]
    assert (cited["type"], cited["url"], cited["title"], cited["cited_text"]) == ("web_search_result_location", "https://a.example/", "A", "so")
    assert unseal(cited["encrypted_index"]) is not None


def test_a_native_block_goes_whole_and_on_one_line() -> None:
    raw = Raw(b'{"type":"server_tool_use",\n"id":"srvtoolu_1","name":"web_search","input":{"q":"x"}}')
    (block,) = blocks(ev.NativeOutput(kind="server_tool_use", raw=raw, maker="anthropic_messages"))
    assert block == {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"q": "x"}}


@pytest.mark.parametrize(
    ("finish", "reason", "sequence"),
    [
        (Finish("stop", "stop"), "end_turn", None),
        (Finish("length", "length"), "max_tokens", None),
        (Finish("length", "model_context_window_exceeded"), "model_context_window_exceeded", None),
        (Finish("tool_calls", "tool_calls"), "tool_use", None),
        (Finish("content_filter", "SAFETY"), "refusal", None),
        (Finish("paused"), "pause_turn", None),
        (Finish("stop", "stop", "END"), "stop_sequence", "END"),
        (Finish("unknown", "eos"), "eos", None),
    ],
)
def test_why_an_answer_ended_is_told_in_anthropic_s_words(finish: Finish, reason: str, sequence: str | None) -> None:
    events = [STARTED, ev.TextDelta(text="Hi"), ev.Finished(finish=finish), ev.Ended()]
    for message in (whole(events), run(streamed(events)).message):
        assert (message["stop_reason"], message["stop_sequence"]) == (reason, sequence)


def test_usage_known_at_the_start_is_told_there_and_the_last_is_the_truth() -> None:
    early, late = Usage(input_uncached=5, output_visible=1), Usage(input_uncached=5, output_visible=9)
    events = [STARTED, ev.UsageReported(usage=early), ev.TextDelta(text="Hi"), STOP, ev.UsageReported(usage=late), ev.Ended()]
    first = json.loads(streamed(events).split(b"\n")[1][6:])
    assert first["message"]["usage"] == {"input_tokens": 5, "output_tokens": 1}
    assert run(streamed(events)).message["usage"]["output_tokens"] == 9


def test_an_answer_without_content_is_a_message_without_any() -> None:
    assert blocks() == []


def test_a_refusal_is_a_reason_of_its_own() -> None:
    events = [STARTED, ev.RefusalDelta(text="No."), STOP, ev.Ended()]
    for message in (whole(events), run(streamed(events)).message):
        assert (message["content"][0]["text"], message["stop_reason"]) == ("No.", "refusal")
