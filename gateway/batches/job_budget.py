"""What a provider's job may cost, held in the team's budgets from its submission until its last result is booked."""

import msgspec

from batch.jobs import Job
from batch.states import Batch
from contract.errors import TurnoutError
from gateway.batches.asking import Asking
from gateway.runtime import Runtime
from policy.quota import NO_LIMITS, Granted, Used, Want


class JobBudget:
    """One job's. `used_nusd`: what its results cost the team so far."""

    def __init__(self, runtime: Runtime, asking: Asking, batch: Batch, job: Job) -> None:
        self._runtime = runtime
        self._asking = asking
        self._batch = batch
        self._job = job
        self._granted: Granted | None = None
        self.used_nusd = 0

    @property
    def counts(self) -> bool:
        """Whether a budget of its team has room held for it."""
        return self._granted is not None

    async def reserve(self, most_nusd: int | None) -> bool:
        """Whether the budgets have room for it. None: what it may cost at most is not known."""
        return await self._reserve(most_nusd, False)

    async def follow(self) -> None:
        """The job was submitted before this process had it: what it costs is settled, whatever room there is."""
        await self._reserve(0, True)

    async def _reserve(self, most_nusd: int | None, anyway: bool) -> bool:
        try:
            principal = self._asking.principal(self._batch)
        except TurnoutError:
            return False
        scopes = tuple(msgspec.structs.replace(scope, limits=NO_LIMITS) for scope in principal.scopes if scope.budgets)
        if not scopes or self._granted is not None:
            return True
        if most_nusd is None:
            return False
        try:
            answer = await self._runtime.meter.reserve(f"job-{self._job.id}", scopes, Want(0, most_nusd))
        except TurnoutError:
            return anyway
        self._granted = answer if isinstance(answer, Granted) else None
        return self._granted is not None

    def settle(self) -> None:
        if self._granted is not None:
            self._runtime.meter.settle(self._granted, Used(0, self.used_nusd))
