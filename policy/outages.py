"""Which targets are out for longer than a moment: what a plan for hours goes by, where a breaker goes by seconds. Pure, told the time."""

from collections.abc import Mapping
from typing import Literal

Standing = Literal["well", "unwell", "untried"]  # untried: nobody has asked it since it was unwell


class Outages:
    """A target that is unwell for `settle_s` is out until it is well again, or until nobody has asked it for `retry_s`: else nobody ever would.

    `out` are those that are not to be counted on; names that are not told of any more are forgotten.
    """

    def __init__(self, settle_s: float, retry_s: float) -> None:
        self._settle_s = settle_s
        self._retry_s = retry_s
        self._unwell_since: dict[str, float] = {}
        self._untried_since: dict[str, float] = {}
        self.out: frozenset[str] = frozenset()

    def look(self, standings: Mapping[str, Standing], now: float) -> None:
        unwell, untried = self._unwell_since, self._untried_since
        for name in [*unwell]:
            if standings.get(name, "well") == "well" or now - untried.get(name, now) >= self._retry_s:
                unwell.pop(name)
                untried.pop(name, None)
        for name, standing in standings.items():
            if standing == "unwell":
                unwell.setdefault(name, now)
                untried.pop(name, None)
            elif standing == "untried" and name in unwell:
                untried.setdefault(name, now)
        self.out = frozenset(name for name, since in unwell.items() if now - since >= self._settle_s)
