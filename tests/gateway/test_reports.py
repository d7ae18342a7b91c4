"""The reports of a team over HTTP: what was asked adds up, page by page, as JSON and as CSV."""

import csv
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from ledger.reports import REPORTS
from ledger.units import iso
from tests.gateway.conftest import Gateway, running
from tests.gateway.upstream import Upstream, status
from tests.ledger.deleted import DAY, GONE_S, US, fill
from tests.ledger.rows import url_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers: {{one: {{kind: openai-compatible, base_url: "{one}", api_key: k}}}}
policies: {{quick: {{slo: {{deadline_ms: 60000}}, retry: {{max_attempts: 1}}}}}}
models:
  priced: {{policy: quick, targets: [{{provider: one, model: m1, price: {{input_usd_per_mtok: 1, output_usd_per_mtok: 2}}}}]}}
  free: {{policy: quick, targets: [{{provider: one, model: m2}}]}}
teams: {{search: {{keys: [sk-search]}}, other: {{keys: [sk-other]}}}}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def asked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """A gateway that was asked: four whole answers with a price, one without, and one that failed; one of another team."""
    folder: Path = tmp_path_factory.mktemp("reports")
    upstream = await Upstream().start()
    async with running(CONFIG.format(folder=folder, one=upstream.base_url), folder) as gateway:
        for model, stream, key in [("priced", n % 2 == 0, "sk-search") for n in range(4)] + [
            ("free", False, "sk-search"),
            ("priced", False, "sk-other"),
        ]:
            answer = await gateway.post({"model": model, "stream": stream, "messages": [{"role": "user", "content": "Hi"}]}, key=key)
            assert answer.status_code == 200, answer.text
        upstream.plays["m2"] = status(500)
        failed = await gateway.post({"model": "free", "messages": [{"role": "user", "content": "Hi"}]}, key="sk-search")
        assert failed.status_code == 502
        yield gateway
    await upstream.stop()


async def test_requests_of_a_time_whose_rows_were_deleted_are_not_told_as_the_whole(tmp_path: Path) -> None:
    fill(url_of(tmp_path / "turnout.db")).dispose()
    text = CONFIG.format(folder=tmp_path, one="http://127.0.0.1:9", key="").replace("search:", "red:")
    async with running(text, tmp_path) as gateway:
        for day, whole in ((GONE_S, False), (GONE_S + DAY, True)):
            told = await get(gateway, "/v1/requests", **{"from": iso(day * US), "to": iso((day + DAY) * US)})
            assert (told.json()["data"], told.json()["whole"]) == ([], whole), told.text
            told = await get(gateway, "/v1/requests", format="csv", **{"from": iso(day * US), "to": iso((day + DAY) * US)})
            assert told.headers["x-whole"] == ("true" if whole else "false")


async def get(gateway: Gateway, path: str, **params: Any) -> httpx2.Response:
    return await gateway.http.get(path, params=params, headers={"authorization": "Bearer sk-search"})


async def data(gateway: Gateway, path: str, **params: Any) -> Any:
    answer = await get(gateway, path, **params)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def test_usage_adds_up_by_group(asked: Gateway) -> None:
    free, priced = await data(asked, "/v1/reports/usage", group_by="model")
    assert (priced["model"], priced["requests"], priced["failed"], priced["input_tokens"], priced["cache_read"]) == ("priced", 4, 0, 80, 32)
    assert (free["requests"], free["failed"], free["output_tokens"], free["reasoning"]) == (2, 1, 5, None)


async def test_cost_is_exact_and_names_what_has_no_price(asked: Gateway) -> None:
    report = (await get(asked, "/v1/reports/cost", group_by="target")).json()
    priced, free = report["data"]
    assert (priced["target"], priced["cost_usd"], priced["usd_per_mtok"]) == ("one/m1", "0.000120000", 1.2)
    assert (free["cost_usd"], free["unpriced"], free["usd_per_mtok"]) == (None, 1, None)
    assert report["unpriced"] == [{"target": "one/m2", "attempts": 1}] and report["whole"] is True


async def test_latency_has_percentiles_of_what_was_measured(asked: Gateway) -> None:
    free, priced = await data(asked, "/v1/reports/latency", group_by="model")
    assert priced["ttft"]["n"] == 2 and priced["end"]["n"] == 4 and priced["overhead"]["n"] == 4
    assert 0 < priced["end"]["p50_ms"] <= priced["end"]["p99_ms"] and priced["ttft"]["p90_ms"] > 0
    assert free["ttft"] == {"n": 0, "p50_ms": None, "p90_ms": None, "p95_ms": None, "p99_ms": None}


async def test_an_slo_is_kept_by_whole_answers_and_missed_by_failures(asked: Gateway) -> None:
    assert await data(asked, "/v1/reports/slo") == [{"policy": "quick", "requests": 6, "met": 5, "missed": 1, "attained": 0.833333}]


async def test_csv_has_a_line_for_each_group(asked: Gateway) -> None:
    answer = await get(asked, "/v1/reports/latency", group_by="model", format="csv")
    assert answer.headers["content-type"].startswith("text/csv")
    lines = list(csv.DictReader(io.StringIO(answer.text)))
    assert [line["model"] for line in lines] == ["free", "priced"] and float(lines[1]["end.p50_ms"]) > 0


@pytest.mark.parametrize("path", ["requests", *(f"reports/{name}" for name in (*REPORTS, "breakeven", "engines"))])
async def test_csv_of_nothing_has_the_names_of_something(asked: Gateway, path: str) -> None:
    nothing = (await get(asked, f"/v1/{path}", format="csv", **{"from": "2025-12-01", "to": "2026-01-01"})).text.splitlines()
    assert len(nothing) == 1 and nothing[0].count(",") > 3, nothing
    something = (await get(asked, f"/v1/{path}", format="csv")).text.splitlines()
    assert something[0] == nothing[0]


async def test_speeds_have_columns_and_names(asked: Gateway) -> None:
    (line,) = csv.DictReader(io.StringIO((await get(asked, "/v1/reports/latency", group_by="", format="csv")).text))
    assert {"tokens_per_s.p50", "tokens_per_s.p90", "tokens_per_s.p99"} <= line.keys()
    (told,) = await data(asked, "/v1/reports/latency", group_by="")
    assert set(told["tokens_per_s"]) == {"p50", "p90", "p99"}


async def test_pages_of_a_report_make_the_whole(asked: Gateway) -> None:
    whole = await data(asked, "/v1/reports/usage", group_by="model,status")
    page = (await get(asked, "/v1/reports/usage", group_by="model,status", limit=2)).json()
    assert page["data"] == whole[:2]
    rest = (await get(asked, "/v1/reports/usage", group_by="model,status", limit=2, cursor=page["next_cursor"])).json()
    assert rest["data"] == whole[2:] and rest["next_cursor"] is None


async def test_a_cursor_is_of_its_own_report_groups_and_filters(asked: Gateway) -> None:
    own: dict[str, str] = {"group_by": "model,status"}
    cursor = (await get(asked, "/v1/reports/usage", limit=1, **own)).json()["next_cursor"]
    for path, params in (
        ("/v1/reports/cost", own),
        ("/v1/requests", {}),
        ("/v1/reports/usage", {"group_by": "status,model"}),
        ("/v1/reports/usage", {**own, "model": "priced"}),
    ):
        answer = await get(asked, path, cursor=cursor, **params)
        assert answer.status_code == 400 and answer.json()["error"]["param"] == "cursor", answer.text
    assert len(await data(asked, "/v1/reports/usage", cursor=cursor, limit=1, **own)) == 1


async def test_a_cursor_goes_on_in_the_time_of_its_first_page_and_no_other(asked: Gateway) -> None:
    first = {"limit": 2, "since": "2h"}
    page = (await get(asked, "/v1/requests", **first)).json()
    rest = await data(asked, "/v1/requests", cursor=page["next_cursor"])
    assert rest == await data(asked, "/v1/requests", cursor=page["next_cursor"], since="2h") and len(rest) == 4
    for name, value in (("since", "1h"), ("from", "2026-01-01"), ("to", "2026-01-01")):
        answer = await get(asked, "/v1/requests", cursor=page["next_cursor"], **{name: value})
        assert answer.status_code == 400 and answer.json()["error"]["param"] == name, answer.text


async def test_requests_come_newest_first_page_by_page_each_once(asked: Gateway) -> None:
    found, cursor = [], None
    while True:
        page = (await get(asked, "/v1/requests", limit=4, **({"cursor": cursor} if cursor else {}))).json()
        found += page["data"]
        if (cursor := page["next_cursor"]) is None:
            break
    assert [each["model"] for each in found] == ["free", "free", "priced", "priced", "priced", "priced"]
    assert [each["status"] for each in found] == ["failed", *["ok"] * 5] and len({each["request_id"] for each in found}) == 6
    assert found[2]["attempts"][0]["cost_usd"] == "0.000030000"


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ({"status": "failed"}, 1),
        ({"target": "one/m1"}, 4),
        ({"model": "free", "status": "ok"}, 1),
        ({"policy": "slow"}, 0),
        ({"from": "2025-12-01", "to": "2026-01-01"}, 0),
    ],
)
async def test_requests_are_filtered_by_what_an_attempt_was(asked: Gateway, filters: dict[str, str], count: int) -> None:
    assert len(await data(asked, "/v1/requests", **filters)) == count
    lines = await data(asked, "/v1/reports/usage", group_by="", **filters)
    assert sum(line["attempts"] for line in lines) == count


@pytest.mark.parametrize(
    ("path", "params", "param"),
    [
        ("/v1/reports/usage", {"group_by": "colour"}, "group_by"),
        ("/v1/reports/usage", {"group_by": "model,model"}, "group_by"),
        ("/v1/reports/usage", {"from": "yesterday"}, "from"),
        ("/v1/reports/usage", {"from": "0001-01-01T00:00:00+00:01"}, "from"),
        ("/v1/reports/usage", {"to": "9999-12-31T23:59:59-01:00"}, "to"),
        ("/v1/reports/usage", {"format": "xml"}, "format"),
        ("/v1/reports/latency", {"status": "ok"}, "status"),
        ("/v1/reports/usage", {"modle": "priced"}, "modle"),
        ("/v1/reports/usage", {"team": "other"}, "team"),
        ("/v1/reports/breakeven", {"group_by": "model"}, "group_by"),
        ("/v1/reports/batches", {"format": "csv"}, "format"),
        ("/v1/requests", {"status": "bogus"}, "status"),
        ("/v1/requests", {"from": "2026-02-01", "to": "2026-01-01"}, "from"),
        ("/v1/requests", {"to": "2026-01-01"}, "to"),
        ("/v1/requests", {"cursor": "e30"}, "cursor"),
        ("/v1/requests", {"cursor": "WzAsOTk5OTk5OTk5OTk5OTk5OTk5OTk5LDBd"}, "cursor"),
        ("/v1/reports/cost", {"cursor": "WzAsMSwtMV0"}, "cursor"),
        ("/v1/reports/usage", {"since": "1h", "from": "2026-01-01"}, "since"),
        ("/v1/reports/usage", {"model": ["priced", "free"]}, "model"),
        ("/v1/reports/batches", {"since": ["1h", "2h"]}, "since"),
        ("/v1/reports/breakeven", {"gpu_usd_per_hour": "inf"}, "gpu_usd_per_hour"),
        ("/v1/reports/breakeven", {"gpu_usd_per_hour": "nan"}, "gpu_usd_per_hour"),
        ("/v1/reports/breakeven", {"gpu_usd_per_hour": "1e308"}, "gpu_usd_per_hour"),
        ("/v1/reports/usage", {"limit": "0"}, "limit"),
        ("/v1/requests", {"limit": "many"}, "limit"),
        ("/v1/reports/engines", {"since": "soon"}, "since"),
        ("/v1/reports/engines", {"from": "2026-02-01", "to": "2026-01-01"}, "from"),
        ("/v1/reports/engines", {"cursor": "e30"}, "cursor"),
        ("/v1/reports/usage", {"since": ""}, "since"),
        ("/v1/reports/batches", {"since": ""}, "since"),
    ],
)
async def test_a_query_that_cannot_be_heeded_is_named(asked: Gateway, path: str, params: dict[str, Any], param: str) -> None:
    answer = await get(asked, path, **params)
    assert answer.status_code == 400 and answer.json()["error"]["param"] == param, answer.text


@pytest.mark.parametrize("path", ["/v1/requests", "/v1/reports/cost", "/v1/reports/breakeven", "/v1/reports/engines"])
async def test_every_answer_tells_the_time_that_it_is_of(asked: Gateway, path: str) -> None:
    """JSON in its members, CSV in its headers; engines too, though their hours are not shown where there are several teams."""
    time = {"from": "2026-01-01", "to": "2026-02-01T12:00:00+02:00"}
    told = {"from": "2026-01-01T00:00:00+00:00", "to": "2026-02-01T10:00:00+00:00"}
    shown = (await get(asked, path, **time)).json()
    assert {name: shown[name] for name in told} == told and shown["data"] == [] and shown["whole"] is True
    headers = (await get(asked, path, format="csv", **time)).headers
    assert {name: headers[f"x-{name}"] for name in told} == told and headers["x-whole"] == "true"
