"""What an attempt leaves behind: its ledger row and its mark in the target's statistics."""

import time
from dataclasses import dataclass, field
from time import monotonic

from contract.call import Call
from contract.errors import AttemptError
from contract.usage import Usage
from gateway.accounting import settled
from gateway.auth import Principal
from gateway.client import Client
from gateway.routes import Route, Target
from ledger.prices import cost_nusd
from ledger.row import AttemptRow, Status
from ledger.store import Ledger
from policy.plan import Rule
from providers.port import Exchange, Marks
from providers.wires.port import Dialect


@dataclass(slots=True)
class Job:
    """One request on its way through the pipeline."""

    call: Call
    endpoint: str
    principal: Principal
    route: Route
    rule: Rule
    client: Client
    words: Dialect  # the client's dialect: it words an error that ends a stream
    bound_to: str | None = None  # the label of the only target that understands the request's state
    failures: list[AttemptError] = field(default_factory=list)
    error_status: int | None = None  # the answer's, once the last attempt has failed
    upstream_s: float = 0.0  # time spent in attempts, up to the first output


class Attempt:
    """One attempt at one target, while it lasts and for its row."""

    __slots__ = ("exchange", "marks", "number", "reason", "started_at_us", "target")

    def __init__(self, number: int, target: Target, reason: str) -> None:
        self.number = number
        self.target = target
        self.reason = reason
        self.started_at_us = time.time_ns() // 1000
        self.marks = Marks(monotonic())
        self.exchange: Exchange | None = None


class Recorder:
    """Writes rows and statistics; never fails a request."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def record(self, job: Job, attempt: Attempt, status: Status, error: AttemptError | str | None = None) -> None:
        """`error`: what ended the attempt when it was not whole; a plain string is a code of our own, such as client_closed."""
        marks, exchange, target = attempt.marks, attempt.exchange, attempt.target
        if marks.ended is None:
            marks.ended = monotonic()
        usage = None if exchange is None else settled(exchange.usage, status == "ok", len(job.call.body), exchange.tokens_seen)
        finish = exchange.finish if exchange is not None else None
        code = error.reason if isinstance(error, AttemptError) else error
        started = marks.started
        self._ledger.append(
            AttemptRow(
                request_id=job.call.request_id,
                attempt=attempt.number,
                started_at_us=attempt.started_at_us,
                team=job.principal.team,
                key_id=job.principal.key_id,
                endpoint=job.endpoint,
                stream=job.call.stream,
                model_asked=job.call.model,
                route=job.route.name,
                target=target.backend.name,
                model_sent=target.model,
                status=status,
                reason=attempt.reason,
                error_code=code,
                http_status=200 if exchange is not None else getattr(error, "upstream_status", None),
                client_status=job.client.status or job.error_status,
                queue_us=_us(marks.admitted, started),
                connect_us=_us(marks.connected, started),
                headers_us=_us(marks.headers, started),
                first_token_us=_us(marks.first_token, started),
                end_us=_us(marks.ended, started),
                usage=usage,
                cost_nusd=cost_nusd(target.price, usage),
                finish_reason=finish.reason if finish else None,
                native_finish_reason=finish.native if finish else None,
                upstream_id=exchange.upstream_id if exchange is not None else None,
                bytes_request=marks.bytes_sent,
                bytes_upstream=marks.bytes_received,
                bytes_client=job.client.bytes_sent,
            )
        )
        self._count(attempt, status, code, usage)

    def _count(self, attempt: Attempt, status: Status, code: str | None, usage: Usage | None) -> None:
        marks, stats = attempt.marks, attempt.target.stats
        if status == "ok" and marks.first_token is not None and marks.ended is not None:
            tokens = (usage.output_visible or 0) + (usage.reasoning or 0) if usage else 0
            stats.succeeded(marks.first_token - marks.started, marks.ended - marks.started, tokens)
        elif status != "client_closed":
            stats.failed(code or status)


def _us(at: float | None, started: float) -> int | None:
    return None if at is None else int((at - started) * 1e6)
