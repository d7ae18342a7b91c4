"""What a request's recorded decision says that its rows do not: what stood in whose way, what the request needed, and its own limit."""

from collections.abc import Mapping

import msgspec

from policy.rule import NO_SLO, Slo

BOUND = "the request's state is bound to another target"
CANNOT = "cannot: "
STOOD = ("not ready: ", "budget")  # what stood in a target's way then stands there in the replay too


class _Promised(msgspec.Struct, frozen=True):
    ttft_p95_ms: float | None = None
    tokens_per_s: float | None = None
    deadline_ms: float | None = None


class _Considered(msgspec.Struct, frozen=True):
    target: str
    verdict: str
    rule: str
    cost_usd: float | None = None
    list_cost_usd: float | None = None


class Told(msgspec.Struct, frozen=True):
    """The parts of `policy.decision.Decision` that a replay needs."""

    chosen: str | None = None
    max_tokens: int | None = None
    slo: _Promised | None = None
    candidates: tuple[_Considered, ...] = ()

    @property
    def needs(self) -> frozenset[str]:
        """Of what some target could not do, what the request asked for."""
        return frozenset(need for each in self.candidates if each.rule.startswith(CANNOT) for need in each.rule[len(CANNOT) :].split(", "))

    @property
    def bound_to(self) -> str | None:
        return self.chosen if any(each.rule == BOUND for each in self.candidates) else None

    @property
    def stood(self) -> Mapping[str, str]:
        """Target -> what stood in its way."""
        return {each.target: each.rule for each in self.candidates if each.verdict == "removed" and each.rule.startswith(STOOD)}

    @property
    def promised(self) -> Slo:
        slo = self.slo
        if slo is None:
            return NO_SLO
        seconds = (None if each is None else each / 1000 for each in (slo.ttft_p95_ms, slo.deadline_ms))
        ttft_s, deadline_s = seconds
        return Slo(ttft_s, slo.tokens_per_s, deadline_s)

    def saved_nusd(self) -> Mapping[str, float]:
        """Target -> what of its prompt's price was thought to be saved by its prefix cache."""
        return {
            each.target: (each.list_cost_usd - each.cost_usd) * 1e9
            for each in self.candidates
            if each.cost_usd is not None and each.list_cost_usd is not None and each.cost_usd < each.list_cost_usd
        }


NOTHING_TOLD = Told()
_decoder = msgspec.json.Decoder(Told)


def told_of(decision: str | None) -> Told:
    """What an older version wrote, or nobody did, tells nothing."""
    if decision is None:
        return NOTHING_TOLD
    try:
        return _decoder.decode(decision)
    except msgspec.MsgspecError:
        return NOTHING_TOLD
