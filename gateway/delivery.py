"""What follows the commit point: the answer reaches the client, and what goes wrong now is told in-band or mended by going on elsewhere."""

import asyncio
from time import monotonic

from contract.errors import AttemptError
from gateway.accounting import plausible
from gateway.attempts import Attempts
from gateway.client import HeaderList
from gateway.errors import status_of
from gateway.job import Attempt, Job
from gateway.keeper import Keeper
from gateway.opening import Opened, left
from gateway.record import Recorder
from ledger.prices import cost_nusd
from ledger.reports import usd
from providers.port import Exchange

STREAM_HEADERS: HeaderList = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


class Delivery:
    """One answer on its way to the client."""

    __slots__ = ("_attempts", "_job", "_keeper", "_recorder")

    def __init__(self, job: Job, attempts: Attempts, recorder: Recorder, keeper: Keeper) -> None:
        self._job = job
        self._attempts = attempts
        self._recorder = recorder
        self._keeper = keeper

    async def deliver(self, opened: Opened) -> None:
        """To its end, which is recorded. Raises CancelledError when the client left."""
        job, attempt, exchange, line = self._job, opened.attempt, opened.exchange, opened.line
        client, piece = job.client, opened.piece
        try:
            await client.start(200, _headers(job, attempt, exchange, len(piece)))
            while not opened.ended:
                if piece:
                    await client.write(piece)
                piece = await exchange.next()
                if not piece:
                    piece = b"" if line is None else line.drain()
                    break
                if line is not None:
                    piece = line.push(piece, monotonic())
            self._keeper.note(job, attempt.target, exchange, piece)  # before the client can ask for what it has just been given
            await client.end(piece)  # a unary answer is one piece
        except AttemptError as error:
            await self._cut(attempt, exchange, error, b"" if line is None else line.drain())
        except asyncio.CancelledError:
            left(job, attempt, self._recorder)
            raise
        else:
            self._recorder.record(job, attempt, "ok")

    async def _cut(self, attempt: Attempt, exchange: Exchange, error: AttemptError, rest: bytes) -> None:
        """The client gets what came before the cut, and is told of it."""
        job = self._job
        error.target = attempt.target.label
        self._recorder.record(job, attempt, "cut", error)
        told = exchange.in_band(job.words.encode_error(error, status_of(error)[1], job.call.request_id, attempt.number))
        if rest or told:
            await job.client.end(rest + told)  # where nothing can be told, the connection's early end does


def _headers(job: Job, attempt: Attempt, exchange: Exchange, length: int) -> HeaderList:
    marks, call, target = attempt.marks, job.call, attempt.target
    now = monotonic()
    first_token = marks.first_token or now
    upstream_until = first_token if exchange.streamed else marks.ended or now
    overhead_s = now - job.client.started_at - job.upstream_s - (upstream_until - marks.started)
    headers = [
        (b"content-type", exchange.content_type),
        *(STREAM_HEADERS if exchange.streamed else ()),
        (b"x-request-id", call.request_id.encode()),
        target.header,
        job.route.header,
        (b"x-turnout-attempts", b"%d" % attempt.number),
        (b"x-turnout-decision", attempt.reason.encode()),
        (b"x-turnout-overhead-ms", b"%.2f" % (overhead_s * 1e3)),
        (b"x-turnout-ttft-ms", b"%.1f" % ((first_token - job.client.started_at) * 1e3)),
        *exchange.notes,
    ]
    if not exchange.streamed:
        headers.append((b"content-length", b"%d" % length))
        cost = usd(cost_nusd(target.price, None if (usage := exchange.usage) is None else plausible(usage)))
        if cost is not None:
            headers.append((b"x-turnout-cost-usd", cost.encode()))
    return headers
