"""`/v1/replay` and `/admin/replay`: the figures of `turnout replay`, for a team its own, one at a time, in a process that ends with its gateway."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from typer.testing import CliRunner

from bench.policy.week import TEAMS, Week, config
from gateway.cli.main import app
from gateway.replay.api import new_id
from gateway.replay.asked import NewReplay, job_of
from gateway.replay.jobs import Jobs
from tests.gateway.conftest import Gateway, running
from tests.gateway.oidc_admin import ADMIN_KEY

pytestmark = pytest.mark.asyncio(loop_scope="module")
MORE = """
admin: {{port: 0, key: {key}}}
organisations: {{acme: {{budget: {{usd: 0.001, window: month}}}}}}
teams:
  {one}: {{keys: [sk-one], organisation: acme, budget: {{usd: 0.001, window: month}}}}
  {two}: {{keys: [sk-two], budget: {{usd: 0.001, window: month}}}}
"""
ONE, TWO = list(dict.fromkeys(TEAMS))[:2]
FRUGAL = "policies: {frugal: {objective: cheapest, slo: {ttft_p95_ms: 1000}}}\nmodels: {chat: {policy: frugal}}"


def written(folder: Path) -> str:
    """What is in force, less the engine: nobody is asked, and it would have to start."""
    lines = config("spread").split("teams:")[0].replace("sqlite:///turnout.db", f"sqlite:///{folder}/turnout.db").splitlines()
    return "\n".join(line for line in lines if "cpu" not in line and not line.startswith("engines:")) + "\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """After a day and a half of 1,200 requests."""
    folder = tmp_path_factory.mktemp("replay")
    Week(requests=1_200, days=1.5).record(folder, "spread", time.time_ns() // 1000 - 1_000_000)
    async with running(written(folder) + MORE.format(key=ADMIN_KEY, one=ONE, two=TWO), folder) as gateway:
        yield gateway


async def begun(gateway: Gateway, key: str = "sk-one", **asked: Any) -> httpx2.Response:
    """Once no other runs."""
    async with asyncio.timeout(60):
        while (answer := await gateway.post({"policy": FRUGAL, **asked}, key=key, path="/v1/replay")).status_code == 429:
            assert answer.json()["error"]["code"] == "replay_running" and answer.headers["retry-after"] == "5"
            await asyncio.sleep(0.1)
    return answer


async def done(gateway: Gateway, id: str, key: str = "sk-one") -> dict[str, Any]:
    answer = await gateway.http.get(f"/v1/replay/{id}?wait_s=60", headers={"x-api-key": key})
    told: dict[str, Any] = answer.json()
    assert answer.status_code == 200 and told["status"] == "done", told
    return told


async def as_admin(gateway: Gateway, method: str, path: str, **content: Any) -> httpx2.Response:
    assert gateway.runtime.admin is not None
    headers = {"authorization": f"Bearer {ADMIN_KEY}"}
    return await gateway.http.request(method, f"{gateway.runtime.admin.url}/admin/{path}", headers=headers, **content)


async def test_a_team_gets_the_command_s_figures_and_of_the_budgets_its_own(gateway: Gateway, tmp_path: Path) -> None:
    began = await begun(gateway, fail_if=["cost>-100%", "slo<0%"])
    assert began.status_code == 202 and began.json()["status"] == "running"
    second = await gateway.post({"policy": FRUGAL}, key="sk-two", path="/v1/replay")
    assert (second.status_code, second.json()["error"]["code"]) == (429, "replay_running")
    told = await done(gateway, began.json()["id"])
    result = told.pop("result")
    assert (told["team"], told["since"], told["progress"], told["error"]) == (ONE, "7d", 1.0, None)
    assert {each["scope"] for each in result["budgets"]} == {f"team:{ONE}"}
    assert [why.split(":")[0] for why in result["failures"]] == ["cost>-100%"]

    file = tmp_path / "whole.yaml"
    text = written(Path(gateway.runtime.settings.state.database.removeprefix("sqlite:///")).parent).replace("policy: spread", "policy: frugal")
    policy = "  frugal: {objective: cheapest, slo: {ttft_p95_ms: 1000}}"
    text = re.sub(r", weight: [0-9.]+", "", text)  # shares are for policies that go by them
    file.write_text(f"{text}{policy}\n{MORE.format(key=ADMIN_KEY, one=ONE, two=TWO)}")
    command = CliRunner().invoke(app, ["replay", str(file), "--team", ONE, "--json"])
    assert command.exit_code == 0, command.output
    printed = json.loads(command.stdout)
    same = ("requests", "no_evidence", "same_target", "cost", "ttft", "end", "slo", "failed", "targets")
    assert {name: result[name] for name in same} == {name: printed[name] for name in same}
    assert {each["scope"] for each in printed["budgets"]} == {f"team:{ONE}", "organisation:acme"}


async def test_an_administrator_plans_everybody_s_requests_by_anything(gateway: Gateway) -> None:
    policy = {"models": {"chat": {"targets": [{"provider": "cheap", "model": "small"}]}}, "state": {"database": "sqlite:////nowhere.db"}}
    async with asyncio.timeout(60):
        while (began := await as_admin(gateway, "POST", "replay", json={"policy": policy})).status_code == 429:
            await asyncio.sleep(0.1)
    assert began.status_code == 202, began.text
    told = (await as_admin(gateway, "GET", f"replay/{began.json()['id']}?wait_s=60")).json()
    assert told["status"] == "done" and told["team"] is None
    first = {each["target"]: each["replayed"] for each in told["result"]["targets"] if each["replayed"]}
    assert list(first) == ["cheap/small"] and told["result"]["requests"]["planned"] > 1_000
    theirs = await gateway.http.get(f"/v1/replay/{told['id']}", headers={"x-api-key": "sk-one"})
    assert theirs.status_code == 404


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"policy": "policies: {x: {objective: nonsense}}"}, "policy"),
        ({"policy": "policies: {x: {objective: cheapest"}, "policy"),
        ({"policy": "[]"}, "policy"),
        ({"policy": {}}, "policy"),
        ({"policy": {"models": {"chat": {"targets": []}}}}, "policy"),
        ({"policy": {"models": {"chat": {"policy": "nobody-s"}}}}, "policy"),
        ({"policy": {"models": {"hidden": {"policy": "spread"}}}}, "model"),
        ({"policy": {"providers": {"evil": {"kind": "openai", "base_url": "http://127.0.0.1:9"}}}}, "policy"),
        ({"policy": FRUGAL, "since": "soon"}, "since"),
        ({"policy": FRUGAL, "evidence": "90d"}, "evidence"),
        ({"policy": FRUGAL, "fail_if": ["cost"]}, "fail_if"),
        ({"policy": FRUGAL, "team": "search-2"}, "team"),
        ({"policy": FRUGAL, "more": 1}, "more"),
        ({"policy": "policies: &a {x: *a}"}, "policy"),
    ],
)
async def test_what_cannot_be_planned_is_refused_at_its_field(gateway: Gateway, body: dict[str, Any], param: str) -> None:
    answer = await gateway.post(body, key="sk-one", path="/v1/replay")
    assert answer.status_code in (400, 404) and answer.json()["error"]["param"] == param, answer.text


async def test_no_variable_is_filled_in_and_no_file_is_read(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY_SECRET", "canary-secret")
    for text in ("${CANARY_SECRET}", "${file:/proc/self/environ}"):
        answer = await gateway.post({"policy": {"policies": {"x": {"objective": text}}}}, key="sk-one", path="/v1/replay")
        assert answer.status_code == 400 and "canary-secret" not in answer.text


async def test_a_replay_ends_with_its_gateway_and_says_so(gateway: Gateway) -> None:
    database = gateway.runtime.settings.state.database
    jobs, another = Jobs(database), Jobs(database)
    async with asyncio.timeout(60):
        while another.runs:
            await asyncio.sleep(0.1)
    job = job_of(new_id(), NewReplay(policy=FRUGAL), gateway.runtime.settings, ONE, None)
    jobs.start(job)
    assert another.find(job.id, ONE)["status"] == "running" and another.runs == job.id
    jobs.stop()
    told = another.find(job.id, ONE)
    assert told["status"] == "failed" and "ended before it was done" in told["error"]
    assert another.runs is None  # its turn is over
