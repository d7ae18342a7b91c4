"""What an attempt leaves behind: its ledger row and its mark in the target's statistics."""

import time
from time import monotonic
from typing import Any, Protocol

import msgspec

from contract.errors import AttemptError, LedgerUnavailable
from contract.usage import BYTES_PER_TOKEN, Usage
from gateway.accounting import may_be_charged, settled, tier_asked, unawaited
from gateway.job import NO_TOTALS, NOTHING_PREDICTED, Attempt, Job, Planning, Predicted
from gateway.learning import learn
from gateway.metrics.counts import Counts
from gateway.routes import Target
from ledger.note import Note
from ledger.prices import cost_nusd
from ledger.row import ANSWERED, AttemptRow, Billed, Status
from policy.prediction import Prediction
from policy.rule import NO_SLO
from providers.port import Marks

GATEWAY_LOST = "gateway_lost"  # the code of an attempt whose gateway died under it


class FromCache(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a request that no target was asked for. `began`: when its client got the first of it, in monotonic seconds."""

    status: Status
    reason: str
    began: float | None = None
    saved_nusd: int | None = None
    code: str | None = None
    client_status: int | None = None  # where no answer had begun


class Books(Protocol):
    """Where rows go: the ledger, or what holds them for it."""

    def begin(self, note: Note) -> None: ...
    def forget(self, request_id: str, attempt: int) -> None: ...
    def append(self, row: AttemptRow) -> None: ...


class Recorder:
    """Writes rows and statistics; never fails a request."""

    def __init__(self, ledger: Books, counts: Counts) -> None:
        self._ledger = ledger
        self._counts = counts

    def begins(self, job: Job, attempt: Attempt) -> None:
        """Notes an attempt before anything of it is sent. Should this process die, it stands in the ledger as an estimate: its prompt, or what was
        predicted. Raises LedgerUnavailable."""
        call, principal, target, planning, usage = job.call, job.principal, attempt.target, job.planning, unawaited(job.call, job.prompt_tokens)
        attempt.predicted = predicted = NOTHING_PREDICTED if attempt.rest else _predicted(attempt.planned.prediction)
        cost = predicted[4]
        try:
            self._ledger.begin(
                Note(
                    call.request_id,
                    attempt.number,
                    attempt.started_at_us,
                    principal.team,
                    principal.key_id,
                    job.endpoint,
                    call.stream,
                    call.model,
                    job.route.name,
                    target.backend.name,
                    target.model,
                    "failed",
                    attempt.reason,
                    GATEWAY_LOST,
                    None if usage is None else usage.input_uncached,
                    None if usage is None else usage.source,
                    cost_nusd(target.price, usage) if cost is None else cost,
                    "team",
                    None if planning is None else planning.ask.prompt_tokens,
                    *predicted,
                    principal.organisation,
                    job.cache,
                    job.rule.name,
                )
            )
        except LedgerUnavailable:
            attempt.over(None)
            raise

    def came_to_nothing(self, job: Job, attempt: Attempt) -> None:
        """It ended before anything was sent, or by a fault of ours after that."""
        if attempt.marks.bytes_sent:
            self.record(job, attempt, "failed", "internal_error")
        else:
            self._ledger.forget(job.call.request_id, attempt.number)

    def record(self, job: Job, attempt: Attempt, status: Status, error: AttemptError | str | None = None) -> None:
        """`error`: what ended the attempt when it was not whole; a plain string is a code of our own, such as client_closed."""
        marks, target = attempt.marks, attempt.target
        if marks.ended is None:
            marks.ended = monotonic()
        usage = _usage(job, attempt, status, error)
        cost = attempt.cost_of(usage)
        if usage is not None:
            attempt.totals = usage.input_total, usage.output_total
        billed: Billed = "team" if status in ANSWERED or status == "client_closed" else "gateway"
        held = None
        if billed == "team" and job.granted is not None:
            job.used_tokens += _tokens(attempt, usage, job.planning)
            held = _held_nusd(job, attempt, status, usage) if cost is None else None
            job.used_nusd += cost or held or 0
        row = _row(job, attempt, status, error, usage, cost, held, billed, _slo_met(job, attempt, status, usage))
        self._keep(job, row, _given_after_s(job, attempt) if job.call.stream else None, target.owned)
        learn(job, attempt, status, error, usage, cost)

    def refused(self, job: Job, code: str, status: int) -> None:
        """The request got no attempt at all: its row says what was decided."""
        self._keep(
            job,
            AttemptRow(
                **_asked(job),
                attempt=0,
                started_at_us=time.time_ns() // 1000,
                target="",
                model_sent="",
                status="failed",
                reason="no target",
                error_code=code,
                client_status=status,
                slo_met=None if job.rule.slo == NO_SLO else False,
                decision=job.planning.told if job.planning else None,
            ),
        )

    def kept(self, job: Job, told: FromCache) -> None:
        """The request was answered by what another one asked for: no target was asked, and it costs nothing."""
        client, now = job.client, monotonic()
        job.cut = told.status == "cut"
        self._keep(
            job,
            AttemptRow(
                **_asked(job),
                attempt=0,
                started_at_us=time.time_ns() // 1000 - int((now - client.started_at) * 1e6),
                target="cache",
                model_sent="",
                status=told.status,
                reason=told.reason,
                error_code=told.code,
                client_status=client.status or told.client_status,
                first_token_us=_us(told.began, client.started_at),
                end_us=_us(now, client.started_at),
                cost_nusd=0,
                bytes_client=client.bytes_sent,
                saved_nusd=told.saved_nusd,
            ),
            None if told.began is None or not job.call.stream else told.began - client.started_at,
        )

    def _keep(self, job: Job, row: AttemptRow, first_s: float | None = None, queued: bool = False) -> None:
        """In the ledger, the counts and the trace: the same row, so that they cannot disagree."""
        self._ledger.append(row)
        self._counts.row(row, first_s, queued)
        if job.trace is not None:
            job.trace.rows.append(row)


def _asked(job: Job) -> dict[str, Any]:
    """What every row of a request says alike."""
    call, principal, planning = job.call, job.principal, job.planning
    return {
        "request_id": call.request_id,
        "team": principal.team,
        "organisation": principal.organisation,
        "key_id": principal.key_id,
        "endpoint": job.endpoint,
        "stream": call.stream,
        "model_asked": call.model,
        "route": job.route.name,
        "policy": job.rule.name,
        "cache": job.cache,
        "prompt_tokens_estimated": planning.ask.prompt_tokens if planning else None,
    }


_NO_ENGINE = (None, None, None)


def _row(  # noqa: PLR0913  what was worked out of the attempt for more than its row
    job: Job,
    attempt: Attempt,
    status: Status,
    error: AttemptError | str | None,
    usage: Usage | None,
    cost: int | None,
    held: int | None,
    billed: Billed,
    slo_met: bool | None,
) -> AttemptRow:
    """Built in one go, by place, in the order of its fields: it is the largest object that a request makes, and by name it would take four times as
    long."""
    call, principal, planning, target, exchange, marks = job.call, job.principal, job.planning, attempt.target, attempt.exchange, attempt.marks
    started, admitted, connected, headers = marks.started, marks.admitted, marks.connected, marks.headers
    first, ended = marks.first_token, marks.ended
    finish = None if exchange is None else exchange.finish
    return AttemptRow(
        call.request_id, attempt.number, attempt.started_at_us,
        principal.team, principal.key_id, job.endpoint, call.stream, call.model, job.route.name, target.backend.name, target.model,
        status, attempt.reason,
        error.reason if isinstance(error, AttemptError) else error,
        200 if exchange is not None else getattr(error, "upstream_status", None),
        job.client.status or job.error_status,
        # queue_us, connect_us, headers_us, first_token_us, end_us
        None if admitted is None else int((admitted - started) * 1e6),
        None if connected is None else int((connected - started) * 1e6),
        None if headers is None else int((headers - started) * 1e6),
        None if first is None else int((first - started) * 1e6),
        None if ended is None else int((ended - started) * 1e6),
        usage, cost,
        finish.reason if finish else None,
        finish.native if finish else None,
        exchange.upstream_id if exchange is not None else None,
        # bytes_request, bytes_upstream, bytes_client
        marks.bytes_sent, marks.bytes_received, job.client.bytes_sent,
        billed,
        None if planning is None else planning.ask.prompt_tokens,
        *attempt.predicted,
        principal.organisation, job.cache,
        None,  # saved_nusd
        job.rule.name, slo_met,
        None if attempt.overhead_s is None else round(attempt.overhead_s * 1e6),
        # engine_prefill_us, engine_decode_us, engine_nusd
        *(_NO_ENGINE if marks.prefill_s is None else _engine_time(target, marks)),
        held,
        planning.told if planning and attempt.number == 1 else None,
    )  # fmt: skip


def _held_nusd(job: Job, attempt: Attempt, status: Status, usage: Usage | None) -> int | None:
    """Of an attempt whose cost is not known, what budgets are charged: what is left of its reservation, or the standard tier's price where that is
    more. None: nothing, it costs nothing."""
    budget = job.affordable
    if budget is None or (usage is None and status not in ANSWERED) or not budget.costs[attempt.planned.candidate.price_kind]:
        return None
    standard = None if usage is None else cost_nusd(attempt.target.price, msgspec.structs.replace(usage, service_tier=None))
    return max(0, budget.most_nusd - job.used_nusd, standard or 0)


def _slo_met(job: Job, attempt: Attempt, status: Status, usage: Usage | None) -> bool | None:
    """Whether the request kept its policy's SLO, said on its last row. None: another row says it, its client left, or nothing was promised."""
    slo = job.rule.slo
    if slo == NO_SLO or status in ("abandoned", "client_closed"):
        return None
    if status == "ok":
        began, marks = job.client.started_at, attempt.marks
        first = marks.first_token if job.call.stream else None
        ended = marks.ended or monotonic()
        return slo.kept(None if first is None else first - began, ended - began, None if usage is None else usage.output_total)
    last = job.error_status is not None or (status == "cut" and job.rule.recovery != "continue")
    return False if last else None


def _given_after_s(job: Job, attempt: Attempt) -> float | None:
    """Of a stream, from the request's head to its first output; None: its client is not given this answer, or saw the beginning of another."""
    first, giving = attempt.marks.first_token, job.giving
    if first is None or giving is None or giving.attempt is not attempt or attempt.rest:
        return None
    return first - job.client.started_at


def _usage(job: Job, attempt: Attempt, status: Status, error: AttemptError | str | None) -> Usage | None:
    exchange = attempt.exchange
    prompt_tokens = job.prompt_tokens
    if attempt.rest:  # it has the first part's text too
        prompt_tokens += max(0, attempt.marks.bytes_sent - len(job.call.body)) // BYTES_PER_TOKEN
    told = None if exchange is None else exchange.usage
    usage = None
    if exchange is not None:
        usage = attempt.used(exchange, job.call, prompt_tokens) if status == "ok" else settled(told, False, prompt_tokens, exchange.tokens_seen)
    if usage is None and attempt.marks.bytes_sent and may_be_charged(error, exchange is not None):
        usage = unawaited(job.call, prompt_tokens)
    if usage is None:
        return None
    tier = usage.service_tier
    if tier is None and usage is not told and usage.source == "estimated":  # as far as anybody knows
        tier = tier_asked(job.call) if told is None or told.service_tier is None else told.service_tier
    return usage if usage.service_tier == (tier or None) else msgspec.structs.replace(usage, service_tier=tier or None)


def _tokens(attempt: Attempt, usage: Usage | None, planning: Planning | None) -> int:
    """Of an answer of which no count is known: its prompt, about."""
    if usage is None or attempt.totals == NO_TOTALS:
        return planning.ask.prompt_tokens if planning else 0
    read, made = attempt.totals
    return (read or 0) + (made or 0)


def _engine_time(target: Target, marks: Marks) -> tuple[int | None, int | None, int | None]:
    """What it took of an owned engine until its first token and after it, in microseconds, and what that comes to."""
    if marks.prefill_s is None or marks.decode_s is None:
        return None, None, None
    rate = target.engine_nusd_per_s
    cost = None if rate is None else round((marks.prefill_s + marks.decode_s) * rate)
    return _whole(marks.prefill_s, 1e6), _whole(marks.decode_s, 1e6), cost


def _predicted(seen: Prediction) -> Predicted:
    """In the row's units and order: a first token's p95, an end, its p95, tokens, cost, odds."""
    ttft, end, end_p95, cost = seen.ttft_p95_s, seen.finish_s, seen.finish_p95_s, seen.cost_nusd
    known = bool(seen.samples)
    return (
        None if ttft is None else round(ttft * 1e6),
        None if end is None else round(end * 1e6),
        None if end_p95 is None else round(end_p95 * 1e6),
        round(seen.output_tokens) if known else None,
        round(cost) if known and cost is not None else None,
        seen.p,
    )


def _whole(value: float | None, unit: float) -> int | None:
    return None if value is None else round(value * unit)


def _us(at: float | None, started: float) -> int | None:
    return None if at is None else int((at - started) * 1e6)
