"""Several workers tell their metrics together, whichever is asked, and those of one that died stay."""

from pathlib import Path

import pytest

from tests.gateway.test_metrics import METRICS_KEY, Values, read, total
from tests.gateway.upstream import Upstream
from tests.gateway.workers import KEY, Client, eventually, kill, serving

pytestmark = pytest.mark.timeout(60)
CONFIG = """
metrics: {{key: {metrics_key}}}
providers: {{one: {{kind: openai-compatible, base_url: "{url}", api_key: sk-x}}}}
models: {{solo: {{targets: [{{provider: one, model: m1, price: free}}]}}}}
teams: {{search: {{keys: [{key}]}}}}
"""


async def scrape(client: Client) -> Values:
    return read((await client.get("/metrics", headers={"authorization": f"Bearer {METRICS_KEY}"})).text)


async def test_every_worker_tells_what_all_counted_and_a_death_takes_nothing_back(one: Upstream, tmp_path: Path) -> None:
    async with serving(CONFIG.format(url=one.base_url, key=KEY, metrics_key=METRICS_KEY), tmp_path) as gateway:
        clients = {place: each[0] for place, each in (await gateway.both()).items()}
        for place, client in clients.items():
            for _ in range(place * 2):
                assert (await client.chat("solo")).status_code == 200
            for asked in clients.values():
                values = await scrape(asked)
                assert total(values, "turnout_processes") == 2
                assert total(values, "turnout_requests_total") == total(values, "turnout_attempts_total") == (2 if place == 1 else 6)
        pid = gateway.pids()[1]
        kill(pid)
        await eventually(lambda: gateway.pids()[1] != pid)
        values = await scrape(clients[2])
        assert total(values, "turnout_requests_total") == 6, "it had told its parent when the metrics were asked for"
        assert total(values, "turnout_processes") == 2
