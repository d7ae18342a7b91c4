"""OpenAI chat answers to events: the quirks of those who speak it, and what a stream's end means."""

import json
from typing import Any

import pytest

from contract import errors as e
from contract import events as ev
from contract.finish import Finish
from providers.wires.openai_chat import OPENAI_CHAT
from tests.providers.wires.answering import answering
from tests.providers.wires.chat_streams import DONE, FILTER, FINISH, ROLE, STREAMS, Stream, call_delta, chunk, delta, texts


def decoded(*events: bytes, choices: int = 1) -> list[ev.Event]:
    decoder = OPENAI_CHAT.stream_decoder(choices)
    return decoder.feed(b"".join(events)) + decoder.end()


def whole(finish: str | None = "stop", **message: Any) -> list[ev.Event]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return OPENAI_CHAT.decode_response(json.dumps({"id": "c", "model": "m", "created": 5, "choices": [choice]}).encode())


def kinds(events: list[ev.Event]) -> list[str]:
    return [type(event).__name__ for event in events]


@pytest.mark.parametrize("stream", [s for s in STREAMS if s.name != "strange shapes"], ids=lambda stream: stream.name)
def test_a_stream_begins_and_ends_once_and_finishes_each_choice_once(stream: Stream) -> None:
    events = decoded(stream.all, choices=stream.choices)
    assert isinstance(events[0], ev.Started) and isinstance(events[-1], ev.Ended)
    assert kinds(events).count("Started") == kinds(events).count("Ended") == 1
    assert sorted(event.choice for event in events if isinstance(event, ev.Finished)) == list(range(stream.choices))


def test_an_answer_has_the_id_of_the_first_chunk_that_has_one_and_what_came_before() -> None:
    started = decoded(FILTER, ROLE, *texts("Hi"), FINISH, DONE)[0]
    assert isinstance(started, ev.Started)
    assert (started.id, started.model, started.created_s) == ("chatcmpl-1", "gpt-5-2026", 1760000000)
    assert bytes(started.extra["prompt_filter_results"]) == b'[{"prompt_index":0}]'


def test_parallel_tool_calls_keep_their_parts_though_their_arguments_interleave() -> None:
    events = decoded(next(stream for stream in STREAMS if stream.name == "tool calls").all)
    arguments = {0: "", 1: ""}
    for event in events:
        if isinstance(event, ev.ToolCallDelta):
            arguments[event.part] += event.arguments
    assert arguments == {0: '{"city":"Bré\\"scia"}', 1: '{"zone":"CET"}'}
    assert [(event.id, event.name, event.part) for event in events if isinstance(event, ev.ToolCallStarted)] == [
        ("call_a", "weather", 0),
        ("call_b", "clock", 1),
    ]


@pytest.mark.parametrize(
    "call",
    [
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}, "custom": {"name": "", "input": ""}},
        {"id": "c", "type": "custom", "custom": {"name": "f", "input": "{}"}},
        {"id": "c", "type": "custom", "custom": {"name": "f", "input": "{}"}, "function": {"name": "", "arguments": ""}},
    ],
)
def test_a_call_is_the_one_that_is_meant(call: dict[str, Any]) -> None:
    assert whole("tool_calls", tool_calls=[call])[1:3] == [ev.ToolCallStarted(id="c", name="f"), ev.ToolCallDelta(arguments="{}")]


def test_members_that_are_there_but_empty_are_nothing() -> None:
    empty: dict[str, Any] = {
        "refusal": "",
        "tool_calls": [],
        "annotations": [],
        "function_call": {"name": "", "arguments": ""},
        "reasoning_content": "",
        "audio": None,
    }
    assert kinds(whole(content="4", **empty)) == ["Started", "TextDelta", "Finished", "Ended"]


def test_probabilities_of_nothing_make_no_piece_of_text() -> None:
    nothing = {**delta(tool_calls=[call_delta(0, "{}", "c", "f")]), "logprobs": {"content": None, "refusal": None}}
    assert kinds(decoded(chunk(nothing), FINISH, DONE)) == ["Started", "ToolCallStarted", "ToolCallDelta", "Finished", "Ended"]


@pytest.mark.parametrize(
    ("content", "refusal", "owners"),
    [([{"token": "a"}], None, ["TextDelta"]), (None, [{"token": "a"}], ["RefusalDelta"]), ([{"token": "a"}], [{"token": "b"}], ["TextDelta"])],
)
def test_probabilities_go_with_the_text_that_they_are_of(content: Any, refusal: Any, owners: list[str]) -> None:
    both = {**delta(content="a" if content else "", refusal="b" if refusal else ""), "logprobs": {"content": content, "refusal": refusal}}
    events = decoded(chunk(both), FINISH, DONE)
    assert [type(event).__name__ for event in events if getattr(event, "logprobs", None)] == owners


def test_a_reason_that_comes_twice_finishes_once() -> None:
    assert kinds(decoded(*texts("Hi"), FINISH, FINISH, DONE)) == ["Started", "TextDelta", "Finished", "Ended"]


@pytest.mark.parametrize(
    ("native", "finish"),
    [
        ("stop", Finish("stop", "stop")),
        ("function_call", Finish("tool_calls", "function_call")),
        ("novel", Finish("unknown", "novel")),
        ("", Finish("unknown", None)),
    ],
)
def test_a_whole_answer_is_finished_by_any_word(native: str, finish: Finish) -> None:
    assert ev.Finished(finish=finish) in whole(native, content="Hi")


def test_a_whole_answer_without_a_reason_is_malformed() -> None:
    with pytest.raises(e.MalformedResponse):
        whole(None, content="Hi")


def test_spoken_answers_are_read() -> None:
    audio = {"id": "a", "data": "AAAA", "transcript": "Hi", "expires_at": 5}
    events = whole(audio=audio, content=None)
    assert [json.loads(bytes(event.audio)) for event in events if isinstance(event, ev.AudioDelta)] == [audio]
    assert json.loads(OPENAI_CHAT.encode_response(events, answering()))["choices"][0]["message"]["audio"] == audio


@pytest.mark.parametrize("tail", [b"", b"data: [DO", b'data: {"id":"x","choices":[', b"data: ", b": keep", b"dat"])
def test_a_finished_stream_whose_last_event_was_cut_is_whole(tail: bytes) -> None:
    assert kinds(decoded(*texts("Hi"), FINISH, tail)) == ["Started", "TextDelta", "Finished", "Ended"]


@pytest.mark.parametrize("tail", [b"", b"data: [DO", b'data: {"id":"x","choices":[', b"data: ", b": keep", b"dat"])
def test_an_unfinished_stream_whose_last_event_was_cut_is_cut(tail: bytes) -> None:
    with pytest.raises(e.StreamCut):
        decoded(*texts("Hi"), tail)


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (b'data: {"error":{"message":"x","code":429}}\n\n', e.RateLimited),
        (b'data: {"object":"error","message":"x","code":400}\n\n', e.UpstreamRejected),
        (b'event: error\ndata: {"message":"x","type":"overloaded_error"}\n\n', e.UpstreamOverloaded),
        (b'data: {"error":{"message":"x","code":429}}', e.RateLimited),
        (b"data: junk\n\n", e.MalformedResponse),
        (b'data: {"choices":[{"delta":{"annotations":[{"a":"\xff"}]}}]}\n\n', e.MalformedResponse),
        (b'data: {"choices":"?"}\n\n', e.MalformedResponse),
    ],
)
def test_an_error_in_a_stream_is_raised(bad: bytes, error: type[e.AttemptError]) -> None:
    with pytest.raises(e.AttemptError) as caught:
        decoded(ROLE, *texts("Hi"), bad)
    assert type(caught.value) is error


@pytest.mark.parametrize("native", ["stop", "completed", "eos", "eos_token"])
def test_calls_finish_as_calls_whatever_word_for_an_ordinary_end_the_provider_has(native: str) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert whole(native, content=None, tool_calls=[call])[-2] == ev.Finished(finish=Finish("tool_calls", native))
    assert whole(native, content="Hi")[-2] == ev.Finished(finish=Finish("stop", native))
    streamed = decoded(chunk(delta(tool_calls=[{"index": 0, **call}])), chunk(delta(finish=native)), DONE)
    assert ev.Finished(finish=Finish("tool_calls", native)) in streamed


@pytest.mark.parametrize("native", ["error", "insufficient_system_resource", "abort"])
def test_a_reason_that_means_a_failure_is_raised(native: str) -> None:
    with pytest.raises(e.UpstreamError):
        whole(native, content="Hi")
    with pytest.raises(e.UpstreamError):
        decoded(chunk(delta(finish=native)), DONE)


def test_an_event_with_empty_data_is_passed_over() -> None:
    text = chunk(delta(content="a"))
    assert decoded(ROLE, b"data:\n\n", text, b"data: \n\n", FINISH, DONE) == decoded(ROLE, text, FINISH, DONE)


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_no_tokens_of_thoughts_that_are_there_is_not_believed(name: str) -> None:
    told = chunk(usage={"prompt_tokens": 9, "completion_tokens": 4, "completion_tokens_details": {"reasoning_tokens": 0}})
    for thought, counted in ((chunk(delta(**{name: "Hm"})), None), (chunk(delta(content="Hm")), 0)):
        (usage,) = [event.usage for event in decoded(ROLE, thought, FINISH, told, DONE) if isinstance(event, ev.UsageReported)]
        assert (usage.reasoning, usage.output_visible) == (counted, 4)
