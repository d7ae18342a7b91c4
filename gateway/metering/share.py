"""What one process admits by itself while the shared store is lost: its part of every limit, and of what was left of every budget."""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from gateway.metering.meter import MemoryMeter, Spent
from policy.quota import Budget, Granted, Limits, Refused, Scope, Used, Want


class Share:
    """One of `processes` parts, so that all of them together stay within the whole, give or take a minute's worth each.

    `committed`: (scope, window's start) -> what was spent and reserved when the store was last heard of; what is not there the ledger tells.
    """

    def __init__(self, processes: int, committed: Mapping[tuple[str, int], int], spent: Spent) -> None:
        self._parts = processes
        self._meter = MemoryMeter(_PartSpent(processes, dict(committed), spent))
        self._granted: dict[str, Granted] = {}

    async def reserve(self, id: str, scopes: tuple[Scope, ...], want: Want) -> Granted | Refused:
        """A request that is larger than a part of a minute's tokens takes that part whole."""
        parts = tuple(self._part(scope) for scope in scopes)
        most = [part.limits.tpm for scope, part in zip(scopes, parts, strict=True) if part.limits.tpm and want.tokens <= (scope.limits.tpm or 0)]
        answer = await self._meter.reserve(id, parts, replace(want, tokens=min([want.tokens, *most])))
        if isinstance(answer, Granted):
            self._granted[id] = answer
            return Granted(id, scopes, want, answer.requests, answer.tokens, degraded=True)
        scope = scopes[parts.index(answer.scope)]
        if answer.budget is None:
            return replace(answer, scope=scope, degraded=True)
        return replace(answer, scope=scope, degraded=True, budget=next(budget for budget in scope.budgets if budget.window == answer.budget.window))

    def settle(self, id: str, used: Used) -> None:
        granted = self._granted.pop(id, None)
        if granted is not None:
            self._meter.settle(granted, used)

    def _part(self, scope: Scope) -> Scope:
        whole = scope.limits
        limits = Limits(rpm=self._of_limit(whole.rpm), tpm=self._of_limit(whole.tpm), concurrency=self._of_limit(whole.concurrency))
        return Scope(scope.kind, scope.name, limits, tuple(self._of(budget) for budget in scope.budgets))

    def _of_limit(self, limit: int | None) -> int | None:
        return None if limit is None else max(1, limit // self._parts)

    def _of(self, budget: Budget) -> Budget:
        return replace(budget, nusd=budget.nusd // self._parts)


class _PartSpent:
    """A part of what was spent, rounded up."""

    def __init__(self, parts: int, committed: Mapping[tuple[str, int], int], spent: Spent) -> None:
        self._parts = parts
        self._committed = committed
        self._spent = spent

    async def since(self, scope: Scope, start_s: int, but: Sequence[str] = ()) -> int:
        known = self._committed.get((scope.id, start_s))
        return -(-(await self._spent.since(scope, start_s, but) if known is None else known) // self._parts)

    async def of(self, request_ids: Sequence[str]) -> dict[str, int]:
        return await self._spent.of(request_ids)
