"""Before a request goes on: its upper bound is reserved at every level that counts it, in its turn; afterwards it is settled at what it used."""

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from math import ceil, inf
from time import monotonic

import msgspec

from contract.errors import BudgetExhausted, InvalidRequest, LimitExceeded, RequestError
from contract.head import HeaderList, pairs_of
from gateway.accounting import tier_asked
from gateway.errors import status_of
from gateway.job import Affordable, Job
from gateway.metering.alerts import Alerts
from gateway.metering.bounds import NOTHING, Bounds, bounds_of, cheapest, dearest
from gateway.metering.meter import MeterPort
from gateway.metering.waiting import WAITED_FOR, Lines
from gateway.planner import admitted_by
from gateway.record import Recorder
from policy.meter import MOST_TOGETHER
from policy.quota import NO_LIMITS, Budget, Granted, Refused, Scope, Used, Want
from policy.residency import Admitted

DEGRADED = b"x-turnout-degraded: limiter\r\n"


class _Counted:
    """What a key's scopes have in common: whether one has a budget, the least tokens a minute of those that limit them, whether one lets wait."""

    __slots__ = ("least_tpm", "lets_wait", "money", "scopes")

    def __init__(self, scopes: tuple[Scope, ...]) -> None:
        self.scopes = scopes
        self.money = any(scope.budgets for scope in scopes)
        self.least_tpm = min([scope.limits.tpm for scope in scopes if scope.limits.tpm is not None], default=None)
        self.lets_wait = any(scope.limits.max_wait_s for scope in scopes)


class Admission:
    """For the requests of teams that something limits. `alerts` None: nobody is told of spent budgets."""

    def __init__(self, meter: MeterPort, recorder: Recorder, alerts: Alerts | None) -> None:
        self.meter = meter
        self._recorder = recorder
        self._alerts = alerts
        self._lines = Lines()
        self._known: dict[int, _Counted] = {}  # by the identity of a key's scopes, which are kept with it

    def admit(self, job: Job, free: bool = False) -> Awaitable[None] | None:
        """Reserves; `settle` must follow. `free`: a kept answer is there, so that it counts as a request and nothing more.

        None: it is granted. Else it is once what is given has been awaited. Both raise InvalidRequest, LimitExceeded, BudgetExhausted,
        StoreUnavailable, LedgerUnavailable.
        """
        call, scopes = job.call, job.principal.scopes
        counted = self._known.get(id(scopes))
        if counted is None or counted.scopes is not scopes:
            counted = self._counted(scopes)
        bounds = NOTHING if free else bounds_of(call, job.route, job.rule, counted.money)
        tokens, least_tpm = bounds.most_tokens, counted.least_tpm
        if least_tpm is not None and tokens > least_tpm:
            tokens = min(tokens, max(bounds.likely_tokens, least_tpm))
        want = Want(tokens, self._afford(job, bounds) if counted.money and not free else 0)
        answer = None if counted.lets_wait and self._lines.behind(scopes) else self.meter.at_once(call.request_id, scopes, want)
        if not isinstance(answer, Granted):
            return self._in_turn(job, bounds, want, counted.lets_wait)
        job.granted = answer
        if counted.lets_wait:
            job.granted_at = monotonic()
        return None

    def settle(self, job: Job) -> None:
        """Once the request's rows are in the ledger's hands."""
        granted = job.granted
        if granted is None:
            return
        self.meter.settle(granted, Used(job.used_tokens, job.used_nusd, job.client.status == 200))
        if job.granted_at is not None:
            self._lines.freed(granted.scopes, monotonic() - job.granted_at)
        if self._alerts is not None and job.used_nusd:
            self._alerts.spent(granted.scopes)

    @asynccontextmanager
    async def beside(self, job: Job) -> AsyncIterator[None]:
        """For a request that the gateway itself makes for one of a team's: it takes no turn, but its money is reserved like any other's.

        Raises BudgetExhausted, StoreUnavailable, LedgerUnavailable.
        """
        scopes = tuple(msgspec.structs.replace(scope, limits=NO_LIMITS) for scope in job.principal.scopes if scope.budgets)
        if not scopes:
            yield
            return
        want = Want(0, self._afford(job, bounds_of(job.call, job.route, job.rule, True)))
        granted = await self.meter.reserve(job.call.request_id, scopes, want)
        if isinstance(granted, Refused):
            raise _refusal(job, granted)
        try:
            yield
        finally:
            self.meter.settle(granted, Used(0, job.used_nusd))

    def _counted(self, scopes: tuple[Scope, ...]) -> _Counted:
        if len(self._known) >= MOST_TOGETHER:
            self._known.clear()
        counted = self._known[id(scopes)] = _Counted(scopes)
        return counted

    # --- in turn ---------------------------------------------------------------------------------------------------------
    async def _in_turn(self, job: Job, bounds: Bounds, want: Want, lets_wait: bool) -> None:
        job.granted = await self._granted(job, bounds, want)
        if lets_wait:
            job.granted_at = monotonic()

    async def _granted(self, job: Job, bounds: Bounds, want: Want) -> Granted:
        """Where it cannot be said at once, or not as it stands."""
        answer = await self._reserve(job, want)
        if isinstance(answer, Refused) and answer.budget is not None:
            answer = await self._cheaper(job, bounds, want, answer, answer.budget)
        if isinstance(answer, Refused):
            error = _refusal(job, answer)
            self._recorder.refused(job, error.reason, status_of(error)[0])
            raise error
        return answer

    async def _reserve(self, job: Job, want: Want) -> Granted | Refused:
        scopes = job.principal.scopes
        waiting = self._lines.behind(scopes)
        if waiting is None:
            answer = await self.meter.reserve(job.call.request_id, scopes, want)
            if isinstance(answer, Granted) or answer.dimension not in WAITED_FOR or answer.retry_after_s is None:
                return answer
            waiting = answer.scope, answer
            if not answer.scope.limits.max_wait_s:
                return answer
        return await self._wait(job, want, *waiting)

    async def _wait(self, job: Job, want: Want, scope: Scope, refused: Refused) -> Granted | Refused:
        id, scopes, flow = job.call.request_id, job.principal.scopes, job.principal.flow
        deadline_s = job.rule.slo.deadline_s
        left_s = inf if deadline_s is None else deadline_s - (monotonic() - job.client.started_at)
        return await self._lines.wait(scope, refused, flow, lambda: self.meter.reserve(id, scopes, want), left_s)

    # --- money -----------------------------------------------------------------------------------------------------------
    def _afford(self, job: Job, bounds: Bounds) -> int:
        """What is to be reserved: enough for the dearest target that may answer. Those whose price nobody knows are left out.

        Raises InvalidRequest where that is so of all of them for the service tier that is asked for.
        """
        admitted = admitted_by(job.rule, job.route)
        most = dearest(bounds.costs, admitted)
        if most is None and (tier := tier_asked(job.call)) and _priced(job, admitted):
            raise InvalidRequest(
                f"`service_tier` {tier!r} has no price at any target of {job.call.model!r}, and a budget pays for this key: leave it out, "
                "or have `price.service_tiers` say in the gateway's configuration what it costs",
                param="service_tier",
                code="service_tier_unpriced",
            )
        job.affordable = Affordable(bounds.costs, most or 0, True)
        return most or 0

    async def _cheaper(self, job: Job, bounds: Bounds, want: Want, refused: Refused, budget: Budget) -> Granted | Refused:
        """Where there is too little left for the dearest target: the cheapest, then those that cost nothing, if the budget says so."""
        steps = [cheapest(bounds.costs, admitted_by(job.rule, job.route))]
        if budget.on_exhausted == "local":
            steps.append(0)
        answer: Granted | Refused = refused
        for most in steps:
            if most >= want.cost_nusd or (most == 0 and budget.on_exhausted == "reject"):
                continue
            want = msgspec.structs.replace(want, cost_nusd=most)
            job.affordable = Affordable(bounds.costs, most)
            answer = await self._reserve(job, want)
            if isinstance(answer, Granted) or answer.budget is None or answer.budget.on_exhausted == "reject":
                return answer
        return answer


def _priced(job: Job, admitted: Admitted) -> bool:
    """Whether some target has a price in the standard tier."""
    return any(job.route.priced[kind].price is not None for kind in admitted.price_kinds)


# --- what the caller hears -----------------------------------------------------------------------------------------------------
_REQUESTS, _TOKENS = (
    b"x-ratelimit-limit-%b: %%d\r\nx-ratelimit-remaining-%b: %%d\r\nx-ratelimit-reset-%b: %%b\r\n" % (kind, kind, kind)
    for kind in (b"requests", b"tokens")
)
_MILLISECONDS = tuple(b"%dms" % ms for ms in range(1001))
_UNIT = {"requests": "requests a minute", "tokens": "tokens a minute", "concurrency": "requests at once"}


def _refusal(job: Job, refused: Refused) -> RequestError:
    scope, who = refused.scope, f"the {refused.scope.kind} {refused.scope.name!r}"
    error: RequestError
    if refused.budget is not None:
        budget = refused.budget
        if refused.retry_after_s is None and budget.window != "total":
            told = f"this request may cost more than the whole budget of ${budget.nusd / 1e9:g} a {budget.window} that {who} has"
        else:
            told = f"{who} has too little left of its budget of ${budget.nusd / 1e9:g}{'' if budget.window == 'total' else ' a ' + budget.window}"
        error = BudgetExhausted(f"{told}; a smaller `max_tokens` needs less")
    else:
        limit = {"requests": scope.limits.rpm, "tokens": scope.limits.tpm, "concurrency": scope.limits.concurrency}[refused.dimension]
        told = f"the limit of {limit} {_UNIT[refused.dimension]} of {who}"
        if refused.retry_after_s is None:
            error = LimitExceeded(f"the request is larger than {told}, and never fits", code="request_too_large_for_limit")
        else:
            error = LimitExceeded(f"{told} is reached", retry_after_s=refused.retry_after_s)
    error.headers = tuple(pairs_of(limit_lines(refused)))
    return error


def headers_of(job: Job) -> HeaderList:
    """What an answer says of its team's limits, as it was admitted."""
    return [] if job.granted is None else pairs_of(limit_lines(job.granted))


def limit_lines(answer: Granted | Refused) -> bytes:
    """OpenAI's `x-ratelimit-*`, of the tightest level, as lines; what nothing limits is not told."""
    lines = b""
    for told, left in ((_REQUESTS, answer.requests), (_TOKENS, answer.tokens)):
        if left is not None:
            lines += told % (left.limit, left.remaining, _duration(left.reset_s))
    return lines + DEGRADED if answer.degraded else lines


def _duration(seconds: float) -> bytes:
    """As OpenAI tells times: `120ms`, `1.5s`, `6m0s`."""
    if seconds < 1:
        return _MILLISECONDS[ceil(seconds * 1000)]
    minutes, rest = divmod(seconds, 60)
    text = f"{rest:.3f}".rstrip("0").rstrip(".")
    return f"{int(minutes)}m{text}s".encode() if minutes else f"{text}s".encode()
