"""Anthropic's messages through the gateway, by the official SDK, to a provider that speaks them: bytes pass."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic

from tests.gateway import anthropic_upstream as up
from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Exchange, Upstream

CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  native: {{kind: anthropic, base_url: "{one}", api_key: sk-upstream-native}}
models:
  claude: {{policy: plain, targets: [{{provider: native, model: claude-up}}]}}
  other: {{policy: plain, targets: [{{provider: native, model: claude-other}}]}}
policies:
  plain: {{retry: {{max_attempts: 1}}}}
teams:
  search: {{keys: [{key}]}}
"""
ASKED: list[Any] = [{"role": "user", "content": "Hello?"}]
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@pytest.fixture
async def gateway(one: Upstream, tmp_path: Path) -> AsyncIterator[Gateway]:
    one.plays["claude-up"] = up.says(up.text("Hello there"))
    async with running(CONFIG.format(folder=tmp_path, one=one.base_url, key=KEY), tmp_path) as gateway:
        yield gateway


@pytest.fixture
async def sdk(gateway: Gateway) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(base_url=gateway.url, api_key=KEY, max_retries=0, timeout=30) as client:
        yield client


async def test_a_message_is_made_and_its_request_goes_by_as_it_came(sdk: AsyncAnthropic, one: Upstream) -> None:
    system: list[Any] = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    asked: list[Any] = [{"role": "user", "content": [image, {"type": "text", "text": "What is it?", "cache_control": {"type": "ephemeral"}}]}]
    told = await sdk.messages.create(
        model="claude", max_tokens=9, messages=asked, system=system, metadata={"user_id": "u"}, extra_body={"top_k": 3, "not_yet_known": [1]}
    )
    assert told.content[0].text == "Hello there" and told.id == "msg_up"  # type: ignore[union-attr]
    assert (told.usage.input_tokens, told.usage.cache_read_input_tokens, told.usage.output_tokens) == (20, 8, 5)
    assert one.journal[0].body == {
        "model": "claude-up",
        "max_tokens": 9,
        "messages": asked,
        "system": system,
        "top_k": 3,
        "metadata": {"user_id": "u"},
        "not_yet_known": [1],
    }


async def test_a_system_prompt_as_plain_text_goes_by(sdk: AsyncAnthropic, one: Upstream) -> None:
    await sdk.messages.create(model="claude", max_tokens=9, messages=ASKED, system="Be brief.")
    assert one.journal[0].body["system"] == "Be brief."


async def test_the_blocking_sdk_makes_a_message_and_streams_one(gateway: Gateway) -> None:
    def ask() -> tuple[str, str]:
        with Anthropic(base_url=gateway.url, api_key=KEY, max_retries=0, timeout=30) as client:
            told = client.messages.create(model="claude", max_tokens=9, messages=ASKED)
            with client.messages.stream(model="claude", max_tokens=9, messages=ASKED) as stream:
                return told.content[0].text, "".join(stream.text_stream)  # type: ignore[union-attr]

    assert await asyncio.to_thread(ask) == ("Hello there", "Hello there")


async def test_a_stream_goes_by_byte_for_byte_with_its_pings(gateway: Gateway) -> None:
    answer = await gateway.post({"model": "claude", "max_tokens": 9, "stream": True, "messages": ASKED}, path="/v1/messages")
    assert answer.content == up.bytes_of(up.events_of(up.message(up.text("Hello there"))))
    assert answer.headers["content-type"].startswith("text/event-stream")


async def test_the_stream_helper_puts_the_message_together(sdk: AsyncAnthropic) -> None:
    async with sdk.messages.stream(model="claude", max_tokens=9, messages=ASKED) as stream:
        seen = [event.type async for event in stream]
        final = await stream.get_final_message()
    assert final.content[0].text == "Hello there" and final.stop_reason == "end_turn" and final.usage.output_tokens == 5  # type: ignore[union-attr]
    assert seen[0] == "message_start" and seen[-1] == "message_stop"


async def test_our_key_goes_upstream_and_the_client_s_does_not(sdk: AsyncAnthropic, one: Upstream) -> None:
    await sdk.messages.create(model="claude", max_tokens=9, messages=ASKED)
    assert one.journal[0].head["x-api-key"] == "sk-upstream-native" and KEY not in str(one.journal[0].head)
    assert "authorization" not in one.journal[0].head


async def test_a_key_may_come_as_a_bearer_token(gateway: Gateway) -> None:
    async with AsyncAnthropic(base_url=gateway.url, auth_token=KEY, api_key=None, max_retries=0, timeout=30) as client:
        assert (await client.messages.create(model="claude", max_tokens=9, messages=ASKED)).id == "msg_up"


async def test_betas_are_passed_on(sdk: AsyncAnthropic, one: Upstream) -> None:
    told = await sdk.beta.messages.create(model="claude", max_tokens=9, messages=ASKED, betas=["files-api-2025-04-14", "new-2027-01-01"])
    assert told.id == "msg_up"
    assert one.journal[0].head["anthropic-beta"] == "files-api-2025-04-14,new-2027-01-01"
    assert one.journal[0].head["anthropic-version"] == sdk.default_headers["anthropic-version"] and "betas" not in one.journal[0].body


async def test_parallel_calls_and_one_without_input_come_whole_and_streamed(sdk: AsyncAnthropic, one: Upstream) -> None:
    one.plays["claude-up"] = up.says(
        up.text("Let me see"), up.call("toolu_a", "weather", {"city": "Brescia"}), up.call("toolu_b", "clock", {}), stop="tool_use"
    )
    tools: list[Any] = [{"name": name, "input_schema": {"type": "object"}} for name in ("weather", "clock")]
    whole = await sdk.messages.create(model="claude", max_tokens=9, messages=ASKED, tools=tools)
    async with sdk.messages.stream(model="claude", max_tokens=9, messages=ASKED, tools=tools) as stream:
        final = await stream.get_final_message()
    for told in (whole, final):
        calls = [(block.id, block.name, block.input) for block in told.content if block.type == "tool_use"]
        assert calls == [("toolu_a", "weather", {"city": "Brescia"}), ("toolu_b", "clock", {})] and told.stop_reason == "tool_use"


async def test_signed_thinking_comes_and_goes_back_unchanged(sdk: AsyncAnthropic, one: Upstream) -> None:
    one.plays["claude-up"] = up.says(up.thinking("Hm."), up.call("toolu_a", "f", {}), stop="tool_use")
    async with sdk.messages.stream(model="claude", max_tokens=2000, thinking={"type": "enabled", "budget_tokens": 1024}, messages=ASKED) as stream:
        first = await stream.get_final_message()
    back = [block.model_dump(exclude_none=True, exclude={"parsed_output"}) for block in first.content]
    result = {"type": "tool_result", "tool_use_id": "toolu_a", "content": "42"}
    history: list[Any] = [*ASKED, {"role": "assistant", "content": back}, {"role": "user", "content": [result]}]
    await sdk.messages.create(model="claude", max_tokens=2000, thinking={"type": "enabled", "budget_tokens": 1024}, messages=history)
    assert back[0] == up.thinking("Hm.")
    assert one.journal[1].body["messages"] == history


async def test_the_stop_sequence_that_matched_is_told(sdk: AsyncAnthropic, one: Upstream) -> None:
    one.plays["claude-up"] = up.says(up.text("Hello"), stop="stop_sequence", sequence="END")
    told = await sdk.messages.create(model="claude", max_tokens=9, messages=ASKED, stop_sequences=["END"])
    assert (told.stop_reason, told.stop_sequence) == ("stop_sequence", "END")


async def test_tokens_are_counted_by_the_provider(sdk: AsyncAnthropic, one: Upstream) -> None:
    counted = await sdk.messages.count_tokens(model="claude", messages=ASKED, system="Be brief.")
    assert counted.input_tokens == 2095
    assert one.journal[0].head[":path"] == "/v1/messages/count_tokens"
    assert one.journal[0].body == {"model": "claude-up", "messages": ASKED, "system": "Be brief."}


async def test_the_ledger_has_anthropic_s_classes_of_tokens(gateway: Gateway) -> None:
    await gateway.post({"model": "claude", "max_tokens": 9, "stream": True, "messages": ASKED}, path="/v1/messages")
    (row,) = await gateway.all_rows()
    usage = row.usage
    assert (usage.input_uncached, usage.cache_read, usage.cache_write_5m, usage.output_visible) == (20, 8, 4, 5)


@pytest.mark.parametrize(
    ("status", "kind", "raised", "shown"),
    [
        (400, "invalid_request_error", anthropic.BadRequestError, "invalid_request_error"),
        (401, "authentication_error", anthropic.InternalServerError, "api_error"),
        (402, "billing_error", anthropic.RateLimitError, "rate_limit_error"),
        (404, "not_found_error", anthropic.NotFoundError, "not_found_error"),
        (413, "request_too_large", anthropic.BadRequestError, "invalid_request_error"),
        (429, "rate_limit_error", anthropic.RateLimitError, "rate_limit_error"),
        (500, "api_error", anthropic.InternalServerError, "api_error"),
        (529, "overloaded_error", anthropic.InternalServerError, "overloaded_error"),
    ],
)
async def test_an_upstream_s_error_raises_the_sdk_s_class_without_its_text(
    sdk: AsyncAnthropic, one: Upstream, status: int, kind: str, raised: type[anthropic.APIStatusError], shown: str
) -> None:
    one.plays["claude-up"] = up.error(status, kind, retry_after="7")
    with pytest.raises(raised) as caught:
        await sdk.messages.create(model="claude", max_tokens=9, messages=ASKED)
    body: Any = caught.value.body
    assert body["type"] == "error" and body["error"]["type"] == shown and body["request_id"] == caught.value.response.headers["x-request-id"]
    assert "CANARY" not in caught.value.response.text
    if status == 429:
        assert caught.value.response.headers["retry-after"] == "7"


async def test_our_own_refusals_raise_the_sdk_s_classes(gateway: Gateway, sdk: AsyncAnthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as unknown:
        await sdk.messages.create(model="nobody", max_tokens=9, messages=ASKED)
    with pytest.raises(anthropic.AuthenticationError) as keyless:
        await sdk.with_options(api_key="sk-wrong").messages.create(model="claude", max_tokens=9, messages=ASKED)
    with pytest.raises(anthropic.BadRequestError) as wrong:
        await sdk.messages.create(model="claude", max_tokens="many", messages=ASKED)  # type: ignore[call-overload]
    types = [error.value.body["error"]["type"] for error in (unknown, keyless, wrong)]  # type: ignore[index]
    assert types == ["not_found_error", "authentication_error", "invalid_request_error"]


async def test_an_error_event_in_the_stream_is_raised_and_no_end_follows(gateway: Gateway, sdk: AsyncAnthropic, one: Upstream) -> None:
    events = up.events_of(up.message(up.text("Hello there")))[:5]
    broken = {"type": "error", "error": {"type": "overloaded_error", "message": "CANARY"}}
    read = asyncio.Event()

    async def play(x: Exchange) -> None:
        await x.start_stream()
        await x.raw_chunk(up.bytes_of(events))
        await read.wait()
        await x.raw_chunk(up.bytes_of([broken]))
        await x.end_stream()

    one.plays["claude-up"] = play
    seen: list[str] = []
    with pytest.raises(anthropic.APIStatusError) as caught:
        async for event in await sdk.messages.create(model="claude", max_tokens=9, messages=ASKED, stream=True):
            seen.append(event.type)
            read.set()
    assert "content_block_delta" in seen and "message_stop" not in seen
    assert caught.value.body["error"]["type"] == "overloaded_error" and "CANARY" not in str(caught.value)  # type: ignore[index]


async def test_a_stream_that_is_cut_ends_in_an_error_event(sdk: AsyncAnthropic, one: Upstream) -> None:
    one.plays["claude-up"] = up.streams(*up.events_of(up.message(up.text("Hello there")))[:-2])
    with pytest.raises(anthropic.APIStatusError) as caught:
        async with sdk.messages.stream(model="claude", max_tokens=9, messages=ASKED) as stream:
            await stream.get_final_message()
    assert caught.value.body["error"]["code"] == "upstream_stream_truncated"  # type: ignore[index]


async def test_a_stream_that_has_told_why_it_ended_is_whole_without_its_last_event(sdk: AsyncAnthropic, one: Upstream) -> None:
    one.plays["claude-up"] = up.streams(*up.events_of(up.message(up.text("Hello there")))[:-1])
    async with sdk.messages.stream(model="claude", max_tokens=9, messages=ASKED) as stream:
        message = await stream.get_final_message()
    assert (message.content[0].text, message.stop_reason) == ("Hello there", "end_turn")  # type: ignore[union-attr]


async def test_models_are_listed_and_found_in_anthropic_s_shape(sdk: AsyncAnthropic) -> None:
    first = await sdk.models.list(limit=1)
    assert [model.id for model in first.data] == ["claude"] and first.has_more and first.last_id == "claude"
    assert [model.id async for model in sdk.models.list(limit=1)] == ["claude", "other"]
    assert (await sdk.models.retrieve("other")).type == "model"
    with pytest.raises(anthropic.NotFoundError):
        await sdk.models.retrieve("nobody")


async def test_models_hold_every_member_that_the_strict_sdk_asks_for(one: Upstream, gateway: Gateway) -> None:
    async with AsyncAnthropic(base_url=gateway.url, api_key=KEY, max_retries=0, _strict_response_validation=True) as strict:
        (model, *_) = (await strict.models.list()).data
    assert (model.id, model.lifecycle, model.max_tokens) == ("claude", "active", None)
