"""A model of many targets, through real sockets: whom a request looks at, what its decision tells of the others, and that they are not lost."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner

from gateway.cli.main import app
from policy.decision import MOST_TOLD
from policy.shortlist import NEAREST
from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Upstream, status

MANY = 60
CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  one: {{kind: openai-compatible, base_url: "{one}", api_key: k}}
models:
  m:
    policy: p
    targets: [{targets}]
policies: {{p: {{{policy}}}}}
teams: {{search: {{keys: [{key}], overrides: true, {team}}}}}
"""
Config = Callable[..., str]


@pytest.fixture
def config(one: Upstream, tmp_path: Path) -> Config:
    def text(policy: str = "objective: cheapest, explore: 0", team: str = "limits: {rpm: 100000}") -> str:
        targets = ", ".join(
            f"{{provider: one, model: m{n}, price: {{input_usd_per_mtok: {1 + n}, output_usd_per_mtok: {1 + n}}}}}" for n in reversed(range(MANY))
        )
        return CONFIG.format(folder=tmp_path, one=one.base_url, targets=targets, policy=policy, team=team, key=KEY)

    return text


async def asked(gateway: Gateway, **more: Any) -> httpx2.Response:
    return await gateway.post({"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 50, **more})


async def decided(gateway: Gateway, answer: httpx2.Response) -> dict[str, Any]:
    await asyncio.to_thread(gateway.runtime.ledger.flush)
    path = f"/v1/decisions/{answer.headers['x-request-id']}"
    told: dict[str, Any] = (await gateway.http.get(path, headers={"authorization": f"Bearer {KEY}"})).json()["decision"]
    return told


async def test_the_cheapest_of_many_answers_and_the_decision_tells_how_many_are_left_out(config: Config, tmp_path: Path) -> None:
    async with running(config(), tmp_path) as gateway:
        answers = [await asked(gateway) for _ in range(3)]
        assert {answer.headers["x-turnout-target"] for answer in answers} == {"one/m0"}
        told = await decided(gateway, answers[-1])
    names = [each["target"] for each in told["candidates"]]
    assert names == [f"one/m{n}" for n in range(NEAREST)]
    assert told["left_out"] == [{"rule": f"not among the nearest {NEAREST}", "targets": MANY - NEAREST}]


async def test_a_request_goes_on_beyond_the_nearest_while_it_may(config: Config, tmp_path: Path, one: Upstream) -> None:
    for n in range(NEAREST):
        one.plays[f"m{n}"] = status(503)
    async with running(config("objective: cheapest, explore: 0, retry: {max_attempts: 10}"), tmp_path) as gateway:
        answer = await asked(gateway)
        assert answer.status_code == 200 and answer.headers["x-turnout-target"] == f"one/m{NEAREST}", answer.text
        assert answer.headers["x-turnout-attempts"] == str(NEAREST + 1)
        assert [row.target + "/" + row.model_sent for row in await gateway.rows(answer.headers["x-request-id"])][-1] == f"one/m{NEAREST}"


async def test_fallback_none_goes_nowhere(config: Config, tmp_path: Path, one: Upstream) -> None:
    one.plays["m0"] = status(503)
    async with running(config("objective: cheapest, explore: 0, fallback: none"), tmp_path) as gateway:
        answer = await asked(gateway)
        rows = await gateway.rows(answer.headers["x-request-id"])
        assert answer.status_code == 503 and {row.model_sent for row in rows} == {"m0"}


async def test_targets_that_are_found_unwell_are_passed_over_by_the_next_request(config: Config, tmp_path: Path, one: Upstream) -> None:
    for n in range(NEAREST):
        one.plays[f"m{n}"] = status(429, **{"retry-after": "60"})
    async with running(config("objective: cheapest, explore: 0, retry: {max_attempts: 10}"), tmp_path) as gateway:
        assert (await asked(gateway)).headers["x-turnout-target"] == f"one/m{NEAREST}"
        again = await asked(gateway)
        assert (again.headers["x-turnout-target"], again.headers["x-turnout-attempts"]) == (f"one/m{NEAREST}", "1")


async def test_what_a_budget_leaves_is_found_among_all(config: Config, tmp_path: Path) -> None:
    """The dearest may cost 50 * 60 + the prompt's share, in millionths of a dollar: too much for what the budget has."""
    async with running(config("objective: ordered", "budget: {usd: 0.001, window: total}"), tmp_path) as gateway:
        answer = await asked(gateway)
        assert (answer.status_code, answer.headers.get("x-turnout-target")) == (200, "one/m0"), answer.text
        told = await decided(gateway, answer)
    assert told["left_out"] == [{"rule": "budget", "targets": MANY - MOST_TOLD}]


async def test_when_nobody_is_ready_the_caller_hears_when(config: Config, tmp_path: Path, one: Upstream) -> None:
    for n in range(MANY):
        one.plays[f"m{n}"] = status(429, **{"retry-after": "60"})
    async with running(config("objective: cheapest, explore: 0, retry: {max_attempts: 10}"), tmp_path) as gateway:
        refused = [(await asked(gateway)).status_code for _ in range(MANY // 10)]
        assert refused == [429] * len(refused)
        answer = await asked(gateway)
        assert answer.status_code == 503 and 50 < int(answer.headers["retry-after"]) <= 60, answer.text


async def test_explain_counts_those_that_it_does_not_show(config: Config, tmp_path: Path) -> None:
    text = config()
    async with running(text, tmp_path) as gateway:
        answer = await gateway.http.get("/v1/explain", params={"model": "m"}, headers={"authorization": f"Bearer {KEY}"})
    assert answer.json()["left_out"] == [{"rule": f"fallback, behind the first {MOST_TOLD}", "targets": MANY - MOST_TOLD}]
    shown = CliRunner().invoke(app, ["explain", "--model", "m", "--config", str(tmp_path / "turnout.yaml")])
    assert shown.exit_code == 0 and f"left out: {MANY - MOST_TOLD} (fallback, behind the first {MOST_TOLD})" in shown.output, shown.output
