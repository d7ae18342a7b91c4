"""`/v1/messages/batches` through the official SDK, whichever provider answers."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic import AsyncAnthropic
from anthropic.types.messages import MessageBatch

from tests.gateway.batching import COST_NUSD, config
from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Exchange, Upstream, completion, silent, status


@pytest.fixture
async def gateway(one: Upstream, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(config(f"sqlite:///{tmp_path}/turnout.db", one.base_url), tmp_path) as gateway:
        yield gateway


@pytest.fixture
async def sdk(gateway: Gateway) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(base_url=gateway.url, api_key=KEY, max_retries=0, timeout=60) as sdk:
        yield sdk


def asked(custom_id: str, **params: Any) -> Any:
    return {"custom_id": custom_id, "params": {"model": "solo", "max_tokens": 50, "messages": [{"role": "user", "content": custom_id}], **params}}


async def ended(sdk: AsyncAnthropic, batch: MessageBatch) -> MessageBatch:
    async with asyncio.timeout(60):
        while batch.processing_status != "ended":
            await asyncio.sleep(0.02)
            batch = await sdk.messages.batches.retrieve(batch.id)
    return batch


async def some(x: Exchange) -> None:
    """Fails what is bad, never answers what is slow."""
    text = x.seen.body["messages"][-1]["content"]
    if "bad" in text:
        await status(400)(x)
    elif "slow" in text:
        await silent(x)
    else:
        await x.respond(200, json.dumps(completion(f"an answer to {text}")).encode())


async def test_results_are_messages_and_errors_by_their_custom_id(gateway: Gateway, sdk: AsyncAnthropic, one: Upstream) -> None:
    one.plays["m1"] = some
    batch = await sdk.messages.batches.create(requests=[*(asked(f"r{n}") for n in range(30)), asked("bad")])
    assert (batch.processing_status, batch.request_counts.processing, batch.results_url) == ("in_progress", 31, None)
    batch = await ended(sdk, batch)
    assert (batch.request_counts.succeeded, batch.request_counts.errored, batch.request_counts.processing) == (30, 1, 0)
    found = {each.custom_id: each.result async for each in await sdk.messages.batches.results(batch.id)}
    assert len(found) == 31
    for id, result in found.items():
        if id == "bad":
            assert result.type == "errored" and result.error.error.type == "invalid_request_error"
        else:
            assert result.type == "succeeded" and result.message.content[0].type == "text"
            assert result.message.content[0].text == f"an answer to {id}" and result.message.usage.output_tokens == 5
    rows = await gateway.all_rows()
    assert sum(each.cost_nusd or 0 for each in rows if each.billed == "team") == 30 * COST_NUSD
    assert {each.endpoint for each in rows} == {"batch.messages"}


async def test_a_cancelled_batch_tells_which_requests_were_not_answered(sdk: AsyncAnthropic, one: Upstream) -> None:
    one.plays["m1"] = some
    batch = await sdk.messages.batches.create(requests=[asked("quick"), *(asked(f"slow-{n}") for n in range(20))])
    async with asyncio.timeout(30):
        while len(one.journal) < 17:
            await asyncio.sleep(0.01)
    batch = await sdk.messages.batches.cancel(batch.id)
    assert batch.cancel_initiated_at is not None
    batch = await ended(sdk, batch)
    results = [each.result.type async for each in await sdk.messages.batches.results(batch.id)]
    assert (results.count("succeeded"), results.count("canceled")) == (1, 20) and len(one.journal) == 17
    assert (batch.request_counts.succeeded, batch.request_counts.canceled) == (1, 20)


async def test_a_batch_is_deleted_with_its_results_once_it_has_ended(sdk: AsyncAnthropic, one: Upstream, tmp_path: Path) -> None:
    one.plays["m1"] = some
    batch = await sdk.messages.batches.create(requests=[asked("slow")])
    with pytest.raises(anthropic.BadRequestError, match="cancel it first"):
        await sdk.messages.batches.delete(batch.id)
    await sdk.messages.batches.cancel(batch.id)
    batch = await ended(sdk, batch)
    assert (await sdk.messages.batches.delete(batch.id)).type == "message_batch_deleted"
    with pytest.raises(anthropic.NotFoundError):
        await sdk.messages.batches.retrieve(batch.id)
    assert list((tmp_path / "files").iterdir()) == []


async def test_batches_are_listed_both_ways(sdk: AsyncAnthropic) -> None:
    made = [(await sdk.messages.batches.create(requests=[asked("a")])).id for _ in range(3)]
    assert [each.id async for each in sdk.messages.batches.list(limit=2)] == made[::-1]
    page = await sdk.messages.batches.list(before_id=made[0], limit=1)
    assert [each.id for each in page.data] == [made[1]] and page.has_more


@pytest.mark.parametrize(
    ("requests", "where"),
    [
        ([asked("a"), asked("a")], "requests.1.custom_id"),
        ([asked("a b")], "requests.0.custom_id"),
        ([asked("x" * 65)], "requests.0.custom_id"),
        ([asked("a"), asked("b", model="nobody's")], "requests.1.params.model"),
        ([asked("a", messages=[])], "requests.0.params.messages"),
        ([asked("a", stream=True)], "requests.0.params.stream"),
        ([{"custom_id": "a"}], "requests.0"),
        ([], "there is no request in it"),
    ],
)
async def test_a_batch_with_a_fault_is_refused_whole(sdk: AsyncAnthropic, one: Upstream, tmp_path: Path, requests: Any, where: str) -> None:
    with pytest.raises(anthropic.BadRequestError, match=where):
        await sdk.messages.batches.create(requests=requests)
    assert one.journal == [] and list((tmp_path / "files").iterdir()) == []
    assert [each async for each in sdk.messages.batches.list()] == []


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"requests": {}}', b'{"requests": [', b'{"requests": [{}]', b'{"x": 1, "requests": []}', b'{"requests": [1,,2]}']
)
async def test_a_body_that_is_no_batch_is_refused_in_anthropic_s_words(gateway: Gateway, body: bytes) -> None:
    answer = await gateway.post(body, path="/v1/messages/batches")
    assert answer.status_code == 400 and answer.json()["type"] == "error"
