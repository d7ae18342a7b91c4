"""What measuring little known targets may cost: a share of the spending, and few errors."""

HALF_LIFE_S = 600.0
MAX_ERROR_SHARE = 0.3  # of the last measurements; above it, exploration rests
GRACE = 5.0  # measurements before their errors count as a share


class ExploreBudget:
    """The budget of one model. All counts fade with time, so that a rest ends by itself."""

    __slots__ = ("_at", "_errors", "_extra", "_made", "_spent")

    def __init__(self) -> None:
        self._spent = self._extra = self._made = self._errors = 0.0
        self._at = 0.0

    def allows(self, now: float, share: float) -> bool:
        """`share`: of the spending that measurements may cost beside what the best target would have."""
        age_s = now - self._at
        if age_s > 1.0:
            keep = 0.5 ** (age_s / HALF_LIFE_S) if self._at else 1.0
            self._spent *= keep
            self._extra *= keep
            self._made *= keep
            self._errors *= keep
            self._at = now
        return self._errors <= max(1.0, MAX_ERROR_SHARE * max(self._made, GRACE)) and self._extra <= share * self._spent + 1.0

    def answered(self, cost_nusd: float | None, extra_nusd: float | None) -> None:
        """A request was answered; `extra_nusd`: what it cost more than at the best target, where it was a measurement."""
        self._spent += cost_nusd or 0.0
        if extra_nusd is not None and extra_nusd > 0.0:
            self._extra += extra_nusd

    def explored(self, failed: bool) -> None:
        self._made += 1.0
        self._errors += failed
