"""A model that sees, though with random weights: an image in each dialect's words makes the prompt longer by its tokens, and another answer."""

import asyncio
import base64
import io
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from struct import pack
from typing import Any

import anthropic
import openai
import pytest
import pytest_asyncio
from anthropic import AsyncAnthropic

from tests.gateway.conftest import KEY, Gateway, running
from tests.providers.local.raw import fetch
from tests.vllm.conftest import HOME, PATIENCE_S, PYTHON, engine_of

pytestmark = [pytest.mark.vllm, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]
ASKED, MOST = "What is this?", 8
IMAGE_TOKENS = 16 + 3 + 1  # what it sees, the three around it, and the end of the line
CONFIG = f"""
state: {{{{database: "sqlite:///{{folder}}/turnout.db"}}}}
engines:
  own: {{{{kind: vllm, python: "{PYTHON}", model: "{HOME}/model/seer", slots: 2, context: 512, max_wait_s: 60, dtype: bfloat16,
         args: [--enforce-eager]}}}}
  fetching: {{{{kind: vllm, python: "{PYTHON}", model: "{HOME}/model/seer", slots: 2, context: 512, max_wait_s: 60, dtype: bfloat16,
              args: [--enforce-eager], media_domains: [localhost]}}}}
models: {{{{seer: {{{{targets: [{{{{engine: own}}}}]}}}}, fetching: {{{{targets: [{{{{engine: fetching}}}}]}}}}}}}}
teams: {{{{search: {{{{keys: [{KEY}]}}}}}}}}
"""


class Seer:
    """One question in a dialect's words, about an image or none: the prompt's tokens and the answer."""

    def __init__(self, gateway: Gateway, anthropic: AsyncAnthropic) -> None:
        self._gateway = gateway
        self.openai = gateway.sdk.with_options(timeout=PATIENCE_S)
        self.anthropic = anthropic

    async def ask(self, dialect: str, image: str | None) -> tuple[int, str]:
        told: tuple[int, str] = await getattr(self, f"_{dialect}")(image)
        return told

    async def ask_engine(self, url: str) -> int:
        """About an image at a URL, past the gateway: the status."""
        engine = engine_of(self._gateway)
        content = [{"type": "image_url", "image_url": {"url": url}}]
        body = {"model": engine.spec.name, "messages": [{"role": "user", "content": content}], "max_tokens": 1}
        status, _ = await fetch(await engine.wait_ready(PATIENCE_S), "POST", "/v1/chat/completions", body)
        return status

    async def _chat(self, image: str | None) -> tuple[int, str]:
        content: list[Any] = [{"type": "text", "text": ASKED}]
        if image is not None:
            content.append({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}})
        answer = await self.openai.chat.completions.create(
            model="seer", messages=[{"role": "user", "content": content}], max_tokens=MOST, temperature=0
        )
        assert answer.usage is not None
        return answer.usage.prompt_tokens, answer.choices[0].message.content or ""

    async def _responses(self, image: str | None) -> tuple[int, str]:
        content: list[Any] = [{"type": "input_text", "text": ASKED}]
        if image is not None:
            content.append({"type": "input_image", "image_url": f"data:image/png;base64,{image}", "detail": "auto"})
        answer = await self.openai.responses.create(model="seer", input=[{"role": "user", "content": content}], max_output_tokens=MOST, temperature=0)
        assert answer.usage is not None
        return answer.usage.input_tokens, answer.output_text

    async def _messages(self, image: str | None) -> tuple[int, str]:
        answer = await self.anthropic.messages.create(model="seer", messages=question(image), max_tokens=MOST, extra_body={"temperature": 0})
        return answer.usage.input_tokens, getattr(answer.content[0], "text", "")


class Seen:
    """A server on this machine that notes whoever fetches from it, and answers with such bytes."""

    def __init__(self, answer: bytes = b"") -> None:
        self._answer = answer
        self.asked = 0
        self.port = 0

    async def __aenter__(self) -> "Seen":
        self._server = await asyncio.start_server(self._met, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self._answer)
        writer.close()


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
        for engine in ("own", "fetching"):
            await engine_of(gateway, engine).wait_ready(PATIENCE_S)
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


ELSEWHERE = ["file:///etc/passwd", "http://127.0.0.1:{port}/metrics", "HTTP://169.254.169.254/latest/meta-data/", "/etc/passwd", "ftp://127.0.0.1/x"]
WORDS = "data: URL"


async def ask_about(seer: Seer, dialect: str, url: str, model: str = "seer") -> None:
    """About an image at a URL, in the dialect's words."""
    if dialect == "messages":
        image: Any = {"type": "image", "source": {"type": "url", "url": url}}
        await seer.anthropic.messages.create(model="seer", messages=[{"role": "user", "content": [image]}], max_tokens=MOST)
    elif dialect == "count_tokens":
        image = {"type": "image", "source": {"type": "url", "url": url}}
        await seer.anthropic.messages.count_tokens(model="seer", messages=[{"role": "user", "content": [image]}])
    elif dialect == "responses":
        content: Any = [{"type": "input_image", "image_url": url, "detail": "auto"}]
        await seer.openai.responses.create(model="seer", input=[{"role": "user", "content": content}], max_output_tokens=MOST)
    else:
        image = {"type": "image_url", "image_url": {"url": url}}
        await seer.openai.chat.completions.create(model=model, messages=[{"role": "user", "content": [image]}], max_tokens=MOST)


@pytest.mark.parametrize("dialect", ["chat", "responses", "messages", "count_tokens"])
async def test_what_an_engine_would_have_to_fetch_is_the_sender_s_fault_and_is_not_fetched(seer: Seer, dialect: str) -> None:
    async with Seen() as seen:
        for url in ELSEWHERE:
            with pytest.raises((openai.BadRequestError, anthropic.BadRequestError), match=WORDS):
                await ask_about(seer, dialect, url.format(port=seen.port))
    assert not seen.asked and (await seer.ask("chat", None))[1], "and the engine still answers others"


@pytest.mark.parametrize("url", ["data:image/png;base64,AAAA", "data:image/png,AAAA", "data:;base64,%%%"])
async def test_an_image_that_is_none_is_the_sender_s_fault(seer: Seer, url: str) -> None:
    for _ in range(4):
        with pytest.raises(openai.BadRequestError):
            await ask_about(seer, "chat", url)
    assert (await seer.ask("chat", None))[1], "and the engine still answers others"


async def test_the_engine_itself_fetches_nothing_either(seer: Seer) -> None:
    async with Seen() as seen:
        answer = await seer.ask_engine(f"http://127.0.0.1:{seen.port}/metrics")
    assert answer >= 400 and not seen.asked


def http(status: str, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status}", *headers, f"content-length: {len(body)}", "connection: close", "", "")).encode() + body


async def test_an_engine_fetches_from_the_domains_that_the_operator_lists_and_is_not_led_on(seer: Seer) -> None:
    async with Seen(http("200 OK", "content-type: image/png", body=base64.b64decode(png(1, 2, 3)))) as there:
        await ask_about(seer, "chat", f"http://localhost:{there.port}/a.png", "fetching")
        with pytest.raises(openai.BadRequestError, match="it fetches from localhost alone"):
            await ask_about(seer, "chat", f"http://127.0.0.1:{there.port}/a.png", "fetching")
        assert there.asked == 1
    async with Seen() as inside, Seen(http("302 Found", f"location: http://127.0.0.1:{inside.port}/")) as there:
        with pytest.raises(openai.BadRequestError):
            await ask_about(seer, "chat", f"http://localhost:{there.port}/a.png", "fetching")
        assert there.asked and not inside.asked
    for _ in range(2):
        with pytest.raises(openai.InternalServerError, match=f"localhost:{there.port} cannot be reached from it"):
            await ask_about(seer, "chat", f"http://localhost:{there.port}/gone.png", "fetching")
    await ask_about(seer, "chat", f"data:image/png;base64,{png(1, 2, 3)}", "fetching")
