"""A forced tool as a schema, and the JSON that comes of it as a call."""

from typing import Any

import msgspec
import pytest

from contract import events as ev
from providers.local.forcing import CallingDecoder, Forced, by_schema
from providers.wires.openai_chat import OPENAI_CHAT
from tests.providers.local.test_engine_backend import call_of

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER, CLOCK = {"name": "weather", "description": "of today", "parameters": CITY}, {"name": "clock"}
BOTH = [{"type": "function", "function": each} for each in (WEATHER, CLOCK)]


def asked(tool_choice: Any, *messages: dict[str, Any]) -> tuple[dict[str, Any], Forced | None]:
    call, forced = by_schema(call_of({"model": "m", "messages": list(messages), "tools": BOTH, "tool_choice": tool_choice}))
    return msgspec.json.decode(call.body), forced


def test_a_named_one_asks_for_its_arguments_alone() -> None:
    body, forced = asked({"type": "function", "function": {"name": "weather"}}, {"role": "user", "content": "Hi"})
    assert forced is not None and forced.only == "weather"
    assert body["response_format"]["json_schema"]["schema"] == CITY and not {"tools", "tool_choice"} & set(body)
    assert body["messages"][0]["role"] == "system" and "weather: of today" in body["messages"][0]["content"]


def test_of_several_one_is_asked_for_by_its_name_after_the_system_s_own_words() -> None:
    body, forced = asked("required", {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"})
    assert forced is not None and forced.only is None and len(body["messages"]) == 2
    assert body["messages"][0]["content"].startswith("Be brief.\n\nCall one of")
    schemas = body["response_format"]["json_schema"]["schema"]["anyOf"]
    assert [each["properties"]["name"] for each in schemas] == [{"const": "weather"}, {"const": "clock"}]


@pytest.mark.parametrize("choice", ["auto", "none", None, {"type": "function", "function": {"name": "other"}}, {"type": "allowed_tools"}])
def test_what_forces_no_tool_that_is_there_stays_as_it_is(choice: Any) -> None:
    body, forced = asked(choice)
    assert forced is None and body["tools"] == BOTH


def sse(*texts: str, finish: str = "stop") -> bytes:
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    deltas = [{**head, "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]} for text in texts]
    last = {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}
    return b"".join(b"data: " + msgspec.json.encode(each) + b"\n\n" for each in (*deltas, last)) + b"data: [DONE]\n\n"


def decoded(forced: Forced, stream: bytes, step: int) -> list[ev.Event]:
    decoder = CallingDecoder(OPENAI_CHAT.stream_decoder(1), forced)
    out = [event for at in range(0, len(stream), step) for event in decoder.feed(stream[at : at + step])]
    return out + decoder.end()


def told(events: list[ev.Event]) -> tuple[list[str], str, str, str]:
    """Names of calls, arguments, text, why it ended."""
    return (
        [each.name for each in events if isinstance(each, ev.ToolCallStarted)],
        "".join(each.arguments for each in events if isinstance(each, ev.ToolCallDelta)),
        "".join(each.text for each in events if isinstance(each, ev.TextDelta)),
        next(each.finish.reason for each in events if isinstance(each, ev.Finished)),
    )


@pytest.mark.parametrize("step", [1, 7, 100_000])
@pytest.mark.parametrize(
    ("functions", "texts", "finish", "said"),
    [
        ((WEATHER,), ('{"ci', 'ty":"Rome"}'), "stop", (["weather"], '{"city":"Rome"}', "", "tool_calls")),
        ((WEATHER,), ('{"ci',), "length", (["weather"], '{"ci', "", "length")),
        ((WEATHER, CLOCK), ('{"name":"clock",', '"arguments":{}}'), "stop", (["clock"], "{}", "", "tool_calls")),
        ((WEATHER, CLOCK), ('{"name":"clo',), "length", ([], "", '{"name":"clo', "length")),
    ],
)
def test_the_answer_is_told_as_a_call_however_it_is_cut(
    functions: tuple[dict[str, Any], ...], texts: tuple[str, ...], finish: str, said: tuple[list[str], str, str, str], step: int
) -> None:
    assert told(decoded(Forced(functions), sse(*texts, finish=finish), step)) == said
