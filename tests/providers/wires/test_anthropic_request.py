"""Anthropic's requests: read part by part, their own dialect's unharmed, our seals put back where they belong."""

import json
from base64 import b64encode
from typing import Any

import pytest
from msgspec import Raw

from contract import requests as r
from contract.errors import InvalidRequest
from providers.wires.anthropic_messages import ANTHROPIC_MESSAGES
from providers.wires.facts import Facts
from providers.wires.losses import Losses
from providers.wires.seal import Seal, seal

Json = dict[str, Any]
HELLO: Json = {"role": "user", "content": "Hello?"}
MARK: Json = {"type": "ephemeral", "ttl": "1h"}


def decode(**fields: Any) -> r.ChatRequest:
    return ANTHROPIC_MESSAGES.decode_request(json.dumps({"model": "claude-x", "max_tokens": 9, "messages": [HELLO], **fields}).encode())


def parts(*blocks: Json, role: str = "user") -> tuple[r.Part, ...]:
    return decode(messages=[{"role": role, "content": list(blocks)}]).messages[0].parts


def test_a_system_prompt_is_the_first_message_whether_text_or_blocks() -> None:
    wanted = r.Message(role="system", parts=(r.TextPart(text="Be brief."),))
    assert decode(system="Be brief.").messages[0] == decode(system=[{"type": "text", "text": "Be brief."}]).messages[0] == wanted
    assert decode(system="").messages[0].parts == (r.TextPart(text=""),) and len(decode(system=[]).messages) == 1


@pytest.mark.parametrize(
    ("block", "part"),
    [
        ({"type": "text", "text": "a"}, r.TextPart(text="a")),
        ({"type": "text", "text": "a", "cache_control": None}, r.TextPart(text="a")),
        ({"type": "image", "source": {"type": "url", "url": "https://a/b.png"}}, r.ImagePart(url="https://a/b.png")),
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QQ=="}},
            r.ImagePart(data="QQ==", media_type="image/png"),
        ),
        ({"type": "document", "source": {"type": "file", "file_id": "file_1"}, "title": "T"}, r.FilePart(file_id="file_1", filename="T")),
        (
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "é"}},
            r.FilePart(data=b64encode("é".encode()).decode(), media_type="text/plain"),
        ),
        ({"type": "tool_use", "id": "i", "name": "f", "input": {"a": 1}}, r.ToolCallPart(id="i", name="f", arguments='{"a": 1}')),
        ({"type": "tool_use", "id": "i", "name": "f", "input": {}, "caller": {"type": "direct"}}, r.ToolCallPart(id="i", name="f", arguments="{}")),
        ({"type": "tool_result", "tool_use_id": "i"}, r.ToolResultPart(tool_call_id="i", content=())),
        (
            {"type": "tool_result", "tool_use_id": "i", "content": "x", "is_error": True},
            r.ToolResultPart(tool_call_id="i", content=(r.TextPart(text="x"),), is_error=True),
        ),
        ({"type": "thinking", "thinking": "h", "signature": "RXJ1"}, r.ReasoningPart(text="h", signature="RXJ1")),
        ({"type": "thinking", "thinking": "h", "signature": ""}, r.ReasoningPart(text="h")),
        ({"type": "redacted_thinking", "data": "ZA"}, r.ReasoningPart(signature="ZA", redacted=True)),
    ],
)
def test_a_block_is_a_part(block: Json, part: r.Part) -> None:
    assert parts(block) == (part,)


def test_a_cache_mark_is_kept_as_it_came() -> None:
    (part,) = parts({"type": "text", "text": "a", "cache_control": MARK})
    assert json.loads(bytes(part.cache_control)) == MARK


@pytest.mark.parametrize("kind", ["server_tool_use", "web_search_tool_result", "container_upload", "compaction", "from_tomorrow"])
def test_a_block_of_a_kind_that_only_anthropic_has_is_kept_whole(kind: str) -> None:
    (part,) = parts({"type": kind, "x": [1]})
    assert isinstance(part, r.NativePart) and part.type == kind and json.loads(bytes(part.raw)) == {"type": kind, "x": [1]}


@pytest.mark.parametrize(
    ("given", "reasoning"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, r.Reasoning(budget_tokens=2048)),
        ({"thinking": {"type": "disabled"}}, r.Reasoning(effort="none")),
        ({"thinking": {"type": "adaptive"}}, r.Reasoning()),
        ({"thinking": {"type": "adaptive", "display": "summarized"}}, r.Reasoning(summary="auto")),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, r.Reasoning(effort="low", asked=True)),
        ({"output_config": {"effort": "max"}}, r.Reasoning(effort="max")),
        ({}, None),
    ],
)
def test_how_to_think_is_read(given: Json, reasoning: r.Reasoning | None) -> None:
    assert decode(**given).reasoning == reasoning


@pytest.mark.parametrize(
    ("given", "choice", "parallel"),
    [
        ({"type": "auto"}, r.ToolChoice(mode="auto"), None),
        ({"type": "any", "disable_parallel_tool_use": True}, r.ToolChoice(mode="required"), False),
        ({"type": "tool", "name": "f", "disable_parallel_tool_use": False}, r.ToolChoice(mode="named", name="f"), True),
        ({"type": "none"}, r.ToolChoice(mode="none"), None),
    ],
)
def test_what_must_be_called_is_read(given: Json, choice: r.ToolChoice, parallel: bool | None) -> None:
    request = decode(tool_choice=given)
    assert (request.tool_choice, request.parallel_tool_calls) == (choice, parallel)


def test_tools_of_the_client_s_own_and_of_anthropic_s_are_told_apart() -> None:
    own, native = decode(tools=[{"name": "f", "description": "d", "input_schema": {}}, {"type": "web_search_20250305", "name": "web_search"}]).tools
    assert own == r.FunctionTool(name="f", description="d", parameters=Raw(b"{}"))
    assert isinstance(native, r.NativeTool) and native.type == "web_search_20250305"


def test_the_form_of_the_answer_is_read() -> None:
    wanted = decode(output_config={"format": {"type": "json_schema", "schema": {"type": "object"}}}).response_format
    assert isinstance(wanted, r.JsonSchemaFormat) and json.loads(bytes(wanted.schema)) == {"type": "object"}


def test_the_rest_is_read() -> None:
    request = decode(temperature=0.5, top_p=0.9, top_k=4, stop_sequences=["END"], metadata={"user_id": "u"}, stream=True, service_tier="auto")
    assert request.sampling == r.Sampling(temperature=0.5, top_p=0.9, top_k=4) and request.stop == ("END",) and request.user == "u"
    assert request.max_output_tokens == 9 and request.stream and request.include_usage and request.extra == {"service_tier": Raw(b'"auto"')}
    assert request.dialect == "anthropic_messages"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": 5}, "model"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"messages": {}}, "messages"),
        ({"messages": [HELLO, 5]}, "messages[1]"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url"}}]}]}, "messages[0].content[0].source.url"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "content": "x"}]}]}, "messages[0].content[0].tool_use_id"),
        ({"system": 5}, "system"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"thinking": {"budget_tokens": 5}}, "thinking.type"),
        ({"stop_sequences": "END"}, "stop_sequences"),
        ({"temperature": "hot"}, "temperature"),
        ({"metadata": 5}, "metadata"),
    ],
)
def test_a_field_that_is_wrong_is_named_by_its_path(fields: Json, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"5", b'{"model":"\xff"}'])
def test_what_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        ANTHROPIC_MESSAGES.decode_request(body)


RESULT: Json = {"type": "tool_result", "tool_use_id": "i", "content": [{"type": "text", "text": "a"}, {"type": "tool_reference", "tool_name": "t"}]}
CITED: Json = {"type": "text", "text": "a", "citations": [{"type": "char_location", "cited_text": "c", "document_index": 0}]}
OWN: dict[str, Json] = {
    "system blocks": {"system": [{"type": "text", "text": "a", "cache_control": MARK}, {"type": "text", "text": "b"}]},
    "a later system message": {"messages": [HELLO, {"role": "system", "content": [{"type": "text", "text": "s"}]}, HELLO]},
    "two messages of a role": {"messages": [HELLO, HELLO]},
    "prefill": {"messages": [HELLO, {"role": "assistant", "content": [{"type": "text", "text": "So "}]}]},
    "thinking": {"thinking": {"type": "enabled", "budget_tokens": 2048}},
    "thinking, adaptive": {"thinking": {"type": "adaptive", "display": "omitted"}},
    "thinking of tomorrow": {"thinking": {"type": "dreaming", "depth": 3}},
    "no thinking, an effort": {"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}},
    "thinking and an effort": {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
    "output": {"output_config": {"effort": "high", "format": {"type": "json_schema", "schema": {"type": "object"}}, "task_budget": {"total": 5}}},
    "tools": {"tools": [{"name": "f", "input_schema": {"type": "object"}, "cache_control": MARK, "defer_loading": True, "strict": True}]},
    "native tools": {"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 5}], "tool_choice": {"type": "auto"}},
    "one call at a time": {"tools": [{"name": "f", "input_schema": {}}], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
    "a result with more than text": {"messages": [{"role": "user", "content": [RESULT]}]},
    "citations": {"messages": [{"role": "assistant", "content": [CITED]}, HELLO]},
    "a document": {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "content", "content": []}, "context": "c"}]}]},
    "a caller": {
        "messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "i", "name": "f", "input": {"a": 1}, "caller": {"type": "code"}}]}]
    },
    "fields of tomorrow": {"container": "c", "mcp_servers": [], "new": {"x": 1}, "metadata": {"user_id": "u", "more": 1}},
}


def plain(value: Any) -> Any:
    """One text and an array of it mean the same."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {name: plain(member) for name, member in value.items()}
    if "role" in found and isinstance(found["content"], str):
        found["content"] = [{"type": "text", "text": found["content"]}]
    return found


@pytest.mark.parametrize("fields", OWN.values(), ids=OWN.keys())
def test_a_request_for_anthropic_comes_to_anthropic_as_it_was(fields: Json) -> None:
    body = {"model": "claude-x", "max_tokens": 9, "messages": [HELLO], **fields}
    losses = Losses()
    request = ANTHROPIC_MESSAGES.decode_request(json.dumps(body).encode())
    again = json.loads(ANTHROPIC_MESSAGES.encode_request(request, "claude-x", Facts(files=True, prefill=True), losses))
    assert plain(again) == plain(body)
    assert losses.fatal == losses.hints == []


def sealed(signature: str = "", *, maker: str = "openai_responses", call_id: str | None = None) -> str:
    return seal(Seal("p/m", maker, signature, call_id=call_id, id="rs_1"))


def test_reasoning_that_we_sealed_is_its_maker_s_again() -> None:
    found = parts({"type": "thinking", "thinking": "h", "signature": sealed("enc")}, role="assistant")
    assert found == (r.ReasoningPart(text="h", signature="enc", id="rs_1", maker="openai_responses"),)


def test_reasoning_that_nobody_signed_has_no_signature_again() -> None:
    found = parts({"type": "thinking", "thinking": "h", "signature": sealed(maker="")}, role="assistant")
    assert found == (r.ReasoningPart(text="h", id="rs_1", maker=""),)


def test_a_call_s_sealed_signature_is_back_at_its_call() -> None:
    calls: list[Json] = [{"type": "tool_use", "id": name, "name": "f", "input": {}} for name in ("a", "b")]
    found = parts({"type": "redacted_thinking", "data": sealed("thought", maker="gemini", call_id="b")}, *calls, role="assistant")
    assert found == (
        r.ToolCallPart(id="a", name="f", arguments="{}"),
        r.ToolCallPart(id="b", name="f", arguments="{}", signature="thought", maker="gemini"),
    )


def test_a_citation_of_ours_is_taken_out_and_anthropic_s_own_stays() -> None:
    ours = {"type": "web_search_result_location", "url": "u", "encrypted_index": sealed()}
    (part,) = parts({"type": "text", "text": "a", "citations": [ours, CITED["citations"][0]]}, role="assistant")
    assert json.loads(bytes(part.extra["citations"])) == CITED["citations"]
    assert parts({"type": "text", "text": "a", "citations": [ours]}, role="assistant") == (r.TextPart(text="a"),)
