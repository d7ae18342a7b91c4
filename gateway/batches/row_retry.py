"""What a row's failure means: it stands, or the row is asked again, then or then. Pure."""

from typing import NamedTuple

from contract.errors import (
    AttemptsExhausted,
    AuthenticationFailed,
    BudgetExhausted,
    EngineBusy,
    EngineUnavailable,
    LedgerUnavailable,
    LimitExceeded,
    NoTargetReady,
    QuotaExhausted,
    RateLimited,
    ServerShuttingDown,
    StoreUnavailable,
    TurnoutError,
)
from gateway.errors import RETRYABLE, status_of

LEAST_S = 0.25
SOON_S = 2.0
BUDGET_S = 15.0  # until it is looked again whether a budget has room
MOST_S = 60.0
_NO_ROOM = (EngineBusy, EngineUnavailable, RateLimited)


class Again(NamedTuple):
    """`counts`: it was an attempt, of which a row has only so many. `rests`: the whole batch waits as long, for others of it would fare the same."""

    after_s: float
    counts: bool
    rests: bool


def after(error: TurnoutError, attempts: int, most: int, jitter: float) -> Again | None:
    """None: the failure stands. `attempts`: those that failed before; `jitter`: from 0 to 1."""
    if isinstance(error, LimitExceeded):
        return None if error.retry_after_s is None else _rest(error.retry_after_s)
    if isinstance(error, BudgetExhausted):
        return _rest(BUDGET_S)
    if isinstance(error, NoTargetReady):
        return _rest(error.retry_after_s)
    if isinstance(error, StoreUnavailable | LedgerUnavailable | ServerShuttingDown):
        return _rest(SOON_S)
    if isinstance(error, AttemptsExhausted) and isinstance(error.last, _NO_ROOM) and not isinstance(error.last, QuotaExhausted):
        return _rest(error.retry_after_s)
    if attempts + 1 >= most:
        return None
    if isinstance(error, AuthenticationFailed):  # of a key that is no more; once more, for a process that has not heard of it yet
        return None if attempts else Again(SOON_S, True, False)
    if isinstance(error, AttemptsExhausted) and status_of(error)[0] in RETRYABLE:
        return Again(min(MOST_S, SOON_S ** (attempts + 1)) * (0.5 + jitter / 2), True, False)
    return None


def _rest(after_s: float | None) -> Again:
    return Again(min(MOST_S, max(LEAST_S, SOON_S if after_s is None else after_s)), False, True)
