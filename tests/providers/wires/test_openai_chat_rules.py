"""Events of any provider as OpenAI chat chunks: index and id rules of tool calls, one finish a choice, usage and [DONE] last."""

import json
from typing import Any

from hypothesis import given, settings
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from contract import events as ev
from contract.finish import Finish
from providers.wires.openai_chat import OPENAI_CHAT
from tests.contract.event_sequences import answers, cut_answers
from tests.contract.native import natives
from tests.providers.wires.answering import answering

DONE = "[DONE]"
Json = dict[str, Any]


class Choice:
    """One choice of a stream as a state machine. Raises AssertionError at the first delta that may not come."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.calls: list[Json] = []
        self.native: list[Json] = []
        self.finish: str | None = None
        self._begun = False

    def feed(self, told: Json) -> None:
        assert self.finish is None, "nothing follows the reason to finish"
        delta = told["delta"]
        assert ("role" in delta) != self._begun, "the role comes with the first delta alone"
        self._begun = True
        for name in ("content", "refusal", "reasoning_content"):
            if delta.get(name) is not None:
                self.texts[name] = self.texts.get(name, "") + delta[name]
        for call in delta.get("tool_calls", ()):
            self._call(call)
        self.native += delta.get("native_output", ())
        self.finish = told["finish_reason"]

    def _call(self, call: Json) -> None:
        index, function = call["index"], call["function"]
        if index == len(self.calls):
            assert call["id"] and call["type"] == "function" and "name" in function, "the first delta says whose call it is"
            self.calls.append({"id": call["id"], "name": function["name"], "arguments": function["arguments"]})
            return
        assert 0 <= index < len(self.calls), "indexes ascend from 0 without a gap"
        assert not call.keys() & {"id", "type"} and "name" not in function, "a later delta is of arguments alone"
        self.calls[index]["arguments"] += function["arguments"]


def chunks_of(stream: bytes) -> list[Any]:
    assert stream == b"" or stream.endswith(b"\n\n")
    lines = stream.decode().split("\n\n")[:-1]
    assert all(line.startswith("data: ") and "\n" not in line for line in lines)
    return [json.loads(line[6:]) if line[6:] != DONE else DONE for line in lines]


def sdk_words(body: Json) -> Json:
    """The answer with a reason that the SDK's types know: one of another provider that OpenAI has no word for stays that provider's."""
    return {**body, "choices": [{**choice, "finish_reason": choice["finish_reason"] and "stop"} for choice in body["choices"]]}


def run(stream: bytes) -> tuple[dict[int, Choice], Json | None, bool]:
    """The choices, the usage if one was told, and whether the stream ended."""
    choices: dict[int, Choice] = {}
    usage, done = None, False
    heads = set()
    for chunk in chunks_of(stream):
        assert not done, "nothing follows [DONE]"
        if chunk == DONE:
            done = True
            continue
        ChatCompletionChunk.model_validate(sdk_words(chunk))
        heads.add((chunk["id"], chunk["model"], chunk["created"], chunk["object"]))
        if not chunk["choices"]:
            assert usage is None and all(choice.finish is not None for choice in choices.values()), "usage comes once, after all choices"
            usage = chunk["usage"]
        for told in chunk["choices"]:
            choices.setdefault(told["index"], Choice()).feed(told)
    assert len(heads) <= 1, "every chunk has the same head"
    return choices, usage, done


def wanted_calls(events: list[Any], choice: int) -> list[Json]:
    calls: dict[int, Json] = {}
    for event in events:
        match event:
            case ev.ToolCallStarted() if event.choice == choice:
                calls[event.part] = {"id": event.id, "name": event.name, "arguments": ""}
            case ev.ToolCallDelta() if event.choice == choice:
                calls[event.part]["arguments"] += event.arguments
            case _:
                pass
    return [call | {"arguments": call["arguments"] or "{}"} for call in calls.values()]


@settings(max_examples=80, deadline=None)
@given(answers(choices=2, audio=True))
def test_every_answer_is_a_legal_stream_of_the_same_calls(events: list[Any]) -> None:
    context = answering()
    choices, usage, done = run(b"".join(map(OPENAI_CHAT.stream_encoder(context).feed, events)))
    assert done and sorted(choices) == [0, 1]
    for index, choice in choices.items():
        assert choice.calls == wanted_calls(events, index)
        assert choice.native == natives(events, choice=index)
        assert choice.finish is not None
    assert (usage is not None) == any(isinstance(event, ev.UsageReported) for event in events)


@settings(max_examples=80, deadline=None)
@given(answers(choices=2))
def test_a_stream_and_a_whole_answer_say_the_same(events: list[Any]) -> None:
    context = answering()
    events = [event for event in events if not isinstance(event, ev.Annotated) or event.maker]  # one of no maker goes as it is, whatever it is
    choices, usage, _ = run(b"".join(map(OPENAI_CHAT.stream_encoder(context).feed, events)))
    body = json.loads(OPENAI_CHAT.encode_response(events, context))
    ChatCompletion.model_validate(sdk_words(body))
    assert body.get("usage") == usage
    for told in body["choices"]:
        choice, message = choices[told["index"]], told["message"]
        calls = [{"id": call["id"], **call["function"]} for call in message.get("tool_calls", ())]
        assert (calls, told["finish_reason"]) == (choice.calls, choice.finish)
        assert message.get("native_output", []) == choice.native == natives(events, choice=told["index"])
        for name in ("content", "refusal", "reasoning_content"):
            assert (message.get(name) or "") == choice.texts.get(name, "")


@settings(max_examples=40, deadline=None)
@given(cut_answers(choices=2))
def test_an_answer_that_was_cut_is_legal_so_far_and_never_done(events: list[Any]) -> None:
    _, _, done = run(b"".join(map(OPENAI_CHAT.stream_encoder(answering()).feed, events)))
    assert not done


@settings(max_examples=20, deadline=None)
@given(answers())
def test_a_client_that_did_not_ask_for_usage_gets_none(events: list[Any]) -> None:
    _, usage, _ = run(b"".join(map(OPENAI_CHAT.stream_encoder(answering(include_usage=False)).feed, events)))
    assert usage is None


BARE: list[ev.Event] = [
    ev.Started(id="a", model="m", created_s=1),
    ev.ToolCallStarted(id="c1", name="f"),
    ev.ToolCallStarted(id="c2", name="g", part=1),
    ev.ToolCallDelta(arguments="", part=1),
    ev.Finished(finish=Finish("tool_calls", "tool_use")),
    ev.Ended(),
]


def test_a_call_that_got_no_arguments_has_an_empty_object() -> None:
    choices, _, _ = run(b"".join(map(OPENAI_CHAT.stream_encoder(answering()).feed, BARE)))
    [told] = json.loads(OPENAI_CHAT.encode_response(BARE, answering()))["choices"]
    assert [call["arguments"] for call in choices[0].calls] == ["{}", "{}"]
    assert [call["function"]["arguments"] for call in told["message"]["tool_calls"]] == ["{}", "{}"]


def test_a_call_in_the_form_before_tools_that_got_no_arguments_has_an_empty_object() -> None:
    context = answering(functions=[{"name": "f"}])
    chunks = chunks_of(b"".join(map(OPENAI_CHAT.stream_encoder(context).feed, BARE)))
    pieces = [chunk["choices"][0]["delta"].get("function_call", {}).get("arguments", "") for chunk in chunks if chunk != DONE and chunk["choices"]]
    [told] = json.loads(OPENAI_CHAT.encode_response(BARE, context))["choices"]
    assert ("".join(pieces), told["message"]["function_call"]["arguments"]) == ("{}", "{}")
