"""Requests that are over as OpenTelemetry spans: one for the request, one below it for each attempt, made of the same rows as the ledger. Pure.

Nothing of a prompt, an answer, a header or a key is in them; an error is its code.
"""

from collections.abc import Iterable, Mapping

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from gateway.telemetry import genai
from gateway.watching import Request
from ledger.prices import NUSD_PER_USD
from ledger.row import ENDED_WELL, AttemptRow

Known = str | bool | int | float | list[str]
Value = Known | None
MOST_NAME = 200  # characters of a model's name: clients make them up


def traces(requests: Iterable[Request], resource: Mapping[str, Value], kinds: Mapping[str, str], version: str) -> ExportTraceServiceRequest:
    """`kinds`: of each provider and engine, by its name."""
    spans = [span for request in requests for span in _of(request, kinds)]
    scope = ScopeSpans(scope=InstrumentationScope(name="turnout", version=version), spans=spans, schema_url=genai.SCHEMA)
    return ExportTraceServiceRequest(resource_spans=[ResourceSpans(resource=resource_of(resource), scope_spans=[scope])])


def resource_of(told: Mapping[str, Value]) -> Resource:
    return Resource(attributes=attributes(told))


def attributes(told: Mapping[str, Value]) -> list[KeyValue]:
    """What is None is left out."""
    return [KeyValue(key=name, value=_value(value)) for name, value in told.items() if value is not None]


def _of(request: Request, kinds: Mapping[str, str]) -> Iterable[Span]:
    trace = request.trace
    operation = genai.operation_of(request.endpoint)
    failed = request.outcome != "ok" and request.outcome != "client_closed"
    model = request.model[:MOST_NAME]
    last = trace.rows[-1] if trace.rows else None
    yield Span(
        trace_id=bytes.fromhex(trace.trace_id),
        span_id=bytes.fromhex(trace.span),
        parent_span_id=bytes.fromhex(trace.parent),
        flags=trace.flags,
        name=f"{operation} {model}",
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=(request.ended_us - request.took_us) * 1000,
        end_time_unix_nano=request.ended_us * 1000,
        attributes=attributes(
            {
                genai.OPERATION: operation,
                genai.REQUEST_MODEL: model,
                genai.REQUEST_STREAM: request.stream,
                genai.STATUS_CODE: request.status,
                genai.ERROR_TYPE: (None if last is None else last.error_code) if failed else None,
                "turnout.request.id": request.request_id,
                "turnout.route": request.route,
                "turnout.policy": request.policy,
                "turnout.team": request.team,
                "turnout.outcome": request.outcome,
                "turnout.attempts": sum(1 for row in trace.rows if row.attempt > 0),
                "turnout.cache": next((row.cache for row in trace.rows if row.cache is not None), None),
            }
        ),
        status=Status(code=Status.STATUS_CODE_ERROR if failed else Status.STATUS_CODE_UNSET),
    )
    for row in trace.rows:
        if row.attempt > 0:
            yield _attempt(request, row, kinds)


def _attempt(request: Request, row: AttemptRow, kinds: Mapping[str, str]) -> Span:
    trace, usage = request.trace, row.usage
    operation, model = genai.operation_of(row.endpoint), row.model_sent[:MOST_NAME]
    failed = row.status not in ENDED_WELL and row.status != "client_closed"
    first_s = None if row.first_token_us is None or not row.stream else row.first_token_us / 1e6
    written = None if usage is None else _sum(usage.cache_write_5m, usage.cache_write_1h)
    return Span(
        trace_id=bytes.fromhex(trace.trace_id),
        span_id=bytes.fromhex(trace.spans[row.attempt]),
        parent_span_id=bytes.fromhex(trace.span),
        flags=trace.flags,
        name=f"{operation} {model}",
        kind=Span.SPAN_KIND_CLIENT,
        start_time_unix_nano=row.started_at_us * 1000,
        end_time_unix_nano=(row.started_at_us + (row.end_us or 0)) * 1000,
        attributes=attributes(
            {
                genai.OPERATION: operation,
                genai.PROVIDER: genai.provider_of(kinds.get(row.target, row.target)),
                genai.REQUEST_MODEL: model,
                genai.REQUEST_STREAM: row.stream,
                genai.FINISH_REASONS: None if row.finish_reason is None else [row.finish_reason],
                genai.TIME_TO_FIRST_CHUNK: first_s,
                genai.INPUT_TOKENS: None if usage is None else usage.input_total,
                genai.OUTPUT_TOKENS: None if usage is None else usage.output_total,
                genai.CACHE_READ_TOKENS: None if usage is None else usage.cache_read,
                genai.CACHE_CREATION_TOKENS: written,
                genai.REASONING_TOKENS: None if usage is None else usage.reasoning,
                genai.STATUS_CODE: row.http_status,
                genai.ERROR_TYPE: row.error_code if failed else None,
                "turnout.target": row.target,
                "turnout.attempt": row.attempt,
                "turnout.attempt.status": row.status,
                "turnout.attempt.reason": row.reason,
                "turnout.cost_usd": None if row.cost_nusd is None else row.cost_nusd / NUSD_PER_USD,
                "turnout.queue_s": None if row.queue_us is None else row.queue_us / 1e6,
            }
        ),
        status=Status(code=Status.STATUS_CODE_ERROR if failed else Status.STATUS_CODE_UNSET),
    )


def _value(value: Known) -> AnyValue:
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case list():
            return AnyValue(array_value=ArrayValue(values=[AnyValue(string_value=each) for each in value]))
        case _:
            return AnyValue(string_value=value)


def _sum(*counts: int | None) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
