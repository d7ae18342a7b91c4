"""What a request's recorded decision says that its rows do not: what stood in whose way, what the request needed, and its own limit."""

from collections.abc import Iterator, Mapping

import msgspec

from policy.forecast import Forecast
from policy.prediction import Outlook
from policy.ranking import BOUND
from policy.rule import NO_SLO, Slo
from policy.slack import CONFIDENT

CANNOT = "cannot: "
STOOD = ("not ready: ", "budget")  # what stood in a target's way then stands there in the replay too


class _Promised(msgspec.Struct, frozen=True):
    ttft_p95_ms: float | None = None
    tokens_per_s: float | None = None
    deadline_ms: float | None = None


class Considered(msgspec.Struct, frozen=True):
    """A target as the decision saw it (policy/decision.py)."""

    target: str
    verdict: str
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

    @property
    def price_factor(self) -> float:
        """What an answer was thought to cost, as a share of its list price."""
        return 1.0 if self.cost_usd is None or not self.list_cost_usd else self.cost_usd / self.list_cost_usd

    def forecast(self, slo: Slo, asked: int) -> Forecast | None:
        """That answers just `asked` as it was predicted then; None: nothing was."""
        if self.output_tokens is None or self.samples is None:
            return None
        p = self.p_slo
        meets = slo == NO_SLO or (p is not None and p >= CONFIDENT)
        times = (_seconds(self.ttft_ms), _seconds(self.ttft_p95_ms), self.finish_s, self.finish_p95_s, self.tokens_per_s)
        seen = Outlook(p, meets, *times, self.output_tokens)
        return Forecast(self.samples, output_mean=self.output_tokens, waste_factor=max(1.0, self.price_factor), memo={asked: seen})


class _LeftOut(msgspec.Struct, frozen=True):
    rule: str


class Told(msgspec.Struct, frozen=True):
    """The parts of `policy.decision.Decision` that a replay needs."""

    chosen: str | None = None
    max_tokens: int | None = None
    slo: _Promised | None = None
    candidates: tuple[Considered, ...] = ()
    left_out: tuple[_LeftOut, ...] = ()

    @property
    def _rules(self) -> Iterator[str]:
        """What removed or placed a target, be it named or counted."""
        yield from (each.rule for each in self.candidates)
        yield from (each.rule for each in self.left_out)

    @property
    def needs(self) -> frozenset[str]:
        """Of what some target could not do, what the request asked for."""
        return frozenset(need for rule in self._rules if rule.startswith(CANNOT) for need in rule[len(CANNOT) :].split(", "))

    @property
    def bound_to(self) -> str | None:
        return self.chosen if BOUND in self._rules else None

    @property
    def stood(self) -> Mapping[str, str]:
        """Target -> what stood in its way."""
        return {each.target: each.rule for each in self.candidates if each.verdict == "removed" and each.rule.startswith(STOOD)}

    @property
    def promised(self) -> Slo:
        slo = self.slo
        if slo is None:
            return NO_SLO
        return Slo(_seconds(slo.ttft_p95_ms), slo.tokens_per_s, _seconds(slo.deadline_ms))

    @property
    def seen(self) -> Mapping[str, Considered]:
        return {each.target: each for each in self.candidates}


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


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
