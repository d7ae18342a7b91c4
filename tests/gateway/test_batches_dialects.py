"""A batch in one dialect at the batch API of another: its files are in the dialect that it was asked in, whoever ran it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from anthropic import AsyncAnthropic

from tests.gateway.batching import chat, ended, lines, made, row
from tests.gateway.conftest import KEY, running
from tests.providers.batch import amazon_served as amazon
from tests.providers.batch.served import ServedBatches
from tests.providers.batch.worlds import PATHS, SERVERS

ROWS = 100  # as many as Bedrock takes at least
MORE = {
    "bedrock": 'region: {region}, credentials: {{access_key_id: "{key[0]}", secret_access_key: "{key[1]}"}}, batch: {{bucket: {bucket}, '
    'role_arn: "{role}", control_url: "{root}", bucket_url: "{root}/{{bucket}}"}}',
}
CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
batch: {{poll_s: 0.02}}
providers:
  away: {{kind: {kind}, base_url: "{url}", {more}}}
models:
  ours: {{targets: [{{provider: away, model: claude, price: {{input_usd_per_mtok: 1, output_usd_per_mtok: 2}}}}]}}
teams:
  search: {{keys: [{key}]}}
"""


def config(kind: str, root: str, folder: Path) -> str:
    told = MORE.get(kind, "api_key: k").format(region=amazon.REGION, key=amazon.KEY, bucket=amazon.BUCKET, role=amazon.ROLE, root=root)
    return CONFIG.format(folder=folder, kind=kind, url=root + PATHS.get(kind, "/v1"), more=told, key=KEY)


@asynccontextmanager
async def served(kind: str) -> AsyncIterator[ServedBatches]:
    server = SERVERS[kind]()
    await server.upstream.start()
    try:
        yield server
    finally:
        await server.upstream.stop()


@pytest.mark.parametrize("kind", ["anthropic", "bedrock", "gemini"])
async def test_an_openai_batch_is_run_by_whoever_has_a_batch_api(kind: str, tmp_path: Path) -> None:
    async with served(kind) as server, running(config(kind, server.root, tmp_path), tmp_path) as gateway:
        batch = await ended(gateway.sdk, await made(gateway.sdk, [row(f"q{n}", chat(f"q{n}", "ours", max_tokens=50)) for n in range(ROWS)]))
        assert batch.status == "completed" and batch.error_file_id is None and server.upstream.journal
        found = await lines(gateway.sdk, batch.output_file_id)
        texts = {id: line["response"]["body"]["choices"][0]["message"]["content"] for id, line in found.items()}
        assert texts == {f"q{n}": f"answer to q{n}" for n in range(ROWS)}
        told = (batch.model_extra or {})["turnout"]
        assert told["targets"] == {"away": ROWS} and told["unpriced_rows"] == 0 and told["cost_usd"] > 0


async def test_an_anthropic_batch_is_run_by_openai_s_batch_api(tmp_path: Path) -> None:
    async with served("openai") as server, running(config("openai", server.root, tmp_path), tmp_path) as gateway:
        sdk = AsyncAnthropic(base_url=gateway.url, api_key=KEY, max_retries=0)
        question = {"model": "ours", "max_tokens": 16}
        asked = [{"custom_id": f"q{n}", "params": {**question, "messages": [{"role": "user", "content": f"q{n}"}]}} for n in range(10)]
        batch = await sdk.messages.batches.create(requests=asked)  # type: ignore[arg-type]
        while batch.processing_status != "ended":
            batch = await sdk.messages.batches.retrieve(batch.id)
        texts = {
            each.custom_id: each.result.message.content[0].text  # type: ignore[union-attr]
            async for each in await sdk.messages.batches.results(batch.id)
        }
        assert texts == {f"q{n}": f"answer to q{n}" for n in range(10)} and len(server.jobs) == 1
        await sdk.close()
