"""The one error tree. HTTP statuses are not here: they live in one table at the edge (gateway/errors.py).

    TurnoutError
    ├── RequestError                 the caller's request cannot be served as it stands; never retried
    │   ├── AuthenticationFailed        no key, or a key that is not known
    │   ├── PermissionDenied            a known key that may not do this
    │   ├── NotFound                    no such resource
    │   │   └── ModelNotFound           no such model, or not for this key
    │   ├── MethodNotAllowed
    │   ├── InvalidRequest              malformed JSON, a wrong type, a missing field
    │   │   └── UnsupportedField        well formed, but no allowed target can honour it
    │   ├── RequestTooLarge
    │   ├── RequestTimeout              the client did not send its request in time
    │   └── UnsupportedMediaType
    ├── AttemptError                 one attempt at one target failed; `disposition` says what may follow
    │   ├── ConnectFailed               refused, unreachable, DNS, TLS
    │   ├── AttemptTimeout              one of the five clocks: connect, headers, first_token, idle, total
    │   ├── ConnectionLost              reset or closed before any byte of the response's body
    │   ├── StreamCut                   the answer ended without its terminal event
    │   ├── MalformedResponse           not HTTP, not JSON, not an event stream
    │   │   └── AnswerTooLarge          beyond a size limit: an event, the whole
    │   ├── UpstreamError               500, 502, 503, or an error object inside a 200
    │   │   └── UpstreamOverloaded      503 with retry-after, 529
    │   ├── RateLimited                 429
    │   │   └── QuotaExhausted          insufficient_quota, 402: this key is spent
    │   ├── UpstreamAuthFailed          401, 403: our key, not the caller's
    │   ├── UpstreamModelNotFound       404
    │   ├── UpstreamRejected            400, 413, 422 and other 4xx: the same request would fail again
    │   │   ├── ContextLengthExceeded
    │   │   ├── ContentPolicyRefused
    │   │   ├── EngineRefused           an owned engine cannot take such a request; another target may
    │   │   │   └── MediaUnreachable    nor can it reach the host of an image, audio or video
    │   │   └── TargetCannot            the target has no way to honour a field; nothing was sent, another target may
    │   └── EngineError                 an owned engine
    │       ├── EngineUnavailable       not up: starting, restarting, given up
    │       ├── EngineBusy              queue full, or waited too long in it
    │       └── EngineLost              it died under the request
    ├── NoTargetReady                every target that may answer is cooling, open or down; nothing was sent
    ├── AttemptsExhausted            every attempt of the plan failed
    ├── StoreUnavailable             limits and budgets cannot be checked just now, and the configuration says `closed`
    ├── LedgerUnavailable            the ledger cannot be read or written just now
    ├── SignInUnavailable            people cannot be signed in just now: their identity provider cannot be used
    ├── ServerShuttingDown
    └── ClientClosed                 the caller left; nobody's failure

`message` is always our own wording and safe to show to a caller; an upstream's text never enters it.
"""

from typing import ClassVar, Literal

Disposition = Literal["retry_same", "fail_over", "final"]
Clock = Literal["connect", "headers", "first_token", "idle", "total"]


class TurnoutError(Exception):
    """Base of every error of ours. `code` is stable and machine-readable; `param` names the field at fault, if one is.

    `decision`: what the policy had decided when it happened, in words; "" before it decided anything. `cache`: what became of the request among
    the kept answers; "" where they were not asked. `headers`: what the answer says beside.
    """

    code: ClassVar[str] = "internal_error"
    decision = ""
    cache = ""
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.reason: str = code or self.code


class RequestError(TurnoutError):
    """The caller's request cannot be served as it stands."""

    code = "invalid_request"


class AuthenticationFailed(RequestError):
    code = "invalid_api_key"


class PermissionDenied(RequestError):
    code = "permission_denied"


class NotFound(RequestError):
    code = "not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"


class MethodNotAllowed(RequestError):
    code = "method_not_allowed"


class InvalidRequest(RequestError):
    code = "invalid_request"


class UnsupportedField(InvalidRequest):
    code = "unsupported_field"


class RequestTooLarge(RequestError):
    code = "request_too_large"


class RequestTimeout(RequestError):
    code = "request_timeout"


class UnsupportedMediaType(RequestError):
    code = "unsupported_media_type"


class LimitExceeded(RequestError):
    """A limit of ours, not a provider's. `retry_after_s` None: it never fits."""

    code = "rate_limit_exceeded"


class BudgetExhausted(RequestError):
    code = "budget_exhausted"


class StoreUnavailable(TurnoutError):
    """The store of limits and budgets is lost, and the configuration admits nobody without it."""

    code = "limits_unavailable"


class AttemptError(TurnoutError):
    """One attempt at one target failed.

    `target` is filled in by whoever runs the attempt; `upstream_status` is the HTTP status, when one came;
    `sent` is False only when no byte of the request can have reached the upstream.
    """

    code = "upstream_error"
    disposition: ClassVar[Disposition] = "fail_over"
    target: str = ""
    upstream_status: int | None = None
    sent: bool = True


class ConnectFailed(AttemptError):
    code = "upstream_connect_failed"
    sent = False


class AttemptTimeout(AttemptError):
    """One of the five clocks ran out; `reason` is `upstream_<clock>_timeout`."""

    code = "upstream_timeout"

    def __init__(self, clock: Clock, limit_s: float) -> None:
        names: dict[Clock, str] = {"connect": "to connect", "headers": "for response headers", "first_token": "for the first token",
                                   "idle": "between two pieces of the answer", "total": "in all"}  # fmt: skip
        super().__init__(f"the upstream took longer than the {round(limit_s, 3):g} s it is given {names[clock]}", code=f"upstream_{clock}_timeout")
        self.clock: Clock = clock
        self.sent = clock != "connect"


class ConnectionLost(AttemptError):
    code = "upstream_connection_lost"
    disposition = "retry_same"


class StreamCut(AttemptError):
    code = "upstream_stream_truncated"


class MalformedResponse(AttemptError):
    code = "upstream_invalid_response"


class AnswerTooLarge(MalformedResponse):
    """An event of the upstream's stream, or its whole answer."""

    @classmethod
    def of(cls, what: str, limit: int) -> "AnswerTooLarge":
        """`what` has more than `limit` bytes."""
        return cls(f"{what} is larger than {limit} bytes")


class UpstreamError(AttemptError):
    code = "upstream_error"
    disposition: ClassVar[Disposition] = "retry_same"


class UpstreamOverloaded(UpstreamError):
    code = "upstream_overloaded"


class RateLimited(AttemptError):
    code = "upstream_rate_limited"


class QuotaExhausted(RateLimited):
    code = "upstream_quota_exhausted"


class UpstreamAuthFailed(AttemptError):
    code = "upstream_auth_failed"


class UpstreamModelNotFound(AttemptError):
    code = "upstream_model_not_found"


class UpstreamRejected(AttemptError):
    code = "upstream_rejected"
    disposition: ClassVar[Disposition] = "final"


class ContextLengthExceeded(UpstreamRejected):
    code = "context_length_exceeded"
    disposition = "fail_over"


class ContentPolicyRefused(UpstreamRejected):
    code = "content_policy_violation"


class EngineRefused(UpstreamRejected):
    code = "local_engine_refused"
    disposition = "fail_over"


class MediaUnreachable(EngineRefused):
    code = "media_unreachable"


class TargetCannot(UpstreamRejected):
    """The target's format or provider has no place for what the request asks; `param` is the field in the client's dialect."""

    code = "unsupported_field"
    disposition = "fail_over"
    sent = False


class EngineError(AttemptError):
    code = "local_engine_error"


class EngineUnavailable(EngineError):
    code = "local_engine_unavailable"
    sent = False


class EngineBusy(EngineError):
    code = "local_engine_busy"
    sent = False


class EngineLost(EngineError):
    code = "local_engine_lost"


class NoTargetReady(TurnoutError):
    """Every target that may answer is cooling, open or down; `retry_after_s`: when the first of them may be tried."""

    code = "no_target_ready"


class AttemptsExhausted(TurnoutError):
    """Every attempt of the plan failed. `attempts`: what failed, the plan's first target before all; `last` decides the status.

    `verdict`: the failure after which nothing else mattered. `made`: attempts that were begun, those included that were stopped.

    That a fallback could not take such a request says nothing of the targets before it, so it is not what the caller hears of. Nor is a
    fallback's own refusal, unless its content policy's.
    """

    code = "all_attempts_failed"

    def __init__(self, attempts: list[AttemptError], *, verdict: AttemptError | None = None, made: int = 0) -> None:
        self.attempts = attempts
        self.made = max(made, len(attempts))
        first = attempts[0].target
        told = (error for error in reversed(attempts) if not _says_nothing(error, error.target == first))
        self.last = verdict or next(told, attempts[-1])
        super().__init__(self._told(), param=self.last.param, code=self.last.reason, retry_after_s=self.last.retry_after_s)

    def _told(self) -> str:
        """That the time was over says little where it was spent on failures: then the newest of them is named too."""
        last = self.last
        before = [error for error in self.attempts if error is not last]
        if not before or not isinstance(last, AttemptTimeout) or last.clock != "total":
            return last.message
        return f"{last.message}; the attempt before it failed: {before[-1].message} ({before[-1].reason})"


def _says_nothing(error: AttemptError, of_first: bool) -> bool:
    if isinstance(error, EngineRefused | TargetCannot | ContextLengthExceeded):
        return True
    return isinstance(error, UpstreamRejected) and not of_first and not isinstance(error, ContentPolicyRefused)


class LedgerUnavailable(TurnoutError):
    code = "ledger_unavailable"


class SignInUnavailable(TurnoutError):
    code = "sign_in_unavailable"


class ServerShuttingDown(TurnoutError):
    code = "server_shutting_down"


class ClientClosed(TurnoutError):
    code = "client_closed"
