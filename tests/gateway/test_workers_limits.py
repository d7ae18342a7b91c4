"""A limit holds for all workers together, by a real Redis."""

import asyncio
import tempfile
import time
from pathlib import Path

from tests.gateway.redis_server import RedisServer
from tests.gateway.upstream import Upstream
from tests.gateway.workers import KEY, serving

LIMITED = """
state: {{database: "sqlite:///{folder}/turnout.db", redis: "{redis}", redis_deadline_ms: 5000}}
providers: {{one: {{kind: openai-compatible, base_url: "{one}", api_key: sk-x}}}}
models: {{solo: {{targets: [{{provider: one, model: m1, price: free}}]}}}}
teams: {{search: {{keys: [{key}], limits: {{rpm: 30}}}}}}
"""


async def test_a_limit_holds_for_all_workers_together(one: Upstream, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="turnout-redis-") as place:
        redis = RedisServer(Path(place)).start()
        try:
            async with serving(LIMITED.format(folder=tmp_path, redis=redis.url, one=one.base_url, key=KEY), tmp_path) as gateway:
                clients = await gateway.both(each=4)
                asked = [client.chat("solo") for _ in range(10) for each in clients.values() for client in each]
                began = time.monotonic()
                statuses = [answer.status_code for answer in await asyncio.gather(*asked)]
                took_s = time.monotonic() - began
                assert set(statuses) == {200, 429} and 30 <= statuses.count(200) <= 31 + took_s / 2, "thirty, and one more every two seconds"
        finally:
            redis.kill()
