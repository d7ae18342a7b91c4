"""What only Gemini knows (a made image, code that it ran) reaches clients of every dialect, and their SDKs still read the answer."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from anthropic import AsyncAnthropic

from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Exchange, Upstream

CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  google: {{kind: gemini, base_url: "{url}", api_key: k}}
models:
  google: {{targets: [{{provider: google, model: gemini-3-pro}}]}}
teams:
  search: {{keys: [{key}]}}
"""
CODE = {"language": "PYTHON", "code": "print(1)"}
IMAGE = {"mimeType": "image/png", "data": "aGk="}
USAGE = {"promptTokenCount": 3, "candidatesTokenCount": 9, "totalTokenCount": 12}
WANTED = [("gemini", "executable_code", CODE), ("gemini", "inline_data", IMAGE)]
ASKED: list[Any] = [{"role": "user", "content": "Draw."}]


def candidate(*parts: Any, **more: Any) -> dict[str, Any]:
    return {"candidates": [{"index": 0, "content": {"role": "model", "parts": list(parts)}, **more}], "usageMetadata": USAGE}


async def draws(x: Exchange) -> None:
    code, text, image = {"executableCode": CODE}, {"text": "Here:"}, {"inlineData": IMAGE}
    if ":streamGenerateContent" not in x.seen.head[":path"]:
        await x.respond(200, json.dumps(candidate(code, text, image, finishReason="STOP"), indent=1).encode())
        return
    await x.start_stream()
    for part in (code, text, image):
        await x.event(candidate(part))
    await x.event(candidate(finishReason="STOP"))
    await x.end_stream()


@pytest.fixture
async def gateway(one: Upstream, tmp_path: Path) -> AsyncIterator[Gateway]:
    one.plays[""] = draws
    async with running(CONFIG.format(folder=tmp_path, url=one.base_url, key=KEY), tmp_path) as gateway:
        yield gateway


@pytest.fixture
async def claude(gateway: Gateway) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(base_url=gateway.url, api_key=KEY, max_retries=0, timeout=60) as client:
        yield client


def told(found: Any) -> list[tuple[str, str, Any]]:
    return [(each["maker"], each["kind"], each["raw"]) for each in found]


async def test_a_chat_client_finds_it_on_the_message(gateway: Gateway) -> None:
    answer = await gateway.sdk.chat.completions.create(model="google", messages=ASKED)
    message: Any = answer.choices[0].message
    assert (message.content, told(message.native_output)) == ("Here:", WANTED)


async def test_a_chat_client_finds_it_in_the_deltas_of_a_stream(gateway: Gateway) -> None:
    found, text = [], ""
    async for chunk in await gateway.sdk.chat.completions.create(model="google", messages=ASKED, stream=True):
        for choice in chunk.choices:
            found += told(getattr(choice.delta, "native_output", ()))
            text += choice.delta.content or ""
    assert (text, found) == ("Here:", WANTED)


async def test_a_messages_client_finds_it_on_the_message(claude: AsyncAnthropic) -> None:
    message: Any = await claude.messages.create(model="google", messages=ASKED, max_tokens=50)
    assert ([block.text for block in message.content], told(message.native_output)) == (["Here:"], WANTED)


async def test_a_messages_client_finds_it_in_the_delta_that_ends_a_stream(claude: AsyncAnthropic) -> None:
    ends: list[Any] = []
    async with claude.messages.stream(model="google", messages=ASKED, max_tokens=50) as stream:
        async for event in stream:
            ends += [event] if event.type == "message_delta" else []
        assert await stream.get_final_text() == "Here:"
    assert [told(end.native_output) for end in ends] == [WANTED]


async def test_a_responses_client_finds_it_on_the_response(gateway: Gateway) -> None:
    response: Any = await gateway.sdk.responses.create(model="google", input="Draw.")
    assert (response.output_text, told(response.native_output)) == ("Here:", WANTED)


async def test_a_responses_client_finds_it_in_the_last_event_of_a_stream(gateway: Gateway) -> None:
    last: Any = None
    async for event in await gateway.sdk.responses.create(model="google", input="Draw.", stream=True):
        last = event
    assert (last.type, told(last.response.native_output)) == ("response.completed", WANTED)


async def test_a_completions_client_finds_it_streamed_and_whole(gateway: Gateway) -> None:
    whole: Any = await gateway.sdk.completions.create(model="google", prompt="Draw.")
    assert (whole.choices[0].text, told(whole.native_output)) == ("Here:", WANTED)
    chunks = [chunk async for chunk in await gateway.sdk.completions.create(model="google", prompt="Draw.", stream=True)]
    assert [each for chunk in chunks for each in told(getattr(chunk, "native_output", ()))] == WANTED
