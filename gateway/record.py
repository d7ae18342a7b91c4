"""What an attempt leaves behind: its ledger row and its mark in the target's statistics."""

import time
from time import monotonic
from typing import Any, Protocol

import msgspec

from contract.errors import AttemptError, AttemptTimeout, LedgerUnavailable
from contract.usage import Usage
from gateway.accounting import settled, unawaited
from gateway.job import Attempt, Job, Planning
from gateway.learning import learn
from gateway.metrics.counts import Counts
from gateway.routes import Target
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

    def begin(self, row: AttemptRow) -> None: ...
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
        usage = unawaited(job.call)
        predicted = {} if attempt.rest else _predicted(attempt.planned.prediction)
        cost = predicted.get("predicted_cost_nusd")
        try:
            self._ledger.begin(
                AttemptRow(
                    **_attempted(job, attempt),
                    status="failed",
                    error_code=GATEWAY_LOST,
                    usage=usage,
                    cost_nusd=cost_nusd(attempt.target.price, usage) if cost is None else cost,
                    **predicted,
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
        marks, exchange, target = attempt.marks, attempt.exchange, attempt.target
        if marks.ended is None:
            marks.ended = monotonic()
        usage = _usage(job, attempt, status, error)
        finish = exchange.finish if exchange is not None else None
        code = error.reason if isinstance(error, AttemptError) else error
        cost = cost_nusd(target.price, usage)
        planning, started = job.planning, marks.started
        billed: Billed = "team" if status in ANSWERED or status == "client_closed" else "gateway"
        if billed == "team" and job.granted is not None:
            job.used_tokens += _tokens(usage, planning)
            job.used_nusd += cost or 0
        self._keep(
            job,
            AttemptRow(
                **_attempted(job, attempt),
                status=status,
                error_code=code,
                http_status=200 if exchange is not None else getattr(error, "upstream_status", None),
                client_status=job.client.status or job.error_status,
                queue_us=_us(marks.admitted, started),
                connect_us=_us(marks.connected, started),
                headers_us=_us(marks.headers, started),
                first_token_us=_us(marks.first_token, started),
                end_us=_us(marks.ended, started),
                usage=usage,
                cost_nusd=cost,
                finish_reason=finish.reason if finish else None,
                native_finish_reason=finish.native if finish else None,
                upstream_id=exchange.upstream_id if exchange is not None else None,
                bytes_request=marks.bytes_sent,
                bytes_upstream=marks.bytes_received,
                bytes_client=job.client.bytes_sent,
                billed=billed,
                slo_met=_slo_met(job, attempt, status, usage),
                overhead_us=_whole(attempt.overhead_s, 1e6),
                decision=planning.told if planning and attempt.number == 1 else None,
                **_engine_time(target, marks),
                **({} if attempt.rest else _predicted(attempt.planned.prediction)),
            ),
            _given_after_s(job, attempt),
            queued=target.owned,
        )
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


def _attempted(job: Job, attempt: Attempt) -> dict[str, Any]:
    """What every row of an attempt says alike."""
    return {
        **_asked(job),
        "attempt": attempt.number,
        "started_at_us": attempt.started_at_us,
        "target": attempt.target.backend.name,
        "model_sent": attempt.target.model,
        "reason": attempt.reason,
    }


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
    """From the request's head to the first output of a stream; None: its client is not given this answer, or saw the beginning of another."""
    first, giving = attempt.marks.first_token, job.giving
    if first is None or giving is None or giving.attempt is not attempt or attempt.rest or not job.call.stream:
        return None
    return first - job.client.started_at


def _usage(job: Job, attempt: Attempt, status: Status, error: AttemptError | str | None) -> Usage | None:
    exchange = attempt.exchange
    usage = None if exchange is None else settled(exchange.usage, status == "ok", len(job.call.body), exchange.tokens_seen)
    if usage is None and attempt.marks.bytes_sent and (status in ("abandoned", "client_closed") or isinstance(error, AttemptTimeout)):
        return unawaited(job.call)
    return usage


def _tokens(usage: Usage | None, planning: Planning | None) -> int:
    """Of an answer whose provider tells nothing: its prompt, about."""
    if usage is None:
        return planning.ask.prompt_tokens if planning else 0
    return (usage.input_total or 0) + (usage.output_total or 0)


def _engine_time(target: Target, marks: Marks) -> dict[str, Any]:
    """What it took of an owned engine, and what that comes to."""
    if marks.prefill_s is None or marks.decode_s is None:
        return {}
    rate = target.engine_nusd_per_s
    return {
        "engine_prefill_us": _whole(marks.prefill_s, 1e6),
        "engine_decode_us": _whole(marks.decode_s, 1e6),
        "engine_nusd": None if rate is None else round((marks.prefill_s + marks.decode_s) * rate),
    }


def _predicted(seen: Prediction) -> dict[str, Any]:
    return {
        "predicted_ttft_us": _whole(seen.ttft_p95_s, 1e6),
        "predicted_end_us": _whole(seen.finish_s, 1e6),
        "predicted_end_p95_us": _whole(seen.finish_p95_s, 1e6),
        "predicted_output_tokens": _whole(seen.output_tokens if seen.samples else None, 1),
        "predicted_cost_nusd": _whole(seen.cost_nusd if seen.samples else None, 1),
        "predicted_p_slo": seen.p,
    }


def _whole(value: float | None, unit: float) -> int | None:
    return None if value is None else round(value * unit)


def _us(at: float | None, started: float) -> int | None:
    return None if at is None else int((at - started) * 1e6)
