"""What a provider's job tells of a row: as a row's outcome and its attempt in the ledger, at the batch API's price. Pure."""

from collections.abc import Container
from hashlib import blake2b

from msgspec.structs import replace

from batch.jobs import Job
from batch.states import Batch, Leased, Outcome
from contract.errors import AttemptsExhausted
from gateway.accounting import settled_whole
from gateway.asking import prompt_tokens_about
from gateway.batches.asking import failed, used_of
from gateway.batches.books import Result
from gateway.batches.parts import Known
from gateway.endpoints import InferenceEndpoint
from ledger.prices import cost_nusd
from ledger.row import AttemptRow
from providers.batch.port import Limits, RowResult
from providers.wires.answer import tokens_in_answer

FIRST = "batch job"  # why this target was tried


def request_id_of(job: Job, line: int) -> str:
    """The same for the same row of the same job, however often its results are read."""
    return "req_" + blake2b(f"{job.id}:{line}".encode(), digest_size=16).hexdigest()


class Booking:
    """One job's. `most`: the attempts that a row has; `owned`: the gateway's own engines."""

    def __init__(self, job: Job, batch: Batch, endpoint: InferenceEndpoint, limits: Limits, most: int, owned: Container[str]) -> None:
        self._job = job
        self._batch = batch
        self._endpoint = endpoint
        self._limits = limits
        self._most = most
        self._owned = owned

    def attempt(self, known: Known, result: RowResult, organisation: str) -> AttemptRow:
        job, batch = self._job, self._batch
        answer, error, call = result.answer, result.error, known.call
        usage = None if answer is None else settled_whole(call, answer.usage, prompt_tokens_about(call), tokens_in_answer(answer))
        well = result.state == "succeeded"
        finish = None if answer is None else answer.finish
        return AttemptRow(
            request_id=request_id_of(job, known.row.line),
            attempt=1,
            started_at_us=job.made_at_us,
            team=batch.team,
            organisation=organisation,
            key_id=batch.key_id,
            endpoint=self._endpoint.name,
            stream=False,
            model_asked=call.model,
            route=known.route,
            policy=known.policy,
            target=job.provider,
            model_sent=job.model,
            status="ok" if well else "failed",
            reason=FIRST,
            error_code=None if error is None else error.reason,
            http_status=200 if well else None if error is None else error.upstream_status,
            client_status=200 if well else None,
            usage=usage,
            cost_nusd=self._limits.cost_nusd(cost_nusd(known.price, usage)),
            finish_reason=None if finish is None else finish.reason,
            native_finish_reason=None if finish is None else finish.native,
            upstream_id=None if answer is None else answer.upstream_id,
            bytes_upstream=0 if answer is None else len(answer.body),
            bytes_client=0 if answer is None else len(answer.body),
            billed="team" if well else "gateway",
        )

    def result(self, row: Leased, told: RowResult, attempt: AttemptRow) -> Result:
        """What failed by chance, and what the job had no time for, waits again: for whoever asks it next."""
        id = attempt.request_id
        if told.state == "succeeded" and told.answer is not None:
            outcome = Outcome(row=row, state="succeeded", request_id=id, status_code=200, answer=told.answer.body)
            return Result(replace(outcome, used=used_of([attempt], self._owned), target=attempt.target), [attempt])
        if told.error is None:
            return Result(Outcome(row=row, state="pending", request_id=id, counts=told.state == "expired"), [])
        told.error.target = f"{attempt.target}/{attempt.model_sent}"
        if told.error.disposition == "final" or row.attempts + 1 >= self._most:
            return Result(failed(row, id, self._endpoint, AttemptsExhausted([told.error])), [attempt])
        return Result(Outcome(row=row, state="pending", request_id=id, counts=True), [attempt])
