"""Two gateways over one PostgreSQL: what the one does the other knows, and no row is missing or there twice when it was away."""

import asyncio
import contextlib
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2

from tests.config.files import loaded
from tests.gateway.conftest import Gateway, running
from tests.gateway.test_nothing_lost import Load
from tests.gateway.upstream import Upstream
from tests.gateway.workers import eventually
from tests.postgres_server import PostgresServer, rows

PAGE = (Path(__file__).parent.parent.parent / "docs" / "postgresql.md").read_text()
ADMIN_KEY = "sk-admin-0123456789"
CONFIG = """
state: {{database: "{url}"}}
ledger: {{spool: "{folder}/spool"}}
providers: {{one: {{kind: openai-compatible, base_url: "{one}", api_key: k}}}}
policies: {{once: {{retry: {{max_attempts: 1}}}}}}
models: {{"one/*": {{policy: once, targets: [{{provider: one, model: "*", price: {{input_usd_per_mtok: 1, output_usd_per_mtok: 2}}}}]}}}}
teams: {{search: {{keys: [sk-search]}}}}
admin: {{port: 0, key: {admin}}}
"""
COST = "/v1/reports/cost?since=1h&group_by=team"


@contextlib.asynccontextmanager
async def two_hosts(url: str, upstream: Upstream, folder: Path) -> AsyncIterator[list[Gateway]]:
    """Each with a folder of its own."""
    async with contextlib.AsyncExitStack() as stack:
        hosts = []
        for name in ("a", "b"):
            (folder / name).mkdir()
            text = CONFIG.format(url=url, folder=folder / name, one=upstream.base_url, admin=ADMIN_KEY)
            hosts.append(await stack.enter_async_context(running(text, folder / name)))
        yield hosts


async def administer(host: Gateway, method: str, path: str, **content: Any) -> Any:
    assert host.runtime.admin is not None
    async with httpx2.AsyncClient(base_url=host.runtime.admin.url, headers={"authorization": f"Bearer {ADMIN_KEY}"}, trust_env=False) as http:
        answer = await http.request(method, path, **content)
        assert answer.is_success, answer.text
        return answer.json()


async def status(host: Gateway, key: str) -> int:
    return (await host.http.get("/v1/models", headers={"authorization": f"Bearer {key}"})).status_code


async def becomes(host: Gateway, key: str, wanted: int) -> None:
    while await status(host, key) != wanted:
        await asyncio.sleep(0.01)


async def test_what_one_host_does_the_other_knows(postgres: PostgresServer, one: Upstream, tmp_path: Path) -> None:
    url = postgres.database()
    async with two_hosts(url, one, tmp_path) as (a, b):
        assert "canary" not in json.dumps(await administer(a, "GET", "/admin/config"))
        key = await administer(a, "POST", "/admin/keys", json={"team": "search", "name": "ci"})
        await asyncio.wait_for(becomes(b, key["key"], 200), 20)
        for number in range(3):
            for host in (a, b):
                body = {"model": f"one/m{number}", "messages": [{"role": "user", "content": "Hi"}]}
                assert (await host.post(body, key["key"])).status_code == 200
        for host in (a, b):
            await asyncio.to_thread(host.runtime.ledger.flush)
        (cost,) = rows(url, "SELECT sum(cost_nusd)::bigint FROM attempts")
        for host in (a, b):
            (line,) = (await host.http.get(COST, headers={"authorization": "Bearer sk-search"})).json()["data"]
            assert line["requests"] == 6 and round(float(line["cost_usd"]) * 1e9) == cost[0] > 0
        turnout = Path(sys.executable).with_name("turnout")
        command = [turnout, "report", "usage", "--group-by", "team", "--json", "--config", tmp_path / "b" / "turnout.yaml"]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
        assert json.loads(done.stdout)[0]["requests"] == 6, done.stderr
        await administer(b, "DELETE", f"/admin/keys/{key['id']}")
        await asyncio.wait_for(becomes(a, key["key"], 401), 20)


async def test_a_server_that_is_killed_under_load_and_comes_back_has_every_row_once(postgres: PostgresServer, one: Upstream, tmp_path: Path) -> None:
    url = postgres.database()
    async with two_hosts(url, one, tmp_path) as hosts:
        loads = [Load(host.url, name, clients=3) for host, name in zip(hosts, "ab", strict=True)]
        await eventually(lambda: min(load.statuses[200] for load in loads) > 20)
        postgres.kill()
        try:
            await eventually(lambda: all(list((tmp_path / name / "spool").glob("*.rows")) for name in "ab"))
            assert [(await host.http.get("/health/ready")).status_code for host in hosts] == [200, 200]
            assert [await status(host, "sk-search") for host in hosts] == [200, 200]
        finally:
            postgres.start()
        before = [load.statuses[200] for load in loads]
        await eventually(lambda: all(load.statuses[200] > count + 20 for load, count in zip(loads, before, strict=True)))
        for load in loads:
            await load.stop()
            assert set(load.statuses) == {200}
    assert Counter(dict(rows(url, "SELECT model_sent, count(*) FROM attempts GROUP BY 1"))) == Counter(seen.body["model"] for seen in one.journal)
    assert not [path for name in "ab" for path in (tmp_path / name / "spool").iterdir()]


def test_the_example_of_the_page_loads_with_nothing_to_say(tmp_path: Path) -> None:
    [block] = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.M | re.S)
    result = loaded(tmp_path, block.replace("${LEDGER_PASSWORD}", "p%40ss"))
    assert result.settings.state.database.startswith("postgresql://turnout:p%40ss@db.example:5432/")
    assert "p%40ss" not in repr(result.settings)
