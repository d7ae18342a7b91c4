"""What passes through below /v1/responses: compaction and token counts, by the official SDK, to the target that understands their state."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Exchange, Play, Upstream, status

CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  one: {{kind: openai, base_url: "{one}", api_key: sk-one}}
  two: {{kind: openai, base_url: "{two}", api_key: sk-two}}
  lab: {{kind: openai-compatible, base_url: "{one}"}}
models:
  pair: {{targets: [{{provider: one, model: m1}}, {{provider: two, model: m2}}]}}
  other: {{targets: [{{provider: lab, model: m1}}]}}
teams: {{search: {{keys: [{key}]}}}}
"""
USAGE = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
TEXT = {"type": "output_text", "text": "Hello", "annotations": []}
MESSAGE = {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [TEXT]}
RESPONSE = {"id": "resp_two", "object": "response", "created_at": 1, "model": "m2", "status": "completed", "output": [MESSAGE], "usage": USAGE}
SEALED = {"type": "compaction", "id": "cmp_1", "encrypted_content": "opaque"}
COMPACTED = {"id": "resp_c", "object": "response.compaction", "created_at": 1, "output": [SEALED], "usage": USAGE}


@pytest.fixture
async def gateway(one: Upstream, two: Upstream, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(CONFIG.format(folder=tmp_path, one=one.base_url, two=two.base_url, key=KEY), tmp_path) as gateway:
        yield gateway


def answer(body: Any) -> Play:
    async def play(x: Exchange) -> None:
        await x.respond(200, json.dumps(body).encode())

    return play


async def test_the_sdk_compacts_a_conversation_and_its_usage_is_in_the_ledger(gateway: Gateway, one: Upstream) -> None:
    one.plays["m1"] = answer(COMPACTED)
    got = await gateway.sdk.responses.compact(model="pair", input=[{"role": "user", "content": "Hi"}])  # type: ignore[arg-type]
    assert got.id == "resp_c" and one.journal[-1].head[":path"] == "/v1/responses/compact"
    (row,) = await gateway.all_rows()
    assert (row.endpoint, row.usage.input_uncached, row.usage.output_visible) == ("responses.compact", 7, 3)


async def test_the_sdk_counts_a_conversations_tokens(gateway: Gateway, one: Upstream) -> None:
    one.plays["m1"] = answer({"object": "response.input_tokens", "input_tokens": 18})
    got = await gateway.sdk.responses.input_tokens.count(model="pair", input="Hi")
    assert got.input_tokens == 18 and one.journal[-1].head[":path"] == "/v1/responses/input_tokens"


async def test_what_names_a_kept_response_goes_to_the_target_that_keeps_it(gateway: Gateway, one: Upstream, two: Upstream) -> None:
    one.plays["m1"] = [status(503), answer(COMPACTED)]
    two.plays["m2"] = [answer(RESPONSE), answer(COMPACTED)]
    first = await gateway.sdk.responses.create(model="pair", input="Hi")
    await gateway.sdk.responses.compact(model="pair", previous_response_id=first.id)
    assert [seen.head[":path"] for seen in two.journal] == ["/v1/responses", "/v1/responses/compact"]
    assert two.journal[-1].body == {"model": "m2", "previous_response_id": "resp_two"}


async def test_a_provider_without_it_is_a_400_that_says_so(gateway: Gateway, one: Upstream) -> None:
    with pytest.raises(openai.BadRequestError, match="/responses/compact"):
        await gateway.sdk.responses.compact(model="other", input=[{"role": "user", "content": "Hi"}])  # type: ignore[arg-type]
    assert one.journal == []
