"""A decision as it is told: the candidates with what was predicted of each, the rule that removed it or the reason of its place."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from policy.ask import Ask
from policy.plan import Plan, Planned
from policy.prediction import Prediction
from policy.residency import Candidate
from policy.rule import NO_SLO, Rule, Slo
from policy.shortlist import FEW, LeftOut, counted

NUSD = 1e9
MOST_TOLD = FEW  # candidates


class Considered(msgspec.Struct, frozen=True, kw_only=True):
    """One target. None: nothing is known. `p_slo`: how likely it meets the SLO; `samples`: the weight of the measurements behind it all.

    `ttft_*` of a unary answer: until it is whole. `list_cost_usd`: nothing cached, nothing paid in vain.
    """

    target: str
    owned: bool
    verdict: Literal["chosen", "fallback", "removed"]
    rule: str
    p_slo: float | None = None
    ttft_ms: float | None = None
    ttft_p95_ms: float | None = None
    finish_s: float | None = None
    finish_p95_s: float | None = None
    tokens_per_s: float | None = None
    output_tokens: float | None = None
    cost_usd: float | None = None
    list_cost_usd: float | None = None
    samples: float | None = None


class Promised(msgspec.Struct, frozen=True):
    """The SLO that the decision was made under."""

    ttft_p95_ms: float | None
    tokens_per_s: float | None
    deadline_ms: float | None


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """`slo_met`: whether the chosen target is predicted to meet the SLO; None: there is none, or too little is known.

    `left_out`: of a long list those that are not among the candidates told here, by reason; else it is not told.
    """

    policy: str
    objective: str
    slo: Promised | None
    model: str
    prompt_tokens: int
    max_tokens: int | None
    streamed: bool
    chosen: str | None
    why: str
    slo_met: bool | None
    candidates: tuple[Considered, ...]
    left_out: tuple[LeftOut, ...] | msgspec.UnsetType = msgspec.UNSET


def decision(
    rule: Rule, ask: Ask, plan: Plan, model: str, passed_over: Callable[[], tuple[LeftOut, ...]] | None = None, most: int | None = MOST_TOLD
) -> Decision:
    """`passed_over`: whom the plan did not look at. `most`: how many candidates are told; None: all."""
    attempts, removed = plan.attempts[:most], plan.removed
    if most is not None:
        removed = removed[: most - len(attempts)]
    considered = [_considered(each.candidate, "fallback" if place else "chosen", each.reason, each.prediction) for place, each in enumerate(attempts)]
    considered += [_considered(each.candidate, "removed", each.rule, each.prediction) for each in removed]
    left = () if passed_over is None else passed_over()
    if behind := len(plan.attempts) - len(attempts):
        left += (LeftOut(f"fallback, behind the first {len(attempts)}", behind),)
    if beyond := plan.removed[len(removed) :]:
        left += counted([each.rule for each in beyond])
    return Decision(
        policy=rule.name,
        objective=rule.objective,
        slo=_promised(rule.slo),
        model=model,
        prompt_tokens=ask.prompt_tokens,
        max_tokens=ask.max_tokens,
        streamed=ask.streamed,
        chosen=plan.attempts[0].candidate.name if plan.attempts else None,
        why=plan.why,
        slo_met=plan.slo_met,
        candidates=tuple(considered),
        left_out=left or msgspec.UNSET,
    )


_HOLE: Any = msgspec.Raw(b"\0")  # no byte of a JSON text
_number = msgspec.json.Encoder().encode


class Telling:
    """The text of decisions that differ in their prompts' tokens, and in what these cost at each candidate, and in nothing else."""

    __slots__ = ("_pattern",)

    def __init__(self, told: Decision) -> None:
        replace = msgspec.structs.replace
        candidates = [each if each.samples is None else replace(each, cost_usd=_HOLE, list_cost_usd=_HOLE) for each in told.candidates]
        holed = replace(told, prompt_tokens=_HOLE, candidates=tuple(candidates))
        self._pattern = msgspec.json.encode(holed).replace(b"%", b"%%").replace(b"\0", b"%b")

    def text(self, prompt_tokens: int, attempts: Sequence[Planned]) -> msgspec.Raw:
        """`attempts`: of the plan, none of whose removed candidates has a prediction."""
        numbers = [_number(prompt_tokens)]
        for each in attempts:
            numbers += (_number(_cost_usd(each.prediction)), _number(_list_cost_usd(each.prediction)))
        return msgspec.Raw(self._pattern % tuple(numbers))


def _promised(slo: Slo) -> Promised | None:
    if slo == NO_SLO:
        return None
    return Promised(_ms(slo.ttft_s), slo.tokens_per_s, _ms(slo.deadline_s))


def _considered(candidate: Candidate, verdict: Literal["chosen", "fallback", "removed"], rule: str, seen: Prediction | None) -> Considered:
    if seen is None:
        return Considered(target=candidate.name, owned=candidate.owned, verdict=verdict, rule=rule)
    return Considered(
        target=candidate.name,
        owned=candidate.owned,
        verdict=verdict,
        rule=rule,
        p_slo=_short(seen.p),
        ttft_ms=_ms(seen.ttft_s),
        ttft_p95_ms=_ms(seen.ttft_p95_s),
        finish_s=_short(seen.finish_s),
        finish_p95_s=_short(seen.finish_p95_s),
        tokens_per_s=_short(seen.tokens_per_s),
        output_tokens=round(seen.output_tokens * 10) / 10,
        cost_usd=_cost_usd(seen),
        list_cost_usd=_list_cost_usd(seen),
        samples=round(seen.samples * 10) / 10,
    )


def _cost_usd(seen: Prediction) -> float | None:
    return None if seen.effective_nusd is None or seen.cost_nusd is None else round(seen.effective_nusd) / NUSD


def _list_cost_usd(seen: Prediction) -> float | None:
    return None if seen.list_nusd is None else round(seen.list_nusd) / NUSD


def _ms(seconds: float | None) -> float | None:
    """To a tenth; `round` with digits takes ten times as long, for it goes by way of text."""
    return None if seconds is None else round(seconds * 10_000) / 10


def _short(value: float | None) -> float | None:
    return None if value is None else round(value * 10_000) / 10_000
