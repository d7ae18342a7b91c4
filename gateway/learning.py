"""What an attempt teaches, at its first token and at its end: statistics, health, where a prompt is warm, what measurements cost, promises kept."""

from contract.errors import AttemptError, EngineBusy, RateLimited, UpstreamRejected
from contract.usage import BYTES_PER_TOKEN, Usage
from gateway.job import NO_TOTALS, Attempt, Job
from ledger.row import Status
from policy.overtaken import counts_as
from policy.rule import NO_SLO

UNFINISHED: tuple[Status, ...] = ("abandoned", "client_closed")  # somebody else was sooner, or the client did not wait


def began(job: Job, attempt: Attempt) -> None:
    """Its first output is in hand: how slow the target is at the moment need not wait for the end of a long stream."""
    marks, planning, target = attempt.marks, job.planning, attempt.target
    if marks.first_token is None or planning is None or attempt.rest or not job.call.stream:
        return
    ttft_s = marks.first_token - (marks.admitted or marks.started)
    target.stats.began(marks.first_token, prompt_tokens=_cold_tokens(job, attempt), load=attempt.load, ttft_s=ttft_s)
    attempt.begun = True


def learn(job: Job, attempt: Attempt, status: Status, error: AttemptError | str | None, usage: Usage | None, cost_nusd: int | None) -> None:
    """Called once for each attempt, at its end. A plain string is a reason of our own: nobody's failure."""
    now = attempt.marks.ended or attempt.marks.started
    target, stats = attempt.target, attempt.target.stats
    planning, route = job.planning, job.route
    explored = planning is not None and planning.plan.exploring and attempt.number == 1
    failure = error if isinstance(error, AttemptError) else None
    attempt.over(failure, answered=status == "ok")
    if status == "ok":
        if not attempt.rest:
            _observe(job, attempt, now, usage)
        if planning is not None:
            if found := planning.found:
                if usage is not None and usage.cache_read is not None and (held := route.affinity.warm(found, now).get(target.label)):
                    stats.hits.seen(now, held // BYTES_PER_TOKEN, usage.cache_read)
                route.affinity.note(found, target.label, now)
            route.hedges.spent(now, cost_nusd)
            route.exploring.answered(cost_nusd, _beyond_best(job, cost_nusd) if explored else None)
    elif status in UNFINISHED:
        _left_early(job, attempt, now)
    elif attempt.was_rushed(failure):
        if _was_late(attempt, now):
            _observe(job, attempt, now, None)
    elif isinstance(failure, UpstreamRejected):
        stats.rejected(failure.reason)
    elif failure is not None:
        limited, asked = isinstance(failure, RateLimited | EngineBusy), not isinstance(failure, EngineBusy)
        if limited or not job.batch:  # rows that fail again and again must not tell live requests what to expect
            stats.failed(now, streamed=job.call.stream, code=failure.reason, limited=limited, paid=bool(cost_nusd), asked=asked)
    if explored:
        route.exploring.explored(failed=failure is not None)
    if job.rule.slo != NO_SLO and not job.batch and (status in ("ok", "cut") or (failure is not None and job.error_status is not None)):
        route.slack.answered(now, late=status != "ok" or _broke_promise(job, attempt, now))


def _broke_promise(job: Job, attempt: Attempt, now: float) -> bool:
    """A whole answer that began or ended too late for the client. Of a unary answer the begin cannot be seen."""
    slo, began = job.rule.slo, attempt.marks.first_token
    if job.call.stream and slo.ttft_s is not None and began is not None and began - job.client.started_at > slo.ttft_s:
        return True
    return slo.deadline_s is not None and now - job.client.started_at > slo.deadline_s


def _left_early(job: Job, attempt: Attempt, now: float) -> None:
    """A first runner has had the time that its hedge gave it: it would have taken longer, predicted or not."""
    if not (attempt.abandoned and attempt.number == 1):
        if _was_late(attempt, now):
            _observe(job, attempt, now, None)
        return
    if not _silent(attempt):
        return
    marks, prompt_tokens = attempt.marks, _cold_tokens(job, attempt)
    forecast = attempt.target.stats.forecast(now, streamed=job.call.stream, prompt_tokens=prompt_tokens, load=attempt.load)
    took_s = counts_as(forecast, now - (marks.admitted or marks.started))
    if took_s is not None:
        _observe(job, attempt, now, None, took_s)


def _was_late(attempt: Attempt, now: float) -> bool:
    """Nothing had come from it yet, beyond its predicted p95. Left out, each p95 would be without what exceeded the last one, and shrink."""
    predicted_s = attempt.planned.prediction.ttft_p95_s
    return _silent(attempt) and predicted_s is not None and now - attempt.marks.started > predicted_s


def _silent(attempt: Attempt) -> bool:
    """It was at work, and nothing had come of it; what waits in a queue was not slow."""
    return attempt.marks.first_token is None and not (attempt.marks.admitted is None and attempt.target.owned)


def _cold_tokens(job: Job, attempt: Attempt) -> int:
    """Of the prompt, what no cache there is likely to hold."""
    if job.planning is None:
        return 0
    ask = job.planning.ask
    return ask.prompt_tokens - ask.warm.get(attempt.target.label, 0)


def _beyond_best(job: Job, cost_nusd: int | None) -> float | None:
    """What a measurement cost more than the target would have that was passed over for it."""
    attempts = job.planning.plan.attempts if job.planning else ()
    best = attempts[1].prediction.effective_nusd if len(attempts) > 1 else None
    return None if best is None or cost_nusd is None else cost_nusd - best


def _observe(job: Job, attempt: Attempt, now: float, usage: Usage | None, took_s: float | None = None) -> None:
    """`took_s`: what it counts as where it was not over."""
    marks, call = attempt.marks, job.call
    started = marks.admitted or marks.started
    cached = None if usage is None else usage.cache_read
    read, made = NO_TOTALS if usage is None else attempt.totals
    attempt.target.stats.observe(
        now,
        streamed=call.stream,
        prompt_tokens=usage.input_uncached if usage is not None and usage.input_uncached is not None else _estimated(job),
        load=attempt.load,
        ttft_s=(took_s or (marks.first_token or now) - started) if call.stream else None,
        total_s=took_s or now - started,
        output_tokens=made,
        input_tokens=None if cached is None else read,
        cached_tokens=cached,
        begun=attempt.begun,
    )


def _estimated(job: Job) -> int:
    return job.planning.ask.prompt_tokens if job.planning else 0
