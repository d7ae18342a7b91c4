"""OpenAI's legacy completions through the gateway, by the official SDK: to a provider that has them, and to one that only chats."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.gateway import anthropic_upstream as up
from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Exchange, Play, Upstream, completion, status

CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  old: {{kind: openai-compatible, base_url: "{one}", api_key: sk-old}}
  chat: {{kind: openai-compatible, base_url: "{two}", api_key: sk-chat, dialects: [openai_chat]}}
  native: {{kind: anthropic, base_url: "{two}", api_key: sk-native}}
models:
  old: {{policy: plain, targets: [{{provider: old, model: old-up}}]}}
  chat: {{policy: plain, targets: [{{provider: chat, model: chat-up}}]}}
  lax: {{policy: lax, targets: [{{provider: chat, model: chat-up}}]}}
  claude: {{policy: plain, targets: [{{provider: native, model: claude-up}}]}}
policies:
  plain: {{retry: {{max_attempts: 1}}}}
  lax: {{drop_unsupported: true}}
teams:
  search: {{keys: [{key}]}}
"""
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
LOGPROBS = {"tokens": ["Hi"], "token_logprobs": [-0.5], "top_logprobs": [{"Hi": -0.5}], "text_offset": [0]}


@pytest.fixture
async def gateway(one: Upstream, two: Upstream, tmp_path: Path) -> AsyncIterator[Gateway]:
    one.plays["old-up"] = old()
    async with running(CONFIG.format(folder=tmp_path, one=one.base_url, two=two.base_url, key=KEY), tmp_path) as gateway:
        yield gateway


def text(said: str, index: int = 0, finish: str | None = None, logprobs: Any = None) -> dict[str, Any]:
    return {"text": said, "index": index, "logprobs": logprobs, "finish_reason": finish}


def body(*choices: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "cmpl-up", "object": "text_completion", "created": 1, "model": "old-up", "choices": list(choices), **more}


def old(*choices: dict[str, Any], done: bool = True) -> Play:
    """A provider of completions: whole or streamed as asked, usage where it is asked for."""
    given = choices or (text("Hi there", 0, "stop"),)

    async def play(x: Exchange) -> None:
        if not x.seen.body.get("stream"):
            await x.respond(200, json.dumps(body(*given, usage=USAGE)).encode())
            return
        await x.start_stream()
        for choice in given:
            await x.event(body({**choice, "finish_reason": None}))
        if done:
            for choice in given:
                await x.event(body({**choice, "text": "", "logprobs": None}))
            if (x.seen.body.get("stream_options") or {}).get("include_usage"):
                await x.event(body(usage=USAGE))
            await x.event("[DONE]")
        await x.end_stream()

    return play


async def test_every_field_goes_to_a_provider_that_has_completions_as_it_came(gateway: Gateway, one: Upstream) -> None:
    one.plays["old-up"] = old(*(text(f"Say hi{n}", n, "stop", LOGPROBS) for n in range(4)))
    asked: Any = {"prompt": ["Say hi", "Say ho"], "echo": True, "suffix": "!", "n": 2, "best_of": 3, "logprobs": 1, "stop": ["END"], "max_tokens": 5}
    told = await gateway.sdk.completions.create(model="old", **asked)
    assert [choice.text for choice in told.choices] == ["Say hi0", "Say hi1", "Say hi2", "Say hi3"]
    assert told.choices[0].logprobs is not None and told.choices[0].logprobs.token_logprobs == [-0.5]
    assert one.journal[0].body == {"model": "old-up", **asked} and one.journal[0].head[":path"] == "/v1/completions"


@pytest.mark.parametrize("prompt", [[1, 2, 3], [[1, 2], [3]], ""])
async def test_token_ids_and_an_empty_prompt_go_by(gateway: Gateway, one: Upstream, prompt: Any) -> None:
    await gateway.sdk.completions.create(model="old", prompt=prompt)
    assert one.journal[0].body["prompt"] == prompt


async def test_a_stream_of_two_prompts_is_whole_when_both_are(gateway: Gateway, one: Upstream) -> None:
    one.plays["old-up"] = old(text("Hi", 0, "stop"), text("Ho", 1, "length"))
    stream = await gateway.sdk.completions.create(model="old", prompt=["a", "b"], stream=True)
    chunks = [chunk async for chunk in stream]
    assert [(c.index, c.text, c.finish_reason) for chunk in chunks for c in chunk.choices] == [
        (0, "Hi", None),
        (1, "Ho", None),
        (0, "", "stop"),
        (1, "", "length"),
    ]
    assert all(chunk.usage is None for chunk in chunks)
    (row,) = await gateway.all_rows()
    assert row.usage.output_visible == 2 and row.usage.source == "provider"


async def test_usage_is_streamed_to_who_asked(gateway: Gateway) -> None:
    stream = await gateway.sdk.completions.create(model="old", prompt="a", stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].usage is not None and chunks[-1].usage.total_tokens == 5


async def test_a_stream_that_is_cut_ends_in_an_error(gateway: Gateway, one: Upstream) -> None:
    one.plays["old-up"] = old(done=False)
    stream = await gateway.sdk.completions.create(model="old", prompt="a", stream=True)
    with pytest.raises(openai.APIError) as caught:
        async for _ in stream:
            pass
    assert caught.value.code == "upstream_stream_truncated"


async def test_an_error_raises_the_sdk_s_class_without_the_upstream_s_text(gateway: Gateway, one: Upstream) -> None:
    one.plays["old-up"] = status(400)
    with pytest.raises(openai.BadRequestError) as caught:
        await gateway.sdk.completions.create(model="old", prompt="a")
    assert "CANARY" not in caught.value.response.text


async def test_a_chat_provider_is_asked_as_a_user(gateway: Gateway, two: Upstream) -> None:
    told = await gateway.sdk.completions.create(model="chat", prompt="Say hi", max_tokens=5, stop="END", n=1, temperature=0.5)
    assert told.choices[0].text == "Hello there" and told.object == "text_completion" and told.usage is not None
    sent = two.journal[0].body
    assert two.journal[0].head[":path"] == "/v1/chat/completions" and sent["messages"] == [{"role": "user", "content": "Say hi"}]
    assert sent["stop"] in ("END", ["END"]) and sent["temperature"] == 0.5


async def test_a_chat_provider_s_stream_comes_in_the_old_form(gateway: Gateway) -> None:
    stream = await gateway.sdk.completions.create(model="chat", prompt="Say hi", stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == "Hello there"
    assert chunks[-2].choices[0].finish_reason == "stop" and chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 5


async def test_a_chat_provider_s_log_probabilities_come_in_the_old_form(gateway: Gateway, two: Upstream) -> None:
    tokens = [{"token": "Hi", "logprob": -0.5, "bytes": None, "top_logprobs": [{"token": "Ho", "logprob": -1.5, "bytes": None}]}]
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop", "logprobs": {"content": tokens}}

    async def play(x: Exchange) -> None:
        await x.respond(200, json.dumps({**completion(), "choices": [choice]}).encode())

    two.plays["chat-up"] = play
    told = (await gateway.sdk.completions.create(model="chat", prompt="Say hi", logprobs=1)).choices[0].logprobs
    assert told is not None and (told.tokens, told.token_logprobs, told.top_logprobs) == (["Hi"], [-0.5], [{"Ho": -1.5}])
    assert (two.journal[0].body["logprobs"], two.journal[0].body["top_logprobs"]) == (True, 1)


async def test_another_format_s_provider_answers_too(gateway: Gateway, two: Upstream) -> None:
    two.plays["claude-up"] = up.says(up.text("Hi there"), stop="max_tokens")
    told = await gateway.sdk.completions.create(model="claude", prompt="Say hi")
    assert (told.choices[0].text, told.choices[0].finish_reason) == ("Hi there", "length") and two.journal[0].body["max_tokens"] == 16


@pytest.mark.parametrize(("name", "value"), [("echo", True), ("suffix", "!"), ("best_of", 2), ("prompt", ["a", "b"]), ("prompt", [1, 2])])
async def test_what_a_chat_provider_cannot_do_is_refused_by_name(gateway: Gateway, two: Upstream, name: str, value: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await gateway.sdk.completions.create(model="chat", **{"prompt": "Say hi", name: value})
    assert caught.value.param == name and not two.journal


async def test_it_is_dropped_and_named_where_the_policy_says_so(gateway: Gateway) -> None:
    answer = await gateway.sdk.completions.with_raw_response.create(model="lax", prompt="Say hi", echo=True, suffix="!")
    assert answer.headers["x-turnout-dropped"] == "suffix, echo" and answer.parse().choices[0].text == "Hello there"
