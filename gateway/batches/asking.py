"""One row asked through the pipeline that live requests go through, with its team's identity, behind everybody who is interactive; first at the
target that its batch's plan has it for."""

import asyncio
import time
from collections.abc import Container
from random import random
from time import monotonic

import structlog
from msgspec.structs import replace

from batch.states import Batch, Leased, Outcome, Used
from contract.errors import AttemptsExhausted, AuthenticationFailed, TurnoutError
from contract.flow import Flow
from contract.head import HeaderList
from gateway.auth import Principal
from gateway.batches.books import HeldBooks, Result
from gateway.batches.kept_plan import target_of
from gateway.batches.live_room import LiveRoom
from gateway.batches.row_retry import Again, after
from gateway.batches.trials import Trial, Trials
from gateway.binding import may_be_bound
from gateway.endpoints import ENDPOINTS, InferenceEndpoint
from gateway.errors import shown
from gateway.identity import new_request_id
from gateway.job_making import bind, job_of, name_the_fault
from gateway.metering.admission import Admission
from gateway.pipeline import Pipeline
from gateway.record import Recorder
from gateway.runtime import Runtime
from gateway.scopes import batch_scope
from ledger.row import ANSWERED, AttemptRow
from ledger.spent import BATCH

log = structlog.get_logger("turnout.batches")


class RowClient:
    """Stands in a client's place. Implements gateway.client.Receiver. `left`: the batch was cancelled. `trial`: None until its targets are known."""

    __slots__ = ("_parts", "bytes_sent", "left", "started_at", "status", "trial")

    def __init__(self) -> None:
        self.left = False
        self.trial: Trial | None = None
        self.started_at = monotonic()
        self.status = 0
        self.bytes_sent = 0
        self._parts: list[bytes] = []

    async def start(self, status: int, headers: HeaderList) -> None:
        self.status = status

    def begin(self, status: int, lines: bytes, length: int | None) -> None:
        self.status = status

    async def write(self, data: bytes) -> None:
        self.bytes_sent += len(data)
        self._parts.append(data)

    async def end(self, data: bytes = b"") -> None:
        await self.write(data)

    @property
    def answer(self) -> bytes:
        return b"".join(self._parts)


class Asking:
    """Asks rows. `attempts`: how often one may fail."""

    def __init__(self, runtime: Runtime, attempts: int) -> None:
        self._runtime = runtime
        self._attempts = attempts
        self._books = HeldBooks(runtime.ledger)
        recorder = Recorder(self._books, runtime.observing.watching.counts)
        self._pipeline = Pipeline(recorder, runtime.pipeline.keeper, Admission(runtime.meter, recorder, runtime.alerts))
        self.endpoints = {path: _named(endpoint) for path, endpoint in ENDPOINTS.items()}
        self._principals: dict[str, tuple[Principal, Principal]] = {}
        self._trials = Trials()
        self._live_room = LiveRoom(runtime)

    async def ask(self, batch: Batch, headers: HeaderList, row: Leased, body: bytes, client: RowClient) -> tuple[Result, Again | None]:
        """What became of it, also where this task was cancelled: by its batch's end where the client has left, else by the gateway's."""
        request_id = new_request_id()
        endpoint = self.endpoints[batch.endpoint]
        self._books.hold(request_id)
        again: Again | None = None
        try:
            outcome = await self._answered(batch, headers, row, body, client, request_id)
        except TurnoutError as error:
            outage = isinstance(error, AttemptsExhausted) and self._trials.outage(batch.id, row.line, client.trial)
            again = after(error, row.attempts, self._attempts, random(), outage)
            outcome = self._again(row, request_id, again) if again is not None else failed(row, request_id, endpoint, error)
        except asyncio.CancelledError:
            outcome = Outcome(row=row, state="cancelled" if client.left else "pending", request_id=request_id)
        except Exception as exc:  # a row's top: whatever went wrong, the row has an end and the log the reason
            log.exception("a row of a batch failed unexpectedly", batch=batch.id, request_id=request_id, error=type(exc).__name__)
            outcome = failed(row, request_id, endpoint, TurnoutError("the gateway failed; the request id leads to its log"))
        rows = self._books.take(request_id)
        if outcome.state != "pending":
            self._trials.over(batch.id, row.line)
        else:
            rows = [each for each in rows if each.attempt]
        return Result(replace(outcome, used=used_of(rows, self._runtime.engines), target=_target(rows)), rows), again

    async def _answered(self, batch: Batch, headers: HeaderList, row: Leased, body: bytes, client: RowClient, request_id: str) -> Outcome:
        """Raises TurnoutError."""
        endpoint = self.endpoints[batch.endpoint]
        call = endpoint.read(request_id, body, headers)
        job = job_of(self._runtime, endpoint, call, self.principal(batch), client, headers)
        if may_be_bound(job.call):
            await bind(job, self._runtime)
        await self._live_room.keep(job)
        job.batch = batch.team
        job.planned = None if batch.plan is None else target_of(batch.plan, call.model, row.line)
        client.trial = Trial([target.health for target in job.route.targets], batch.team)
        try:
            await self._pipeline.run(job)
        except TurnoutError as error:
            name_the_fault(job.call, error)
            raise
        return Outcome(row=row, state="succeeded", request_id=request_id, status_code=200, answer=client.answer)

    def forget(self, active: Container[str]) -> None:
        """What was remembered of rows whose batch has ended."""
        self._trials.keep(active)

    def principal(self, batch: Batch) -> Principal:
        """Whom the batch's key stands for now, behind everybody who is interactive. Raises AuthenticationFailed for a key that is no more."""
        principal = self._runtime.keys.of_id(batch.key_id)
        if principal is None or principal.team != batch.team:
            raise AuthenticationFailed("the API key that this batch was made with is not valid any more")
        known = self._principals.get(batch.key_id)
        if known is None or known[0] is not principal:
            known = self._principals[batch.key_id] = principal, self._behind(principal)
        return known[1]

    def _behind(self, principal: Principal) -> Principal:
        """The principal as its batches ask: behind everybody who is interactive, and within the team's own budget for them."""
        team, flow = self._runtime.settings.teams.get(principal.team), principal.flow
        own = () if team is None or team.batch_budget is None else (batch_scope(principal.team, team.batch_budget),)
        return replace(principal, flow=Flow(flow.name or principal.team, flow.weight, "batch"), scopes=(*principal.scopes, *own))

    @staticmethod
    def _again(row: Leased, request_id: str, again: Again) -> Outcome:
        at_us = time.time_ns() // 1000 + int(again.after_s * 1e6)
        return Outcome(row=row, state="pending", request_id=request_id, counts=again.counts, not_before_us=at_us)


def _named(endpoint: InferenceEndpoint) -> InferenceEndpoint:
    """The endpoint as rows of batches stand in the ledger."""
    return InferenceEndpoint(BATCH + endpoint.name, endpoint.form, endpoint.read, endpoint.words, endpoint.media)


def failed(row: Leased, request_id: str, endpoint: InferenceEndpoint, error: TurnoutError) -> Outcome:
    shape = shown(error)
    attempts = error.made if isinstance(error, AttemptsExhausted) else 0
    body = endpoint.words.encode_error(error, shape.type, request_id, attempts)
    return Outcome(row=row, state="errored", request_id=request_id, status_code=shape.status, answer=body, counts=True)


def used_of(rows: list[AttemptRow], owned: Container[str]) -> Used | None:
    """What the team is charged for. An engine of the gateway's own is paid by the hour, not by the row."""
    charged = [row for row in rows if row.billed == "team" and row.attempt and (row.usage is not None or row.status in ANSWERED)]
    if not charged:
        return None
    usages = [row.usage for row in charged if row.usage is not None]
    costs = [0 if row.target in owned else row.cost_nusd for row in charged]
    return Used(
        input_tokens=sum(usage.input_total or 0 for usage in usages),
        cached_tokens=sum(usage.cache_read or 0 for usage in usages),
        output_tokens=sum(usage.output_total or 0 for usage in usages),
        reasoning_tokens=sum(usage.reasoning or 0 for usage in usages),
        cost_nusd=None if None in costs else sum(cost or 0 for cost in costs),
    )


def _target(rows: list[AttemptRow]) -> str | None:
    return next((row.target for row in reversed(rows) if row.status in ANSWERED), None)
