"""Trace context through a real gateway, and what a real OTLP/HTTP receiver on loopback gets and decodes."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gateway.telemetry import genai
from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Exchange, Upstream, status

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"
CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  one: {{kind: openai-compatible, base_url: "{one}", api_key: k}}
  two: {{kind: openai-compatible, base_url: "{two}", api_key: k}}
models:
  solo: {{targets: [{{provider: one, model: m1, price: {{input_usd_per_mtok: 1, output_usd_per_mtok: 2}}}}]}}
  pair: {{targets: [{{provider: one, model: fails, price: free}}, {{provider: two, model: m2, price: free}}]}}
teams: {{search: {{keys: [{key}]}}}}
"""


async def collect(x: Exchange) -> None:
    """A collector: takes all."""
    await x.respond(200, b"", "application/x-protobuf")


@pytest.fixture
async def collector() -> AsyncIterator[Upstream]:
    server = Upstream()
    server.default = collect
    yield await server.start()
    await server.stop()


@asynccontextmanager
async def traced(one: Upstream, two: Upstream, folder: Path, collector: Upstream | None = None, **telemetry: Any) -> AsyncIterator[Gateway]:
    one.plays["fails"] = status(500)
    text = CONFIG.format(folder=folder, one=one.base_url, two=two.base_url, key=KEY)
    if collector is not None:
        settings = {"endpoint": f"http://127.0.0.1:{collector.port}/otlp", "headers": {"x-tenant": "t1"}, **telemetry}
        text += f"telemetry: {json.dumps(settings)}\n"
    async with running(text, folder) as gateway:
        yield gateway


def body(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "CANARY-prompt"}], **more}


def plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [plain(each) for each in value.array_value.values] if kind == "array_value" else getattr(value, kind)


def told(attributes: Any) -> dict[str, Any]:
    return {each.key: plain(each.value) for each in attributes}


def spans(collector: Upstream) -> list[Any]:
    found = []
    for seen in collector.journal:
        if seen.head[":path"] == "/otlp/v1/traces":
            assert (seen.head["content-type"], seen.head["x-tenant"]) == ("application/x-protobuf", "t1")
            for resource in ExportTraceServiceRequest.FromString(seen.raw).resource_spans:
                assert told(resource.resource.attributes)["service.name"] == "turnout"
                assert resource.scope_spans[0].schema_url == genai.SCHEMA
                found += resource.scope_spans[0].spans
    return found


async def some(collector: Upstream, count: int) -> list[Any]:
    async with asyncio.timeout(20):
        while len(found := spans(collector)) < count:
            await asyncio.sleep(0.02)
    return found


async def test_a_trace_goes_on_upstream_under_a_new_span_for_each_attempt_with_nothing_exported(one: Upstream, two: Upstream, tmp_path: Path) -> None:
    async with traced(one, two, tmp_path) as gateway:
        answer = await gateway.post(body("pair"), traceparent=PARENT, tracestate="vendor=1")
        assert answer.status_code == 200
        heads = [seen.head for seen in (*one.journal, *two.journal)]
        parents = [re.fullmatch(rf"00-{TRACE_ID}-([0-9a-f]{{16}})-01", head["traceparent"]) for head in heads]
        made = [match[1] for match in parents if match is not None]
        assert len(made) == len(heads) == len({*made, SPAN_ID}) - 1
        assert {head["tracestate"] for head in heads} == {"vendor=1"}


BROKEN = [PARENT.upper(), PARENT[:-3], f"{PARENT}-more", f"ff{PARENT[2:]}", PARENT.replace(TRACE_ID, "0" * 32), PARENT.replace(SPAN_ID, "0" * 16)]


@pytest.mark.parametrize("wrong", [None, *BROKEN])
async def test_what_is_no_trace_context_goes_nowhere(one: Upstream, two: Upstream, tmp_path: Path, wrong: str | None) -> None:
    async with traced(one, two, tmp_path) as gateway:
        headers = {} if wrong is None else {"traceparent": wrong, "tracestate": "vendor=1"}
        assert (await gateway.post(body("solo"), **headers)).status_code == 200
        assert not {"traceparent", "tracestate"} & set(one.journal[-1].head)


async def test_a_request_is_a_span_with_one_below_it_for_each_attempt(one: Upstream, two: Upstream, tmp_path: Path, collector: Upstream) -> None:
    async with traced(one, two, tmp_path, collector) as gateway:
        answer = await gateway.post(body("pair"), traceparent=PARENT)
        rows = await gateway.rows(answer.headers["x-request-id"])
        request, *attempts = await some(collector, 1 + len(rows))
    assert (request.trace_id.hex(), request.parent_span_id.hex(), request.name) == (TRACE_ID, SPAN_ID, "chat pair")
    attributes = told(request.attributes)
    assert attributes["turnout.request.id"] == answer.headers["x-request-id"]
    assert (attributes[genai.OPERATION], attributes[genai.STATUS_CODE], attributes["turnout.attempts"]) == ("chat", 200, len(rows))
    assert {each.parent_span_id for each in attempts} == {request.span_id} and {each.trace_id.hex() for each in attempts} == {TRACE_ID}
    sent = [seen.head["traceparent"].split("-")[2] for seen in (*one.journal, *two.journal)]
    assert [each.span_id.hex() for each in attempts] == sent, "the upstream's spans hang below ours"
    for span, row in zip(attempts, rows, strict=True):
        attributes = told(span.attributes)
        assert attributes["turnout.attempt.status"] == row.status and attributes["turnout.target"] == row.target
        assert attributes.get(genai.ERROR_TYPE) == row.error_code and (span.status.code == span.status.STATUS_CODE_ERROR) == (row.status == "failed")
        assert span.start_time_unix_nano == row.started_at_us * 1000
        assert span.end_time_unix_nano - span.start_time_unix_nano == row.end_us * 1000
        assert request.start_time_unix_nano - 10**6 <= span.start_time_unix_nano, "two clocks, a millisecond at most"
    assert (attributes[genai.INPUT_TOKENS], attributes[genai.OUTPUT_TOKENS], attributes[genai.CACHE_READ_TOKENS]) == (20, 5, 8)
    assert attributes[genai.FINISH_REASONS] == ["stop"] and attributes[genai.REQUEST_MODEL] == "m2"


async def test_spans_hold_nothing_of_a_prompt_an_answer_or_an_error(one: Upstream, two: Upstream, tmp_path: Path, collector: Upstream) -> None:
    async with traced(one, two, tmp_path, collector) as gateway:
        for model in ("solo", "pair"):
            await gateway.post(body(model, stream=True), user="CANARY-user")
        await some(collector, 4)
    raw = b"".join(seen.raw for seen in collector.journal)
    assert b"CANARY" not in raw and b"Hello there" not in raw and KEY.encode() not in raw


async def test_the_client_s_decision_wins_over_the_share(one: Upstream, two: Upstream, tmp_path: Path, collector: Upstream) -> None:
    async with traced(one, two, tmp_path, collector, sample=0.0) as gateway:
        await gateway.post(body("solo"))
        await gateway.post(body("solo"), traceparent=PARENT[:-1] + "0")
        sampled = await gateway.post(body("solo"), traceparent=PARENT)
        found = await some(collector, 2)
    assert [seen.head.get("traceparent", "")[-2:] for seen in one.journal] == ["", "00", "01"]
    assert told(found[0].attributes)["turnout.request.id"] == sampled.headers["x-request-id"]
    assert len(spans(collector)) == 2


async def test_what_waits_when_the_gateway_stops_is_exported_metrics_too(one: Upstream, two: Upstream, tmp_path: Path, collector: Upstream) -> None:
    async with traced(one, two, tmp_path, collector) as gateway:
        await gateway.post(body("solo", stream=True))
    assert len(spans(collector)) == 2
    last = [seen.raw for seen in collector.journal if seen.head[":path"] == "/otlp/v1/metrics"][-1]
    (resource,) = ExportMetricsServiceRequest.FromString(last).resource_metrics
    metrics = {each.name: each for each in resource.scope_metrics[0].metrics}
    first = metrics[genai.SERVER_FIRST_TOKEN]
    (point,) = first.histogram.data_points
    assert (first.unit, point.count, sum(point.bucket_counts), told(point.attributes)[genai.REQUEST_MODEL]) == ("s", 1, 1, "solo")
    tokens = {told(each.attributes)["turnout.token.class"]: each.as_double for each in metrics["turnout.token.usage"].sum.data_points}
    assert tokens == {"input_uncached": 12, "cache_read": 8, "output_visible": 5}


async def test_a_collector_that_fails_is_tried_again_and_disturbs_nobody(one: Upstream, two: Upstream, tmp_path: Path, collector: Upstream) -> None:
    collector.plays[""] = [status(503), status(503), collect]
    async with traced(one, two, tmp_path, collector) as gateway:
        assert (await gateway.post(body("solo"))).status_code == 200
        await some(collector, 6)  # the same two spans, three times
    collector.plays[""] = status(400)
    async with traced(one, two, tmp_path, collector) as gateway:
        asked = len(collector.journal)
        assert (await gateway.post(body("solo"))).status_code == 200
        async with asyncio.timeout(20):
            while (exporter := gateway.runtime.observing.exporter) is None or not exporter.dropped:
                await asyncio.sleep(0.02)
        assert sum(seen.head[":path"].endswith("traces") for seen in collector.journal[asked:]) == 1, "what it refuses it is not asked again"
