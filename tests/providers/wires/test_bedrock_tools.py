"""Tools, their calls and results in Bedrock's format."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from contract import requests as r
from providers.wires.bedrock.request import tool_id
from providers.wires.losses import Losses
from tests.providers.wires.bedrock_requests import (
    CACHED,
    CALL,
    CLAUDE,
    HI,
    NOVA,
    PIXEL,
    POINT,
    SCHEMA,
    WEATHER,
    Json,
    encoded,
    lost,
    result,
    says,
    text,
    turns,
)


def test_a_tool_is_a_specification() -> None:
    spec = {"name": "weather", "description": "The weather", "inputSchema": {"json": json.loads(bytes(SCHEMA))}}
    assert encoded(tools=(WEATHER,))["toolConfig"] == {"tools": [{"toolSpec": spec}]}


def test_a_tool_without_parameters_takes_an_object_and_a_strict_one_says_so() -> None:
    tools = encoded(model=CLAUDE, tools=(r.FunctionTool(name="now"), r.FunctionTool(name="then", strict=True, cache_control=CACHED)))["toolConfig"][
        "tools"
    ]
    schema = {"json": {"type": "object"}}
    assert tools == [
        {"toolSpec": {"name": "now", "inputSchema": schema}},
        {"toolSpec": {"name": "then", "inputSchema": schema, "strict": True}},
        POINT,
    ]


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        (r.ToolChoice(mode="auto"), None),
        (r.ToolChoice(mode="required"), {"any": {}}),
        (r.ToolChoice(mode="named", name="weather"), {"tool": {"name": "weather"}}),
    ],
)
def test_the_choice_of_a_tool_is_told(choice: r.ToolChoice, told: Json | None) -> None:
    assert encoded(tools=(WEATHER,), tool_choice=choice)["toolConfig"].get("toolChoice") == told


def test_strict_and_marked_tools_are_told_where_a_model_does_not_have_them() -> None:
    tool = r.FunctionTool(name="now", strict=True, cache_control=CACHED)
    assert lost(model="anthropic.claude-opus-4-8", tools=(tool,)) == ["tools.strict"]
    assert lost(model=NOVA, tools=(tool,)) == ["tools.strict", "tools.cache_control"]
    assert lost(model="openai.gpt-oss-120b-1:0", tools=(tool,)) == ["tools.cache_control"]


def test_no_tool_at_all_is_chosen_by_giving_none() -> None:
    assert "toolConfig" not in encoded(tools=(WEATHER,), tool_choice=r.ToolChoice(mode="none"))


def test_a_choice_of_no_tool_over_a_history_of_calls_is_told() -> None:
    losses = Losses()
    history = (HI, says("assistant", CALL), says("tool", result("18 °C")))
    body = encoded(*history, tools=(WEATHER,), tool_choice=r.ToolChoice(mode="none"), losses=losses)
    assert losses.fatal == ["tool_choice"] and "toolChoice" not in body["toolConfig"]


def test_a_history_of_calls_without_tools_has_their_names_told_for_bedrock_refuses_it_else() -> None:
    again = r.ToolCallPart(id="call_2", name="weather", arguments="")
    body = encoded(HI, says("assistant", CALL, again), says("tool", result("18 °C"), result("19 °C", of="call_2")))
    assert [tool["toolSpec"]["name"] for tool in body["toolConfig"]["tools"]] == ["weather"]
    assert "toolChoice" not in body["toolConfig"]


def test_calls_one_after_another_only_are_told() -> None:
    assert lost(tools=(WEATHER,), parallel_tool_calls=False) == ["parallel_tool_calls"]


def test_a_provider_s_own_tool_is_told() -> None:
    assert lost(tools=(r.NativeTool(type="web_search", raw=Raw(b'{"type":"web_search"}')),)) == ["tools.web_search"]


def test_calls_and_their_results_are_turns_of_their_own() -> None:
    again = r.ToolCallPart(id="call_2", name="weather", arguments="")
    body = encoded(
        HI,
        says("assistant", "Looking.", CALL, again),
        says("tool", result("18 °C")),
        says("tool", result("?", of="call_2", is_error=True)),
        tools=(WEATHER,),
    )
    uses = [
        {"toolUse": {"toolUseId": "call_1", "name": "weather", "input": {"city": "Brescia"}}},
        {"toolUse": {"toolUseId": "call_2", "name": "weather", "input": {}}},
    ]
    results = [
        {"toolResult": {"toolUseId": "call_1", "content": [{"text": "18 °C"}]}},
        {"toolResult": {"toolUseId": "call_2", "content": [{"text": "?"}], "status": "error"}},
    ]
    assert turns(body)[1:] == [("assistant", [{"text": "Looking."}, *uses]), ("user", results)]


def test_results_come_before_what_the_user_says_beside_them() -> None:
    body = encoded(HI, says("assistant", CALL), says("user", "Well?", result("18 °C")), tools=(WEATHER,))
    assert [next(iter(block)) for block in turns(body)[2][1]] == ["toolResult", "text"]


def test_a_result_holds_images_and_documents() -> None:
    image, paper = r.ImagePart(data=PIXEL, media_type="image/png"), r.FilePart(data=PIXEL, media_type="application/pdf")
    body = encoded(HI, says("assistant", CALL), says("tool", result("See", image, paper)), tools=(WEATHER,))
    content = turns(body)[2][1][0]["toolResult"]["content"]
    assert content[:2] == [{"text": "See"}, {"image": {"format": "png", "source": {"bytes": PIXEL}}}]
    assert content[2]["document"]["source"] == {"bytes": PIXEL}


def test_a_result_of_nothing_says_so() -> None:
    body = encoded(HI, says("assistant", CALL), says("tool", result("")), tools=(WEATHER,))
    assert turns(body)[2][1][0]["toolResult"]["content"] == [{"text": "(empty)"}]


def test_a_mark_within_a_result_is_put_after_it() -> None:
    body = encoded(HI, says("assistant", CALL), says("tool", result(text("18 °C", cache_control=CACHED))), tools=(WEATHER,))
    assert [next(iter(block)) for block in turns(body)[2][1]] == ["toolResult", "cachePoint"]


@pytest.mark.parametrize(
    ("arguments", "told"), [("", {}), (" ", {}), ("{}", {}), ('{"a":1}', {"a": 1}), ("[1]", {"_arguments": [1]}), ("{no", {"_arguments": "{no"})]
)
def test_arguments_are_always_an_object(arguments: str, told: Json) -> None:
    call = r.ToolCallPart(id="c", name="weather", arguments=arguments)
    body = encoded(HI, says("assistant", call), says("tool", result("x", of="c")), tools=(WEATHER,))
    assert turns(body)[1][1][0]["toolUse"]["input"] == told


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80))
def test_an_id_is_one_that_bedrock_takes_and_the_same_for_call_and_result(given: str) -> None:
    made = tool_id(given)
    assert tool_id(made) == made
    body = encoded(HI, says("assistant", r.ToolCallPart(id=given, name="f", arguments="")), says("tool", result("x", of=given)), tools=(WEATHER,))
    assert turns(body)[1][1][0]["toolUse"]["toolUseId"] == turns(body)[2][1][0]["toolResult"]["toolUseId"] == made
