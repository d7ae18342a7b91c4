"""Where a batch runs: the cheapest of a provider's batch API, idle engines and paced live calls, or several of them, that end by the deadline.

All ways share one kind of work, so the cheapest allotment fills the cheapest way with what it can do in time, then the next. A way that takes
a minimum of rows is either used for at least that many or not at all: both are tried. Live ways share the rows that are asked at once: where the
cheapest would take too long for all, quicker ones are filled first, and rows go back to cheaper ones while time is left. When nothing ends in
time, the plan that ends first is given and says that it does not. Money in nano-dollars; times in seconds from now. Unknown is None.
"""

import sys
from collections.abc import Iterable, Sequence
from itertools import chain, combinations
from math import ceil, floor, inf
from typing import Literal

import msgspec

WayKind = Literal["provider_batch", "engine", "realtime"]
MOST_MINIMUMS = 8  # ways with a minimum whose use and disuse are both tried; more of them are left out, the dearest first
BISECTIONS = 60
LONGEST_S = 30 * 86400.0
GOLDEN = (5**0.5 - 1) / 2  # whose multiples spread evenly over the unit, however many of them are looked at


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """One target in one manner. `all_nusd`: what the whole batch would cost there; None: its price is not known.

    It ends n rows in `start_s + n / rows_per_s`: a provider's batch API takes `start_s` for however many; an engine, or live calls paced
    under limits, work at a speed. `rows_per_s` None: all at once. `shared_s`: how long a row keeps from all other live ways what they share with it
    (rows asked at once, the team's limits). `assumed`: nothing was measured there, and its speed is a guess. `max_rows`: that it may be given in
    all. `barred`: why it may not be used.
    """

    target: str
    kind: WayKind
    all_nusd: int | None
    start_s: float = 0.0
    rows_per_s: float | None = None
    shared_s: float = 0.0
    assumed: bool = False
    min_rows: int = 1
    max_rows: int | None = None
    barred: str = ""

    def time_s(self, rows: int) -> float:
        """How long it takes for so many."""
        if rows == 0:
            return 0.0
        if self.rows_per_s is None:
            return self.start_s
        return self.start_s + rows / self.rows_per_s if self.rows_per_s > 0 else inf

    def capacity(self, by_s: float, rows: int) -> int:
        """How many of so many rows it ends by then."""
        most = rows if self.max_rows is None else min(rows, self.max_rows)
        if self.start_s > by_s:
            return 0
        if self.rows_per_s is not None:
            most = min(most, floor((by_s - self.start_s) * self.rows_per_s + 1e-9))
        return most if most >= self.min_rows else 0


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What one way is given."""

    way: Way
    rows: int
    cost_nusd: int | None
    ends_s: float


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """`ends_s`: when the last row is done; None: no way takes them all. `unplaced`: rows that no way takes. `cost_nusd` None: a price is unknown."""

    shares: tuple[Share, ...]
    cost_nusd: int | None
    ends_s: float | None
    in_time: bool
    unplaced: int = 0


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """What one way alone would come to. `ends_s` None: it does not take all rows. `why_not`: why it is not enough; "": it is."""

    way: Way
    cost_nusd: int | None
    ends_s: float | None
    why_not: str


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A share under way. `done` None: it does not tell."""

    way: Way
    rows: int
    elapsed_s: float
    done: int | None = None

    @property
    def left(self) -> int:
        return self.rows - (self.done or 0)

    def speed(self) -> float | None:
        """Rows a second as it went so far; None: it has shown none."""
        return self.done / self.elapsed_s if self.done and self.elapsed_s > 0 else None

    def ends_s(self) -> float:
        """When it is done, from now: by its own speed, or else by what was expected of it; past that nobody knows."""
        speed = self.speed()
        if speed is not None:
            return self.left / speed
        expected = self.way.time_s(self.rows) - self.elapsed_s
        return expected if expected > 0 else inf


def plan(rows: int, deadline_s: float, ways: Sequence[Way]) -> Plan:
    """The cheapest that ends all rows by the deadline; where nothing does, what ends them first."""
    usable = [way for way in ways if not way.barred]
    found = _cheapest(rows, deadline_s, rows, usable)
    if found is not None:
        return _as_plan(found, rows, rows, deadline_s)
    if (fastest_s := _fastest(rows, usable)) is not None and (found := _cheapest(rows, fastest_s, rows, usable)) is not None:
        return _as_plan(found, rows, rows, deadline_s)
    most = _filled(LONGEST_S, rows, sorted(usable, key=_dearness))
    return _as_plan(most, rows, rows, deadline_s)


def outlooks(rows: int, deadline_s: float, ways: Iterable[Way]) -> list[Outlook]:
    """Each way by itself, the cheapest first."""
    return [_outlook(way, rows, deadline_s) for way in sorted(ways, key=_dearness)]


def dealt(number: int, rows: Sequence[int]) -> int:
    """The share that a row of this number falls to, where the shares are of so many rows, at least one in all.

    Any run of numbers is divided as the shares are, to within a row or two, and each share's rows are spread over it: so all shares advance together.
    """
    point = number * GOLDEN % 1.0 * sum(rows)
    for index, count in enumerate(rows):
        point -= count
        if point < 0:
            return index
    return len(rows) - 1


def _dearness(way: Way) -> tuple[bool, int, float]:
    """The order in which ways are filled: the cheapest first, of equals the one that is done first; a price that is not known is the dearest."""
    return (way.all_nusd is None, way.all_nusd or 0, way.start_s)


def _cheapest(rows: int, by_s: float, total: int, ways: Sequence[Way]) -> list[tuple[Way, int]] | None:
    """Who is given how many, all ended by then; None: they cannot all be."""
    ordered = sorted(ways, key=_dearness)
    free = [way for way in ordered if way.min_rows <= 1]
    bound = [way for way in ordered if way.min_rows > 1 and way.capacity(by_s, rows)][:MOST_MINIMUMS]
    best: list[tuple[Way, int]] | None = None
    for used in chain.from_iterable(combinations(bound, size) for size in range(len(bound) + 1)):
        found = _allotted(rows, by_s, sorted([*free, *used], key=_dearness), used)
        if found is None and any(way.shared_s for way in free):
            quickest = _allotted(rows, by_s, sorted([*free, *used], key=lambda way: (way.shared_s, *_dearness(way))), used)
            found = None if quickest is None else _cheapened(quickest, by_s, rows, free)
        if found is not None and (best is None or _worth(found, total) < _worth(best, total)):
            best = found
    return best


def _allotted(rows: int, by_s: float, ordered: Sequence[Way], used: Sequence[Way]) -> list[tuple[Way, int]] | None:
    """Each of `used` at least its minimum, the rest as it is cheapest."""
    spare = rows - sum(way.min_rows for way in used)
    if spare < 0:
        return None
    given, left_s = [], by_s
    for way in ordered:
        least = way.min_rows if way in used else 0
        more = min(spare, way.capacity(by_s, rows) - least, _fitting(way, left_s))
        spare -= more
        left_s -= more * way.shared_s
        if least + more:
            given.append((way, least + more))
    return given if spare == 0 else None


def _fitting(way: Way, left_s: float) -> int:
    """How many more rows there is shared time for."""
    return max(0, floor(left_s / way.shared_s + 1e-9)) if way.shared_s else sys.maxsize


def _cheapened(given: Sequence[tuple[Way, int]], by_s: float, rows: int, free: Sequence[Way]) -> list[tuple[Way, int]]:
    """The same rows, as many of them at cheaper ways as the shared time has room for: first where a second of it saves most."""
    counts = dict.fromkeys(free, 0) | dict(given)
    left_s = by_s - sum(way.shared_s * count for way, count in given)
    moves = [(dear, cheap) for dear in counts for cheap in free if _dearness(cheap)[:2] < _dearness(dear)[:2] and dear.min_rows <= 1]
    for dear, cheap in sorted(moves, key=_saving, reverse=True):
        longer_s = cheap.shared_s - dear.shared_s
        count = min(counts[dear], cheap.capacity(by_s, rows) - counts[cheap])
        if longer_s > 0:
            count = max(0, min(count, floor(left_s / longer_s + 1e-9)))
        counts[dear] -= count
        counts[cheap] += count
        left_s -= count * longer_s
    return [(way, count) for way, count in counts.items() if count]


def _saving(move: tuple[Way, Way]) -> float:
    """Of money, by the shared time that it takes."""
    dear, cheap = move
    if dear.all_nusd is None or cheap.shared_s <= dear.shared_s:
        return inf
    return (dear.all_nusd - (cheap.all_nusd or 0)) / (cheap.shared_s - dear.shared_s)


def _filled(by_s: float, rows: int, ordered: Sequence[Way]) -> list[tuple[Way, int]]:
    """As many rows as the ways take, in that order."""
    given, left_s = [], by_s
    for way in ordered:
        take = min(rows, way.capacity(by_s, rows), _fitting(way, left_s))
        if take >= way.min_rows:
            given.append((way, take))
            rows -= take
            left_s -= take * way.shared_s
    return given


def _fastest(rows: int, ways: Sequence[Way]) -> float | None:
    """The shortest time in which the ways, together, end all rows; None: in none."""
    if _cheapest(rows, LONGEST_S, rows, ways) is None:
        return None
    low, high = 0.0, LONGEST_S
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if _cheapest(rows, middle, rows, ways) is not None else (middle, high)
    return high


def _worth(given: Sequence[tuple[Way, int]], total: int) -> tuple[int, int, float]:
    """Fewer rows of unknown price, then less money, then sooner."""
    unknown = sum(rows for way, rows in given if way.all_nusd is None)
    known = sum(_cost(way, rows, total) or 0 for way, rows in given)
    return unknown, known, max((way.time_s(rows) for way, rows in given), default=0.0)


def _cost(way: Way, rows: int, total: int) -> int | None:
    """A part of what all rows cost, rounded half up."""
    return None if way.all_nusd is None or not total else (2 * way.all_nusd * rows + total) // (2 * total)


def _sum(shares: Sequence[Share]) -> int | None:
    costs = [share.cost_nusd for share in shares]
    return None if any(cost is None for cost in costs) else sum(cost for cost in costs if cost is not None)


def _as_plan(given: Sequence[tuple[Way, int]], rows: int, total: int, deadline_s: float) -> Plan:
    together_s = sum(way.shared_s * count for way, count in given)
    shares = tuple(
        Share(way=way, rows=count, cost_nusd=_cost(way, count, total), ends_s=max(way.time_s(count), together_s if way.shared_s else 0.0))
        for way, count in given
    )
    unplaced = rows - sum(share.rows for share in shares)
    ends_s = None if unplaced else max((share.ends_s for share in shares), default=0.0)
    in_time = ends_s is not None and ends_s <= deadline_s + 1e-6
    return Plan(shares=shares, cost_nusd=None if unplaced else _sum(shares), ends_s=ends_s, in_time=in_time, unplaced=unplaced)


def _outlook(way: Way, rows: int, deadline_s: float) -> Outlook:
    cost = _cost(way, rows, rows)
    if way.barred:
        return Outlook(way=way, cost_nusd=cost, ends_s=None, why_not=way.barred)
    if rows < way.min_rows:
        return Outlook(way=way, cost_nusd=cost, ends_s=None, why_not=f"it takes no fewer than {way.min_rows} rows")
    if way.max_rows is not None and rows > way.max_rows:
        return Outlook(way=way, cost_nusd=cost, ends_s=None, why_not=f"it takes no more than {way.max_rows} rows")
    ends_s = way.time_s(rows)
    if ends_s == inf:
        return Outlook(way=way, cost_nusd=cost, ends_s=None, why_not="its speed is not known")
    late = f"it ends {_hours(ends_s - deadline_s)} after the deadline" if ends_s > deadline_s else ""
    return Outlook(way=way, cost_nusd=cost, ends_s=ends_s, why_not=late)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{ceil(seconds / 60)} min"
