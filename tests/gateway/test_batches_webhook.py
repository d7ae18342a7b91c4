"""A webhook is told when a batch ends, in the words and with the signature that OpenAI's SDK takes."""

import asyncio
import json
from pathlib import Path

import pytest
from openai import AsyncOpenAI

from tests.gateway.batching import config, ended, made, row
from tests.gateway.conftest import running
from tests.gateway.upstream import Exchange, Upstream, status

SECRET = "whsec_" + "c2VjcmV0IG9mIHRoZSB0ZXN0cw=="


@pytest.mark.parametrize("fails_first", [False, True])
async def test_the_end_of_a_batch_is_told_and_signed(one: Upstream, two: Upstream, tmp_path: Path, fails_first: bool) -> None:
    told = asyncio.Event()

    async def takes(x: Exchange) -> None:
        await x.respond(200, b"{}")
        told.set()

    two.default = takes
    if fails_first:
        two.plays[""] = [status(500), takes]
    more = f', webhook: {{url: "{two.base_url}/hook", secret: "{SECRET}"}}'
    async with running(config(f"sqlite:///{tmp_path}/turnout.db", one.base_url, more=more), tmp_path) as gateway:
        batch = await ended(gateway.sdk, await made(gateway.sdk, [row("a")]))
        async with asyncio.timeout(30):
            await told.wait()
        async with AsyncOpenAI(api_key="x", webhook_secret=SECRET) as sdk:
            event = sdk.webhooks.unwrap(two.journal[-1].raw, two.journal[-1].head)
        assert event.type == "batch.completed" and event.data.id == batch.id
        assert len({json.loads(seen.raw)["id"] for seen in two.journal}) == 1


async def test_an_event_that_is_refused_keeps_no_other_waiting(one: Upstream, two: Upstream, tmp_path: Path) -> None:
    refused: list[str] = []
    told = asyncio.Event()

    async def takes(x: Exchange) -> None:
        id = json.loads(x.seen.raw)["data"]["id"]
        if not refused or id in refused:
            refused.append(id)
            await x.respond(400, b"{}")
        else:
            await x.respond(200, b"{}")
            told.set()

    two.default = takes
    more = f', webhook: {{url: "{two.base_url}/hook", secret: "{SECRET}"}}'
    async with running(config(f"sqlite:///{tmp_path}/turnout.db", one.base_url, more=more), tmp_path) as gateway:
        await ended(gateway.sdk, await made(gateway.sdk, [row("a")]))
        async with asyncio.timeout(30):
            while not refused:
                await asyncio.sleep(0.02)
        second = await ended(gateway.sdk, await made(gateway.sdk, [row("b")]))
        async with asyncio.timeout(30):
            await told.wait()
    assert json.loads(two.journal[-1].raw)["data"]["id"] == second.id and len(set(refused)) == 1
