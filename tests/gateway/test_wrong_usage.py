"""Counts that no provider can mean are estimated from what came, flagged so in the ledger, and lose no row."""

import json

import pytest

from tests.gateway.conftest import Gateway
from tests.gateway.upstream import Exchange, Upstream, completion

ASKED = {"model": "solo", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize("count", [-(10**9), 2**63, 10**30])
async def test_an_absurd_count_is_estimated_and_the_row_is_kept(gateway: Gateway, one: Upstream, count: int) -> None:
    async def play(x: Exchange) -> None:
        usage = {"prompt_tokens": 20, "completion_tokens": count, "total_tokens": 20}
        await x.respond(200, json.dumps(completion(usage=usage)).encode())

    one.plays["m1"] = play
    answer = await gateway.post(ASKED)
    assert answer.status_code == 200 and "-" not in answer.headers.get("x-turnout-cost-usd", "")
    (row,) = await gateway.rows(answer.headers["x-request-id"])
    assert row.status == "ok" and row.usage.source == "estimated"
    assert row.usage.input_uncached == 20 and 0 < row.usage.output_visible < 100
