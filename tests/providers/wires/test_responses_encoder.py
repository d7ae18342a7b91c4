"""Events of any provider as Responses streams: every one is legal, says what was said, and ends with the whole of it."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from msgspec import Raw
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from contract import events as ev
from contract.call import Dialect as Name
from contract.finish import Finish
from contract.usage import Usage
from providers.wires.openai_responses import OPENAI_RESPONSES
from providers.wires.openai_responses.encoder import ResponsesStreamEncoder
from providers.wires.seal import Seal, unseal
from tests.contract.event_sequences import answers, cut_answers
from tests.contract.native import natives
from tests.providers.wires.answering import answering
from tests.providers.wires.responses_machine import Machine, run, told

NAME: Name = "openai_responses"
SDK: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
OUR_ERROR = b'{"error":{"message":"it broke","code":"upstream_stream_truncated","type":"x"}}'
START = ev.Started(id="up1", model="up-model", created_s=1_700_000_000)
STOP = ev.Finished(finish=Finish("stop", "stop"))


def encoder(**fields: Any) -> ResponsesStreamEncoder:
    return OPENAI_RESPONSES.stream_encoder(answering(NAME, **fields))


def encoded(*events: Any, **fields: Any) -> bytes:
    stream = encoder(**fields)
    return b"".join([stream.feed(event) for event in events])


def final(*events: Any, **fields: Any) -> dict[str, Any]:
    return run(encoded(*events, **fields)).final


def types(stream: bytes) -> list[str]:
    return [event["type"].removeprefix("response.") for _, event in told(stream)]


EVERYTHING = [
    START,
    ev.ReasoningDelta(text="hm", part=0),
    ev.ReasoningSignature(signature="s", maker="gemini", part=0),
    ev.TextDelta(text="Hel", part=1),
    ev.TextDelta(text="lo", part=1),
    ev.Annotated(annotation=Raw(b"{}"), url="u", part=1),
    ev.RefusalDelta(text="no", part=2),
    ev.ToolCallStarted(id="a", name="f", part=3),
    ev.ToolCallStarted(id="b", name="g", part=4),
    ev.ToolCallDelta(arguments="{}", part=4),
    ev.ToolCallDelta(arguments="{}", part=3),
    STOP,
    ev.Ended(),
]


# --- every legal sequence --------------------------------------------------------------------------------------------
@settings(max_examples=120, deadline=None)
@given(answers(audio=True))
def test_every_answer_is_a_legal_stream_that_ends_as_it_finished(events: list[Any]) -> None:
    finish = next(event.finish for event in events if isinstance(event, ev.Finished))
    machine = run(encoded(*events))
    assert machine.ended == ("response.completed" if finish.reason in ("stop", "tool_calls") else "response.incomplete")


@settings(max_examples=30, deadline=None)
@given(answers(choices=3))
def test_of_several_choices_only_the_first_is_told(events: list[Any]) -> None:
    first = [event for event in events if getattr(event, "choice", 0) == 0]
    assert encoded(*events) == encoded(*first)


@settings(max_examples=60, deadline=None)
@given(cut_answers())
def test_a_cut_answer_never_looks_whole_and_its_failure_ends_it_legally(events: list[Any]) -> None:
    stream = encoder()
    sent = b"".join([stream.feed(event) for event in events])
    assert run(sent).ended is None and stream.whole == b""
    machine = run(sent + stream.in_band(OUR_ERROR))
    assert machine.ended == "response.failed"
    assert machine.final["error"] == {"code": "upstream_stream_truncated", "message": "it broke"}


@settings(max_examples=50, deadline=None)
@given(answers())
def test_a_whole_answer_is_the_response_that_its_stream_ends_with(events: list[Any]) -> None:
    stream = encoder()
    sent = b"".join([stream.feed(event) for event in events])
    assert stream.whole == OPENAI_RESPONSES.encode_response(events, answering(NAME))
    assert told(sent)[-1][1]["response"] == json.loads(stream.whole)


@settings(max_examples=80, deadline=None)
@given(answers())
def test_what_another_format_alone_knows_is_in_the_response_as_its_maker_told_it(events: list[Any]) -> None:
    stream = encoded(*events)
    assert run(stream).final.get("native_output", []) == natives(events, NAME)
    assert all("native_output" not in event.get("response", {}) for _, event in told(stream)[:-1])


@settings(max_examples=30, deadline=None)
@given(answers())
def test_the_sdk_s_types_take_every_event(events: list[Any]) -> None:
    for _, event in told(encoded(*events)):
        if event["type"] == "response.incomplete" and event["response"]["incomplete_details"]["reason"] not in (
            "max_output_tokens",
            "content_filter",
        ):
            event["response"]["incomplete_details"] = None  # a provider's word that OpenAI has none for is kept
        SDK.validate_python(event)


def test_the_machine_takes_no_stream_that_lacks_an_event_or_says_one_twice() -> None:
    """Proof that it proves something: numbered anew, each such stream still breaks another rule."""
    stream = told(encoded(*EVERYTHING))
    for at in range(len(stream)):
        for changed in (stream[:at] + stream[at + 1 :], stream[: at + 1] + stream[at:]):
            machine = Machine()
            with pytest.raises((AssertionError, IndexError)):
                for number, (name, event) in enumerate(changed):
                    machine.take(name, {**event, "sequence_number": number})
                assert machine.ended


# --- what was said is kept -------------------------------------------------------------------------------------------
def said(events: list[Any]) -> list[Any]:
    """What the answer to choice 0 says, part by part; what Responses has no place for is left out."""
    parts: dict[int, dict[str, Any]] = {}
    for event in events:
        if getattr(event, "choice", 1) != 0 or isinstance(event, ev.Finished):
            continue
        part = parts.setdefault(event.part, {"kind": "", "text": "", "annotations": [], "signature": None})
        match event:
            case ev.TextDelta():
                part |= {"kind": "text", "text": part["text"] + event.text}
            case ev.RefusalDelta():
                part |= {"kind": "refusal", "text": part["text"] + event.text}
            case ev.ReasoningDelta():
                part |= {"kind": "reasoning", "text": part["text"] + event.text}
            case ev.ReasoningSignature():
                part |= {"kind": "reasoning", "signature": read_seal(event)}
            case ev.ToolCallStarted():
                sealed = None if event.signature is None else Seal("t0", event.maker, event.signature, call_id=event.id)
                part |= {"kind": "call", "id": event.id, "name": event.name, "signature": sealed}
            case ev.ToolCallDelta():
                part["text"] += event.arguments
            case ev.Annotated():
                part["kind"] = "text"
                part["annotations"].append(seen_of(event))
            case ev.NativeOutput(maker="openai_responses"):
                part |= {"kind": "native", "text": bytes(event.raw).decode()}
    return [part for part in settled(list(parts.values())) if part["kind"] and part != EMPTY]


EMPTY: dict[str, Any] = {"kind": "text", "text": "", "annotations": [], "signature": None}


def read_seal(event: ev.ReasoningSignature) -> Seal | None:
    """Who made which signature; of reasoning that nobody signed, nothing."""
    sealed = unseal(event.signature)
    if sealed is None and event.maker == NAME:
        return Seal("t0", NAME, event.signature)
    sealed = sealed or Seal("t0", event.maker, event.signature, redacted=event.redacted, id=event.id)
    return sealed if sealed.signature else None


def seen_of(event: ev.Annotated) -> Any:
    return {"url": event.url or "", "title": event.title or "", "at": (event.start or 0, event.end or 0)}


def settled(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A call's signature from the item that carries it; empty arguments are an empty object; what says nothing is not there."""
    kept: list[dict[str, Any]] = []
    carried: Seal | None = None
    for part in parts:
        if part["kind"] == "reasoning" and part["signature"] is not None and part["signature"].call_id is not None:
            carried = part["signature"]
        elif part["kind"] == "call":
            kept.append({**part, "text": part["text"] or "{}", "signature": part["signature"] or carried})
            carried = None
        elif part["text"] or part["annotations"] or part["signature"] is not None:
            kept.append(part)
    return kept


@settings(max_examples=120, deadline=None)
@given(answers())
def test_text_calls_reasoning_refusals_and_annotations_are_read_back_from_the_stream(events: list[Any]) -> None:
    stream = encoded(*events)
    decoder = OPENAI_RESPONSES.stream_decoder(1)
    assert said([*decoder.feed(stream), *decoder.end()]) == said(events)


@settings(max_examples=50, deadline=None)
@given(answers())
def test_a_whole_answer_is_read_back_as_its_stream_is(events: list[Any]) -> None:
    body = OPENAI_RESPONSES.encode_response(events, answering(NAME))
    assert said(OPENAI_RESPONSES.decode_response(body)) == said(events)


@settings(max_examples=50, deadline=None)
@given(answers())
def test_finish_and_usage_are_read_back(events: list[Any]) -> None:
    back = OPENAI_RESPONSES.decode_response(OPENAI_RESPONSES.encode_response(events, answering(NAME)))
    given_finish = next(event.finish for event in events if isinstance(event, ev.Finished))
    finish = next(event.finish for event in back if isinstance(event, ev.Finished))
    has_calls = any(isinstance(event, ev.ToolCallStarted) for event in events)
    wanted = {"stop": "tool_calls" if has_calls else "stop", "tool_calls": "tool_calls" if has_calls else "stop", "paused": "unknown"}
    assert finish.reason == wanted.get(given_finish.reason, given_finish.reason)
    if finish.reason == "unknown":
        assert finish.native == (given_finish.native or given_finish.reason)
    usages = [[event.usage for event in several if isinstance(event, ev.UsageReported)] for several in (events, back)]
    assert [numbers(usage) for usage in usages[0]] == [numbers(usage) for usage in usages[1]]


def numbers(usage: Usage) -> list[int]:
    return [count or 0 for count in (usage.input_total, usage.output_total, usage.cache_read, usage.reasoning)]


# --- one by one ------------------------------------------------------------------------------------------------------
def test_the_full_sequence_of_a_text() -> None:
    stream = encoded(START, ev.TextDelta(text="Hel"), ev.TextDelta(text="lo"), STOP, ev.UsageReported(usage=Usage(input_uncached=3)), ev.Ended())
    assert types(stream) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [event["sequence_number"] for _, event in told(stream)] == list(range(10))


def test_parallel_calls_whose_deltas_come_in_turns_stay_apart() -> None:
    calls = [ev.ToolCallStarted(id="a", name="f", part=0), ev.ToolCallStarted(id="b", name="g", part=1)]
    deltas = [ev.ToolCallDelta(arguments=text, part=part) for text, part in (('{"x"', 0), ('{"y"', 1), (":1}", 0), (":2}", 1))]
    output = final(START, *calls, *deltas, ev.Finished(finish=Finish("tool_calls")), ev.Ended())["output"]
    assert [(item["call_id"], item["name"], item["arguments"]) for item in output] == [("a", "f", '{"x":1}'), ("b", "g", '{"y":2}')]


def test_a_call_without_arguments_has_an_empty_object() -> None:
    output = final(START, ev.ToolCallStarted(id="a", name="f"), STOP, ev.Ended())["output"]
    assert output[0]["arguments"] == "{}"


def test_an_answer_without_any_content_is_a_response_without_output() -> None:
    stream = encoded(START, STOP, ev.Ended())
    assert types(stream) == ["created", "in_progress", "completed"] and run(stream).final["output"] == []


@pytest.mark.parametrize(
    ("finish", "status", "why"),
    [
        (Finish("stop"), "completed", None),
        (Finish("tool_calls"), "completed", None),
        (Finish("length", "max_tokens"), "incomplete", "max_output_tokens"),
        (Finish("content_filter", "SAFETY"), "incomplete", "content_filter"),
        (Finish("paused", "pause_turn"), "incomplete", "pause_turn"),
        (Finish("unknown", "eos"), "incomplete", "eos"),
        (Finish("unknown"), "incomplete", "unknown"),
    ],
    ids=lambda value: value.reason if isinstance(value, Finish) else str(value),
)
def test_each_reason_has_its_status(finish: Finish, status: str, why: str | None) -> None:
    response = final(START, ev.TextDelta(text="x"), ev.Finished(finish=finish), ev.Ended())
    assert (response["status"], (response["incomplete_details"] or {}).get("reason")) == (status, why)
    assert response["output"][0]["status"] == status


def test_a_provider_that_never_said_how_it_finished_is_not_complete() -> None:
    assert final(START, ev.TextDelta(text="x"), ev.Ended())["status"] == "incomplete"


def test_unknown_usage_is_null() -> None:
    assert final(START, STOP, ev.Ended())["usage"] is None


def test_usage_has_openai_s_sums() -> None:
    usage = Usage(input_uncached=10, cache_read=5, cache_write_5m=2, output_visible=7, reasoning=3)
    assert final(START, STOP, ev.UsageReported(usage=usage), ev.Ended())["usage"] == {
        "input_tokens": 17,
        "input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 2},
        "output_tokens": 10,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 27,
    }


def test_the_response_says_what_was_asked_with_the_api_s_defaults_for_the_rest() -> None:
    asked = {"temperature": 0.5, "reasoning": {"effort": "low"}, "text": {"verbosity": "low"}, "store": False, "tools": [], "metadata": {"a": "b"}}
    response = final(START, STOP, ev.Ended(), **asked, instructions=None)
    assert response["temperature"] == 0.5 and response["store"] is False and response["metadata"] == {"a": "b"}
    assert response["reasoning"] == {"effort": "low", "summary": None}
    assert response["text"] == {"format": {"type": "text"}, "verbosity": "low"}
    assert response["instructions"] is None and response["tool_choice"] == "auto" and response["parallel_tool_calls"] is True
    assert (response["id"], response["model"], response["created_at"]) == ("resp_r1", "up-model", 1_700_000_000)


def test_openai_s_own_reasoning_keeps_its_encrypted_text_and_another_s_is_sealed() -> None:
    for maker in (NAME, "anthropic_messages"):
        signature = ev.ReasoningSignature(signature="sig", maker=maker, id="rs_9")
        item = final(START, ev.ReasoningDelta(text="hm"), signature, STOP, ev.Ended())["output"][0]
        assert item["summary"] == [{"type": "summary_text", "text": "hm"}]
        assert item["encrypted_content"] == "sig" if maker == NAME else unseal(item["encrypted_content"]) == Seal("t0", maker, "sig", id="rs_9")


def test_logarithmic_probabilities_are_in_the_delta_and_in_the_part() -> None:
    probability = {"token": "x", "logprob": -0.1, "bytes": [120], "top_logprobs": []}
    text = ev.TextDelta(text="x", logprobs=Raw(json.dumps({"content": [probability]}).encode()))
    stream = encoded(START, text, STOP, ev.Ended())
    assert [event["logprobs"] for _, event in told(stream) if event["type"] == "response.output_text.delta"] == [[probability]]
    assert run(stream).final["output"][0]["content"][0]["logprobs"] == [probability]


def test_a_failure_before_anything_was_said_is_a_legal_stream() -> None:
    stream = encoder().in_band(OUR_ERROR)
    assert types(stream) == ["created", "in_progress", "failed"] and run(stream).ended == "response.failed"
