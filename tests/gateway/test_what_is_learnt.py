"""What a gateway learns of its targets outlives it, by the ledger, and reaches its neighbours, by a real Redis."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.redis_server import RedisServer
from tests.gateway.upstream import Exchange, Upstream, good

ASK = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
CONFIG = """
state: {{database: "sqlite:///{folder}/t.db"{redis}}}
providers: {{one: {{kind: openai-compatible, base_url: "{one}", api_key: k}}}}
models: {{m: {{targets: [{{provider: one, model: m1}}]}}}}
teams: {{t: {{keys: [{key}]}}}}
"""


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="turnout-redis-") as folder:
        server = RedisServer(Path(folder)).start()
        yield server
        server.kill()


async def samples(gateway: Gateway) -> float:
    """The weight of the measurements that the next decision is made by."""
    answer = await gateway.post(ASK)
    assert answer.status_code == 200
    decision = (await gateway.http.get(f"/v1/decisions/{answer.headers['x-request-id']}", headers={"authorization": f"Bearer {KEY}"})).json()
    return float(decision["decision"]["candidates"][0]["samples"])


async def test_a_restarted_gateway_knows_its_targets_from_the_ledger(one: Upstream, tmp_path: Path) -> None:
    yaml = CONFIG.format(folder=tmp_path, redis="", one=one.base_url, key=KEY)
    async with running(yaml, tmp_path) as gateway:
        assert await samples(gateway) == 0
        for _ in range(4):
            await gateway.post(ASK)
    async with running(yaml, tmp_path) as gateway:
        assert await samples(gateway) > 4


async def test_what_one_gateway_learns_its_neighbour_knows(one: Upstream, tmp_path: Path, redis: RedisServer) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    yamls = [CONFIG.format(folder=folder, redis=f', redis: "{redis.url}", redis_deadline_ms: 5000', one=one.base_url, key=KEY) for folder in folders]
    async with running(yamls[0], folders[0]) as first, running(yamls[1], folders[1]) as second:
        for _ in range(8):
            await first.post(ASK)
        seen = [await samples(second)]
        while seen[-1] < 7 and len(seen) < 7:  # the neighbour's eight, and not its own few
            await asyncio.sleep(2)
            seen.append(await samples(second))
        assert seen[-1] >= 7 > len(seen), seen
        assert second.runtime.readiness()["redis"] == {"error": None}


TWO = """
state: {{database: "sqlite:///{folder}/t.db"}}
providers: {{one: {{kind: openai-compatible, base_url: "{one}", api_key: k}}, two: {{kind: openai-compatible, base_url: "{two}", api_key: k}}}}
models:
  m:
    policy: soon
    targets:
      - {{provider: one, model: m1, price: {{input_usd_per_mtok: 1, output_usd_per_mtok: 1}}}}
      - {{provider: two, model: m2, price: {{input_usd_per_mtok: 2, output_usd_per_mtok: 2}}}}
policies: {{soon: {{objective: cheapest, slo: {{ttft_p95_ms: 400}}, explore: 0}}}}
teams: {{t: {{keys: [{key}]}}}}
"""


async def test_streamed_answers_that_begin_too_late_keep_the_first_unary_request_away(one: Upstream, two: Upstream, tmp_path: Path) -> None:
    async def late(x: Exchange) -> None:
        await asyncio.sleep(0.6)
        await good(x)

    one.plays["m1"] = late
    async with running(TWO.format(folder=tmp_path, one=one.base_url, two=two.base_url, key=KEY), tmp_path) as gateway:
        streamed = [(await gateway.post(ASK)).headers["x-turnout-target"] for _ in range(6)]
        assert streamed[0] == "one/m1" and streamed[-1] == "two/m2"
        unary = [(await gateway.post({**ASK, "stream": False})).headers["x-turnout-target"] for _ in range(4)]
        assert unary == ["two/m2"] * 4
