"""Which targets to try for one request, in which order, and why: a pure function of the rule and the candidates.

A plan can only hold targets that the rule allows: what residency or fallback forbids is in `removed`, with the rule that removed it.
"""

from typing import Literal

import msgspec

Fallback = Literal["any", "local", "none"]
Residency = Literal["any", "local_only"]


class Candidate(msgspec.Struct, frozen=True):
    """A target as the policy sees it. `owned`: an engine of the gateway's own. `index` is its place in the model's target list."""

    index: int
    name: str
    owned: bool


class Rule(msgspec.Struct, frozen=True):
    """A policy's plain values. `max_attempts` counts every attempt of a request, retries of the same target included."""

    name: str = "default"
    fallback: Fallback = "any"
    residency: Residency = "any"
    max_attempts: int = 3
    drop: Literal["nothing", "hints", "everything"] = "hints"  # of what a target cannot honour; the rest is refused


class Planned(msgspec.Struct, frozen=True):
    candidate: Candidate
    reason: str


class Removed(msgspec.Struct, frozen=True):
    candidate: Candidate
    rule: str


class Plan(msgspec.Struct, frozen=True):
    """`attempts` in the order to try them; empty when every candidate was removed."""

    attempts: tuple[Planned, ...]
    removed: tuple[Removed, ...]


def plan_ordered(rule: Rule, candidates: tuple[Candidate, ...], bound_to: str | None = None) -> Plan:
    """The objective `ordered`: the list's own order, less what the rule forbids.

    residency local_only removes every managed target. The first that is left is the primary; of the rest, fallback `any` keeps all,
    `local` keeps owned engines, `none` keeps nothing. `bound_to`: the only target that can understand the request's state.
    """
    attempts: list[Planned] = []
    removed: list[Removed] = []
    for candidate in candidates:
        if bound_to is not None and candidate.name != bound_to:
            removed.append(Removed(candidate, "the request's state is bound to another target"))
        elif rule.residency == "local_only" and not candidate.owned:
            removed.append(Removed(candidate, "residency: local_only"))
        elif not attempts:
            attempts.append(Planned(candidate, "first in order"))
        elif rule.fallback == "none":
            removed.append(Removed(candidate, "fallback: none"))
        elif rule.fallback == "local" and not candidate.owned:
            removed.append(Removed(candidate, "fallback: local"))
        else:
            attempts.append(Planned(candidate, "fallback"))
    return Plan(tuple(attempts), tuple(removed))
