"""What the workers of one gateway share beside its engines: the bootstrap key, kept answers, and by a real Redis what they learn."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gateway.sharing import PREFIX
from tests.gateway.redis_server import RedisServer
from tests.gateway.upstream import Exchange, Upstream, good
from tests.gateway.workers import KEY, Client, eventually, serving

pytestmark = pytest.mark.timeout(60)

TWO = """
state: {{database: "sqlite:///{folder}/turnout.db", redis: "{redis}", redis_deadline_ms: 5000}}
providers:
  one: {{kind: openai-compatible, base_url: "{one}", api_key: sk-x}}
  two: {{kind: openai-compatible, base_url: "{two}", api_key: sk-x}}
models:
  best: {{policy: quick, targets: [{{provider: one, model: m1, price: free}}, {{provider: two, model: m2, price: free}}]}}
  first: {{targets: [{{provider: one, model: m1, price: free}}]}}
  second: {{targets: [{{provider: two, model: m2, price: free}}]}}
policies: {{quick: {{objective: fastest, explore: 0}}}}
teams: {{search: {{keys: [{key}]}}}}
"""
KEPT = """
providers: {{one: {{kind: openai-compatible, base_url: "{one}", api_key: sk-x}}}}
models: {{solo: {{targets: [{{provider: one, model: m1, price: free}}]}}}}
"""


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="turnout-redis-") as folder:
        server = RedisServer(Path(folder)).start()
        yield server
        server.kill()


async def slow(x: Exchange) -> None:
    await asyncio.sleep(0.3)
    await good(x)


async def test_what_one_worker_learns_the_other_decides_by(one: Upstream, two: Upstream, redis: RedisServer, tmp_path: Path) -> None:
    one.plays["m1"] = slow
    text = TWO.format(folder=tmp_path, redis=redis.url, one=one.base_url, two=two.base_url, key=KEY)
    async with serving(text, tmp_path) as gateway:
        clients = await gateway.both(each=4)
        learner, other = clients[1], clients[2][0]
        await asyncio.gather(*(client.chat(model, stream=True) for client in learner for model in ("first", "second") for _ in range(5)))

        async with asyncio.timeout(30):
            while (await other.chat("best", stream=True)).headers["x-turnout-target"] != "two/m2":
                await asyncio.sleep(0.2)
        client = Redis.from_url(redis.url)
        assert await client.scard(f"{PREFIX}members") == 2  # type: ignore[misc]
        await client.aclose()
        redis.kill()
        lines = await eventually(lambda: len(found := gateway.told("statistics are not shared")) == 2 and found)
        assert {line["worker"] for line in lines} == {1, 2}, "a line names its worker"
        assert [(await each[0].chat("first")).status_code for each in clients.values()] == [200, 200]


async def test_an_answer_that_one_worker_keeps_the_other_goes_on_from(one: Upstream, tmp_path: Path) -> None:
    async with serving(KEPT.format(one=one.base_url), tmp_path) as gateway:
        key = (tmp_path / "bootstrap.key").read_text().strip()
        assert gateway.printed.count(key) == 2, "as the key, and in the line to paste"
        clients = await gateway.both(each=1)
        turns = [clients[place][0] for place in (1, 2, 1, 2, 2, 1)]
        previous: dict[str, str] = {}
        for client in turns:
            previous = await followed(client, key, previous)
        assert len(one.journal[-1].body["messages"]) == 2 * len(turns) - 1
        path, headers = f"/v1/responses/{previous['previous_response_id']}", {"authorization": f"Bearer {key}"}
        assert (await clients[1][0].get(path, headers=headers)).status_code == 200
        assert (await clients[2][0].delete(path, headers=headers)).status_code == 200
        assert (await clients[1][0].get(path, headers=headers)).status_code == 404


async def followed(client: Client, key: str, previous: dict[str, str]) -> dict[str, str]:
    body = {"model": "solo", "input": "And then?", **previous}
    answer = await client.post("/v1/responses", json=body, headers={"authorization": f"Bearer {key}"})
    assert answer.status_code == 200, answer.text
    return {"previous_response_id": answer.json()["id"]}
