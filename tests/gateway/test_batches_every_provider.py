"""Every provider's batch API under the gateway: rows of both dialects in, one result each out, whatever polls and rows come to."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from anthropic import AsyncAnthropic

from tests.gateway.batching import chat, ended, lines, made, row, until
from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.test_batches_providers import answers_of, echo, id_of
from tests.gateway.test_message_batches import asked
from tests.gateway.test_message_batches import ended as messages_ended
from tests.gateway.upstream import Exchange, Upstream
from tests.providers.batch import amazon_served as amazon
from tests.providers.batch.openai_served import ServedOpenAI
from tests.providers.batch.served import Fate, ServedBatches, text_of
from tests.providers.batch.worlds import MODELS, PATHS, SERVERS

CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
batch: {{lease_s: 2, poll_s: 0.02}}
providers:
  away: {{kind: {kind}, base_url: "{url}", {rest}}}
  live: {{kind: openai-compatible, base_url: "{live}", api_key: k}}
models:
  both:
    targets:
      - {{provider: live, model: m2, price: {{input_usd_per_mtok: 3, output_usd_per_mtok: 6}}}}
      - {{provider: away, model: "{model}", price: {{input_usd_per_mtok: 1, output_usd_per_mtok: 2}}}}
teams:
  search: {{keys: [{key}]}}
"""
REST = {"azure": 'api_key: k, api_version: "2026-01-01"', "together": "api_key: k, batch: {percent_off: 50}"}
AMAZON = (
    'region: {region}, credentials: {{access_key_id: "{id}", secret_access_key: "{secret}"}}, '
    'batch: {{bucket: {bucket}, role_arn: "{role}", control_url: "{root}", bucket_url: "{root}/{{bucket}}"}}'
)
FATES: dict[int, Fate] = {0: "expired", 1: "missing", 2: "overloaded", 3: "refused"}
HALF_NUSD = 15_000
LIVE_NUSD = 90_000


def config(folder: Path, name: str, server: ServedBatches, live: Upstream) -> str:
    rest = REST.get(name, "api_key: k")
    if name == "bedrock":
        id, secret, _ = amazon.KEY
        rest = AMAZON.format(region=amazon.REGION, id=id, secret=secret, bucket=amazon.BUCKET, role=amazon.ROLE, root=server.root)
    url, model = server.root + PATHS.get(name, "/v1"), MODELS.get(name, "their-model")
    return CONFIG.format(folder=folder, kind=name, url=url, rest=rest, live=live.base_url, model=model, key=KEY)


@pytest.fixture(params=SERVERS)
async def named(request: pytest.FixtureRequest) -> AsyncIterator[tuple[str, ServedBatches]]:
    server = SERVERS[request.param]()
    await server.upstream.start()
    yield request.param, server
    await server.upstream.stop()


async def openai_batch(gateway: Gateway, count: int) -> Any:
    rows = [row(f"q{n}", chat(f"q{n}", "both", max_tokens=50)) for n in range(count)]
    return await ended(gateway.sdk, await made(gateway.sdk, rows))


async def anthropic_batch(gateway: Gateway, count: int) -> dict[str, Any]:
    """Its results, by their custom_ids."""
    async with AsyncAnthropic(base_url=gateway.url, api_key=KEY, max_retries=0, timeout=60) as sdk:
        batch = await sdk.messages.batches.create(requests=[asked(f"q{n}", model="both") for n in range(count)])
        await messages_ended(sdk, batch)
        found = [each async for each in await sdk.messages.batches.results(batch.id)]
        assert len(found) == count
        return {each.custom_id: each.result for each in found}


async def test_both_dialects_get_each_row_once_through_failing_polls_and_rows(
    named: tuple[str, ServedBatches], two: Upstream, tmp_path: Path
) -> None:
    name, server = named
    count = amazon.ServedAmazon.MIN_RECORDS if name == "bedrock" else 12
    two.default = echo
    server.fates = {id_of(number): fate for number, fate in FATES.items()}
    server.faults, server.cuts = [(500, {}), (503, {})], 1
    async with running(config(tmp_path, name, server, two), tmp_path) as gateway:
        batch, messages = await asyncio.gather(openai_batch(gateway, count), anthropic_batch(gateway, count))
        rows = await gateway.all_rows()
        assert batch.status == "completed" and set(await lines(gateway.sdk, batch.error_file_id)) == {"q3"}
        wanted = {f"q{n}": f"q{n}" if n < 3 else f"answer to q{n}" for n in range(count) if n != 3}
        assert await answers_of(gateway, batch) == wanted
    refused = messages.pop("q3")
    assert (refused.type, refused.error.error.type) == ("errored", "invalid_request_error")
    assert {id: result.message.content[0].text for id, result in messages.items()} == wanted
    assert not server.faults and not server.cuts and len(two.journal) == 2 * 3
    charged = [(each.target, each.cost_nusd) for each in rows if each.billed == "team" and each.status == "ok"]
    assert sorted(charged, key=str) == sorted([("away", HALF_NUSD)] * 2 * (count - 4) + [("live", LIVE_NUSD)] * 6, key=str)
    assert (batch.model_extra or {})["turnout"]["unpriced_rows"] == 0


class Keyed(ServedOpenAI):
    """Knows the jobs of one key, as an account does."""

    async def _handle(self, x: Exchange) -> None:
        if x.seen.head.get("authorization") != "Bearer first":
            await self.json(x, self.error(401), 401)
            return
        await super()._handle(x)


async def test_a_job_is_asked_for_where_and_with_the_key_that_it_was_submitted_with(two: Upstream, tmp_path: Path) -> None:
    """The provider has moved, and its keys stand in another order, when the gateway is started anew."""
    before, after = Keyed(), ServedOpenAI()
    before.WAY = ("validating", *["running"] * 100_000)  # type: ignore[misc]
    for server in (before, after):
        await server.upstream.start()
    try:
        text = config(tmp_path, "openai", before, two).replace("api_key: k}\n  live", "api_keys: [first, second]}\n  live")
        async with running(text, tmp_path) as gateway:
            batch = await made(gateway.sdk, [row(f"q{n}", chat(f"q{n}", "both")) for n in range(20)])
            await until(gateway.sdk, batch, lambda _: bool(before.jobs))
        before.WAY = ("validating", "running")  # type: ignore[misc]
        text = text.replace(before.root, after.root).replace("[first, second]", "[second, first]")
        async with running(text, tmp_path) as gateway:
            done = await ended(gateway.sdk, batch)
            assert await answers_of(gateway, done) == {f"q{n}": f"answer to q{n}" for n in range(20)}
            assert len(before.jobs) == 1 and not after.upstream.journal and not two.journal
            new = await ended(gateway.sdk, await made(gateway.sdk, [row("q0", chat("q0", "both"))]))
            assert new.status == "completed" and len(after.jobs) == 1
            assert {seen.head["authorization"] for seen in after.upstream.journal} == {"Bearer second"}
    finally:
        for server in (before, after):
            await server.upstream.stop()


async def test_a_conversation_goes_on_from_a_row_that_a_job_answered(two: Upstream, tmp_path: Path) -> None:
    """Groq keeps no responses, so the gateway does: what a row asked and was told stands before the next live request, and before the next row."""
    server, two.default = SERVERS["groq"](), echo
    await server.upstream.start()
    try:
        async with running(config(tmp_path, "groq", server, two), tmp_path) as gateway:

            async def answered(*inputs: dict[str, Any]) -> list[str]:
                """The ids of the answers to a batch of these."""
                rows = [row(f"r{n}", {"model": "both", **each}, "/v1/responses") for n, each in enumerate(inputs)]
                batch = await ended(gateway.sdk, await made(gateway.sdk, rows, "/v1/responses"))
                found = await lines(gateway.sdk, batch.output_file_id)
                return [found[f"r{n}"]["response"]["body"]["id"] for n in range(len(inputs))]

            first, unkept = await answered({"input": "Hi"}, {"input": "Hush", "store": False})
            (second,) = await answered({"input": "And?", "previous_response_id": first})
            assert len(server.jobs) == 2 and not two.journal
            last = await gateway.sdk.responses.create(model="both", input="So?", previous_response_id=second)
            assert last.output_text == "So?"
            said = [(message["role"], text_of(message["content"])) for message in two.journal[-1].body["messages"]]
            assert said == [("user", "Hi"), ("assistant", "answer to Hi"), ("user", "And?"), ("assistant", "answer to And?"), ("user", "So?")]
            gone = await gateway.post({"model": "both", "input": "So?", "previous_response_id": unkept}, path="/v1/responses")
            assert (gone.status_code, gone.json()["error"]["code"]) == (400, "previous_response_not_found")
    finally:
        await server.upstream.stop()
