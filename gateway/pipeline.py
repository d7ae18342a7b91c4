"""One request from its plan to its answer: planned, attempted (gateway/attempts.py), delivered (gateway/delivery.py)."""

from collections.abc import Awaitable
from time import monotonic

from cache.port import Kept
from contract.errors import BudgetExhausted, NoTargetReady, PermissionDenied, TurnoutError
from gateway.attempts import Attempts
from gateway.delivery import Delivery
from gateway.errors import status_of
from gateway.job import Job, Planning
from gateway.keeper import Keeper
from gateway.kept.caching import Caches
from gateway.metering.admission import Admission, headers_of
from gateway.planner import ENGINE_DOWN, plan_for
from gateway.record import Recorder
from policy.residency import Removed
from providers.local.backend import EngineBackend

LEAST_RETRY_S = 0.05


class Pipeline:
    """Runs jobs. `keeper` remembers what later requests may refer to; `admission` counts what teams use that have limits.

    `caches` None: nobody's answers are kept.
    """

    def __init__(self, recorder: Recorder, keeper: Keeper, admission: Admission, caches: Caches | None = None) -> None:
        self._recorder = recorder
        self.keeper = keeper
        self._admission = admission
        self._caches = caches

    async def run(self, job: Job) -> None:
        """Answers the client, or raises when nothing was sent: LimitExceeded, BudgetExhausted, AttemptsExhausted, NoTargetReady, PermissionDenied.

        Also StoreUnavailable and LedgerUnavailable, where what is used up cannot be known; CancelledError when the client left.
        """
        if not job.principal.scopes:
            return await self._serve(job)
        kept = None if self._caches is None else await self._caches.kept(job)
        if (turn := self._admission.admit(job, kept is not None)) is not None:
            await turn
        try:
            await self._serve(job, kept)
        except TurnoutError as error:
            error.headers = tuple(headers_of(job))
            raise
        finally:
            self._admission.settle(job)

    def _serve(self, job: Job, kept: Kept | None = None) -> Awaitable[None]:
        if self._caches is not None and self._caches.concern(job):
            return self._caches.serve(job, self._answer, kept)
        return self._answer(job)

    async def _answer(self, job: Job) -> None:
        now = monotonic()
        planning = job.planning = plan_for(job, now)
        if not planning.plan.attempts:
            error = _nobody(job, planning, now)
            self._recorder.refused(job, error.reason, status_of(error)[0])
            raise error
        attempts = Attempts(job, planning, self._recorder)
        opened = await attempts.opened()
        await Delivery(job, attempts, self._recorder, self.keeper).deliver(opened)


def _why_not_ready(removed: Removed, job: Job) -> str:
    backend = job.route.targets[removed.candidate.index].backend
    if removed.rule == ENGINE_DOWN and isinstance(backend, EngineBackend):
        return f"not ready: the engine {backend.supervisor.standing}"
    return removed.rule


def _nobody(job: Job, planning: Planning, now: float) -> TurnoutError:
    """Why no target is left: none is ready just now, or the policy forbids them all."""
    model, plan = job.call.model, planning.plan
    if plan.soonest_at is not None:
        told = "; ".join(f"{each.candidate.name}: {_why_not_ready(each, job)}" for each in plan.removed)
        return NoTargetReady(f"no target of the model {model!r} is ready ({told})", retry_after_s=max(LEAST_RETRY_S, plan.soonest_at - now))
    if any(each.rule.startswith("budget") for each in plan.removed):
        told = "; ".join(f"{each.candidate.name}: {each.rule}" for each in plan.removed)
        return BudgetExhausted(f"the budget leaves no target of the model {model!r} ({told})")
    if any(each.rule.startswith("max_usd_per_request") for each in plan.removed):
        return PermissionDenied(f"every target of the model {model!r} is predicted to cost more than this request may", code="over_max_cost")
    if _narrows_residency(job):
        told = "the residency that this request asks for (`x-turnout-residency`, or `turnout.residency` in its body)"
        return PermissionDenied(f"{told} leaves no target for the model {model!r} under the policy {job.rule.name!r}", code="no_allowed_target")
    return PermissionDenied(f"the policy {job.rule.name!r} leaves no target for the model {model!r}", code="no_allowed_target")


def _narrows_residency(job: Job) -> bool:
    """Whether the request itself says where it may go, beside its policy."""
    usual = job.principal.rule or job.route.rule
    named = any(name == b"x-turnout-residency" and value.strip() != b"any" for name, value in job.headers)
    return named or (job.rule.name == usual.name and job.rule.residency != usual.residency)
