"""Responses requests: read into the contract and written from it; nothing that was asked is lost without a word."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from msgspec import Raw
from msgspec.structs import replace

from contract import requests as r
from contract.errors import InvalidRequest, UnsupportedField
from providers.wires.facts import Facts
from providers.wires.losses import Losses
from providers.wires.openai_chat import OPENAI_CHAT
from providers.wires.openai_responses import OPENAI_RESPONSES
from providers.wires.openai_responses.history import input_items, with_history
from providers.wires.openai_responses.request import read_item
from providers.wires.openai_responses.usual import read_usual
from providers.wires.seal import Seal, seal
from tests.contract.strategies import any_requests

NAME = "openai_responses"


def decoded(input_: Any = "Hi", **more: Any) -> r.ChatRequest:
    return OPENAI_RESPONSES.decode_request(json.dumps({"model": "m", "input": input_, **more}).encode())


def encoded(request: r.ChatRequest, **facts: Any) -> tuple[dict[str, Any], Losses]:
    losses = Losses()
    return json.loads(OPENAI_RESPONSES.encode_request(request, "up", Facts(**facts), losses)), losses


def chat(*parts: r.Part, role: Any = "user", **more: Any) -> r.ChatRequest:
    return r.ChatRequest(model="m", messages=(r.Message(role=role, parts=parts),), **more)


def parts_of(item: dict[str, Any]) -> tuple[r.Part, ...]:
    (message,) = decoded([item]).messages
    return message.parts


# --- reading ---------------------------------------------------------------------------------------------------------
def test_instructions_are_a_system_message_before_the_input() -> None:
    assert [(m.role, m.parts) for m in decoded(instructions="Be brief").messages] == [
        ("system", (r.TextPart(text="Be brief"),)),
        ("user", (r.TextPart(text="Hi"),)),
    ]
    assert decoded(instructions="") == decoded(instructions=None) == decoded()


READ: list[tuple[dict[str, Any], r.Part]] = [
    ({"role": "user", "content": "x"}, r.TextPart(text="x")),
    ({"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "x"}]}, r.TextPart(text="x")),
    ({"role": "assistant", "content": [{"type": "output_text", "text": "x", "annotations": []}]}, r.TextPart(text="x")),
    ({"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}, r.RefusalPart(text="no")),
    (
        {"role": "user", "content": [{"type": "input_image", "image_url": "https://x.test/a", "detail": "low"}]},
        r.ImagePart(url="https://x.test/a", detail="low"),
    ),
    (
        {"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AA=="}]},
        r.ImagePart(data="AA==", media_type="image/png"),
    ),
    ({"role": "user", "content": [{"type": "input_image", "file_id": "f1"}]}, r.FilePart(file_id="f1", media_type="image/*")),
    ({"role": "user", "content": [{"type": "input_file", "file_url": "https://x.test/f"}]}, r.FilePart(url="https://x.test/f")),
    (
        {"role": "user", "content": [{"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="}]},
        r.FilePart(filename="a.pdf", data="AA==", media_type="application/pdf"),
    ),
    ({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}, r.ToolCallPart(id="c", name="f", arguments="{}")),
    (
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "x"}]},
        r.ToolResultPart(tool_call_id="c", content=(r.TextPart(text="x"),)),
    ),
    (
        {"type": "custom_tool_call", "call_id": "c", "name": "f", "input": "x"},
        r.ToolCallPart(id="c", name="f", arguments="x", extra={"type": Raw(b'"custom"')}),
    ),
    (
        {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}]},
        r.ReasoningPart(text="a\n\nb", id="rs"),
    ),
    ({"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "e"}, r.ReasoningPart(signature="e", id="rs")),
    (
        {"type": "reasoning", "id": "x", "summary": [], "encrypted_content": seal(Seal("t", "gemini", "sig", redacted=True, id="y"))},
        r.ReasoningPart(signature="sig", redacted=True, id="y", maker="gemini"),
    ),
]


@pytest.mark.parametrize(("item", "part"), READ, ids=[f"{n} {item.get('type', 'message')}" for n, (item, _) in enumerate(READ)])
def test_an_item_is_read(item: dict[str, Any], part: r.Part) -> None:
    assert parts_of(item) == (part,)


@pytest.mark.parametrize("item", [item for item, _ in READ], ids=range(len(READ)))
def test_what_is_read_in_one_go_is_read_as_field_by_field(item: dict[str, Any]) -> None:
    raw = Raw(json.dumps(item).encode())
    assert read_usual(raw) in (None, read_item(raw, "input[0]"))


def test_what_the_model_made_in_one_turn_is_one_message() -> None:
    items = [
        {"role": "user", "content": "?"},
        {"type": "reasoning", "id": "rs", "summary": []},
        {"role": "assistant", "content": "hm"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": ""},
        {"type": "local_shell_call", "call_id": "s", "action": {}},
        {"type": "function_call_output", "call_id": "c", "output": ""},
    ]
    messages = decoded(items).messages
    assert [message.role for message in messages] == ["user", "assistant", "tool"]
    assert [type(part).__name__ for part in messages[1].parts] == ["ReasoningPart", "TextPart", "ToolCallPart", "NativePart"]


def test_a_call_s_seal_goes_back_to_its_call() -> None:
    sealed = seal(Seal("t", "gemini", "sig", call_id="c"))
    items = [
        {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": sealed},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
    ]
    (message,) = decoded(items).messages
    assert message.parts == (r.ToolCallPart(id="c", name="f", arguments="{}", signature="sig", maker="gemini"),)


def test_fields_are_read() -> None:
    request = decoded(
        temperature=0.5,
        top_p=0.9,
        top_logprobs=2,
        max_output_tokens=7,
        parallel_tool_calls=False,
        tool_choice={"type": "function", "name": "f"},
        tools=[{"type": "function", "name": "f", "parameters": {}, "strict": True, "defer_loading": True}, {"type": "web_search"}],
        text={"format": {"type": "json_schema", "name": "s", "schema": {"a": 1}, "strict": True}, "verbosity": "low"},
        reasoning={"effort": "low", "summary": "auto", "mode": "x"},
        metadata={"a": "b"},
        user="u",
        stream=True,
        zzz=1,
    )
    assert request.sampling == r.Sampling(temperature=0.5, top_p=0.9, logprobs=True, top_logprobs=2)
    assert request.tool_choice == r.ToolChoice(mode="named", name="f") and request.parallel_tool_calls is False
    assert request.tools[0] == r.FunctionTool(name="f", parameters=Raw(b"{}"), strict=True, extra={"defer_loading": Raw(b"true")})
    assert isinstance(request.tools[1], r.NativeTool) and request.tools[1].type == "web_search"
    assert request.response_format == r.JsonSchemaFormat(name="s", schema=Raw(b'{"a": 1}'), strict=True)
    assert request.reasoning == r.Reasoning(effort="low", summary="auto")
    assert (request.max_output_tokens, request.metadata, request.user, request.stream) == (7, {"a": "b"}, "u", True)
    assert {name: bytes(raw) for name, raw in request.extra.items()} == {"verbosity": b'"low"', "reasoning": b'{"mode":"x"}', "zzz": b"1"}


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"input": 5}, "input"),
        ({"input": [5]}, "input[0]"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": 5}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input[0].call_id"),
        ({"tools": [{"name": "f"}]}, "tools[0].type"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"temperature": "hot"}, "temperature"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.name"),
    ],
    ids=str,
)
def test_what_is_wrong_is_named_by_its_path(more: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decoded(**{"input_": "Hi", **{"input_" if name == "input" else name: value for name, value in more.items()}})
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"input_": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
        ({"input_": [{"role": "user", "content": [{"type": "input_video"}]}]}, "input[0].content[0].type"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
    ],
    ids=str,
)
def test_what_only_a_native_provider_could_read_is_unsupported(more: dict[str, Any], param: str) -> None:
    with pytest.raises(UnsupportedField) as caught:
        decoded(**more)
    assert caught.value.param == param


# --- writing ---------------------------------------------------------------------------------------------------------
def shown(parts: tuple[Any, ...]) -> tuple[Any, ...]:
    """Without pictures that have neither address nor data."""
    kept = [replace(part, content=shown(part.content)) if isinstance(part, r.ToolResultPart) else part for part in parts]
    return tuple(part for part in kept if not isinstance(part, r.ImagePart) or part.url is not None or part.data is not None)


@settings(max_examples=60, deadline=None)
@given(any_requests(raw=True))
def test_any_request_can_be_written_and_read_again(request: r.ChatRequest) -> None:
    roles = {"tool": "user"}  # a tool's message holds results alone
    messages = tuple(replace(message, role=roles.get(message.role, message.role), parts=shown(message.parts)) for message in request.messages)
    body = OPENAI_RESPONSES.encode_request(replace(request, messages=messages), "up", Facts(), Losses())
    assert OPENAI_RESPONSES.decode_request(body).model == "up"


def test_a_request_of_another_dialect_keeps_nothing_at_the_provider() -> None:
    body, losses = encoded(chat(r.TextPart(text="Hi"), max_output_tokens=5, stream=True))
    assert body == {
        "model": "up",
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
        "max_output_tokens": 5,
        "stream": True,
        "store": False,
    }
    assert losses.fatal == losses.hints == []


REASONS = [("o3-mini", True), ("gpt-5.5", True), ("openai/gpt-5-mini", True), ("gpt-5-codex", True), ("gpt-6", True), ("gpt-4o", False),
           ("gpt-5-chat-latest", False), ("gpt-5.3-chat-latest", False), ("my-deployment", False), ("turbo3", False)]  # fmt: skip


@pytest.mark.parametrize(("model", "reasons"), REASONS, ids=[model for model, _ in REASONS])
def test_encrypted_reasoning_is_asked_of_models_that_reason_and_where_reasoning_is_asked_for(model: str, reasons: bool) -> None:
    def includes(request: r.ChatRequest) -> Any:
        return json.loads(OPENAI_RESPONSES.encode_request(request, model, Facts(), Losses())).get("include")

    assert includes(chat(r.TextPart(text="Hi"))) == (["reasoning.encrypted_content"] if reasons else None)
    assert includes(chat(r.TextPart(text="Hi"), reasoning=r.Reasoning(effort="low"))) == ["reasoning.encrypted_content"]


def test_a_function_of_another_dialect_is_not_strict_unless_it_says_so() -> None:
    tools = (r.FunctionTool(name="f"), r.FunctionTool(name="g", strict=True, description="d", parameters=Raw(b"{}")))
    body, _ = encoded(chat(r.TextPart(text="x"), tools=tools, tool_choice=r.ToolChoice(mode="named", name="g"), parallel_tool_calls=True))
    assert body["tools"] == [
        {"type": "function", "name": "f", "parameters": None, "strict": False},
        {"type": "function", "name": "g", "description": "d", "parameters": {}, "strict": True},
    ]
    assert body["tool_choice"] == {"type": "function", "name": "g"} and body["parallel_tool_calls"] is True


def test_content_stands_together_and_calls_and_results_are_items() -> None:
    parts = (r.TextPart(text="a"), r.TextPart(text="b"), r.ToolCallPart(id="c", name="f", arguments=""), r.TextPart(text="d"))
    body, _ = encoded(chat(*parts, role="assistant"))
    assert [item["type"] for item in body["input"]] == ["message", "function_call", "message"]
    assert body["input"][0]["content"] == [{"type": "output_text", "text": "a"}, {"type": "output_text", "text": "b"}]
    assert body["input"][1] == {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    result = r.ToolResultPart(tool_call_id="c", content=(r.TextPart(text="x"), r.ImagePart(url="https://x.test/i")), is_error=True)
    body, losses = encoded(chat(result, role="tool"))
    assert [piece["type"] for piece in body["input"][0]["output"]] == ["input_text", "input_image"]
    assert [*losses.fatal, *losses.hints] == ["messages.is_error"]


def test_only_openai_s_own_reasoning_goes_back_to_openai() -> None:
    own = r.ReasoningPart(text="t", signature="sig", id="rs_1", maker=NAME)
    body, losses = encoded(chat(own, role="assistant"))
    summary = [{"type": "summary_text", "text": "t"}]
    assert body["input"] == [{"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": "sig"}] and not losses.fatal
    for other, loss in (
        (r.ReasoningPart(text="t", signature="sig", maker="anthropic_messages"), "messages.reasoning"),
        (r.ReasoningPart(text="t"), "messages.reasoning_text"),
    ):
        body, losses = encoded(chat(other, role="assistant"))
        assert body["input"] == [] and [*losses.fatal, *losses.hints] == [loss]


@pytest.mark.parametrize(
    ("request_", "lost"),
    [
        (chat(sampling=r.Sampling(n=2, seed=1, frequency_penalty=0.1, top_k=3)), ["frequency_penalty", "seed", "top_k", "n"]),
        (chat(stop=("x",)), ["stop"]),
        (chat(r.AudioPart(data="AA==", format="wav")), ["messages.audio"]),
        (chat(r.FilePart(file_id="f1")), ["messages.file"]),
        (chat(r.NativePart(type="server_tool_use", raw=Raw(b"{}"))), ["messages.server_tool_use"]),
        (chat(tools=(r.NativeTool(type="web_search_20250305", raw=Raw(b"{}")),)), ["tools.web_search_20250305"]),
        (chat(r.ToolCallPart(id="c", name="f", arguments="{}", signature="s"), role="assistant"), ["messages.signature"]),
        (chat(extra={"logit_thing": Raw(b"1")}), ["extra.logit_thing"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_the_format_has_no_place_for_is_told(request_: r.ChatRequest, lost: list[str]) -> None:
    losses = encoded(request_)[1]
    assert [*losses.fatal, *losses.hints] == lost


def test_cache_marks_and_names_are_hints() -> None:
    request = r.ChatRequest(model="m", messages=(r.Message(role="user", name="n", parts=(r.TextPart(text="x", cache_control=Raw(b"{}")),)),))
    losses = encoded(request)[1]
    assert losses.fatal == [] and losses.hints == ["messages.name", "messages.cache_control"]


@pytest.mark.parametrize(
    ("reasoning", "told"),
    [
        (r.Reasoning(effort="high"), {"effort": "high", "summary": "auto"}),
        (r.Reasoning(effort="none"), None),
        (r.Reasoning(), {"summary": "auto"}),
    ],
    ids=["effort", "off", "on"],
)
def test_reasoning_asked_for_by_an_anthropic_client_is_shown_as_a_summary(reasoning: r.Reasoning, told: Any) -> None:
    assert encoded(chat(dialect="anthropic_messages", reasoning=reasoning))[0].get("reasoning") == told


def test_a_provider_s_other_names_are_used() -> None:
    assert encoded(chat(user="u"), renames={"user": "safety_identifier"})[0]["safety_identifier"] == "u"


def test_what_only_openai_knows_goes_back_to_it_as_it_came() -> None:
    items = [
        {"type": "local_shell_call", "id": "s", "call_id": "s1", "action": {"command": ["ls"]}, "status": "completed"},
        {"type": "custom_tool_call", "call_id": "c", "name": "apply_patch", "input": "***"},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "done"},
        {"type": "function_call", "call_id": "d", "name": "f", "arguments": "{}", "namespace": "ns"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit"}}]},
    ]
    tools = [{"type": "namespace", "name": "ns", "tools": []}, {"type": "custom", "name": "apply_patch"}, {"type": "web_search"}]
    request = decoded(items, tools=tools, tool_choice={"type": "allowed_tools", "tools": []}, store=False, client_metadata={"a": 1}, zzz=[1])
    body, losses = encoded(request)
    assert body["input"] == items and body["tools"] == tools and losses.fatal == losses.hints == []
    assert body["tool_choice"] == {"type": "allowed_tools", "tools": []} and body["zzz"] == [1] and body["store"] is False
    assert body["client_metadata"] == {"a": 1}


def test_the_phases_of_what_the_model_said_stay_apart_at_openai_and_are_a_hint_elsewhere() -> None:
    said = [("commentary", "I look"), ("final_answer", "It is"), ("final_answer", "so")]
    items = [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}], "phase": phase} for phase, text in said]
    request = decoded([*items, {"role": "user", "content": "?"}])
    body, losses = encoded(request)
    assert [(item.get("phase"), len(item["content"])) for item in body["input"]] == [("commentary", 1), ("final_answer", 2), (None, 1)]
    assert losses.fatal == losses.hints == []
    elsewhere = Losses()
    OPENAI_CHAT.encode_request(request, "m", Facts(), elsewhere)
    assert (elsewhere.fatal, elsewhere.hints) == ([], ["messages.phase"])


# --- conversations ---------------------------------------------------------------------------------------------------
def test_what_went_before_stands_in_front() -> None:
    first = input_items({"input": Raw(b'"Hi"')})
    answer = b'{"id":"resp_1","output":[{"type":"message","role":"assistant","content":[]}]}'
    later = b'{"model":"m","previous_response_id":"resp_1","input":[{"role":"user","content":"And?"}]}'
    body = with_history(later, json_of(first), answer, signed=True)
    assert json.loads(body) == {
        "model": "m",
        "input": [
            {"type": "message", "role": "user", "content": "Hi"},
            {"type": "message", "role": "assistant", "content": []},
            {"role": "user", "content": "And?"},
        ],
    }


def json_of(items: list[Raw]) -> bytes:
    return b"[" + b",".join(bytes(item) for item in items) + b"]"
