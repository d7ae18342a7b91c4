"""Cohere and Mistral behind the gateway, asked by the official SDKs of OpenAI and Anthropic over real sockets."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from anthropic import AsyncAnthropic

from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Exchange, Play, Upstream
from tests.providers.wires import test_cohere_response as co
from tests.providers.wires import test_mistral_response as mi

CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  cohere: {{kind: cohere, base_url: "{root}", api_key: co-key}}
  mistral: {{kind: mistral, base_url: "{one}", api_key: mi-key}}
models:
  cohere: {{targets: [{{provider: cohere, model: command-a}}]}}
  mistral: {{targets: [{{provider: mistral, model: magistral}}]}}
teams:
  search: {{keys: [{key}]}}
"""
ASK: Any = [{"role": "user", "content": "Hi"}]
TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]


def streaming(*pieces: bytes, whole: bool = True) -> Play:
    async def play(x: Exchange) -> None:
        await x.start_stream()
        for piece in pieces:
            await x.raw_chunk(piece)
        if whole:
            await x.end_stream()
        else:
            x.reset()

    return play


def answering(body: bytes) -> Play:
    async def play(x: Exchange) -> None:
        await x.respond(200, body)

    return play


@pytest.fixture
async def gateway(one: Upstream, tmp_path: Path) -> AsyncIterator[Gateway]:
    places = {"folder": tmp_path, "one": one.base_url, "root": one.base_url.removesuffix("/v1"), "key": KEY}
    async with running(CONFIG.format(**places), tmp_path) as gateway:
        yield gateway


@pytest.fixture
async def anthropic(gateway: Gateway) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(base_url=gateway.url, api_key=KEY, max_retries=0) as client:
        yield client


async def test_openai_s_client_streams_a_call_of_cohere_s(gateway: Gateway, one: Upstream) -> None:
    one.plays["command-a"] = streaming(*(co.sse(event) for event in co.CALLED))
    async with gateway.sdk.chat.completions.stream(model="cohere", messages=ASK, tools=TOOLS, stream_options={"include_usage": True}) as stream:
        answer = await stream.get_final_completion()
    choice = answer.choices[0]
    assert [(call.id, call.function.name, call.function.arguments) for call in choice.message.tool_calls or ()] == [
        ("weather_0", "weather", '{"city":"Rom"}'),
        ("weather_1", "clock", "{}"),
    ]
    assert choice.finish_reason == "tool_calls" and answer.usage is not None and answer.usage.prompt_tokens == 41
    [seen] = one.journal
    assert seen.head[":path"] == "/v2/chat" and seen.body["stream"] is True
    [row] = await gateway.all_rows()
    assert (row.status, row.usage.input_uncached, row.native_finish_reason, row.upstream_id) == ("ok", 41, "TOOL_CALL", "a1")


async def test_openai_s_client_sees_cohere_s_citations(gateway: Gateway, one: Upstream) -> None:
    one.plays["command-a"] = answering(co.answer("COMPLETE", co.WHOLE["text"]))
    answer = await gateway.sdk.chat.completions.create(model="cohere", messages=ASK)
    [annotation] = answer.choices[0].message.annotations or []
    assert (annotation.url_citation.url, annotation.url_citation.title, annotation.url_citation.end_index) == ("https://x", "X", 3)
    assert answer.choices[0].message.content == "Sun shïnes"


async def test_anthropic_s_client_streams_cohere_s_thinking(gateway: Gateway, one: Upstream, anthropic: AsyncAnthropic) -> None:
    one.plays["command-a"] = streaming(*(co.sse(event) for event in co.THOUGHT))
    async with anthropic.messages.stream(model="cohere", max_tokens=50, messages=ASK) as stream:
        message = await stream.get_final_message()
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert message.content[1].text == "42" and message.stop_reason == "end_turn"  # type: ignore[union-attr]
    assert message.usage.output_tokens == 25


@pytest.mark.parametrize("finish", ["ERROR", "TIMEOUT"])
async def test_a_failure_of_cohere_s_after_output_is_an_error_in_the_stream(gateway: Gateway, one: Upstream, finish: str) -> None:
    one.plays["command-a"] = streaming(co.sse(co.start(), co.text(0, "Sun")), co.sse(co.end(finish)))
    seen = []
    with pytest.raises(openai.APIError):
        async for chunk in await gateway.sdk.chat.completions.create(model="cohere", messages=ASK, stream=True):
            seen.append(chunk.choices[0].delta.content)
    assert "".join(filter(None, seen)) == "Sun"


@pytest.mark.parametrize("model", ["cohere", "mistral"])
async def test_a_stream_that_is_cut_is_never_whole(gateway: Gateway, one: Upstream, model: str) -> None:
    one.plays |= {
        "command-a": streaming(co.sse(co.start(), co.text(0, "Sun")), whole=False),
        "magistral": streaming(mi.chunk([mi.thinking("Hm")]), mi.chunk("Sun"), whole=False),
    }
    answer = await gateway.post({"model": model, "messages": ASK, "stream": True})
    assert b"[DONE]" not in answer.content and b'"error"' in answer.content and b"Sun" in answer.content
    [row] = await gateway.all_rows()
    assert row.status != "ok" and row.usage is not None and row.usage.source == "estimated"


async def test_openai_s_client_streams_mistral_s_thinking_as_reasoning(gateway: Gateway, one: Upstream) -> None:
    one.plays["magistral"] = streaming(*mi.THOUGHT)
    text = reasoning = ""
    async for chunk in await gateway.sdk.chat.completions.create(model="mistral", messages=ASK, stream=True, stream_options={"include_usage": True}):
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reasoning += getattr(choice.delta, "reasoning_content", "") or ""
    assert (text, reasoning) == ("It is 42", "Hm, zwölf?")
    assert one.journal[0].body == {"model": "magistral", "messages": ASK, "stream": True}
    [row] = await gateway.all_rows()
    assert (row.status, row.usage.input_uncached, row.usage.cache_read, row.usage.output_visible) == ("ok", 32, 32, 6)


async def test_a_conversation_that_began_elsewhere_goes_on_at_mistral(gateway: Gateway, one: Upstream) -> None:
    one.plays["magistral"] = answering(mi.whole("Rain"))
    call: Any = {"id": "call_abcdefghijkl", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    history: Any = [*ASK, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": call["id"], "content": "rain"}, *ASK]
    answer = await gateway.sdk.chat.completions.create(model="mistral", messages=history, tools=TOOLS, user="u")
    assert answer.choices[0].message.content == "Rain"
    sent = one.journal[0].body["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "assistant", "user"]
    assert sent[1]["tool_calls"][0]["id"] == sent[2]["tool_call_id"] and len(sent[2]["tool_call_id"]) == 9


async def test_anthropic_s_client_gives_mistral_s_signature_back(gateway: Gateway, one: Upstream, anthropic: AsyncAnthropic) -> None:
    one.plays["magistral"] = [streaming(*mi.THOUGHT), answering(mi.whole("Yes"))]
    async with anthropic.messages.stream(model="mistral", max_tokens=50, messages=ASK) as stream:
        message = await stream.get_final_message()
    assert [block.type for block in message.content] == ["thinking", "text"]
    history: Any = [*ASK, {"role": "assistant", "content": message.content}, {"role": "user", "content": "Sure?"}]
    await anthropic.messages.create(model="mistral", max_tokens=50, messages=history)
    assert one.journal[1].body["messages"][1]["content"] == [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm, zwölf?"}], "signature": "sig"},
        {"type": "text", "text": "It is 42"},
    ]
