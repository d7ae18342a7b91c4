"""What follows a failed attempt: one pure decision. The loop that acts on it is gateway/pipeline.py."""

import msgspec

from contract.errors import AttemptError, ConnectFailed, EngineError, QuotaExhausted, RateLimited

MAX_WAIT_S = 5.0  # longest retry-after that is waited for instead of told to the caller
BACKOFF_S = 0.25  # first backoff before the same target is tried again; doubles, full jitter
MAX_BACKOFF_S = 2.0


class Situation(msgspec.Struct, frozen=True):
    """Where a request stands when an attempt failed. `jitter` is a random number in [0, 1), drawn by the caller."""

    attempts_made: int
    max_attempts: int
    attempts_at_target: int
    targets_left: int
    jitter: float


class RetrySame(msgspec.Struct, frozen=True):
    """Try the same target again after `delay_s` seconds."""

    delay_s: float
    reason: str


class FailOver(msgspec.Struct, frozen=True):
    """Try the plan's next target now."""

    reason: str


class Stop(msgspec.Struct, frozen=True):
    """Give up: the caller gets the error."""

    reason: str


Verdict = RetrySame | FailOver | Stop


def after_failure(error: AttemptError, now: Situation) -> Verdict:
    """Decides by the error's class alone, never by its wording.

    The caller's own fault is final. Otherwise another target is better than the same one; the same one is tried again only when there
    is no other and the failure is one that a moment may mend: a 5xx, a lost connection, a refused one, a 429 with a short retry-after.
    """
    if error.disposition == "final":
        return Stop("final")
    if now.attempts_made >= now.max_attempts:
        return Stop("max_attempts")
    if now.targets_left:
        return FailOver(error.reason)
    if isinstance(error, QuotaExhausted | EngineError):
        return Stop("no other target")
    if isinstance(error, RateLimited):
        return _after_rate_limit(error, now)
    if error.retry_after_s is not None and error.retry_after_s > MAX_WAIT_S:
        return Stop("retry-after is too long to wait for")
    if error.disposition == "retry_same" or isinstance(error, ConnectFailed):
        ceiling = min(MAX_BACKOFF_S, BACKOFF_S * 2.0 ** min(now.attempts_at_target - 1, 9))
        return RetrySame((error.retry_after_s or 0.0) + ceiling * now.jitter, error.reason)
    return Stop("no other target")


def _after_rate_limit(error: RateLimited, now: Situation) -> Verdict:
    """Waits once, and only for a time that the provider named and a caller would sit out."""
    wait_s = error.retry_after_s
    if wait_s is None or wait_s > MAX_WAIT_S or now.attempts_at_target > 1:
        return Stop("rate limited")
    return RetrySame(wait_s, error.reason)
