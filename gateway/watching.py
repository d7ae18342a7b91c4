"""What becomes known of a request once it is over: it is counted, and its trace handed to who exports it. Observers: they break nothing."""

from collections.abc import Callable
from time import monotonic, time_ns
from typing import NamedTuple

from gateway.client import Client
from gateway.job import Job
from gateway.metrics.counts import NO_STATUS, Counts
from gateway.telemetry.trace import Trace

_STATUS = {0: NO_STATUS, 200: "200"}  # of most requests


class Request(NamedTuple):
    """A traced request as it is told: plain values, and the ledger's rows of it. `status` None: its client left before it was answered."""

    request_id: str
    endpoint: str
    model: str
    route: str
    policy: str
    team: str
    stream: bool
    status: int | None
    outcome: str
    ended_us: int
    took_us: int
    trace: Trace


class Watching:
    """`sample`: whether a request that carries no trace begins one; None: nobody exports. `export`: takes what was traced; never blocks."""

    __slots__ = ("_export", "counts", "sample")

    def __init__(self, counts: Counts, sample: Callable[[], bool] | None, export: Callable[[Request], None] | None) -> None:
        self.counts = counts
        self._export = export
        self.sample = sample

    def ended(self, request_id: str, endpoint: str, client: Client, job: Job | None) -> None:
        """Called once for each request of an inference endpoint, however it ended. `job` None: it was refused before it was one."""
        took_s, status = monotonic() - client.started_at, client.status
        outcome = _outcome(client, job)
        told = _STATUS.get(status) or str(status)
        if job is None:
            self.counts.request((endpoint, "", "", "", told, outcome), False, took_s, request_id)
            return
        model, policy, team, stream = job.route.name, job.rule.name, job.principal.team, job.call.stream
        self.counts.request((endpoint, model, policy, team, told, outcome), stream, took_s, request_id)
        trace = job.trace
        if trace is not None and self._export is not None and trace.sampled:
            now, took_us = time_ns() // 1000, int(took_s * 1e6)
            self._export(Request(request_id, endpoint, job.call.model, model, policy, team, stream, status or None, outcome, now, took_us, trace))


def _outcome(client: Client, job: Job | None) -> str:
    """ok; error: an error's status; cut: the answer had begun; client_closed: nobody waited for its end."""
    if client.left:
        return "client_closed"
    if client.status >= 400 or not client.status:
        return "error"
    whole = job is None or (not job.cut if job.giving is None else job.giving.whole)
    return "ok" if whole else "cut"
