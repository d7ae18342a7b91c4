"""What follows the commit point: the answer reaches the client, and what goes wrong now is told in-band or mended by going on elsewhere."""

import asyncio
from functools import lru_cache
from time import monotonic

from contract.errors import AttemptError
from contract.head import HeaderList, lines_of
from gateway.attempts import Attempts
from gateway.continuing import MAX_DELIVERED, Continuation, Seam, can_continue, ends_all, is_mended
from gateway.errors import status_of
from gateway.job import Giving, Job
from gateway.keeper import Keeper
from gateway.metering.admission import limit_lines
from gateway.opening import Opened, begin, left
from gateway.record import Recorder
from ledger.prices import NUSD_PER_USD
from ledger.row import CacheUse

STREAM_HEADERS: HeaderList = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
MAX_ALIKE = 1024  # answers whose headers are kept, by what they have alike


class Delivery:
    """One answer on its way to the client. Under `continue`, what it was sent is kept: another target may have to go on from it."""

    __slots__ = ("_attempts", "_closed", "_job", "_keeper", "_kept", "_kept_bytes", "_recorder", "_seams")

    def __init__(self, job: Job, attempts: Attempts, recorder: Recorder, keeper: Keeper) -> None:
        self._job = job
        self._attempts = attempts
        self._recorder = recorder
        self._keeper = keeper
        self._kept: list[bytes] | None = [] if job.rule.recovery == "continue" and job.call.stream else None
        self._kept_bytes = 0
        self._closed = False
        self._seams: tuple[Seam, ...] = ()

    async def deliver(self, opened: Opened) -> None:
        """To its end, which is recorded. Raises CancelledError when the client left."""
        job = self._job
        giving = job.giving = Giving(opened.attempt, opened.exchange)
        try:
            if (sent := job.client.begin(200, *_head(job, opened, self._attempts.count))) is not None:
                await sent
        except asyncio.CancelledError:
            left(job, opened.attempt, self._recorder)
            raise
        while (error := await self._pass(opened)) is not None:
            try:
                following = await self._continued() if is_mended(error) else None
            except AttemptError as verdict:
                following, error = None, verdict
            if following is None:
                if not self._closed:
                    await self._tell(opened, error)
                return
            self._keeper.bind(job, opened.attempt.target, opened.exchange)  # the client has this part of the answer too
            opened = following
            giving = job.giving = Giving(opened.attempt, opened.exchange, seams=True)
        giving.whole = True

    async def _pass(self, opened: Opened) -> AttemptError | None:
        """The answer, piece by piece. Returns what cut it; None: it is whole."""
        job, attempt, exchange, line = self._job, opened.attempt, opened.exchange, opened.line
        client, piece = job.client, opened.piece
        opened.piece = b""  # what was sent is not kept while the answer goes on
        try:
            while not opened.ended:
                if piece:
                    if self._kept is not None:
                        self._keep(piece)
                    if line is None and exchange.ended:  # then it leaves with the answer's end, in one write
                        await exchange.next()
                        break
                    await client.write(piece)
                    piece = b""
                piece = await exchange.next()
                if not piece:
                    piece = b"" if line is None else line.drain()
                    break
                if line is not None:
                    piece = line.push(piece, monotonic(), exchange.progressed)
            self._keeper.note(job, attempt.target, exchange, piece)  # before the client can ask for what it has just been given
            await client.end(piece)  # a unary answer is one piece
        except AttemptError as error:
            error.target = attempt.target.label
            self._recorder.record(job, attempt, "cut", error)
            return error
        except asyncio.CancelledError:
            left(job, attempt, self._recorder)
            raise
        except Exception:  # a fault of ours: the books are closed, the upstream is stopped, and the edge logs it
            exchange.abort()
            self._recorder.record(job, attempt, "cut", "internal_error")
            raise
        self._recorder.record(job, attempt, "ok")
        return None

    async def _tell(self, opened: Opened, error: AttemptError) -> None:
        """The client gets what came before the cut, and is told of it."""
        job = self._job
        rest = b"" if opened.line is None else opened.line.drain()
        told = opened.exchange.in_band(job.words.encode_error(error, status_of(error)[1], job.call.request_id, self._attempts.count))
        if rest or told:
            await job.client.end(rest + told)  # where nothing can be told, the connection's early end does

    # --- going on elsewhere ----------------------------------------------------------------------------------------
    def _keep(self, piece: bytes) -> None:
        self._kept_bytes += len(piece)
        if self._kept is not None and self._kept_bytes <= MAX_DELIVERED:
            self._kept.append(piece)
        else:
            self._kept = None

    async def _continued(self) -> Opened | None:
        """The rest of a cut answer, from the first target that goes on with it; None: nobody can, or nothing is missing.

        Raises AttemptError, recorded, for what no other target is asked after.
        """
        job, attempts = self._job, self._attempts
        if self._kept is None:
            return None
        continuation = Continuation.of(job.call, b"".join(self._kept), self._seams)
        if continuation is None:
            return None
        if continuation.ending:  # it had said why it ends: only the stream's own end is missing
            self._closed = True
            await job.client.end(continuation.ending)
            return None
        targets = job.route.targets
        for planned in attempts.remaining():
            target = targets[planned.candidate.index]
            if not can_continue(target, continuation.call):
                continue
            attempts.others.remove(planned)
            attempt = attempts.attempt(planned, f"continued at {continuation.characters} characters")
            attempt.rest = True
            try:
                opened = await begin(job, attempt, attempts.patience(attempt), self._recorder, continuation.call)
                seam = continuation.seam(target.label, target.repeats_prefill)
                piece = seam + continuation.feed(opened.piece)
            except AttemptError as error:
                if attempt.exchange is not None:
                    attempt.exchange.abort()
                error.target = target.label
                self._recorder.record(job, attempt, "failed", error)
                if ends_all(error):
                    raise
                continue
            self._seams = continuation.seams
            attempt.exchange = continuation.over(opened.exchange)
            return Opened(attempt, attempt.exchange, piece, ended=False)
        return None


def _head(job: Job, opened: Opened, attempts: int) -> tuple[bytes, int | None]:
    """The answer's headers as lines, and its length where it is one piece. `attempts`: how many were begun so far, a second runner that lost among
    them."""
    attempt, exchange = opened.attempt, opened.exchange
    marks, call, streamed = attempt.marks, job.call, exchange.streamed
    now, began = monotonic(), job.client.started_at
    first_token = marks.first_token or now
    upstream_until = first_token if streamed else marks.ended or now
    overhead_s = attempt.overhead_s = now - began - job.upstream_s - (upstream_until - marks.started)
    lines = b"%bx-request-id: %b\r\nx-turnout-overhead-ms: %.2f\r\nx-turnout-ttft-ms: %.1f\r\n" % (
        _alike(exchange.content_type, streamed, attempt.target.header, job.route.header, attempts, attempt.reason, exchange.notes, job.cache),
        call.request_id.encode(),
        overhead_s * 1e3,
        (first_token - began) * 1e3,
    )
    if job.granted is not None:
        lines += limit_lines(job.granted)
    if streamed:
        return lines, None
    length = len(opened.piece)
    cost = attempt.cost_of(attempt.used(exchange, call, job.prompt_tokens))
    if cost is None:
        return b"%bcontent-length: %d\r\n" % (lines, length), length
    return b"%bcontent-length: %d\r\nx-turnout-cost-usd: %d.%09d\r\n" % (lines, length, *divmod(cost, NUSD_PER_USD)), length


@lru_cache(maxsize=MAX_ALIKE)
def _alike(  # noqa: PLR0913  what it is kept by
    content_type: bytes,
    streamed: bool,
    target: tuple[bytes, bytes],
    route: tuple[bytes, bytes],
    attempts: int,
    reason: str,
    notes: tuple[tuple[bytes, bytes], ...],
    cache: CacheUse | None,
) -> bytes:
    """What most answers of a target have alike."""
    return lines_of(
        [
            (b"content-type", content_type),
            *(STREAM_HEADERS if streamed else ()),
            target,
            route,
            (b"x-turnout-attempts", b"%d" % attempts),
            (b"x-turnout-decision", reason.encode()),
            *notes,
            *(() if cache is None else [(b"x-turnout-cache", cache.encode())]),
        ]
    )
