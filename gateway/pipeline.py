"""One request from its plan to its answer: planned, attempted (gateway/attempts.py), delivered (gateway/delivery.py)."""

from time import monotonic

from contract.errors import NoTargetReady, PermissionDenied, TurnoutError
from gateway.attempts import Attempts
from gateway.delivery import Delivery
from gateway.errors import status_of
from gateway.job import Job, Planning
from gateway.keeper import Keeper
from gateway.planner import plan_for
from gateway.record import Recorder

LEAST_RETRY_S = 0.05


class Pipeline:
    """Runs jobs. `keeper` remembers what later requests may refer to."""

    def __init__(self, recorder: Recorder, keeper: Keeper) -> None:
        self._recorder = recorder
        self._keeper = keeper

    async def run(self, job: Job) -> None:
        """Answers the client, or raises: AttemptsExhausted, NoTargetReady or PermissionDenied when nothing was sent, CancelledError when it left."""
        now = monotonic()
        planning = job.planning = plan_for(job, now)
        if not planning.plan.attempts:
            error = _nobody(job, planning, now)
            self._recorder.refused(job, error.reason, status_of(error)[0])
            raise error
        attempts = Attempts(job, planning, self._recorder)
        opened = await attempts.opened()
        await Delivery(job, attempts, self._recorder, self._keeper).deliver(opened)


def _nobody(job: Job, planning: Planning, now: float) -> TurnoutError:
    """Why no target is left: none is ready just now, or the policy forbids them all."""
    model, plan = job.call.model, planning.plan
    if plan.soonest_at is not None:
        told = "; ".join(f"{each.candidate.name}: {each.rule}" for each in plan.removed)
        return NoTargetReady(f"no target of the model {model!r} is ready ({told})", retry_after_s=max(LEAST_RETRY_S, plan.soonest_at - now))
    if any(each.rule.startswith("max_usd_per_request") for each in plan.removed):
        return PermissionDenied(f"every target of the model {model!r} is predicted to cost more than this request may", code="over_max_cost")
    return PermissionDenied(f"the policy {job.rule.name!r} leaves no target for the model {model!r}", code="no_allowed_target")
