"""What follows a failed attempt: one pure decision. The loop that acts on it is gateway/pipeline.py."""

from math import inf

import msgspec

from contract.errors import (
    AttemptError,
    ConnectFailed,
    ConnectionLost,
    ContentPolicyRefused,
    EngineError,
    QuotaExhausted,
    RateLimited,
    StreamCut,
    UpstreamAuthFailed,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamRejected,
)

MAX_WAIT_S = 5.0  # longest retry-after that is waited for instead of told to the caller
CROWDED = 0.5  # of a model's context, by an estimate that may be half of what it is
BACKOFF_S = 0.25  # first backoff before the same target is tried again; doubles, full jitter
MAX_BACKOFF_S = 2.0


class Situation(msgspec.Struct, frozen=True):
    """Where a request stands when an attempt failed. `jitter` is a random number in [0, 1), drawn by the caller.

    `budget_allows`: the target's retry budget. `healthy`: its breaker is closed, this failure counted. `other_key_ready`: the provider has
    a key that is not cooling. `first_refusal`: this attempt's key is one of several, and was not refused to the request before. `ready_in_s`:
    when the first of its keys is, where one of them was told a time; `waited`: this request has waited for one already. `deadline_left_s`: what
    is left of the request's time. `committed`: the client has seen output. `crowded`: the prompt fills much of the model's context, by our estimate.
    `refused`: the first target has refused the request for good, while a second runner was still in the race.
    """

    attempts_made: int
    max_attempts: int
    attempts_at_target: int
    targets_left: int
    jitter: float
    deadline_left_s: float = inf
    budget_allows: bool = True
    healthy: bool = True
    other_key_ready: bool = False
    first_refusal: bool = False
    ready_in_s: float | None = None
    waited: bool = False
    committed: bool = False
    crowded: bool = False
    refused: bool = False


class RetrySame(msgspec.Struct, frozen=True):
    """Try the same target again after `delay_s` seconds. `free`: with another key, and the attempt that failed does not count."""

    delay_s: float
    reason: str
    free: bool = False


class FailOver(msgspec.Struct, frozen=True):
    """Try the plan's next target now."""

    reason: str


class Stop(msgspec.Struct, frozen=True):
    """Give up: the caller gets the error."""

    reason: str


Verdict = RetrySame | FailOver | Stop


def after_failure(error: AttemptError, now: Situation) -> Verdict:
    """Decides by the error's class alone, never by its wording.

    The caller's own fault is final, unless a fallback alone finds one, and so is what the client has seen. A key's failure is mended by
    another key, which costs no attempt where the first is spent or not accepted. Otherwise the same target gets one more try for what a moment
    may mend, a 5xx or a lost connection; then another target is better, and with none left the same one again: after a backoff, or once after a
    short time that the provider named.
    """
    if now.committed:
        return Stop("committed")
    if now.refused or (error.disposition == "final" and not _picky(error, now)):
        return Stop("final")
    if now.other_key_ready and now.first_refusal and now.deadline_left_s > 0.0 and isinstance(error, QuotaExhausted | UpstreamAuthFailed):
        return RetrySame(0.0, error.reason, free=True)
    if now.attempts_made >= now.max_attempts:
        return Stop("max_attempts")
    if now.deadline_left_s <= 0.0:
        return Stop("deadline")
    if now.other_key_ready and isinstance(error, RateLimited | UpstreamAuthFailed) and (_spares_one(now) or not now.targets_left):
        return RetrySame(0.0, error.reason)
    if not now.targets_left:
        return _alone(error, now)
    delay_s = _first_retry_s(error, now)
    return FailOver(error.reason) if delay_s is None else RetrySame(delay_s, error.reason)


def _picky(error: AttemptError, now: Situation) -> bool:
    """Whether another target may take what this one refuses: a fallback refuses what the target before it was not known to, or the request
    may be too long for this model. What a content policy refuses stays refused.
    """
    if now.crowded and unexplained(error):
        return True
    return now.attempts_made > now.attempts_at_target and not isinstance(error, ContentPolicyRefused)


def ends_race(error: AttemptError) -> bool:
    """Whether a runner's failure ends the race for the other one too. Any other failure leaves the race to it, a plain refusal as well."""
    return isinstance(error, ContentPolicyRefused)


def refused_for_good(error: AttemptError, crowded: bool) -> bool:
    """A refusal by the plan's first target after which no target is tried that was not begun already."""
    return error.disposition == "final" and not (crowded and unexplained(error))


def unexplained(error: AttemptError) -> bool:
    """A refusal that names neither a code nor a field. Of too long a prompt some tell in words that are not known."""
    return type(error) is UpstreamRejected and error.param is None


def _first_retry_s(error: AttemptError, now: Situation) -> float | None:
    """How long until a target gets its second try although another one is left; None: it gets none."""
    if now.attempts_at_target > 1 or not (_spares_one(now) and now.healthy and now.budget_allows):
        return None
    if isinstance(error, ConnectionLost):
        return 0.0  # most often a connection that was old: a fresh one is there at once
    if isinstance(error, UpstreamOverloaded) or not isinstance(error, UpstreamError) or error.retry_after_s:
        return None
    delay_s = _backoff_s(now)
    return delay_s if delay_s < now.deadline_left_s else None


def _spares_one(now: Situation) -> bool:
    """Whether one more attempt at the same target leaves one for another."""
    return now.max_attempts - now.attempts_made >= 2


def _alone(error: AttemptError, now: Situation) -> Verdict:
    """No other target is left."""
    if isinstance(error, EngineError):
        return Stop("no other target")
    wait_s = error.retry_after_s or 0.0
    if isinstance(error, RateLimited):
        named_s = _named_s(error, now)
        if named_s is None:
            return Stop("no other target" if isinstance(error, QuotaExhausted) else "rate limited")
        wait_s = max(named_s, _backoff_s(now))  # "0 seconds" is no leave to hammer
    elif error.disposition == "retry_same" or isinstance(error, ConnectFailed):
        wait_s += _backoff_s(now)
    elif not isinstance(error, StreamCut) or now.attempts_at_target > 1:
        return Stop("no other target")
    if wait_s > MAX_WAIT_S:
        return Stop("retry-after is too long to wait for")
    if not now.budget_allows:
        return Stop("retry budget")
    if wait_s >= now.deadline_left_s:
        return Stop("deadline")
    return RetrySame(wait_s, error.reason)


def _named_s(error: RateLimited, now: Situation) -> float | None:
    """The time that the provider named, for whichever key is ready first. It is waited for once; a spent quota names none."""
    if now.waited:
        return None
    if now.ready_in_s is not None:
        return now.ready_in_s
    return None if isinstance(error, QuotaExhausted) or now.attempts_at_target > 1 else error.retry_after_s


def _backoff_s(now: Situation) -> float:
    return min(MAX_BACKOFF_S, BACKOFF_S * 2.0 ** min(now.attempts_at_target - 1, 9)) * now.jitter
