"""Every provider's loopback server with our client on it, so that one test runs against all of them."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Any

from contract.call import Call
from contract.errors import TurnoutError
from gateway.peek import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES, Form, Reader
from providers.address import Chosen
from providers.batch import bedrock
from providers.batch.polling import Pace, watch
from providers.batch.port import BatchClient, BatchRow, Job, JobRef, Part, RowResult, Submission, row_id, row_number
from providers.batch.session import Channel
from providers.batch.table import Amazon, Setting, batch_client
from providers.http.client import PooledClient
from providers.http.httpx_client import HttpxClient
from providers.registry import PROVIDER_KINDS
from providers.sigv4 import Credentials
from tests.providers.batch import amazon_served as amazon
from tests.providers.batch.anthropic_served import ServedAnthropic
from tests.providers.batch.gemini_served import ServedGemini
from tests.providers.batch.openai_served import ServedMistral, ServedOpenAI, ServedTogether
from tests.providers.batch.served import ServedBatches

ROWS = 100  # as many as Bedrock takes at least
MODELS = {"gemini": "gemini-3-flash", "anthropic": "claude-opus-4-5", "bedrock": "anthropic.claude-sonnet-4-5-20250929-v1:0"}
SERVERS = {
    "openai": lambda: ServedOpenAI(),
    "azure": lambda: ServedOpenAI("/openai/v1"),
    "groq": lambda: ServedOpenAI("/openai/v1", windows=("24h", "2d", "7d")),
    "mistral": ServedMistral,
    "together": ServedTogether,
    "anthropic": ServedAnthropic,
    "gemini": ServedGemini,
    "bedrock": amazon.ServedAmazon,
}
PATHS = {"azure": "/openai", "groq": "/openai/v1", "gemini": "/v1beta", "bedrock": ""}
FORMS: dict[str, Form] = {form.dialect: form for form in (CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES)}


def call(body: Mapping[str, Any], dialect: str = "openai_chat") -> Call:
    return Reader(FORMS[dialect]).read("req-1", json.dumps(body, indent=1).encode(), [])


def question(number: int, **more: Any) -> Call:
    return call({"model": "ours", "max_tokens": 50, "messages": [{"role": "user", "content": f"question {number}"}], **more})


@dataclass
class World:
    """One provider. `calls`: what was asked, by row's id. `refused`: rows that the provider cannot be asked."""

    name: str
    server: ServedBatches
    client: BatchClient
    folder: Path
    calls: dict[str, Call] = field(default_factory=dict)
    refused: dict[str, TurnoutError] = field(default_factory=dict)
    slept: list[float] = field(default_factory=list)

    @property
    def model(self) -> str:
        return MODELS.get(self.name, "their-model")

    async def rows(self, calls: Sequence[Call]) -> AsyncIterator[BatchRow]:
        for number, each in enumerate(calls):
            self.calls[row_id(number)] = each
            yield BatchRow(row_id(number), each)

    async def parts(self, calls: Sequence[Call], key: str = "batch-7") -> list[Part]:
        return [part async for part in self.client.parts(self.rows(calls), self.model, self.folder, key, self.refused.__setitem__)]

    async def part(self, calls: Sequence[Call] | None = None, key: str = "batch-7") -> tuple[Part, Submission]:
        (part,) = await self.parts(calls or [question(number) for number in range(ROWS)], key)
        return part, part.submission(time() - 1)

    async def submitted(self, calls: Sequence[Call] | None = None) -> Job:
        return await self.client.submit(*await self.part(calls))

    async def ended(self, ref: JobRef) -> list[Job]:
        """The job as it went, without a wait."""

        async def sleep(pause_s: float) -> None:
            self.slept.append(pause_s)
            await asyncio.sleep(0)

        return [job async for job in watch(self.client, ref, Pace(), sleep, lambda: 0.5)]

    async def asked(self, ids: Sequence[str]) -> Mapping[str, Call]:
        return {id_: self.calls[id_] for id_ in ids if id_ in self.calls}

    async def results(self, ref: JobRef) -> dict[int, RowResult]:
        """By the rows' numbers; each at most once."""
        found: dict[int, RowResult] = {}
        async for result in self.client.results(ref, self.asked):
            assert row_number(result.id) not in found
            found[row_number(result.id)] = result
        return found


def text_of(result: RowResult) -> str:
    """What a chat answer says."""
    assert result.answer is not None
    text: str = json.loads(result.answer.body)["choices"][0]["message"]["content"]
    return text


@asynccontextmanager
async def world_of(name: str, folder: Path, root: str = "") -> AsyncIterator[World]:
    """`root`: of another server that stands in the provider's place."""
    server = SERVERS[name]()
    await server.upstream.start()
    root = root or server.root
    pages, files = PooledClient(), HttpxClient()
    region = amazon.REGION if name == "bedrock" else ""
    chosen = Chosen(name=name, base_url=root + PATHS.get(name, "/v1"), key="sk-test", region=region, api_version="2026-01-01")
    place = bedrock.Place(bucket=amazon.BUCKET, prefix="turnout", role_arn=amazon.ROLE)
    urls = {"control_url": root, "bucket_url": root + "/{bucket}"}
    setting = Setting(
        kind=PROVIDER_KINDS[name],
        chosen=chosen,
        channel=Channel(pages=pages, files=files),
        amazon=Amazon(credentials=Credentials(*amazon.KEY), place=place, **urls) if name == "bedrock" else None,
    )
    client = batch_client(setting)
    assert client is not None
    try:
        yield World(name, server, client, folder)
    finally:
        await pages.aclose()
        await files.aclose()
        await server.upstream.stop()
