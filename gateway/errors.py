"""Errors to HTTP: one status table for the whole tree, and what a caller sees of an error. Nothing of an upstream's wording gets here."""

import msgspec

from contract import errors as e

# class -> (status, OpenAI's error type). A class without a row of its own takes its nearest ancestor's;
# tests/gateway/test_edge.py proves that every leaf of the tree is covered by intent, not by the root's row.
STATUS: dict[type[e.TurnoutError], tuple[int, str]] = {
    e.AuthenticationFailed: (401, "authentication_error"),
    e.PermissionDenied: (403, "permission_error"),
    e.NotFound: (404, "invalid_request_error"),
    e.MethodNotAllowed: (405, "invalid_request_error"),
    e.RequestTimeout: (408, "invalid_request_error"),
    e.RequestTooLarge: (413, "invalid_request_error"),
    e.UnsupportedMediaType: (415, "invalid_request_error"),
    e.LimitExceeded: (429, "rate_limit_error"),
    e.BudgetExhausted: (402, "insufficient_quota"),
    e.StoreUnavailable: (503, "overloaded_error"),
    e.InvalidRequest: (400, "invalid_request_error"),
    e.ConnectFailed: (502, "upstream_error"),
    e.AttemptTimeout: (504, "upstream_error"),
    e.ConnectionLost: (502, "upstream_error"),
    e.StreamCut: (502, "upstream_error"),
    e.MalformedResponse: (502, "upstream_error"),
    e.UpstreamError: (502, "upstream_error"),
    e.UpstreamOverloaded: (503, "overloaded_error"),
    e.RateLimited: (429, "rate_limit_error"),
    e.UpstreamAuthFailed: (502, "upstream_error"),
    e.UpstreamModelNotFound: (404, "invalid_request_error"),
    e.MediaUnreachable: (502, "upstream_error"),
    e.UpstreamRejected: (400, "invalid_request_error"),
    e.EngineUnavailable: (503, "overloaded_error"),
    e.EngineBusy: (503, "overloaded_error"),
    e.EngineLost: (502, "upstream_error"),
    e.NoTargetReady: (503, "overloaded_error"),
    e.LedgerUnavailable: (503, "overloaded_error"),
    e.SignInUnavailable: (503, "overloaded_error"),
    e.ServerShuttingDown: (503, "overloaded_error"),
    e.ClientClosed: (499, "client_closed"),
    e.TurnoutError: (500, "internal_error"),
}
RETRYABLE = frozenset({429, 502, 503, 504})
DEFAULT_RETRY_AFTER_S = 1.0


class Shown(msgspec.Struct, frozen=True):
    """An error as the caller gets it."""

    status: int
    type: str
    headers: tuple[tuple[bytes, bytes], ...]


def status_of(error: e.TurnoutError) -> tuple[int, str]:
    """The status and type of an error; an exhausted plan shows what its last attempt met."""
    if isinstance(error, e.AttemptsExhausted):
        error = error.last
    return next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)


def shown(error: e.TurnoutError) -> Shown:
    """Status, type and the headers that tell an SDK whether and when to try again."""
    status, kind = status_of(error)
    headers: list[tuple[bytes, bytes]] = []
    if status in RETRYABLE:
        hopeless = _never_fits(error) or (isinstance(error, e.AttemptsExhausted) and isinstance(error.last, e.QuotaExhausted))
        headers.append((b"x-should-retry", b"false" if hopeless else b"true"))
        if status in (429, 503) and not _never_fits(error):
            wait_s = DEFAULT_RETRY_AFTER_S if error.retry_after_s is None else error.retry_after_s
            headers.append((b"retry-after", b"%d" % max(1, -int(-wait_s // 1))))
            headers.append((b"retry-after-ms", b"%d" % max(1, int(wait_s * 1000))))
    else:
        headers.append((b"x-should-retry", b"false"))
    return Shown(status, kind, (*headers, *error.headers))


def decision_of(error: e.TurnoutError) -> str:
    """What was decided about the request, in words; of one that ended before a plan, what ended it. "": nobody knows who asks, or what went wrong."""
    if error.decision or type(error) is e.TurnoutError or isinstance(error, e.AuthenticationFailed):
        return error.decision
    return f"not planned: {error.reason}"


def _never_fits(error: e.TurnoutError) -> bool:
    return isinstance(error, e.LimitExceeded) and error.retry_after_s is None
