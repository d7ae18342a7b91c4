"""What a team's rows of batches leave of its limits to its live requests (policy/batch_share.py)."""

from collections import deque
from time import monotonic

from contract.errors import LimitExceeded
from gateway.job import Job
from gateway.metering.bounds import bounds_of
from gateway.runtime import Runtime
from policy.batch_share import Asked, waits_s

UNSEEN_S = 0.25  # from the look at a limit until what was let through then counts there, at the most


class LiveRoom:
    """One process's: what it let through a moment ago is not counted at the limits yet."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lately: deque[tuple[float, str, int]] = deque()  # when, by which scope, tokens

    async def keep(self, job: Job) -> None:
        """Raises LimitExceeded while a row must wait, StoreUnavailable, LedgerUnavailable."""
        scopes = [scope for scope in job.principal.scopes if scope.limits.rpm or scope.limits.tpm or scope.limits.concurrency]
        if not scopes:
            return
        tokens = bounds_of(job.call, job.route, job.rule, False).most_tokens
        for scope in scopes:
            standing = await self._runtime.meter.standing(scope)
            wait_s = waits_s(standing, tokens, self._unseen(scope.id))
            if wait_s > 0.0:
                raise LimitExceeded(f"what the {scope.kind} {scope.name!r} has left is for its live requests", retry_after_s=wait_s)
        now = monotonic()
        self._lately.extend((now, scope.id, tokens) for scope in scopes)

    def _unseen(self, scope: str) -> Asked:
        since = monotonic() - UNSEEN_S
        while self._lately and self._lately[0][0] < since:
            self._lately.popleft()
        tokens = [each for _, id, each in self._lately if id == scope]
        return Asked(len(tokens), sum(tokens))
