"""What somebody asks of a replay over HTTP: a policy laid over the gateway's own configuration, and a bounded time of one team or of all."""

import time
from collections.abc import Collection, Mapping
from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict

from config.load import ConfigError, checked, posted
from config.settings import Settings
from contract.errors import InvalidRequest
from gateway.auth import no_such_model
from gateway.cli.settings import known_kinds
from gateway.replay.conditions import condition
from gateway.replay.run import EVIDENCE_S
from ledger.units import seconds, since_us

MOST_EVIDENCE_S = 24 * 3600
PLANNED_BY = ("policies", "models", "engines", "providers", "organisations", "teams")  # what of a configuration a replay plans by


class NewReplay(BaseModel):
    """`policy`: YAML or JSON, as text or as it is. `since`, `evidence`: 30m, 24h, 7d. `team` None: whoever's the caller may read."""

    model_config = ConfigDict(extra="forbid", strict=True)

    policy: str | dict[str, Any]
    since: str = "7d"
    team: str | None = None
    evidence: str | None = None
    fail_if: tuple[str, ...] | list[str] = ()


class Job(msgspec.Struct, frozen=True):
    """One replay. Times in microseconds of Unix time. `own`: its budgets are told to somebody who may see this team's alone."""

    id: str
    settings: Settings
    database: str
    from_us: int
    to_us: int
    since: str
    team: str | None
    own: bool
    evidence_s: float
    fail_if: tuple[str, ...]


def job_of(id: str, new: NewReplay, settings: Settings, team: str | None, own: Collection[str] | None) -> Job:
    """`own`: the models of a team that asks for itself, which may try out policies on them and nothing else. None: an administrator asks.

    Raises InvalidRequest, ModelNotFound.
    """
    now = time.time()
    try:
        from_us = since_us(new.since, now)
    except ValueError as exc:
        raise InvalidRequest(str(exc), param="since") from exc
    evidence_s = EVIDENCE_S if new.evidence is None else _evidence_s(new.evidence)
    for text in new.fail_if:
        try:
            condition(text)
        except ValueError as exc:
            raise InvalidRequest(str(exc), param="fail_if") from exc
    planned = _laid_over(settings, new.policy, own)
    told = (new.since, team, own is not None, evidence_s, tuple(new.fail_if))
    return Job(id, planned, settings.state.database, from_us, int(now * 1e6) + 1, *told)


def _evidence_s(text: str) -> float:
    try:
        found = seconds(text)
    except ValueError as exc:
        raise InvalidRequest(str(exc), param="evidence") from exc
    if found > MOST_EVIDENCE_S:
        raise InvalidRequest("`evidence` must be 24h at most", param="evidence")
    return found


def _laid_over(settings: Settings, policy: str | dict[str, Any], own: Collection[str] | None) -> Settings:
    """A policy is replaced whole; of a model, an engine, a provider, a team or an organisation, the fields that are named."""
    try:
        data = posted(policy if isinstance(policy, str) else msgspec.json.encode(policy).decode())
        if not isinstance(data, dict) or not all(isinstance(data.get(name, {}), dict) for name in PLANNED_BY):
            raise InvalidRequest(f"`policy` must hold sections of a configuration: {', '.join(PLANNED_BY)}", param="policy")
        if own is not None:
            _require_own(settings, data, own)
        if not any(data.get(name) for name in PLANNED_BY):
            raise InvalidRequest(f"`policy` holds nothing that a replay plans by: {', '.join(PLANNED_BY)}", param="policy")
        base = settings.model_dump(exclude_unset=True)
        return checked({**base, **{name: _merged(name, base.get(name, {}), data.get(name, {})) for name in PLANNED_BY}}, known_kinds())
    except ConfigError as exc:
        raise InvalidRequest(str(exc)[:2000], param="policy", code="policy_invalid") from exc


def _merged(section: str, base: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, entry in given.items():
        if section == "teams" and isinstance(entry, dict):
            entry = {field: value for field, value in entry.items() if field != "keys"}  # whose they are stays as it is
        whole = section == "policies" or not isinstance(entry, dict)
        merged[name] = entry if whole else {**merged.get(name, {}), **entry}
    return merged


def _require_own(settings: Settings, data: Mapping[str, Any], own: Collection[str]) -> None:
    """Raises InvalidRequest, ModelNotFound: the same for a model that does not exist as for another team's."""
    if others := sorted(str(name) for name in data if name not in ("policies", "models")):
        raise InvalidRequest(f"a team may try out `policies`, and `models` by their `policy`, not `{others[0][:60]}`", param="policy")
    seen = {*data.get("policies", {}), *(settings.models[name].policy for name in own)}
    for name, entry in data.get("models", {}).items():
        if name not in own:
            raise no_such_model(name)
        if not isinstance(entry, dict) or set(entry) != {"policy"}:
            raise InvalidRequest(f"a team may give the model {name!r} another `policy`, and nothing else", param="policy")
        if entry["policy"] not in seen:
            raise InvalidRequest(f"there is no policy {str(entry['policy'])[:60]!r}", param="policy")
