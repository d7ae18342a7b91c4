"""What one target showed in one mode, streamed or unary: sketches by cell of prompt length and load, counts that fade, and its level.

A cell of which little is known borrows from its neighbours, each carried to where the request is by the target's line (policy/line.py). How
slow a target is at the moment, beside what its cells say, is its level (policy/level.py), and cells hold what they would have seen without.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache
from math import sqrt
from struct import Struct

import msgspec

from contract.scale import LEAST, PROMPTS, prompt_at
from policy.forecast import KNOWN, Forecast
from policy.level import Level
from policy.line import FLAT, SUMS, Point, Slopes, add_all, carries, slopes
from policy.memory import Memory
from policy.sketch import Distribution, Packed, Sketch, Weighed

HALF_LIFE_S = 600.0  # latencies, lengths of answers, cache hits
FAILURE_HALF_LIFE_S = 60.0
PRIOR_ATTEMPTS = 2.0  # taken to have gone well: so one failure is not certainty, and an old outage fades though nothing is sent
SURE = 1.645  # standard deviations of a count, for 95 %
ENOUGH = 20.0  # answers of a cell's own, from which on it borrows nothing
FADING = 0.5  # what a neighbour's answers weigh for each step that it is away

LOADS = 6  # 0, 1, 2-3, 4-7, 8-15, 16 and more
CELLS = len(PROMPTS) * LOADS
_STEPS = tuple(  # [a][b]: how far a cell is from another
    tuple(abs(a // LOADS - b // LOADS) + abs(a % LOADS - b % LOADS) for b in range(CELLS)) for a in range(CELLS)
)
FRESH_S, REFRESH_S = 0.5, 5.0  # how long a forecast holds when something new came, and when nothing did
NEWS = 16  # or until a sixteenth more is known
SLOPES_S = 2.0  # how long a line holds, unless its answers are many more by then
MANY_MORE = 1.25


# A whole answer: when it ended, streamed, tokens of its prompt, load when it began, TTFT of a streamed one, whole time, tokens of its output and of
# its input, those of the input that were cached, whether its first token was told of before.
Answer = tuple[float, bool, int, int, float | None, float, int | None, int | None, int | None, bool]

_POINT = Struct("<3f")  # the sums of a cell's points: thousands of prompt tokens, load, its square


class Dump(msgspec.Struct, array_like=True):
    """One mode at the moment of the dump: cells and loads by number."""

    waits: dict[int, Packed]
    token_s: dict[int, Packed]
    totals: Packed
    outputs: Packed
    recent: tuple[float, float, float, float]
    tokens: dict[int, tuple[float, float]]
    points: dict[int, bytes]  # of each cell in `waits`: _POINT
    line: list[float]
    remembered: float = 0.0  # answers; a version before does not tell


class CellForecast:
    """What a cell says, carried from the point `there` by that line; until `limit` attempts at the target, and so many more answers in the cell.

    `changes`: the target's attempts by then. `known`, `own`: the weights of the answers behind it: of all that the target gave, and of the cell's.
    """

    __slots__ = ("_fresh_until", "_limit", "_own_left", "_quiet_until", "changes", "forecast", "made_at", "slope", "there")

    def __init__(  # noqa: PLR0913
        self, forecast: Forecast, made_at: float, changes: int, known: float, own: float, there: Point, slope: Slopes
    ) -> None:
        self.forecast = forecast
        self.made_at = made_at
        self.changes = changes
        self.there = there
        self.slope = slope
        self._limit = changes + 1 + int(known) // NEWS
        self._own_left = 1 + int(own) // NEWS
        self._fresh_until, self._quiet_until = made_at + FRESH_S, made_at + REFRESH_S

    def holds(self, now: float, changes: int) -> bool:
        return changes < self._limit and (now < self._fresh_until or (changes == self.changes and now < self._quiet_until))

    def saw(self, answers: int) -> None:
        """So many more of the cell's own were taken in."""
        self._own_left -= answers
        if self._own_left <= 0:
            self._limit = 0


class Mode:
    """The streamed answers of a target, or the unary ones. `whole` None: these show how long they took in all by their `waits` alone."""

    __slots__ = ("cached", "level", "line", "memory", "outputs", "placed", "points", "recent", "slopes", "token_s", "tokens", "waits", "whole")

    def __init__(self, streamed: bool) -> None:
        self.waits: dict[int, Sketch] = {}  # by cell: TTFT, or a unary answer's total time
        self.points: dict[int, list[float]] = {}  # by cell, the sums of its answers' points
        self.line = [0.0] * SUMS
        self.token_s: dict[int, Sketch] = {}  # by load
        self.whole = Sketch() if streamed else None
        self.outputs = Sketch()
        self.recent = [0.0, 0.0, 0.0, 0.0]  # attempts, failed ones, limited ones, those of the failed that cost money
        self.tokens: dict[int, list[float]] = {}  # by prompt length: input tokens, and those of them that were cached
        self.cached: list[CellForecast | None] = [None] * CELLS
        self.placed: dict[int, tuple[Forecast, CellForecast]] = {}  # by place in a cell
        self.slopes: tuple[Slopes, float, float] = (FLAT, 0.0, 0.0)  # with the answers behind it, and when
        self.level = Level()
        self.memory = Memory()

    @property
    def totals(self) -> Sequence[Sketch]:
        """How long answers took in all, one sketch or several."""
        return list(self.waits.values()) if self.whole is None else (self.whole,)

    @property
    def weight(self) -> float:
        """Of all its answers."""
        return sum([each.total for each in self.totals])

    def forget_forecasts(self) -> None:
        self.cached = [None] * CELLS
        self.placed = {}
        self.slopes = FLAT, 0.0, 0.0

    def take_in(self, answers: Sequence[Answer], landmark: float) -> None:
        """Whole answers of this mode, in their order. `landmark`: when a weight of 1 was given."""
        recent, points = self.recent, self.points
        waits: dict[int, list[Weighed]] = defaultdict(list)
        token_s: dict[int, list[Weighed]] = defaultdict(list)
        totals: list[Weighed] = []
        outputs: list[Weighed] = []
        line: list[tuple[int, int, float, float]] = []
        for now, streamed, prompt_tokens, load, ttft_s, whole_s, output_tokens, input_tokens, cached_tokens, begun in answers:
            age = now - landmark
            weight = 2.0 ** (age / HALF_LIFE_S)
            recent[0] += 2.0 ** (age / FAILURE_HALF_LIFE_S)
            load_at = load.bit_length()
            if load_at >= LOADS:
                load_at = LOADS - 1
            prompt_at = place_of_prompt(prompt_tokens)
            wait_s = ttft_s if streamed else whole_s
            if wait_s is not None:
                usual_s = wait_s / self.level.times(now) if streamed else wait_s  # nothing moves the level of unary ones
                if usual_s < LEAST:
                    usual_s = LEAST
                cell = prompt_at + load_at
                waits[cell].append((usual_s, weight))
                point = points.get(cell)
                if point is None:
                    point = points[cell] = [0.0, 0.0, 0.0]
                point[0] += weight * prompt_tokens / 1000
                point[1] += weight * load
                point[2] += weight * load * load
                line.append((prompt_tokens, load, usual_s, weight))
                if streamed and not begun:
                    self.saw(now, wait_s, place_of(prompt_tokens, load))
            if streamed:
                totals.append((whole_s, weight))
            if output_tokens:
                outputs.append((output_tokens, weight))
                if not streamed:
                    token_s[load_at].append((whole_s / output_tokens, weight))
                elif ttft_s is not None and output_tokens > 1:
                    token_s[load_at].append(((whole_s - ttft_s) / (output_tokens - 1), weight))
            if input_tokens and cached_tokens is not None:
                sums = self.tokens.get(prompt_at)
                if sums is None:
                    sums = self.tokens[prompt_at] = [0.0, 0.0]
                sums[0] += input_tokens * weight
                sums[1] += (cached_tokens if cached_tokens < input_tokens else input_tokens) * weight
        for cell, weighed in waits.items():
            if (kept := self.cached[cell]) is not None:
                kept.saw(len(weighed))
        for sketches, found in ((self.waits, waits), (self.token_s, token_s)):
            for at, weighed in found.items():
                sketches.setdefault(at, Sketch()).add_all(weighed)
        if self.whole is not None:
            self.whole.add_all(totals)
        self.outputs.add_all(outputs)
        self.memory.add(answers[-1][0], len(answers))
        add_all(self.line, line)

    def saw(self, now: float, ttft_s: float, place: int) -> None:
        """Takes in by how much a first token came later, or sooner, than the last forecast's cells said."""
        kept = self.placed.get(place)
        if kept is not None and kept[0].samples >= KNOWN and (median_s := kept[0].median_s):
            self.level.saw(now, ttft_s, median_s)

    def scale(self, slow: float, fast: float) -> None:
        for sketch in (*self.waits.values(), *self.token_s.values(), self.outputs, *(() if self.whole is None else (self.whole,))):
            sketch.scale(slow)
        self.recent = [each * fast for each in self.recent]
        self.points = {at: [each * slow for each in sums] for at, sums in self.points.items()}
        self.line = [each * slow for each in self.line]
        self.tokens = {at: [each * slow for each in sums] for at, sums in self.tokens.items()}

    def dump(self, now: float, slow: float, fast: float) -> Dump:
        totals = Sketch() if self.whole is None else self.whole
        if self.whole is None:
            for sketch in self.totals:
                totals.merge(sketch)
        return Dump(
            {cell: sketch.pack(slow) for cell, sketch in self.waits.items()},
            {load: sketch.pack(slow) for load, sketch in self.token_s.items()},
            totals.pack(slow),
            self.outputs.pack(slow),
            (self.recent[0] * fast, self.recent[1] * fast, self.recent[2] * fast, self.recent[3] * fast),
            {at: (sums[0] * slow, sums[1] * slow) for at, sums in self.tokens.items()},
            {cell: _POINT.pack(*(each * slow for each in sums)) for cell, sums in self.points.items()},
            [each * slow for each in self.line],
            self.memory.answers(now),
        )

    def merge(self, dump: Dump, now: float, slow: float, fast: float) -> None:
        """Raises ValueError for what no mode dumps."""
        if dump.waits.keys() != dump.points.keys() or any(len(each) != _POINT.size for each in dump.points.values()):
            raise ValueError("a cell's answers have no points")
        for mine, theirs, places in ((self.waits, dump.waits, CELLS), (self.token_s, dump.token_s, LOADS)):
            for place, packed in theirs.items():
                if 0 <= place < places:
                    mine.setdefault(place, Sketch()).merge(Sketch.unpack(packed), slow)
        if self.whole is not None:
            self.whole.merge(Sketch.unpack(dump.totals), slow)
        self.outputs.merge(Sketch.unpack(dump.outputs), slow)
        self.recent = [mine + theirs * fast for mine, theirs in zip(self.recent, dump.recent, strict=True)]
        for at, theirs_sums in dump.tokens.items():
            mine_sums = self.tokens.setdefault(at, [0.0, 0.0])
            mine_sums[0] += theirs_sums[0] * slow
            mine_sums[1] += theirs_sums[1] * slow
        for cell, theirs_point in dump.points.items():
            sums = self.points.get(cell, (0.0, 0.0, 0.0))
            self.points[cell] = [mine + theirs * slow for mine, theirs in zip(sums, _POINT.unpack(theirs_point), strict=True)]
        self.line = [mine + theirs * slow for mine, theirs in zip(self.line, dump.line, strict=True)]
        self.memory.add(now, dump.remembered)


View = tuple[Mode, float, float]  # with the factors that turn its weights, slow and fast, into those of now


@lru_cache(maxsize=8192)
def place_of_prompt(prompt_tokens: int) -> int:
    """The first cell of that prompt length; the load is added to it."""
    return LOADS * prompt_at(prompt_tokens)


@lru_cache(maxsize=8192)  # every target of a plan is asked about the same prompt, at a few loads
def place_of(prompt_tokens: int, load: int) -> int:
    """Where in a cell: within a quarter of a doubling of the prompt, and of the load from 8 on."""
    rest = prompt_tokens - 1 if prompt_tokens > 4 else 4
    bits = rest.bit_length()
    if load < 8:
        return (bits * 4 + (rest >> bits - 3 & 3)) * 256 + load
    load_bits = load.bit_length()
    return (bits * 4 + (rest >> bits - 3 & 3)) * 256 + load_bits * 4 + (load >> load_bits - 3 & 3)


def point_of(place: int) -> Point:
    """The middle of a place."""
    bits, quarter = divmod(place >> 8, 4)
    load = float(place & 255)
    if load >= 8:
        load_bits, load_quarter = divmod(place & 255, 4)
        load = (4.5 + load_quarter) * 2.0 ** (load_bits - 3) - 0.5
    return ((4.5 + quarter) * 2.0 ** (bits - 3) + 0.5) / 1000, load, load * load


def borrowed(known: Sequence[tuple[dict[int, Sketch], float]], place: int, times: float = 1.0) -> Distribution:
    """A cell's own answers first; the fewer they are, the more its neighbours' count, the nearest first."""
    parts, own, more = [], 0.0, 0
    for sketches, slow in known:
        found = sketches.get(place)
        more += len(sketches)
        if found is not None:
            more -= 1
            parts.append((found, slow))
            own += found.total * slow
    if more and (room := (ENOUGH - own) / (1.0 + own)) > 0.0:
        _borrow(parts, known, place, room)
    return Distribution(parts, times)


def carried(views: Sequence[View], cell: int, here: Point, slope: Slopes) -> tuple[Distribution, Point]:
    """The waits of a cell, its neighbours' as they would be here; and where that is: amid the cell's own answers, or `here` where it has none."""
    parts, own, more = [], 0.0, 0
    for mode, slow, _ in views:
        found = mode.waits.get(cell)
        more += len(mode.waits)
        if found is not None:
            more -= 1
            parts.append((found, slow))
            own += found.total * slow
    if own:
        here = _amid(views, cell)
    if more and (room := (ENOUGH - own) / (1.0 + own)) > 0.0:
        known = [(mode.waits, slow) for mode, slow, _ in views]
        _borrow(parts, known, cell, room, lambda at: carries(slope, _amid(views, at), here))
    return Distribution(parts), here


def _amid(views: Sequence[View], cell: int) -> Point:
    """The mean of the points of a cell's answers."""
    prompt_k = load = square = weight = 0.0
    for mode, slow, _ in views:
        if (sums := mode.points.get(cell)) is not None:
            prompt_k += sums[0] * slow
            load += sums[1] * slow
            square += sums[2] * slow
            weight += mode.waits[cell].total * slow
    return prompt_k / weight, load / weight, square / weight


def slopes_of(mode: Mode, views: Sequence[View], now: float) -> Slopes:
    """By all that is known; `mode` keeps it."""
    slope, answers, at = mode.slopes
    known = sum(each.weight * slow for each, slow, _ in views)
    if known > 0.0 and (not 0.0 <= now - at < SLOPES_S or known > answers * MANY_MORE):
        sums = [sum(column) for column in zip(*([each * slow for each in seen.line] for seen, slow, _ in views), strict=True)]
        slope = slopes(sums, known)
        mode.slopes = slope, known, now
    return slope


def _borrow(
    parts: list[tuple[Sketch, float]],
    known: Sequence[tuple[dict[int, Sketch], float]],
    place: int,
    room: float,
    times: Callable[[int], float] | None = None,
) -> None:
    """Adds the neighbours' sketches with the factors on their weights, until there is no more room. `times`: how much longer here than there."""
    steps = _STEPS[place]
    rings: dict[int, list[tuple[int, Sketch, float]]] = {}
    for sketches, slow in known:
        for at, sketch in sketches.items():
            if at != place:
                rings.setdefault(steps[at], []).append((at, sketch, slow))
    for step in sorted(rings):
        nearness = FADING**step
        weight = sum([sketch.total * slow for _, sketch, slow in rings[step]]) * nearness
        if weight:
            factor = nearness * min(1.0, room / weight)
            parts += [(sketch if times is None else sketch.carried(times(at)), slow * factor) for at, sketch, slow in rings[step]]
            room -= weight
            if room <= 0.0:
                return


def rates(views: Sequence[View]) -> tuple[float, float, float, float]:
    """The shares of recent attempts that failed, that were limited, that failed beyond chance, and that failed and cost money.

    One failure among a few attempts is chance.
    """
    attempts, failed, limited, paid = PRIOR_ATTEMPTS, 0.0, 0.0, 0.0
    for mode, _, fast in views:
        recent = mode.recent
        attempts += recent[0] * fast
        failed += recent[1] * fast
        limited += recent[2] * fast
        paid += recent[3] * fast
    return failed / attempts, limited / attempts, max(0.0, failed - SURE * sqrt(failed)) / attempts, paid / attempts


def share_cached(views: Sequence[View], prompt_at: int | None) -> float | None:
    """Of input tokens, those that were cached: at prompts of that length, where any were counted, else at all."""
    sums = [(at, inputs * slow, cached * slow) for mode, slow, _ in views for at, (inputs, cached) in mode.tokens.items()]
    chosen = [each for each in sums if each[0] == prompt_at] or sums
    inputs = sum(each[1] for each in chosen)
    return sum(each[2] for each in chosen) / inputs if inputs else None
