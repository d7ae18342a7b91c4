"""Requests to generateContent: turns, calls and results, signatures, media, settings, and what the format has no place for."""

import json
from typing import Any

import pytest
from msgspec import Raw

from contract import requests as r
from contract.call import Dialect as Name
from providers.wires.anthropic_messages import ANTHROPIC_MESSAGES
from providers.wires.facts import Facts
from providers.wires.gemini import GEMINI
from providers.wires.gemini.request import FOREIGN_CALL
from providers.wires.losses import Losses
from providers.wires.openai_chat import OPENAI_CHAT
from providers.wires.openai_responses import OPENAI_RESPONSES
from tests.providers.wires.answering import answering

Json = dict[str, Any]
HI = r.Message(role="user", parts=(r.TextPart(text="Hi"),))
SCHEMA = Raw(b'{"type":"object","properties":{"a":{"$ref":"#/$defs/A"}}}')
TOOL = r.FunctionTool(name="f", description="d", parameters=SCHEMA)


def encoded(*messages: r.Message, model: str = "gemini-2.5-flash", lost: tuple[str, ...] = (), **fields: Any) -> Json:
    losses = Losses()
    request = r.ChatRequest(model=model, messages=messages or (HI,), **fields)
    body: Json = json.loads(GEMINI.encode_request(request, model, Facts(), losses))
    assert (*losses.fatal, *losses.hints) == lost
    return body


def said(role: r.Role, *parts: r.Part, name: str | None = None) -> r.Message:
    return r.Message(role=role, parts=parts, name=name)


def call(call_id: str, arguments: str = "{}", name: str = "f", **more: Any) -> r.ToolCallPart:
    return r.ToolCallPart(id=call_id, name=name, arguments=arguments, **more)


def result(call_id: str, *content: Any, **more: Any) -> r.ToolResultPart:
    return r.ToolResultPart(tool_call_id=call_id, content=content or (r.TextPart(text="ok"),), **more)


def test_turns_are_of_user_and_model_and_neighbours_become_one() -> None:
    again, answer = said("user", r.TextPart(text="Again")), said("assistant", r.TextPart(text="Yes"))
    assert encoded(HI, again, answer)["contents"] == [
        {"role": "user", "parts": [{"text": "Hi"}, {"text": "Again"}]},
        {"role": "model", "parts": [{"text": "Yes"}]},
    ]


def test_system_and_developer_words_stand_apart() -> None:
    body = encoded(said("system", r.TextPart(text="A")), HI, said("developer", r.TextPart(text="B")))
    assert body["systemInstruction"] == {"parts": [{"text": "A"}, {"text": "B"}]}
    assert len(body["contents"]) == 1


def test_a_request_of_instructions_alone_has_an_empty_turn() -> None:
    assert encoded(said("system", r.TextPart(text="A")))["contents"] == [{"role": "user", "parts": [{"text": ""}]}]


@pytest.mark.parametrize(("given", "args"), [("", {}), ('{"a":1}', {"a": 1}), ("[1]", {"_arguments": [1]}), ('{"a', {"_arguments": '{"a'})])
def test_arguments_are_an_object(given: str, args: Json) -> None:
    parts = encoded(HI, said("assistant", call("c", given)))["contents"][1]["parts"]
    assert parts == [{"functionCall": {"id": "c", "name": "f", "args": args}}]


def test_results_follow_their_calls_order_and_other_content_comes_after_them() -> None:
    image = r.ImagePart(data="aaaa", media_type="image/png")
    calls = said("assistant", call("a", name="one"), call("b", name="two"))
    answers = [said("tool", result("b")), said("tool", result("a", r.TextPart(text="x"), image)), said("user", r.TextPart(text="Go on"))]
    assert encoded(HI, calls, *answers)["contents"][2] == {
        "role": "user",
        "parts": [
            {"functionResponse": {"id": "a", "name": "one", "response": {"result": "x"}}},
            {"functionResponse": {"id": "b", "name": "two", "response": {"result": "ok"}}},
            {"inlineData": {"mimeType": "image/png", "data": "aaaa"}},
            {"text": "Go on"},
        ],
    }


def test_gemini_3_takes_media_within_a_result() -> None:
    image = r.ImagePart(data="aaaa", media_type="image/png")
    body = encoded(HI, said("assistant", call("a")), said("tool", result("a", image)), model="gemini-3-pro")
    [told] = body["contents"][2]["parts"]
    assert told["functionResponse"]["parts"] == [{"inlineData": {"mimeType": "image/png", "data": "aaaa"}}]


@pytest.mark.parametrize(("text", "response"), [('{"a":1}', {"a": 1}), ("[1]", {"result": [1]}), ("3", {"result": 3}), ("no", {"result": "no"})])
def test_a_result_is_an_object(text: str, response: Json) -> None:
    body = encoded(HI, said("assistant", call("a")), said("tool", result("a", r.TextPart(text=text))))
    assert body["contents"][2]["parts"][0]["functionResponse"]["response"] == response


def test_a_failed_result_says_so() -> None:
    body = encoded(HI, said("assistant", call("a")), said("tool", result("a", r.TextPart(text="bad"), is_error=True)))
    assert body["contents"][2]["parts"][0]["functionResponse"]["response"] == {"error": "bad"}


def test_the_first_call_of_another_model_is_marked_as_foreign_for_gemini_3_alone() -> None:
    turn = said("assistant", r.TextPart(text="t"), call("a"), call("b"))
    parts = encoded(HI, turn, model="gemini-3-flash-preview")["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == [None, FOREIGN_CALL, None]
    assert "thoughtSignature" not in json.dumps(encoded(HI, turn))


def test_a_signature_of_another_maker_is_not_sent_and_is_told() -> None:
    turn = said("assistant", r.ReasoningPart(text="t", signature="s", maker="anthropic_messages"), call("a", signature="s", maker="x"))
    body = encoded(HI, turn, lost=("messages.reasoning", "messages.signature"))
    assert "thought" not in json.dumps(body)


ANSWER = {
    "responseId": "r",
    "candidates": [
        {
            "content": {
                "parts": [
                    {"text": "Hm", "thought": True},
                    {"text": "I look."},
                    {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "c2lnMQ=="},
                    {"functionCall": {"name": "f", "args": {"a": 2}}},
                ]
            },
            "finishReason": "STOP",
        }
    ],
}


def returned(name: Name, answer: Json) -> Json:
    """Google's answer as a client of that dialect returns it, and what Google is then sent."""
    events = GEMINI.decode_response(json.dumps(answer).encode())
    if name == "openai_chat":
        told = json.loads(OPENAI_CHAT.encode_response(events, answering(name)))["choices"][0]["message"]
        request = OPENAI_CHAT.decode_request(json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi"}, told]}).encode())
    elif name == "anthropic_messages":
        told = {"role": "assistant", "content": json.loads(ANTHROPIC_MESSAGES.encode_response(events, answering(name)))["content"]}
        body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}, told]}
        request = ANTHROPIC_MESSAGES.decode_request(json.dumps(body).encode())
    else:
        items = json.loads(OPENAI_RESPONSES.encode_response(events, answering(name, include=["reasoning.encrypted_content"], store=False)))["output"]
        body = {"model": "m", "store": False, "input": [{"role": "user", "content": "Hi"}, *items]}
        request = OPENAI_RESPONSES.decode_request(json.dumps(body).encode())
    sent: Json = json.loads(GEMINI.encode_request(request, "gemini-3-pro", Facts(), Losses()))
    return sent


DIALECTS: tuple[Name, ...] = ("openai_chat", "anthropic_messages", "openai_responses")


@pytest.mark.parametrize("name", DIALECTS)
def test_a_call_comes_back_with_its_signature_through_every_dialect(name: Name) -> None:
    parts = [part for part in returned(name, ANSWER)["contents"][1]["parts"] if "functionCall" in part]
    assert [(part["functionCall"]["args"], part.get("thoughtSignature")) for part in parts] == [({}, "c2lnMQ=="), ({"a": 2}, None)]


@pytest.mark.parametrize("name", DIALECTS)
def test_a_text_comes_back_with_its_signature_through_every_dialect(name: Name) -> None:
    answer = {"candidates": [{"content": {"parts": [{"text": "Yes", "thoughtSignature": "c2ln"}]}, "finishReason": "STOP"}]}
    assert returned(name, answer)["contents"][1]["parts"] == [{"text": "Yes", "thoughtSignature": "c2ln"}]


def test_tools_go_with_their_json_schema_and_what_they_lack_is_told() -> None:
    native = r.NativeTool(type="web_search", raw=Raw(b"{}"))
    strict = r.FunctionTool(name="g", strict=True, cache_control=Raw(b"{}"))
    body = encoded(tools=(TOOL, native, strict), lost=("tools.web_search", "tools.cache_control", "tools.strict"))
    told = {"name": "f", "description": "d", "parametersJsonSchema": json.loads(bytes(SCHEMA))}
    assert body["tools"] == [{"functionDeclarations": [told, {"name": "g"}]}]


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        (r.ToolChoice(mode="auto"), {"mode": "AUTO"}),
        (r.ToolChoice(mode="none"), {"mode": "NONE"}),
        (r.ToolChoice(mode="required"), {"mode": "ANY"}),
        (r.ToolChoice(mode="named", name="f"), {"mode": "ANY", "allowedFunctionNames": ["f"]}),
    ],
)
def test_each_choice_of_tools_has_its_mode(choice: r.ToolChoice, config: Json) -> None:
    assert encoded(tools=(TOOL,), tool_choice=choice)["toolConfig"] == {"functionCallingConfig": config}


def test_calls_one_at_a_time_cannot_be_asked() -> None:
    encoded(tools=(TOOL,), parallel_tool_calls=False, lost=("parallel_tool_calls",))


def test_sampling_limits_and_format_have_googles_names() -> None:
    sampling = r.Sampling(
        temperature=0.0, top_p=0.5, top_k=3, n=2, seed=7, presence_penalty=0.1, frequency_penalty=0.2, logprobs=True, top_logprobs=4
    )
    wanted = r.JsonSchemaFormat(name="n", schema=SCHEMA)
    assert encoded(sampling=sampling, max_output_tokens=9, stop=("x", "y"), response_format=wanted)["generationConfig"] == {
        "temperature": 0.0,
        "topP": 0.5,
        "topK": 3,
        "candidateCount": 2,
        "seed": 7,
        "presencePenalty": 0.1,
        "frequencyPenalty": 0.2,
        "responseLogprobs": True,
        "logprobs": 4,
        "maxOutputTokens": 9,
        "stopSequences": ["x", "y"],
        "responseMimeType": "application/json",
        "responseJsonSchema": json.loads(bytes(SCHEMA)),
    }


def test_what_google_has_no_place_for_is_told() -> None:
    lost = ("logit_bias", "extra.store", "user", "metadata", "messages.name")
    fields: Json = {"user": "u", "metadata": {"a": "b"}, "extra": {"store": Raw(b"true")}}
    losses = Losses()
    request = r.ChatRequest(model="m", messages=(said("user", r.TextPart(text="a"), name="n"),), sampling=r.Sampling(logit_bias={"1": 1}), **fields)
    GEMINI.encode_request(request, "m", Facts(), losses)
    assert {*losses.fatal, *losses.hints} == set(lost)


@pytest.mark.parametrize(
    ("model", "reasoning", "config"),
    [
        ("gemini-2.5-flash", r.Reasoning(effort="low"), {"includeThoughts": True, "thinkingBudget": 2048}),
        ("gemini-2.5-flash", r.Reasoning(budget_tokens=500), {"includeThoughts": True, "thinkingBudget": 500}),
        ("gemini-2.5-flash", r.Reasoning(effort="none"), {"thinkingBudget": 0}),
        ("gemini-3-pro", r.Reasoning(effort="high"), {"includeThoughts": True, "thinkingLevel": "high"}),
        ("gemini-3.5-flash", r.Reasoning(budget_tokens=2500), {"includeThoughts": True, "thinkingLevel": "low"}),
    ],
)
def test_reasoning_is_a_budget_and_from_gemini_3_on_a_level(model: str, reasoning: r.Reasoning, config: Json) -> None:
    assert encoded(model=model, reasoning=reasoning)["generationConfig"]["thinkingConfig"] == config


@pytest.mark.parametrize(
    ("part", "sent"),
    [
        (r.ImagePart(data="aa", media_type="image/webp"), {"inlineData": {"mimeType": "image/webp", "data": "aa"}}),
        (r.ImagePart(url="https://x.y/a.png?b"), {"fileData": {"mimeType": "image/png", "fileUri": "https://x.y/a.png?b"}}),
        (r.AudioPart(data="aa", format="mp3"), {"inlineData": {"mimeType": "audio/mp3", "data": "aa"}}),
        (r.FilePart(data="aa", media_type="text/csv"), {"inlineData": {"mimeType": "text/csv", "data": "aa"}}),
        (r.FilePart(url="https://x.y/a"), {"fileData": {"mimeType": "application/pdf", "fileUri": "https://x.y/a"}}),
    ],
)
def test_media_go_inline_or_by_their_address(part: r.Part, sent: Json) -> None:
    assert encoded(said("user", part))["contents"][0]["parts"] == [sent]


def test_media_of_another_provider_are_told() -> None:
    encoded(said("user", r.FilePart(file_id="file-1"), r.AudioPart(id="audio_1"), r.TextPart(text="a")), lost=("messages.file", "messages.audio"))


def test_paths_name_the_model_and_a_stream_is_asked_as_events() -> None:
    assert GEMINI.path("gemini-2.5-flash", False) == "/models/gemini-2.5-flash:generateContent"
    assert GEMINI.path("tunedModels/a b", True) == "/tunedModels/a%20b:streamGenerateContent?alt=sse"


def test_tokens_are_counted_with_instructions_and_tools() -> None:
    request = r.ChatRequest(model="m", messages=(said("system", r.TextPart(text="A")), HI), tools=(TOOL,))
    body = json.loads(GEMINI.encode_count_request(request, "m", Facts(), Losses()))["generateContentRequest"]
    assert body.keys() == {"model", "contents", "systemInstruction", "tools"} and body["model"] == "models/m"
