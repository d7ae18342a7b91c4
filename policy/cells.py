"""What one target showed in one mode, streamed or unary: sketches by cell of prompt length and load, counts that fade, and its level.

A cell of which little is known borrows from its neighbours. How slow a target is at the moment, beside what its cells say, is its level: a few
answers find it, and cells hold what they would have seen without.
"""

from collections.abc import Sequence
from math import log2, sqrt

import msgspec

from contract.scale import LEAST, PROMPTS, prompt_at
from policy.forecast import Forecast
from policy.sketch import Distribution, Packed, Sketch

PRIOR_ATTEMPTS = 2.0  # taken to have gone well: so one failure is not certainty, and an old outage fades though nothing is sent
SURE = 1.645  # standard deviations of a count, for 95 %
ENOUGH = 20.0  # answers of a cell's own, from which on it borrows nothing
FADING = 0.25  # what a neighbour's answers weigh for each step that it is away

# A target that turns slow, or quick again, shows in its next few answers: they move its level, which all its cells share.
LEVEL_GAIN = 0.25  # of what an answer differs from its cell's median, in doublings
LEVEL_STEP = 2.0  # what one answer may differ and count at most: a slow minority is no new level
LEVEL_LEAST = 0.8  # what is less is chance
LEVEL_KNOWN = 3.0  # answers that make a median
LEVEL_HALF_LIFE_S = 300.0  # so a target that nobody asks is tried again

LOADS = 6  # 0, 1, 2-3, 4-7, 8-15, 16 and more
CELLS = len(PROMPTS) * LOADS
_STEPS = tuple(  # [a][b]: how far a cell is from another
    tuple(abs(a // LOADS - b // LOADS) + abs(a % LOADS - b % LOADS) for b in range(CELLS)) for a in range(CELLS)
)


class Dump(msgspec.Struct, array_like=True):
    """One mode at the moment of the dump: cells and loads by number."""

    waits: dict[int, Packed]
    token_s: dict[int, Packed]
    totals: Packed
    outputs: Packed
    recent: tuple[float, float, float, float]
    tokens: dict[int, tuple[float, float]]


class Mode:
    """The streamed answers of a target, or the unary ones."""

    __slots__ = ("cached", "drift", "drift_at", "outputs", "recent", "token_s", "tokens", "totals", "waits")

    def __init__(self) -> None:
        self.waits: dict[int, Sketch] = {}  # by cell: TTFT, or a unary answer's total time
        self.token_s: dict[int, Sketch] = {}  # by load
        self.totals = Sketch()
        self.outputs = Sketch()
        self.recent = [0.0, 0.0, 0.0, 0.0]  # attempts, failed ones, limited ones, those of the failed that cost money
        self.tokens: dict[int, list[float]] = {}  # by prompt length: input tokens, and those of them that were cached
        self.cached: list[tuple[Forecast, float, int, int] | None] = [None] * CELLS
        self.drift = 0.0  # of the TTFT from what the cells say, in doublings
        self.drift_at = 0.0

    def level(self, now: float) -> float:
        """How many times as slow as its cells say the target is at the moment."""
        drift = self.drift
        if not drift:
            return 1.0
        drift *= 0.5 ** (max(0.0, now - self.drift_at) / LEVEL_HALF_LIFE_S)
        return 2.0**drift if abs(drift) >= LEVEL_LEAST else 1.0

    def drifted(self, now: float, ttft_s: float, cell: int) -> None:
        """Takes in by how much a first token came later, or sooner, than the last forecast's cells said."""
        kept = self.cached[cell]
        if kept is None or kept[0].samples < LEVEL_KNOWN or not (median := kept[0].median_s):
            return
        drift = self.drift * 0.5 ** (max(0.0, now - self.drift_at) / LEVEL_HALF_LIFE_S)
        step = log2(max(LEAST, ttft_s) / median) - drift
        self.drift = drift + LEVEL_GAIN * min(LEVEL_STEP, max(-LEVEL_STEP, step))
        self.drift_at = now

    def scale(self, slow: float, fast: float) -> None:
        for sketch in (*self.waits.values(), *self.token_s.values(), self.totals, self.outputs):
            sketch.scale(slow)
        self.recent = [each * fast for each in self.recent]
        self.tokens = {at: [each * slow for each in sums] for at, sums in self.tokens.items()}

    def dump(self, slow: float, fast: float) -> Dump:
        return Dump(
            {cell: sketch.pack(slow) for cell, sketch in self.waits.items()},
            {load: sketch.pack(slow) for load, sketch in self.token_s.items()},
            self.totals.pack(slow),
            self.outputs.pack(slow),
            (self.recent[0] * fast, self.recent[1] * fast, self.recent[2] * fast, self.recent[3] * fast),
            {at: (sums[0] * slow, sums[1] * slow) for at, sums in self.tokens.items()},
        )

    def merge(self, dump: Dump, slow: float, fast: float) -> None:
        for mine, theirs, places in ((self.waits, dump.waits, CELLS), (self.token_s, dump.token_s, LOADS)):
            for place, packed in theirs.items():
                if 0 <= place < places:
                    mine.setdefault(place, Sketch()).merge(Sketch.unpack(packed), slow)
        self.totals.merge(Sketch.unpack(dump.totals), slow)
        self.outputs.merge(Sketch.unpack(dump.outputs), slow)
        self.recent = [mine + theirs * fast for mine, theirs in zip(self.recent, dump.recent, strict=True)]
        for at, theirs_sums in dump.tokens.items():
            mine_sums = self.tokens.setdefault(at, [0.0, 0.0])
            mine_sums[0] += theirs_sums[0] * slow
            mine_sums[1] += theirs_sums[1] * slow


View = tuple[Mode, float, float]  # with the factors that turn its weights, slow and fast, into those of now


def place_of_prompt(prompt_tokens: int) -> int:
    """The first cell of that prompt length; the load is added to it."""
    return LOADS * prompt_at(prompt_tokens)


def sketch_of(sketches: dict[int, Sketch], place: int) -> Sketch:
    found = sketches.get(place)
    if found is None:
        found = sketches[place] = Sketch()
    return found


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


def _borrow(parts: list[tuple[Sketch, float]], known: Sequence[tuple[dict[int, Sketch], float]], place: int, room: float) -> None:
    """Adds the neighbours' sketches with the factors on their weights, until there is no more room."""
    steps = _STEPS[place]
    rings: dict[int, list[tuple[Sketch, float]]] = {}
    for sketches, slow in known:
        for at, sketch in sketches.items():
            if at != place:
                rings.setdefault(steps[at], []).append((sketch, slow))
    for step in sorted(rings):
        nearness = FADING**step
        weight = sum([sketch.total * slow for sketch, slow in rings[step]]) * nearness
        if weight:
            share = min(1.0, room / weight)
            parts += [(sketch, slow * nearness * share) for sketch, slow in rings[step]]
            room -= weight * share
            if room <= 0.0:
                return


def rates(views: Sequence[View]) -> tuple[float, float, float, float]:
    """The shares of recent attempts that failed, that were limited, that failed beyond chance, and that failed and cost money.

    One failure among a few attempts is chance.
    """
    attempts, failed, limited, paid = (sum(mode.recent[which] * fast for mode, _, fast in views) for which in range(4))
    attempts += PRIOR_ATTEMPTS
    return failed / attempts, limited / attempts, max(0.0, failed - SURE * sqrt(failed)) / attempts, paid / attempts


def share_cached(views: Sequence[View], prompt_at: int | None) -> float | None:
    """Of input tokens, those that were cached: at prompts of that length, where any were counted, else at all."""
    sums = [(at, inputs * slow, cached * slow) for mode, slow, _ in views for at, (inputs, cached) in mode.tokens.items()]
    chosen = [each for each in sums if each[0] == prompt_at] or sums
    inputs = sum(each[1] for each in chosen)
    return sum(each[2] for each in chosen) / inputs if inputs else None
