"""A model that sees, though with random weights: an image in each dialect's words makes the prompt longer by its tokens, and another answer."""

import base64
import io
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from struct import pack
from typing import Any

import pytest
import pytest_asyncio
from anthropic import AsyncAnthropic

from tests.gateway.conftest import KEY, Gateway, running
from tests.vllm.conftest import HOME, PATIENCE_S, PYTHON, engine_of

pytestmark = [pytest.mark.vllm, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]
ASKED, MOST = "What is this?", 8
IMAGE_TOKENS = 16 + 3 + 1  # what it sees, the three around it, and the end of the line
CONFIG = f"""
state: {{{{database: "sqlite:///{{folder}}/turnout.db"}}}}
engines:
  own: {{{{kind: vllm, python: "{PYTHON}", model: "{HOME}/model/seer", slots: 2, context: 512, max_wait_s: 60, dtype: bfloat16,
         args: [--enforce-eager]}}}}
models: {{{{seer: {{{{targets: [{{{{engine: own}}}}]}}}}}}}}
teams: {{{{search: {{{{keys: [{KEY}]}}}}}}}}
"""


class Seer:
    """One question in a dialect's words, about an image or none: the prompt's tokens and the answer."""

    def __init__(self, gateway: Gateway, anthropic: AsyncAnthropic) -> None:
        self._openai = gateway.sdk.with_options(timeout=PATIENCE_S)
        self.anthropic = anthropic

    async def ask(self, dialect: str, image: str | None) -> tuple[int, str]:
        told: tuple[int, str] = await getattr(self, f"_{dialect}")(image)
        return told

    async def _chat(self, image: str | None) -> tuple[int, str]:
        content: list[Any] = [{"type": "text", "text": ASKED}]
        if image is not None:
            content.append({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}})
        answer = await self._openai.chat.completions.create(
            model="seer", messages=[{"role": "user", "content": content}], max_tokens=MOST, temperature=0
        )
        assert answer.usage is not None
        return answer.usage.prompt_tokens, answer.choices[0].message.content or ""

    async def _responses(self, image: str | None) -> tuple[int, str]:
        content: list[Any] = [{"type": "input_text", "text": ASKED}]
        if image is not None:
            content.append({"type": "input_image", "image_url": f"data:image/png;base64,{image}", "detail": "auto"})
        answer = await self._openai.responses.create(
            model="seer", input=[{"role": "user", "content": content}], max_output_tokens=MOST, temperature=0
        )
        assert answer.usage is not None
        return answer.usage.input_tokens, answer.output_text

    async def _messages(self, image: str | None) -> tuple[int, str]:
        answer = await self.anthropic.messages.create(model="seer", messages=question(image), max_tokens=MOST, extra_body={"temperature": 0})
        return answer.usage.input_tokens, getattr(answer.content[0], "text", "")


def question(image: str | None) -> list[Any]:
    content: list[Any] = [{"type": "text", "text": ASKED}]
    if image is not None:
        content.append({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": image}})
    return [{"role": "user", "content": content}]


def png(red: int, green: int, blue: int, edge: int = 8) -> str:
    """A square of one colour, in base64."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return pack(">I", len(data)) + kind + data + pack(">I", zlib.crc32(kind + data))

    file = io.BytesIO()
    file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", pack(">IIBBBBB", edge, edge, 8, 2, 0, 0, 0)))
    file.write(chunk(b"IDAT", zlib.compress((b"\0" + bytes((red, green, blue)) * edge) * edge)) + chunk(b"IEND", b""))
    return base64.b64encode(file.getvalue()).decode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seer(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Seer]:
    folder: Path = tmp_path_factory.mktemp("seer")
    async with running(CONFIG.format(folder=folder), folder) as gateway:
        gateway.http.timeout = PATIENCE_S
        await engine_of(gateway).wait_ready(PATIENCE_S)
        async with AsyncAnthropic(base_url=gateway.url, api_key=KEY, max_retries=0, timeout=PATIENCE_S) as client:
            yield Seer(gateway, client)


@pytest.mark.parametrize("dialect", ["chat", "responses", "messages"])
async def test_an_image_is_seen(seer: Seer, dialect: str) -> None:
    blind, _ = await seer.ask(dialect, None)
    red, blue = await seer.ask(dialect, png(255, 0, 0)), await seer.ask(dialect, png(0, 0, 255))
    assert (red[0] - blind, blue[0] - blind) == (IMAGE_TOKENS, IMAGE_TOKENS)
    assert red[1] and blue[1] and red[1] != blue[1], "one colour is answered otherwise than the other"


async def test_an_image_s_tokens_are_counted_before(seer: Seer) -> None:
    counted = [await seer.anthropic.messages.count_tokens(model="seer", messages=question(image)) for image in (None, png(1, 2, 3))]
    assert counted[1].input_tokens - counted[0].input_tokens == IMAGE_TOKENS
