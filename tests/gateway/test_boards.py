"""deploy/: every metric that a board or an alert names is told by a real gateway that served traffic, and promtool takes every expression."""

import asyncio
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.config.files import ROOT
from tests.gateway.conftest import KEY, running
from tests.gateway.redis_server import RedisServer
from tests.gateway.test_metrics import METRICS_KEY, body, read, scrape
from tests.gateway.upstream import Upstream, status

BOARDS = sorted((ROOT / "deploy" / "grafana").glob("*.json"))
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yaml"
NAME = re.compile(r"\b(?:turnout|vllm|llamacpp)[_:]\w+")
CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db", redis: "{redis}"}}
metrics: {{key: {metrics_key}}}
providers:
  one: {{kind: openai-compatible, base_url: "{one}", api_key: k}}
  told: {{kind: openai-compatible, base_url: "{one}", api_key: k, metrics: "{page}"}}
engines:
  cpu: {{kind: llamacpp, model: "builtin:smollm2-135m-instruct", slots: 1, threads: 1, context: 512, gpu_usd_per_hour: 3.6}}
policies: {{kept: {{cache: {{}}}}, slo: {{slo: {{deadline_ms: 60000}}}}}}
models:
  solo: {{policy: slo, targets: [{{provider: one, model: m1, price: {{input_usd_per_mtok: 1, output_usd_per_mtok: 2}}}}]}}
  kept: {{policy: kept, targets: [{{provider: one, model: m1, price: {{input_usd_per_mtok: 1, output_usd_per_mtok: 2}}}}]}}
  odd: {{targets: [{{provider: told, model: m2}}]}}
  fails: {{targets: [{{provider: one, model: fails, price: free}}]}}
  own: {{targets: [{{engine: cpu}}]}}
teams: {{search: {{keys: [{key}]}}, paying: {{keys: [sk-paying], models: [solo], budget: {{usd: 20, window: day}}}}}}
"""
PAGE = """# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{engine="0",model_name="m"}} 1.0
vllm:num_requests_waiting{{engine="0",model_name="m"}} 0.0
vllm:kv_cache_usage_perc{{engine="0",model_name="m"}} 0.25
vllm:prefix_cache_queries_total{{engine="0",model_name="m"}} {0}
vllm:prefix_cache_hits_total{{engine="0",model_name="m"}} {0}
vllm:prompt_tokens_total{{engine="0",model_name="m"}} {0}
vllm:generation_tokens_total{{engine="0",model_name="m"}} {0}
"""


def expressions() -> list[tuple[str, str]]:
    """Each with where it stands."""
    found = [
        (f"{board.stem}: {panel['title']}", query["expr"])
        for board in BOARDS
        for panel in json.loads(board.read_text())["panels"]
        for query in panel["targets"]
    ]
    found += [(f"alert {rule['alert']}", rule["expr"]) for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    return found


async def test_every_metric_that_is_named_exists_in_a_scrape(one: Upstream, two: Upstream, tmp_path: Path) -> None:
    count = 0

    async def page(x: Any) -> None:
        nonlocal count
        count += 100
        await x.respond(200, PAGE.format(count).encode(), "text/plain")

    two.default, one.plays["fails"] = page, status(500)
    redis = RedisServer(tmp_path).start()
    text = CONFIG.format(
        folder=tmp_path, one=one.base_url, page=f"http://127.0.0.1:{two.port}/metrics", redis=redis.url, key=KEY, metrics_key=METRICS_KEY
    )
    named = {name for _, expression in expressions() for name in NAME.findall(expression)}
    try:
        async with running(text, tmp_path) as gateway:
            for model in ("solo", "kept", "kept", "odd", "fails", "own"):
                for stream in (False, True):
                    await gateway.post(body(model, stream=stream, max_tokens=4))
            await gateway.post(body("solo"), key="sk-paying")
            async with asyncio.timeout(60):
                while named - {name for name, _ in read(await scrape(gateway))}:
                    await asyncio.sleep(0.2)
            own = await scrape(gateway)
    finally:
        redis.kill()
    assert len(named) > 30 and 'llamacpp:prompt_tokens_total{engine="cpu"}' in own


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_takes_the_alert_rules_and_every_expression_of_the_boards(tmp_path: Path) -> None:
    subprocess.run(["promtool", "check", "rules", ALERTS], check=True, capture_output=True)
    rules = [
        {"record": f"board:{number}", "expr": re.sub(r"\$__rate_interval", "5m", re.sub(r'"\$\w+"', '".*"', expression))}
        for number, (_, expression) in enumerate(expressions())
    ]
    (tmp_path / "boards.yaml").write_text(yaml.safe_dump({"groups": [{"name": "boards", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", tmp_path / "boards.yaml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "prometheus"
    shutil.copytree(ALERTS.parent, folder)
    (folder / "metrics.key").write_text("k")
    done = subprocess.run(["promtool", "check", "config", folder / "prometheus.yaml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.stem)
def test_a_board_s_panels_do_not_lie_on_one_another_and_its_variables_are_used(board: Path) -> None:
    told = json.loads(board.read_text())
    places = [(p["gridPos"]["x"] + dx, p["gridPos"]["y"] + dy) for p in told["panels"] for dx in range(p["gridPos"]["w"]) for dy in range(8)]
    assert len(places) == len(set(places)) and max(x for x, _ in places) < 24
    assert len({panel["id"] for panel in told["panels"]}) == len(told["panels"])
    for variable in told["templating"]["list"]:
        assert f"${variable['name']}" in board.read_text() or f"${{{variable['name']}}}" in board.read_text()
