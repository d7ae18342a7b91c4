"""Keys made at run time against the configuration: what one may ask for itself, what it stands for, and how it is shown. Pure, but for `create`.

A child never has more than its parent: what asks for more is refused when it is made, and held smaller when the configuration changes later.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import structlog
from msgspec.structs import replace
from pydantic import Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from config.settings import Settings
from config.tenancy import KeySettings
from config.values import Name
from contract.errors import InvalidRequest
from gateway.auth import Principal
from gateway.scopes import Tenant, levels_of, principal_of, scope_of
from ledger.keys import Keys as Store
from ledger.keys import MadeKey, Secret
from policy.quota import NO_LIMITS, Scope
from policy.rule import Rule

MAX_LIFE_S = 10 * 365 * 86_400
MOST_ALIKE = 10_000  # kinds of keys that are told apart while they are read
LIMITS = ("rpm", "tpm", "concurrency")
OF_ONE_REQUEST = ("max_usd_per_request", "max_tokens_per_request")

log = structlog.get_logger("turnout.keys")


class NewKey(KeySettings):
    """All that somebody may say of a key that they make."""

    team: Name
    name: Annotated[str, Field(max_length=200)] = ""
    expires_in_s: Annotated[int, Field(ge=1, le=MAX_LIFE_S)] | None = None

    @field_validator("name")
    @classmethod
    def _on_one_line(cls, value: str) -> str:
        if not value.isprintable():
            raise PydanticCustomError("name", "holds a control character")
        return value

    @property
    def own(self) -> str:
        """What it may by itself, as it is kept."""
        return self.model_dump_json(include=set(KeySettings.model_fields), exclude_none=True)


def create(store: Store, settings: Settings, new: NewKey, made_by: str) -> tuple[MadeKey, str]:
    """A new key of a team of the configuration, and its secret. Raises InvalidRequest for what exceeds its team, LedgerUnavailable."""
    for name, fault in exceeding(settings, new.team, new):
        raise InvalidRequest(fault, param=name, code="exceeds_team")
    return store.make(new.team, new.name, made_by, new.own, new.expires_in_s)


def exceeding(settings: Settings, team: str, own: Tenant) -> Iterator[tuple[str, str]]:
    """The field and the words of each thing that a key would have more of than its team or its organisation."""
    for parent in levels_of(settings, team, None):
        whose = f"the team {team!r}" if parent is settings.teams[team] else f"the organisation {settings.teams[team].organisation!r}"
        if parent.models is not None and (more := [model for model in own.models or () if model not in parent.models]):
            yield "models", f"{whose} may not use {', '.join(map(repr, more))}"
        if own.limits is not None and parent.limits is not None:
            for name in LIMITS:
                if (above := _above(getattr(own.limits, name), getattr(parent.limits, name))) is not None:
                    yield f"limits.{name}", f"{name} is above the {above} of {whose}"
        for budget in own.budgets:
            for its in parent.budgets:
                if its.window == budget.window and budget.usd > its.usd:
                    yield "budget", f"the budget is above the {its.usd:g} USD a {its.window} of {whose}"
        for name in OF_ONE_REQUEST:
            if (above := _above(getattr(own, name), getattr(parent, name))) is not None:
                yield name, f"{name} is above the {above} of {whose}"
    for model in own.models or ():
        if model not in settings.models:
            yield "models", f"there is no model {model!r} in the configuration"


def _above(own: float | None, parents: float | None) -> str | None:
    return f"{parents:g}" if own is not None and parents is not None and own > parents else None


class Principals:
    """What made keys stand for, by the SHA-256 of their secrets. A team that the configuration does not know has no keys; neither has what cannot
    be read.

    `known`: what was found before, for the same settings and rules: what a secret stands for changes in nothing but its end.
    """

    def __init__(self, settings: Settings, rules: Mapping[str, Rule], known: Mapping[bytes, Principal] | None = None) -> None:
        self._settings = settings
        self._rules = rules
        self._known = known or {}
        self._alike: dict[tuple[str, str], Principal] = {}  # by team and what a key may by itself: most keys differ in their id alone
        self.found: dict[bytes, Principal] = {}

    def take(self, secret: Secret) -> None:
        digest, key_id, team, own, ends = secret
        if team not in self._settings.teams:
            return
        expires_at = None if ends is None else ends / 1e6
        known = self._known.get(digest)
        if known is None or known.expires_at != expires_at:
            try:
                known = self._principal(key_id, team, own, expires_at)
            except ValidationError:
                log.error("a key cannot be read, and is not valid", key_id=key_id)
                return
        self.found[digest] = known

    def _principal(self, key_id: str, team: str, own: str, expires_at: float | None) -> Principal:
        alike = self._alike.get((team, own))
        if alike is None:
            rule = self._rules[policy] if (policy := self._settings.teams[team].policy) else None
            alike = principal_of(self._settings, team, key_id, rule, KeySettings.model_validate_json(own))
            if len(self._alike) < MOST_ALIKE:
                self._alike[team, own] = alike
        scopes = alike.scopes
        if scopes and scopes[-1].kind == "key":
            scopes = (*scopes[:-1], replace(scopes[-1], name=key_id))
        return replace(alike, key_id=key_id, scopes=scopes, expires_at=expires_at)


def own_scope(key: MadeKey) -> Scope | None:
    """Where the key's requests count beside its team's; None: it limits nothing by itself, or cannot be read."""
    try:
        scope = scope_of("key", key.id, KeySettings.model_validate_json(key.own))
    except ValidationError:
        return None
    return scope if scope.limits != NO_LIMITS or scope.budgets else None


def described(key: MadeKey, now_us: int) -> dict[str, Any]:
    """A key as everybody who may know of it sees it."""
    status = "valid" if key.holds(now_us) else "expired" if key.revoked_at_us is None else "revoked"
    try:
        own = KeySettings.model_validate_json(key.own).model_dump(mode="json")
    except ValidationError:
        own, status = {}, "unreadable"
    return {
        "id": key.id,
        "name": key.name,
        "team": key.team,
        "last4": key.last4,
        "status": status,
        "made_at": moment(key.made_at_us),
        "made_by": key.made_by,
        "expires_at": moment(key.expires_at_us),
        "revoked_at": moment(key.revoked_at_us),
        **own,
    }


def moment(us: int | None) -> str | None:
    """ISO 8601 in UTC, to the second."""
    return None if us is None else datetime.fromtimestamp(us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def teams_of(settings: Settings, made: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    """Each team of the configuration, with its organisation's part; `made`: how many valid keys each has that were made at run time."""
    for name, team in settings.teams.items():
        organisation = None if team.organisation is None else settings.organisations[team.organisation]
        yield {
            "team": name,
            **_tenant(team),
            "policy": team.policy,
            "priority": team.priority,
            "weight": team.weight,
            "overrides": sorted(team.allowed_overrides),
            "organisation": None if organisation is None else {"name": team.organisation, **_tenant(organisation)},
            "keys": {"of_the_file": len(team.keys), "made": made.get(name, 0)},
        }


def _tenant(tenant: Any) -> dict[str, Any]:
    told: dict[str, Any] = tenant.model_dump(mode="json", include={"models", "limits", *OF_ONE_REQUEST})
    return {**told, "budgets": [budget.model_dump(mode="json") for budget in tenant.budgets]}


def counted(keys: list[MadeKey], now_us: int) -> dict[str, int]:
    """Valid keys by team."""
    counts: dict[str, int] = {}
    for key in keys:
        if key.holds(now_us):
            counts[key.team] = counts.get(key.team, 0) + 1
    return counts
