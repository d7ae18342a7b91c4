"""What a replay adds up to: both sides of every request that was planned again, and what is not in it."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from gateway.replay.budgets import Budgets, Spent
from gateway.replay.outcome import Outcome
from gateway.replay.quantiles import Quantiles
from ledger.units import usd
from ledger.window import iso_s

NOBODY = "(nobody)"
PRICES = {"made": "ledger", "not_made": "configuration"}  # whose an attempt is at, by whether it is a recorded one
UNPLANNED = ("kept_answers", "refused", "not_served")


class Side:
    """The requests that can be compared, as they were or as they would have been."""

    def __init__(self) -> None:
        self.cost_nusd = self.failed = self.slo_met = 0
        self.ttft, self.end = Quantiles(), Quantiles()

    def add(self, found: Outcome, kept: bool | None, priced: bool) -> None:
        self.cost_nusd += (found.cost_nusd or 0) if priced else 0
        self.slo_met += kept is True
        if not found.judged:
            return
        self.failed += not found.answered
        if found.answered:
            self.end.add(found.total_s)
            if found.ttft_s is not None:
                self.ttft.add(found.ttft_s)

    def merge(self, other: "Side") -> None:
        self.cost_nusd += other.cost_nusd
        self.failed += other.failed
        self.slo_met += other.slo_met
        self.ttft.merge(other.ttft)
        self.end.merge(other.end)


class Sums:
    """`unplanned`: by why a request was not planned again: answers that were kept, those refused before a plan, models not in the configuration.

    Of targets: whom requests asked first, then and now; without evidence; not chosen while too little was known of them.
    """

    def __init__(self, budgets: Budgets) -> None:
        self.budgets = budgets
        self.unplanned: Counter[str] = Counter()
        self.first_then: Counter[str] = Counter()
        self.first_now: Counter[str] = Counter()
        self.no_evidence: Counter[str] = Counter()
        self.not_known: Counter[str] = Counter()
        self.then, self.now = Side(), Side()
        self.planned = self.same = self.compared = self.priced = self.slo_judged = 0

    def chose(self, then: str, now: str, not_known: list[str]) -> None:
        self.planned += 1
        self.same += then == now
        self.first_then[then] += 1
        self.first_now[now] += 1
        self.not_known.update(not_known)

    def compare(self, then: Outcome, now: Outcome, kept: tuple[bool | None, bool | None]) -> None:
        """`kept`: whether the SLO was, then and now."""
        priced = then.cost_nusd is not None and now.cost_nusd is not None
        judged = None not in kept
        self.compared += 1
        self.priced += priced
        self.slo_judged += judged
        self.then.add(then, kept[0] if judged else None, priced)
        self.now.add(now, kept[1] if judged else None, priced)

    def merge(self, other: "Sums") -> None:
        """Another part of the same replay."""
        for mine, theirs in (
            *((self.unplanned, other.unplanned), (self.first_then, other.first_then), (self.first_now, other.first_now)),
            *((self.no_evidence, other.no_evidence), (self.not_known, other.not_known)),
        ):
            mine.update(theirs)
        self.then.merge(other.then)
        self.now.merge(other.now)
        self.budgets.add(other.budgets)
        self.planned += other.planned
        self.same += other.same
        self.compared += other.compared
        self.priced += other.priced
        self.slo_judged += other.slo_judged

    def told(self, owned: frozenset[str], exceeded: Sequence[Spent]) -> dict[str, Any]:
        """As the command prints it. Unknown is None. `owned`: names of the configuration's engines. `exceeded`: of `budgets`."""
        without, then, now = sum(self.no_evidence.values()), self.then, self.now
        return {
            "requests": {"recorded": self.planned + self.unplanned.total(), "planned": self.planned, "compared": self.compared}
            | {name: self.unplanned[name] for name in UNPLANNED},
            "no_evidence": {"requests": without, "share": _share(without, self.planned)},
            "same_target": _share(self.same, self.planned),
            "cost": {
                "requests": self.priced,
                "unpriced": self.compared - self.priced,
                "recorded_usd": usd(then.cost_nusd) if self.priced else None,
                "replayed_usd": usd(now.cost_nusd) if self.priced else None,
                "change": _change(then.cost_nusd, now.cost_nusd) if self.priced else None,
                "prices": PRICES,
            },
            "ttft": _times(then.ttft, now.ttft),
            "end": _times(then.end, now.end),
            "slo": _shares(self.slo_judged, then.slo_met, now.slo_met),
            "failed": _shares(self.compared, then.failed, now.failed),
            "targets": [self._target(name, name in owned) for name in sorted(self.first_then | self.first_now | self.not_known)],
            "budgets": [
                {
                    "scope": each.scope.id,
                    "window": each.budget.window,
                    "from": None if each.budget.window == "total" else iso_s(each.start_s),
                    "budget_usd": usd(each.budget.nusd),
                    "recorded_usd": usd(each.recorded_nusd),
                    "replayed_usd": usd(each.replayed_nusd),
                    "recorded_beyond": None if each.recorded_beyond_s is None else iso_s(each.recorded_beyond_s),
                    "replayed_beyond": None if each.replayed_beyond_s is None else iso_s(each.replayed_beyond_s),
                }
                for each in exceeded
            ],
        }

    def _target(self, name: str, owned: bool) -> dict[str, Any]:
        return {
            "target": name,
            "owned": owned,
            "recorded": self.first_then[name],
            "replayed": self.first_now[name],
            "recorded_share": _share(self.first_then[name], self.planned),
            "replayed_share": _share(self.first_now[name], self.planned),
            "no_evidence": self.no_evidence[name],
            "not_known": self.not_known[name],
        }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None


def _change(then: float | None, now: float | None) -> float | None:
    """As a share of what was; None: there was nothing."""
    return None if not then or now is None else round(now / then - 1, 6)


def _times(then: Quantiles, now: Quantiles) -> dict[str, Any]:
    told: dict[str, Any] = {"recorded": then.count, "replayed": now.count}
    for name, share in (("p50", 0.5), ("p95", 0.95)):
        before, after = then.ms(share), now.ms(share)
        told |= {f"recorded_{name}_ms": before, f"replayed_{name}_ms": after, f"{name}_change": _change(before, after)}
    return told


def _shares(of: int, then: int, now: int) -> dict[str, Any]:
    return {"requests": of, "recorded": _share(then, of), "replayed": _share(now, of), "change": _change(then, now) if of else None}
