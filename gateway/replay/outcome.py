"""What became of a request, by its rows; and whether another plan has the same."""

from collections.abc import Sequence

import msgspec

from contract.errors import ContentPolicyRefused, ContextLengthExceeded, UpstreamRejected
from gateway.replay.places import Place
from ledger.history import Recorded
from policy.evidence import Target
from policy.plan import Plan
from policy.rule import NO_SLO, Slo

REFUSED = frozenset(each.code for each in (UpstreamRejected, ContextLengthExceeded, ContentPolicyRefused))  # by whom ever it is asked of


class Outcome(msgspec.Struct, frozen=True):
    """Seconds from the request's begin. `ttft_s` None: not streamed, or not answered. `cost_nusd` None: not known; an owned engine's is 0.

    `judged` False: its client left, so that nothing says whether it would have been in time. `team_nusd`: what its team's budgets pay.
    `failed_first`: its first attempt did.
    """

    answered: bool
    judged: bool
    ttft_s: float | None
    total_s: float
    output_tokens: int | None
    cost_nusd: int | None
    team_nusd: int
    failed_first: bool = False

    def kept(self, slo: Slo) -> bool | None:
        """None: nothing was promised that it could be held to."""
        if not self.judged or slo == NO_SLO:
            return None
        return slo.kept(self.ttft_s, self.total_s, self.output_tokens) if self.answered else False

    def late(self, slo: Slo) -> bool:
        """As `policy.slack` counts it."""
        begun_late = self.ttft_s is not None and slo.ttft_s is not None and self.ttft_s > slo.ttft_s
        return not self.answered or begun_late or (slo.deadline_s is not None and self.total_s > slo.deadline_s)


def recorded_outcome(rows: Sequence[Recorded], owned: frozenset[str]) -> Outcome:
    """`owned`: engines whose tokens cost nothing more, beside those that say so themselves."""
    began_us, last = rows[0].started_at_us, rows[-1]
    ended_us = max(row.started_at_us + (row.end_us or 0) for row in rows)
    begun = [row for row in rows if row.first_token_us is not None and row.status in ("ok", "cut")]
    first_us = begun[0].started_at_us + (begun[0].first_token_us or 0) if begun else None
    answered = [row for row in rows if row.status == "ok"]
    costs = [cost_of(row, owned) for row in rows]
    known = [cost for cost in costs if cost is not None]
    return Outcome(
        answered=bool(answered),
        judged=all(row.status != "client_closed" for row in rows),
        ttft_s=(first_us - began_us) / 1e6 if last.stream and first_us is not None and answered else None,
        total_s=(ended_us - began_us) / 1e6,
        output_tokens=answered[-1].output_tokens if answered else None,
        cost_nusd=sum(known) if len(known) == len(costs) else None,
        team_nusd=sum((row.held_nusd or 0) if cost is None else cost for row, cost in zip(rows, costs, strict=True) if row.billed == "team"),
        failed_first=rows[0].status in ("failed", "cut"),
    )


def cost_of(row: Recorded, owned: frozenset[str] = frozenset()) -> int | None:
    """Of one attempt; None: not known."""
    if row.cost_nusd is not None:
        return row.cost_nusd
    return 0 if row.engine_prefill_us is not None or row.target in owned or not row.priced else None


def ran_s(row: Recorded) -> float | None:
    """How long an attempt held its place in an engine; None: it got none."""
    if row.end_us is None or (row.first_token_us is None and row.status not in ("ok", "cut")):
        return None
    return max(0.0, (row.end_us - (row.queue_us or 0)) / 1e6)


def stands(rows: Sequence[Recorded], plan: Plan, place: Place) -> bool:
    """Whether the plan has the very outcome that was recorded: the same targets in turn, and nobody to follow who did not."""
    last = rows[-1]
    if not last.attempt or not plan.attempts:
        return not last.attempt and not plan.attempts
    tried: list[Target] = []
    for row in rows:
        if not tried or tried[-1] != row.key:
            tried.append(row.key)
    order = [place.by_name[each.candidate.name] for each in plan.attempts]
    if tried != order[: len(tried)] or (place.rule.hedge_after is None and any(row.status == "abandoned" for row in rows)):
        return False
    over = any(row.status in ("ok", "client_closed", "cut") for row in rows) or last.error_code in REFUSED
    return over or len(tried) == len(order) or len(rows) >= place.rule.max_attempts
