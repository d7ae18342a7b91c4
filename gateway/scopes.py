"""Where a team's requests count, and what one of them may be: the configuration's organisations and teams as plain values. Pure.

A child never has more than its parent: every level's limits and budgets count, and of what holds for one request the smaller.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Protocol

from config.settings import Settings
from config.tenancy import BudgetSettings, LimitSettings
from contract.flow import Flow
from gateway.auth import Principal
from ledger.prices import NUSD_PER_USD
from policy.quota import NO_LIMITS, Budget, Limits, Scope, ScopeKind
from policy.rule import Rule


class Tenant(Protocol):
    """What an organisation, a team and a key have in common."""

    @property
    def models(self) -> tuple[str, ...] | None: ...
    @property
    def limits(self) -> LimitSettings | None: ...
    @property
    def budgets(self) -> tuple[BudgetSettings, ...]: ...
    @property
    def max_usd_per_request(self) -> float | None: ...
    @property
    def max_tokens_per_request(self) -> int | None: ...


def principal_of(settings: Settings, team: str, key_id: str, rule: Rule | None, key: Tenant | None = None) -> Principal:
    """What a key of a team of the configuration stands for. `key`: what it has of its own, if anything."""
    told = settings.teams[team]
    levels = levels_of(settings, team, key)
    return Principal(
        team=team,
        key_id=key_id,
        models=_models(levels),
        rule=rule,
        overrides=told.allowed_overrides,
        organisation=told.organisation or "",
        scopes=scopes_of(settings, team, key_id, key),
        max_tokens=min((each.max_tokens_per_request for each in levels if each.max_tokens_per_request is not None), default=None),
        max_nusd=min((nusd(each.max_usd_per_request) for each in levels if each.max_usd_per_request is not None), default=None),
        flow=Flow(team, told.weight, told.priority),
    )


def scopes_of(settings: Settings, team: str, key_id: str, key: Tenant | None = None) -> tuple[Scope, ...]:
    """From the organisation to the key: those levels that limit something."""
    organisation = settings.teams[team].organisation
    scopes = [] if organisation is None else [scope_of("organisation", organisation, settings.organisations[organisation])]
    scopes.append(scope_of("team", team, settings.teams[team]))
    if key is not None:
        scopes.append(scope_of("key", key_id, key))
    return tuple(scope for scope in scopes if scope.limits != NO_LIMITS or scope.budgets)


def scope_of(kind: ScopeKind, name: str, tenant: Tenant) -> Scope:
    limits = tenant.limits
    return Scope(
        kind,
        name,
        NO_LIMITS if limits is None else Limits(limits.rpm, limits.tpm, limits.concurrency, limits.max_wait_s),
        tuple(_budget(each) for each in tenant.budgets),
    )


def batch_scope(team: str, budget: BudgetSettings) -> Scope:
    """Where a team's rows of batches count besides."""
    return Scope("batch", team, NO_LIMITS, (_budget(budget),))


def _budget(told: BudgetSettings) -> Budget:
    return Budget(nusd(told.usd), told.window, told.on_exhausted, told.alert_at)


def levels_of(settings: Settings, team: str, key: Tenant | None) -> list[Tenant]:
    told = settings.teams[team]
    levels: list[Tenant] = [] if told.organisation is None else [settings.organisations[told.organisation]]
    return [*levels, told] if key is None else [*levels, told, key]


def nusd(usd: float) -> int:
    """Dollars as the configuration says them, in nano-dollars."""
    return int(Decimal(str(usd)) * NUSD_PER_USD)


def _models(levels: Iterable[Tenant]) -> frozenset[str] | None:
    """What every level admits; None: all."""
    admitted: frozenset[str] | None = None
    for level in levels:
        if level.models is not None:
            admitted = frozenset(level.models) if admitted is None else admitted & frozenset(level.models)
    return admitted
