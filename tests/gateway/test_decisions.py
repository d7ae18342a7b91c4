"""What was decided about a request can be asked for afterwards, by its own team; and what was predicted is held against what came."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from ledger.described import describe_request
from ledger.row import AttemptRow
from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Upstream, silent, status

NARROW = "sk-narrow"
PRICE = "price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}"
TOO_DEAR = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers: {{one: {{kind: openai-compatible, base_url: "{one}", api_key: sk-x}}}}
models:
  pair: {{policy: careful, targets: [{{provider: one, model: m1, {price}}}, {{provider: one, model: m2, {price}}}]}}
policies: {{careful: {{objective: cheapest, max_usd_per_request: 0.000001}}}}
teams: {{search: {{keys: [{key}]}}}}
"""


async def get(gateway: Gateway, path: str, key: str = KEY) -> httpx2.Response:
    return await gateway.http.get(path, headers={"authorization": f"Bearer {key}"})


async def asked(gateway: Gateway, model: str = "pair", **fields: Any) -> str:
    """Asks, and gives the request's id."""
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "stream": True, "max_tokens": 40, **fields}
    return (await gateway.post(body)).headers["x-request-id"]


async def decision(gateway: Gateway, request_id: str) -> dict[str, Any]:
    answer = await get(gateway, f"/v1/decisions/{request_id}")
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


# --- what a decision tells -------------------------------------------------------------------------------------------------
async def test_a_decision_tells_every_candidate_its_place_and_why_the_winner_won(gateway: Gateway) -> None:
    told = await decision(gateway, await asked(gateway))
    decided = told["decision"]
    assert (told["status"], told["model"], told["stream"], told["team"]) == ("ok", "pair", True, "search")
    assert (decided["chosen"], decided["why"], decided["max_tokens"]) == ("one/m1", "first in order", 40)
    assert [(c["target"], c["verdict"], c["rule"]) for c in decided["candidates"]] == [
        ("one/m1", "chosen", "first in order"),
        ("two/m2", "fallback", "fallback"),
    ]
    assert decided["candidates"][0]["ttft_p95_ms"] is None and decided["candidates"][0]["cost_usd"] is None, "nothing was known yet"


async def test_a_decision_tells_a_target_that_asked_to_be_left_alone_from_one_that_fails(gateway: Gateway, one: Upstream) -> None:
    one.plays["m1"] = status(503, retry_after="30")
    await asked(gateway)
    decided = (await decision(gateway, await asked(gateway)))["decision"]
    assert [(c["target"], c["rule"]) for c in decided["candidates"] if c["verdict"] == "removed"] == [
        ("one/m1", "not ready: it asked to be left alone for a while")
    ]


async def test_a_decision_tells_what_then_happened(gateway: Gateway, one: Upstream) -> None:
    one.plays["m1"] = status(503)
    told = await decision(gateway, await asked(gateway))
    assert told["decision"]["chosen"] == "one/m1" and told["status"] == "ok"
    assert told["attempts"][0]["target"] == "one" and told["attempts"][0]["status"] == "failed"
    assert told["attempts"][-1]["target"] == "two" and told["attempts"][-1]["status"] == "ok"


async def test_a_request_that_no_target_was_left_for_has_a_decision_too(one: Upstream, tmp_path: Path) -> None:
    yaml = TOO_DEAR.format(folder=tmp_path, one=one.base_url, key=KEY, price=PRICE)
    async with running(yaml, tmp_path) as gateway:
        told = await decision(gateway, await asked(gateway))
    assert told["decision"]["chosen"] is None and told["status"] == "failed"
    assert {c["rule"].split(":")[0] for c in told["decision"]["candidates"]} == {"max_usd_per_request"}
    assert one.journal == [] and [attempt["attempt"] for attempt in told["attempts"]] == [0]


# --- who may ask -----------------------------------------------------------------------------------------------------------
async def test_another_team_s_decision_looks_like_one_that_is_not_there(gateway: Gateway) -> None:
    own = await asked(gateway, "solo")
    told = []
    for request_id in (own, "req_none"):
        answer = await get(gateway, f"/v1/decisions/{request_id}", NARROW)
        told.append((answer.status_code, answer.text.replace(answer.headers["x-request-id"], "").replace(request_id, "")))
    assert told[0] == told[1] and told[0][0] == 404


@pytest.mark.parametrize("path", ["/v1/decisions/req_x", "/v1/reports/calibration"])
async def test_without_a_key_nothing_is_told(gateway: Gateway, path: str) -> None:
    assert (await gateway.http.get(path)).status_code == 401


async def test_a_decision_that_may_still_be_unwritten_is_not_told_to_be_missing(gateway: Gateway, tmp_path: Path) -> None:
    lock = sqlite3.connect(tmp_path / "turnout.db", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    try:
        answer = await get(gateway, f"/v1/decisions/{await asked(gateway)}")
    finally:
        lock.execute("COMMIT")
        lock.close()
    assert answer.status_code == 503 and answer.json()["error"]["code"] == "ledger_unavailable"


# --- both runners of a race are in the ledger ------------------------------------------------------------------------------
HEDGED = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  one: {{kind: openai-compatible, base_url: "{one}"}}
  two: {{kind: openai-compatible, base_url: "{two}"}}
models: {{pair: {{policy: racing, targets: [{{provider: one, model: m1, {price}}}, {{provider: two, model: m2, {price}}}]}}}}
policies: {{racing: {{hedge: {{after: 50, max_extra_spend: 1}}}}}}
teams: {{search: {{keys: [{key}]}}}}
"""


@pytest.fixture
async def race(one: Upstream, two: Upstream, tmp_path: Path) -> AsyncIterator[list[AttemptRow]]:
    """The rows of a request whose first runner was silent, so that the second one answered."""
    one.plays["m1"] = silent
    yaml = HEDGED.format(folder=tmp_path, one=one.base_url, two=two.base_url, key=KEY, price=PRICE)
    async with running(yaml, tmp_path) as gateway:
        yield await gateway.rows(await asked(gateway))


async def test_who_lost_a_race_is_abandoned_and_charged_to_nobody(race: list[AttemptRow]) -> None:
    assert [(row.target, row.status, row.billed) for row in race] == [("one", "abandoned", "gateway"), ("two", "ok", "team")]
    assert spend_of(race) == (race[1].cost_nusd, race[0].cost_nusd)


async def test_the_prompt_of_who_lost_a_race_is_paid_for_by_an_estimate(race: list[AttemptRow]) -> None:
    lost = race[0].usage
    assert lost is not None and lost.source == "estimated" and lost.input_uncached == race[0].prompt_tokens_estimated
    assert lost.output_total is None and race[0].cost_nusd == lost.input_uncached * 1_000


async def test_the_prompt_of_an_attempt_that_timed_out_is_estimated_and_absorbed(config_text: Any, one: Upstream, tmp_path: Path) -> None:
    one.plays["m1"] = silent
    async with running(config_text("{headers_s: 0.2}"), tmp_path) as gateway:
        late, answered = await gateway.rows(await asked(gateway))
    assert (late.status, late.billed, late.usage.source) == ("failed", "gateway", "estimated") and late.usage.input_uncached > 10
    assert (answered.status, answered.billed, answered.usage.source) == ("ok", "team", "provider")


async def test_an_attempt_that_failed_at_once_used_nothing(gateway: Gateway, one: Upstream) -> None:
    one.plays["m1"] = status(503)
    assert (await gateway.rows(await asked(gateway)))[0].usage is None


def spend_of(rows: list[AttemptRow]) -> tuple[int | None, int | None]:
    told = describe_request(rows)
    return tuple(None if usd is None else int(usd.replace(".", "")) for usd in (told["cost_usd"], told["absorbed_usd"]))  # type: ignore[return-value]


# --- predicted and actual --------------------------------------------------------------------------------------------------
@pytest.fixture
async def practised(gateway: Gateway) -> AsyncIterator[Gateway]:
    """A gateway whose targets have answered so often that they are known."""
    for _ in range(8):
        await asked(gateway)
    yield gateway


async def test_what_was_predicted_is_stored_with_the_attempt(practised: Gateway) -> None:
    told = await decision(practised, await asked(practised))
    predicted = told["attempts"][0]["predicted"]
    assert predicted["ttft_p95_ms"] > 0 and predicted["end_p95_ms"] >= predicted["ttft_p95_ms"]
    assert predicted["end_ms"] > 0 and predicted["output_tokens"] == 5 and predicted["prompt_tokens"] > 10
    assert told["decision"]["candidates"][0]["samples"] > 3


async def test_calibration_counts_the_attempts_that_were_predicted(practised: Gateway) -> None:
    report = (await get(practised, "/v1/reports/calibration?since=1h&group_by=target")).json()
    assert report["group_by"] == ["target"]
    (found,) = report["data"]
    assert found["target"] == "one/m1" and 0 < found["ttft"]["n"] <= 8 and found["end_ms"]["n"] == found["ttft"]["n"]
    assert found["output_tokens"]["bias_share"] == 0.0 and found["cost_usd"]["n"] == 0


async def test_calibration_is_of_the_caller_s_own_team(practised: Gateway) -> None:
    assert (await get(practised, "/v1/reports/calibration", NARROW)).json()["data"] == []


@pytest.mark.parametrize(("query", "param"), [("since=yesterday", "since"), ("group_by=team", "group_by")])
async def test_a_wrong_parameter_of_calibration_is_named(gateway: Gateway, query: str, param: str) -> None:
    answer = await get(gateway, f"/v1/reports/calibration?{query}")
    assert answer.status_code == 400 and answer.json()["error"]["param"] == param
