"""Weights share a model's requests, under a pattern too; the request's id alone draws."""

from collections import Counter
from pathlib import Path

import pytest

from tests.gateway.conftest import KEY, running
from tests.gateway.upstream import Upstream

CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  one: {{kind: openai-compatible, base_url: "{one}"}}
  two: {{kind: openai-compatible, base_url: "{two}"}}
models:
  canary: {{targets: [{{provider: one, model: m1, weight: 3}}, {{provider: two, model: m2, weight: 1}}]}}
  "any/*": {{targets: [{{provider: one, model: "*", weight: 3, context: 5000}}, {{provider: two, model: "*", weight: 1}}]}}
teams: {{t: {{keys: [{key}]}}}}
"""
REQUESTS = 60  # with a quarter's share, fewer than 3 or more than 40 of them at the second are a chance of less than 1 in 100,000


@pytest.mark.parametrize("model", ["canary", "any/thing"])
async def test_targets_with_weights_share_the_requests(one: Upstream, two: Upstream, tmp_path: Path, model: str) -> None:
    async with running(CONFIG.format(folder=tmp_path, one=one.base_url, two=two.base_url, key=KEY), tmp_path) as gateway:
        body = {"model": model, "messages": [{"role": "user", "content": "Hello?"}]}
        answers = [await gateway.post(body) for _ in range(REQUESTS)]
    first = Counter(answer.headers["x-turnout-target"].partition("/")[0] for answer in answers)
    assert 3 <= first["two"] <= 40 and first["one"] + first["two"] == REQUESTS


async def test_what_a_pattern_matched_keeps_its_targets_weights_and_context(one: Upstream, two: Upstream, tmp_path: Path) -> None:
    async with running(CONFIG.format(folder=tmp_path, one=one.base_url, two=two.base_url, key=KEY), tmp_path) as gateway:
        route = gateway.runtime.routes.find("any/thing")
    assert route is not None
    assert [(each.weight, each.context_tokens) for each in route.candidates] == [(3, 5000), (1, None)]
