"""`GET /metrics` of a real gateway that served traffic, held against its ledger, and read by Prometheus' own parsers."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from config.load import load
from gateway.cli.settings import known_kinds
from gateway.metrics.exposition import exposition
from gateway.metrics.families import FAMILIES
from gateway.metrics.snapshot import Snapshot
from tests.config.files import ROOT
from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Exchange, Upstream, chunk, silent, status

OTHER = "sk-other-team"
METRICS_KEY = "metrics-key-of-the-tests"
CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
metrics: {{key: {metrics_key}}}
providers:
  one: {{kind: openai-compatible, base_url: "{one}", api_key: k}}
  two: {{kind: openai-compatible, base_url: "{two}", api_key: k}}
policies:
  kept: {{cache: {{}}}}
  slo: {{slo: {{deadline_ms: 60000}}}}
models:
  solo: {{policy: slo, targets: [{{provider: one, model: m1, price: {{input_usd_per_mtok: 1, output_usd_per_mtok: 2}}}}]}}
  pair: {{targets: [{{provider: one, model: fails, price: free}}, {{provider: two, model: m2, price: free}}]}}
  kept: {{policy: kept, targets: [{{provider: two, model: m2, price: {{input_usd_per_mtok: 1, output_usd_per_mtok: 2}}}}]}}
  "any/*": {{targets: [{{provider: one, model: "*"}}]}}
organisations: {{acme: {{budget: {{usd: 50, window: month}}}}}}
teams:
  search: {{keys: [{key}], organisation: acme, budget: {{usd: 20, window: day}}}}
  other: {{keys: [{other}]}}
"""

Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(text: str, parser: Callable[[str], Any] = text_families) -> Values:
    return {(sample.name, frozenset(sample.labels.items())): sample.value for family in parser(text) for sample in family.samples}


def total(values: Values, metric: str, /, **labels: str) -> float:
    """The sum over all samples that have these labels."""
    return sum(value for (each, told), value in values.items() if each == metric and labels.items() <= dict(told).items())


async def scrape(gateway: Gateway, accept: str = "text/plain") -> str:
    answer = await gateway.http.get("/metrics", headers={"authorization": f"Bearer {METRICS_KEY}", "accept": accept})
    assert answer.status_code == 200, answer.text
    return answer.text


def body(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hello"}], **more}


async def cut(x: Exchange) -> None:
    await x.start_stream()
    await x.event(chunk({"content": "Hello"}))
    x.reset()


@pytest.fixture
async def watched(one: Upstream, two: Upstream, tmp_path: Path) -> AsyncIterator[Gateway]:
    one.plays |= {"fails": status(500), "cut": cut, "silent": silent}
    text = CONFIG.format(folder=tmp_path, one=one.base_url, two=two.base_url, key=KEY, metrics_key=METRICS_KEY, other=OTHER)
    async with running(text, tmp_path) as gateway:
        yield gateway


async def traffic(gateway: Gateway) -> list[int]:
    """Every kind of end that a request may have; the statuses."""
    asked = [body("solo"), body("solo", stream=True), body("pair"), body("kept"), body("kept"), body("nowhere"), body("any/m7")]
    answers = [await gateway.post(each) for each in asked]  # the last one has no price, and so no place in a budget
    answers += [await gateway.post(each, key=OTHER) for each in (body("any/m7"), body("any/fails"), body("any/cut", stream=True))]
    answers.append(await gateway.post(body("solo"), key="sk-nobody"))
    with pytest.raises(asyncio.TimeoutError):
        async with asyncio.timeout(0.5):
            await gateway.post(body("any/silent"), key=OTHER)
    return [answer.status_code for answer in answers]


async def test_what_is_counted_is_what_the_ledger_has(watched: Gateway) -> None:
    statuses = await traffic(watched)
    while "client_closed" not in {row.status for row in await watched.all_rows()}:
        await asyncio.sleep(0.01)
    rows = await watched.all_rows()
    values = read(await scrape(watched))
    assert total(values, "turnout_attempts_total") == len(rows)
    for state in {row.status for row in rows}:
        assert total(values, "turnout_attempts_total", status=state) == sum(row.status == state for row in rows), state
    told = total(values, "turnout_requests_total")
    assert told - total(values, "turnout_requests_total", model="") == len({row.request_id for row in rows})
    assert told == len(statuses) + 1, "and the one that left"
    assert total(values, "turnout_requests_total", outcome="client_closed", status="none") == 1
    assert total(values, "turnout_requests_total", outcome="cut", status="200") == 1
    assert total(values, "turnout_requests_total", model="", status="401") == total(values, "turnout_requests_total", model="", status="404") == 1
    cost = sum(row.cost_nusd or 0 for row in rows) / 1e9
    assert cost > 0 and total(values, "turnout_cost_usd_total") == pytest.approx(cost)
    output = sum(row.usage.output_visible or 0 for row in rows if row.usage)
    assert total(values, "turnout_tokens_total", type="output_visible") == output
    assert total(values, "turnout_cache_requests_total", result="hit") == 1
    assert total(values, "turnout_cache_saved_usd_total") == pytest.approx(sum(row.saved_nusd or 0 for row in rows) / 1e9)
    assert total(values, "turnout_slo_requests_total", met="true") == 2
    assert total(values, "turnout_attempt_errors_total", target="one") == sum(row.target == "one" and row.error_code is not None for row in rows)
    assert total(values, "turnout_attempts_in_flight") == 0


async def test_a_name_that_a_client_made_up_is_no_label(watched: Gateway) -> None:
    await traffic(watched)
    text = await scrape(watched, "application/openmetrics-text")
    assert "any/*" in text and not any(made in text for made in ("any/m7", '"m7"', "nowhere", KEY, "sk-", METRICS_KEY))
    assert not {"key", "key_id", "user", "request_id"} & {name for sample in read(text, open_families) for name, _ in sample[1]}


async def test_openmetrics_has_exemplars_with_the_ids_of_requests(watched: Gateway) -> None:
    answer = await watched.post(body("solo", stream=True))
    families = {family.name: family for family in open_families(await scrape(watched, "application/openmetrics-text; version=1.0.0"))}
    for name in ("turnout_request_duration_seconds", "turnout_time_to_first_token_seconds", "turnout_gateway_overhead_seconds"):
        seen = [sample.exemplar for sample in families[name].samples if sample.exemplar]
        assert [each.labels for each in seen] == [{"request_id": answer.headers["x-request-id"]}], name


def test_money_is_told_as_it_was_written() -> None:
    limits = {"turnout_budget_limit_usd": [(("team", "search", "day"), usd * 1e9) for usd in (500, 0.07, 0.000000001)]}
    lines = exposition(Snapshot(values=limits), [], open_metrics=False).decode().splitlines()
    assert [line.rsplit(" ", 1)[1] for line in lines[2:]] == ["500", "0.07", "1e-09"]


async def test_budgets_and_targets_are_told_as_they_stand(watched: Gateway) -> None:
    await traffic(watched)
    values = read(await scrape(watched))
    assert total(values, "turnout_budget_limit_usd", scope="team", name="search", window="day") == 20
    assert total(values, "turnout_budget_limit_usd", scope="organisation", name="acme", window="month") == 50
    assert 0 < total(values, "turnout_budget_spent_usd", name="search") <= total(values, "turnout_cost_usd_total") + 1e-9
    assert ("turnout_target_breaker_open", frozenset({("target", "two"), ("model_sent", "m2")})) in values
    assert not any(name == "turnout_redis_up" for name, _ in values), "there is none"


async def test_both_formats_say_the_same_and_every_name_is_in_the_table(watched: Gateway) -> None:
    await traffic(watched)
    text, opened = read(await scrape(watched)), read(await scrape(watched, "application/openmetrics-text"), open_families)
    volatile = ("turnout_cpu_seconds_total", "turnout_resident_memory_bytes")
    assert {key for key in text if key[0] not in volatile} == {key for key in opened if key[0] not in volatile}
    names = {name for name, _ in text}
    parts = {f"{name}{part}" for name, family in FAMILIES.items() if family.kind == "histogram" for part in ("_bucket", "_sum", "_count")}
    assert names <= set(FAMILIES) | parts


async def test_a_team_s_key_does_not_read_metrics(watched: Gateway) -> None:
    for key, code in ((KEY, 403), (OTHER, 403), ("sk-nobody", 401), (None, 401)):
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        answer = await watched.http.get("/metrics", headers=headers)
        assert (answer.status_code, "turnout_" in answer.text) == (code, False), key


async def test_without_a_metrics_key_the_bootstrap_key_reads_them(one: Upstream, tmp_path: Path) -> None:
    text = f"state: {{database: 'sqlite:///{tmp_path}/turnout.db'}}\n"
    text += (
        f"providers: {{one: {{kind: openai-compatible, base_url: '{one.base_url}', api_key: k}}}}\nmodels: {{m: {{targets: [{{provider: one}}]}}}}\n"
    )
    async with running(text, tmp_path) as gateway:
        bearer = {"authorization": f"Bearer {gateway.runtime.bootstrap_key}"}
        assert (await gateway.http.get("/metrics", headers=bearer)).status_code == 200
        assert (await gateway.http.get("/metrics")).status_code == 401
    async with running(f"{text}metrics: {{open: true}}\n", tmp_path) as gateway:
        assert (await gateway.http.get("/metrics")).status_code == 200


def test_the_documentation_lists_every_metric_with_its_labels() -> None:
    lines = (ROOT / "docs" / "metrics.md").read_text().splitlines()
    rows = dict(line.strip("| ").split(" | ", 1) for line in lines if line.startswith("| `turnout_"))
    for name, family in FAMILIES.items():
        labels = ", ".join(f"`{label}`" for label in family.labels) or "–"
        assert rows.pop(f"`{name}`") == f"{family.kind} | {labels} | {family.help}", name
    assert rows == {}


def test_the_documentation_s_example_loads(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs" / "metrics.md").read_text(), re.M | re.S)
    (tmp_path / "turnout.yaml").write_text(example)
    settings = load(tmp_path / "turnout.yaml", {"METRICS_KEY": METRICS_KEY}, known_kinds()).settings
    assert settings.telemetry is not None and settings.telemetry.sample == 0.1
