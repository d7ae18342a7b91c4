"""What was counted, as OpenTelemetry metrics by the GenAI conventions: cumulative, of this process alone. Pure."""

from collections.abc import Callable, Iterable, Mapping

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AGGREGATION_TEMPORALITY_CUMULATIVE,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)

from gateway.metrics.families import FAMILIES
from gateway.metrics.snapshot import Labels, Snapshot
from gateway.telemetry import genai
from gateway.telemetry.spans import Value, attributes, resource_of

Told = Callable[[Mapping[str, str]], Mapping[str, Value]]  # a metric's labels -> its attributes


def metrics(
    snapshot: Snapshot, resource: Mapping[str, Value], kinds: Mapping[str, str], version: str, span_ns: tuple[int, int]
) -> ExportMetricsServiceRequest:
    """`span_ns`: since when was counted, and until when; Unix nanoseconds."""

    def operation(labels: Mapping[str, str]) -> dict[str, Value]:
        target = labels.get("target")
        return {
            genai.OPERATION: genai.operation_of(labels.get("endpoint", "chat.completions")),
            genai.REQUEST_MODEL: labels["model"],
            genai.PROVIDER: None if target is None else genai.provider_of(kinds.get(target, target)),
            "turnout.target": target,
        }

    def tokens(labels: Mapping[str, str]) -> dict[str, Value]:
        kind = labels["type"]
        read = kind.startswith(("input", "cache")) or kind in ("audio_input", "image_input")
        return {
            genai.REQUEST_MODEL: labels["model"],
            genai.PROVIDER: genai.provider_of(kinds.get(labels["target"], labels["target"])),
            genai.TOKEN_TYPE: "input" if read else "output",
            "turnout.target": labels["target"],
            "turnout.team": labels["team"],
            "turnout.token.class": kind,
        }

    told = [
        _histogram(snapshot, "turnout_attempt_duration_seconds", genai.CLIENT_DURATION, operation, span_ns),
        _histogram(snapshot, "turnout_request_duration_seconds", genai.SERVER_DURATION, operation, span_ns),
        _histogram(snapshot, "turnout_time_to_first_token_seconds", genai.SERVER_FIRST_TOKEN, operation, span_ns),
        _histogram(snapshot, "turnout_inter_token_latency_seconds", genai.SERVER_PER_TOKEN, operation, span_ns),
        # the conventions' token usage is a histogram of single requests; only the sums are counted, so it is a sum of ours
        _sum(snapshot, "turnout_tokens_total", "turnout.token.usage", "{token}", tokens, span_ns),
        _sum(snapshot, "turnout_cost_usd_total", "turnout.cost", "USD", dict, span_ns),
        _sum(snapshot, "turnout_requests_total", "turnout.requests", "{request}", dict, span_ns),
        _sum(snapshot, "turnout_attempts_total", "turnout.attempts", "{attempt}", dict, span_ns),
    ]
    scope = ScopeMetrics(
        scope=InstrumentationScope(name="turnout", version=version), metrics=[each for each in told if each is not None], schema_url=genai.SCHEMA
    )
    return ExportMetricsServiceRequest(resource_metrics=[ResourceMetrics(resource=resource_of(resource), scope_metrics=[scope])])


def _histogram(snapshot: Snapshot, ours: str, name: str, told: Told, span_ns: tuple[int, int]) -> Metric | None:
    family = FAMILIES[ours]
    points = [
        HistogramDataPoint(
            attributes=attributes(told(_named(family.labels, labels))),
            start_time_unix_nano=span_ns[0],
            time_unix_nano=span_ns[1],
            count=sum(buckets.counts),
            sum=buckets.total,
            bucket_counts=buckets.counts,
            explicit_bounds=family.buckets,
        )
        for labels, buckets in snapshot.histograms.get(ours, ())
    ]
    cumulative = Histogram(data_points=points, aggregation_temporality=AGGREGATION_TEMPORALITY_CUMULATIVE)
    return Metric(name=name, unit="s", description=family.help, histogram=cumulative) if points else None


def _sum(snapshot: Snapshot, ours: str, name: str, unit: str, told: Told, span_ns: tuple[int, int]) -> Metric | None:
    family = FAMILIES[ours]
    points = [
        NumberDataPoint(
            attributes=attributes(told(_named(family.labels, labels))),
            start_time_unix_nano=span_ns[0],
            time_unix_nano=span_ns[1],
            as_double=family.scaled(value),
        )
        for labels, value in snapshot.values.get(ours, ())
    ]
    growing = Sum(data_points=points, aggregation_temporality=AGGREGATION_TEMPORALITY_CUMULATIVE, is_monotonic=True)
    return Metric(name=name, unit=unit, description=family.help, sum=growing) if points else None


def _named(names: Iterable[str], labels: Labels) -> dict[str, str]:
    return dict(zip(names, labels, strict=True))
