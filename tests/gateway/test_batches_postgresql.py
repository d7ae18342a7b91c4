"""Batches over PostgreSQL: the same rows, the same ends; and nothing that a client may say of an id, a page or a name is a failure of ours."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from anthropic import AsyncAnthropic

from tests.gateway.batching import COST_NUSD, config, ended, lines, made, row
from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.test_message_batches import asked
from tests.gateway.test_message_batches import ended as messages_ended
from tests.gateway.upstream import Upstream
from tests.postgres_server import PostgresServer


@pytest.fixture
async def gateway(one: Upstream, tmp_path: Path, postgres: PostgresServer) -> AsyncIterator[Gateway]:
    async with running(config(postgres.database(), one.base_url, more=f", folder: {tmp_path}/files"), tmp_path) as gateway:
        yield gateway


async def test_batches_of_both_apis_come_to_their_ends(gateway: Gateway) -> None:
    batch = await ended(gateway.sdk, await made(gateway.sdk, [row(f"r{n}") for n in range(60)], metadata={"nul": "\0"}))
    assert len(await lines(gateway.sdk, batch.output_file_id)) == 60 and batch.metadata == {"nul": "\0"}
    async with AsyncAnthropic(base_url=gateway.url, api_key=KEY, max_retries=0) as sdk:
        messages = await messages_ended(sdk, await sdk.messages.batches.create(requests=[asked(f"r{n}") for n in range(60)]))
        assert len([each async for each in await sdk.messages.batches.results(messages.id)]) == 60
        assert (await sdk.messages.batches.delete(messages.id)).id == messages.id
    rows = await gateway.all_rows()
    assert sum(each.cost_nusd for each in rows if each.billed == "team") == 120 * COST_NUSD


NASTY = ["%00", "a%00b", "%ff", "..%2f..%2fetc%2fpasswd", "😀", "a" * 3000, "%27%20OR%201=1--"]


@pytest.mark.parametrize(
    "path", ["/v1/files/{}", "/v1/files/{}/content", "/v1/batches/{}", "/v1/messages/batches/{}", "/v1/messages/batches/{}/results"]
)
async def test_an_id_that_nobody_gave_is_not_there(gateway: Gateway, path: str) -> None:
    for id in NASTY:
        answer = await gateway.http.get(path.format(id), headers={"authorization": f"Bearer {KEY}"})
        assert answer.status_code == 404, (id, answer.text)


async def test_pages_after_nothing_are_pages(gateway: Gateway) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    for id in NASTY:
        for path in (f"/v1/files?after={id}", f"/v1/files?purpose={id}", f"/v1/batches?after={id}", f"/v1/messages/batches?after_id={id}"):
            answer = await gateway.http.get(path, headers=headers)
            assert (answer.status_code, answer.json()["data"]) == (200, []), (path, answer.text)
    for path in ("/v1/files?limit=0", "/v1/batches?limit=99999999999999999999", "/v1/messages/batches?limit=x", "/v1/files?order=up"):
        assert (await gateway.http.get(path, headers=headers)).status_code == 400


WRONG = [
    *(b"", b"[]", b"null", b"{", b"\xff", b'{"input_file_id": 1}'),
    b'{"input_file_id": "\\ud800", "endpoint": "/v1/responses"}',
    b'{"input_file_id": "a", "endpoint": "/v1/responses", "metadata": {"a": "\\ud800"}}',
]


@pytest.mark.parametrize("body", WRONG)
async def test_a_batch_that_is_none_is_refused(gateway: Gateway, body: bytes) -> None:
    answer = await gateway.post(body, path="/v1/batches")
    assert answer.status_code == 400 and answer.json()["error"]["message"], answer.text
