"""Live statistics of one target: what it did lately, by prompt length and by load, and what a request may expect of it.

Old attempts fade by decay: after HALF_LIFE_S an answer weighs half, after FAILURE_HALF_LIFE_S a failure. No samples are kept, and what
several processes saw adds up. A cell (prompt length, load) of which little is known borrows from its neighbours. How slow a target is at the
moment, beside what its cells say, is its level: a few answers find it, and cells hold what they would have seen without.
"""

from collections.abc import Sequence
from math import log2, sqrt

import msgspec

from policy.prediction import Outlook
from policy.sketch import LEAST, Distribution, Packed, Sketch

HALF_LIFE_S = 600.0  # latencies, lengths of answers, cache hits
FAILURE_HALF_LIFE_S = 60.0
MOST_HALF_LIVES = 500.0  # before the scale is reset, within the range of a float
PRIOR_ATTEMPTS = 2.0  # taken to have gone well: so one failure is not certainty, and an old outage fades though nothing is sent
SURE = 1.645  # standard deviations of a count, for 95 %
ENOUGH = 20.0  # answers of a cell's own, from which on it borrows nothing
FADING = 0.25  # what a neighbour's answers weigh for each step that it is away
FRESH_S, REFRESH_S = 0.5, 5.0  # how long a forecast holds when something new came, and when nothing did
MAX_RETRY_FACTOR = 5.0

# A target that turns slow, or quick again, shows in its next few answers: they move its level, which all its cells share.
LEVEL_GAIN = 0.25  # of what an answer differs from its cell's median, in doublings
LEVEL_STEP = 2.0  # what one answer may differ and count at most: a slow minority is no new level
LEVEL_LEAST = 0.8  # what is less is chance
LEVEL_KNOWN = 3.0  # answers that make a median
LEVEL_HALF_LIFE_S = 300.0  # so a target that nobody asks is tried again

LOADS = 6  # 0, 1, 2-3, 4-7, 8-15, 16 and more
CELLS = 6 * LOADS
_PROMPT_AT = tuple(LOADS * min(5, max(0, (bits - 7) // 2)) for bits in range(65))  # by bits: up to 256 tokens, 1k, 4k, 16k, 64k, more
_RINGS = tuple(  # for each cell: those one step away, two steps, ...
    tuple(tuple(b for b in range(CELLS) if abs(a // LOADS - b // LOADS) + abs(a % LOADS - b % LOADS) == steps) for steps in range(1, 11))
    for a in range(CELLS)
)


class Forecast(msgspec.Struct, frozen=True):
    """What a request of this length at this load may expect. None: nothing is known. Seconds, tokens, shares from 0 to 1.

    `samples`: the weight of the answers behind it (below 1: a cold target). For a streamed answer the TTFT is from when the target took the
    request, and `token_s` is between two tokens; a unary answer shows no first token, and `token_s` is its whole time over its tokens.
    """

    samples: float = 0.0
    ttft_mean_s: float | None = None
    ttft_p50_s: float | None = None
    ttft_p95_s: float | None = None
    token_s_mean: float | None = None
    token_s_p95: float | None = None
    total_mean_s: float | None = None
    total_p95_s: float | None = None
    output_mean: float | None = None
    error_rate: float = 0.0
    failing: float = 0.0  # of it, what is no chance, in 95 of 100 cases
    limited_rate: float = 0.0
    cache_share: float | None = None
    retry_factor: float = 1.0  # attempts for an answer
    waits: Distribution | None = None  # the TTFT's, or for a unary answer the total time's
    outputs: Distribution | None = None
    median_s: float | None = None  # TTFT's as the cells say, without the level
    memo: dict[int, Outlook] = msgspec.field(default_factory=dict)  # what `policy.predict` made of it, by what was asked

    def within(self, ttft_s: float) -> float | None:
        """How likely the first token, or a unary answer, comes within `ttft_s`."""
        return None if self.waits is None else self.waits.within(ttft_s)

    def expected_output(self, max_tokens: int | None) -> float | None:
        """The tokens of an answer that may have `max_tokens`."""
        if max_tokens is None or self.outputs is None:
            return self.output_mean
        return self.outputs.mean_up_to(max_tokens)


class _Dump(msgspec.Struct, array_like=True):
    """One mode at the moment of the dump: cells and loads by number."""

    waits: dict[int, Packed]
    token_s: dict[int, Packed]
    totals: Packed
    outputs: Packed
    recent: tuple[float, float, float]
    tokens: dict[int, tuple[float, float]]


class _Mode:
    """The streamed answers of a target, or the unary ones."""

    __slots__ = ("cached", "drift", "drift_at", "outputs", "recent", "token_s", "tokens", "totals", "waits")

    def __init__(self) -> None:
        self.waits: dict[int, Sketch] = {}  # by cell: TTFT, or a unary answer's total time
        self.token_s: dict[int, Sketch] = {}  # by load
        self.totals = Sketch()
        self.outputs = Sketch()
        self.recent = [0.0, 0.0, 0.0]  # attempts, failed ones, limited ones
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

    def dump(self, slow: float, fast: float) -> _Dump:
        return _Dump(
            {cell: sketch.pack(slow) for cell, sketch in self.waits.items()},
            {load: sketch.pack(slow) for load, sketch in self.token_s.items()},
            self.totals.pack(slow),
            self.outputs.pack(slow),
            (self.recent[0] * fast, self.recent[1] * fast, self.recent[2] * fast),
            {at: (sums[0] * slow, sums[1] * slow) for at, sums in self.tokens.items()},
        )

    def merge(self, dump: _Dump, slow: float, fast: float) -> None:
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


_View = tuple[_Mode, float, float]  # with the factors that turn its weights, slow and fast, into those of now
_DUMPS = msgspec.msgpack.Decoder(tuple[_Dump, _Dump])


class TargetStats:
    """What one target did. `attempts`, `failures` by code and `output_tokens` are counted since the start; all else fades.

    What others know of the target (other processes, or the ledger of an earlier run) stands apart: forecasts are of both together, a dump
    is of its own alone, so that nothing comes back to be counted twice.
    """

    __slots__ = ("_at", "_changes", "_modes", "_others", "attempts", "failures", "output_tokens")

    def __init__(self) -> None:
        self.attempts = 0
        self.failures: dict[str, int] = {}
        self.output_tokens = 0
        self._modes = (_Mode(), _Mode())  # unary, streamed
        self._at: float | None = None  # when a weight of 1 was given
        self._changes = 0
        self._others: TargetStats | None = None

    # --- taking in ----------------------------------------------------------------------------------------------------
    def observe(  # noqa: PLR0913  what a whole answer showed, by name; an object for it would cost more than the counting
        self,
        now: float,
        *,
        streamed: bool,
        prompt_tokens: int,
        load: int,
        ttft_s: float | None,
        total_s: float,
        output_tokens: int | None,
        input_tokens: int | None,
        cached_tokens: int | None,
    ) -> None:
        """A whole answer. `load`: how many requests ran at the target when this one began. Times without the target's own queue."""
        self.attempts += 1
        self._changes += 1
        age = now - self._landmark(now)
        weight = 2.0 ** (age / HALF_LIFE_S)
        mode = self._modes[streamed]
        mode.recent[0] += 2.0 ** (age / FAILURE_HALF_LIFE_S)
        load_at = min(LOADS - 1, load.bit_length())
        prompt_at = _prompt_at(prompt_tokens)
        wait_s = ttft_s if streamed else total_s
        if wait_s is not None:
            cell = prompt_at + load_at
            _of(mode.waits, cell).add(wait_s / mode.level(now), weight)
            if streamed:
                mode.drifted(now, wait_s, cell)
        mode.totals.add(total_s, weight)
        if output_tokens:
            self.output_tokens += output_tokens
            mode.outputs.add(output_tokens, weight)
            if not streamed:
                _of(mode.token_s, load_at).add(total_s / output_tokens, weight)
            elif ttft_s is not None and output_tokens > 1:
                _of(mode.token_s, load_at).add((total_s - ttft_s) / (output_tokens - 1), weight)
        if input_tokens and cached_tokens is not None:
            sums = mode.tokens.get(prompt_at)
            if sums is None:
                sums = mode.tokens[prompt_at] = [0.0, 0.0]
            sums[0] += input_tokens * weight
            sums[1] += min(cached_tokens, input_tokens) * weight

    def failed(self, now: float, *, streamed: bool, code: str, limited: bool) -> None:
        """An attempt that gave no whole answer. `limited`: the target is well, but wants fewer requests (429)."""
        self.attempts += 1
        self.failures[code] = self.failures.get(code, 0) + 1
        self._changes += 1
        weight = 2.0 ** ((now - self._landmark(now)) / FAILURE_HALF_LIFE_S)
        recent = self._modes[streamed].recent
        recent[0] += weight
        recent[2 if limited else 1] += weight

    def rejected(self, code: str) -> None:
        """An attempt that failed by the request's own fault: it is counted, and says nothing of the target."""
        self.attempts += 1
        self.failures[code] = self.failures.get(code, 0) + 1

    def _landmark(self, now: float) -> float:
        at = self._at
        if at is None:
            self._at = at = now
        elif now - at > MOST_HALF_LIVES * FAILURE_HALF_LIFE_S:
            slow, fast = _factors(at, now)
            for mode in self._modes:
                mode.scale(slow, fast)
            self._at = at = now
        return at

    # --- between processes --------------------------------------------------------------------------------------------
    def dump(self, now: float) -> bytes:
        """All that fades, as it weighs now: so it can be taken in by another process, whose clock is another."""
        slow, fast = (1.0, 1.0) if self._at is None else _factors(self._at, now)
        return msgspec.msgpack.encode([mode.dump(slow, fast) for mode in self._modes])

    def merge(self, data: bytes, now: float) -> None:
        """Adds what a dump holds. Raises ValueError for bytes that are none; then nothing may be relied on."""
        try:
            dumps = _DUMPS.decode(data)
        except msgspec.MsgspecError as exc:
            raise ValueError("this is no dump of a target's statistics") from exc
        at = self._landmark(now)
        slow, fast = _factors(now, at)
        for mode, dump in zip(self._modes, dumps, strict=True):
            mode.merge(dump, slow, fast)
        self._changes += 1

    def set_others(self, others: "TargetStats") -> None:
        """What others know from now on, instead of what they were said to know before."""
        self._others = others
        for mode in self._modes:
            mode.cached = [None] * CELLS

    @property
    def changes(self) -> int:
        """Rises with every attempt of its own; 0: a dump would say nothing."""
        return self._changes

    # --- asking -------------------------------------------------------------------------------------------------------
    def forecast(self, now: float, *, streamed: bool, prompt_tokens: int, load: int) -> Forecast:
        """What to expect; at most FRESH_S old, or older when nothing came since; sooner renewed where little was known."""
        cell = _prompt_at(prompt_tokens) + min(LOADS - 1, load.bit_length())
        cached = self._modes[streamed].cached
        if (kept := cached[cell]) is not None:
            forecast, made_at, changes, limit = kept
            age_s = now - made_at
            if self._changes < limit and (age_s < FRESH_S or (age_s < REFRESH_S and self._changes == changes)):
                return forecast
        forecast = self._forecast(now, streamed, cell)
        cached[cell] = forecast, now, self._changes, self._changes + 1 + int(forecast.samples) // 16
        return forecast

    def _forecast(self, now: float, streamed: bool, cell: int) -> Forecast:
        views = self._views(now, streamed)
        level = self._modes[streamed].level(now)
        waits = _borrowed([(mode.waits, slow) for mode, slow, _ in views], cell, level)
        median_s = waits.quantile(0.5) if streamed else None
        token_s = _borrowed([(mode.token_s, slow) for mode, slow, _ in views], cell % LOADS)
        totals = waits if not streamed else Distribution((mode.totals, slow) for mode, slow, _ in views)
        outputs = Distribution((mode.outputs, slow) for mode, slow, _ in views)
        error_rate, limited_rate, failing = _rates(views)
        return Forecast(
            samples=waits.total,
            ttft_mean_s=waits.mean if streamed else None,
            ttft_p50_s=median_s,
            ttft_p95_s=waits.quantile(0.95) if streamed else None,
            token_s_mean=token_s.mean,
            token_s_p95=token_s.quantile(0.95),
            total_mean_s=totals.mean,
            total_p95_s=totals.quantile(0.95),
            output_mean=outputs.mean,
            error_rate=error_rate,
            failing=failing,
            limited_rate=limited_rate,
            cache_share=_cache_share(views, cell - cell % LOADS),
            retry_factor=min(MAX_RETRY_FACTOR, 1.0 / (1.0 - error_rate)),
            waits=waits,
            outputs=outputs,
            median_s=None if median_s is None else median_s / level,
        )

    def _views(self, now: float, streamed: bool) -> list[_View]:
        return [(each._modes[streamed], *_factors(each._at, now)) for each in (self, self._others) if each is not None and each._at is not None]

    def summary(self, now: float) -> dict[str, object]:
        """Plain values for a report, of this process alone: times in milliseconds."""
        own = [(mode, *_factors(self._at, now)) for mode in self._modes] if self._at is not None else []
        ttft_s = Distribution((sketch, slow) for mode, slow, _ in own[1:] for sketch in mode.waits.values())
        total_s = Distribution((mode.totals, slow) for mode, slow, _ in own)
        token_s = Distribution((sketch, slow) for mode, slow, _ in own[1:] for sketch in mode.token_s.values())
        error_rate, limited_rate, _ = _rates(own)
        share = _cache_share(own, None)
        return {
            "attempts": self.attempts,
            "failures": dict(self.failures),
            "output_tokens": self.output_tokens,
            "ttft_p50_ms": _ms(ttft_s.quantile(0.5)),
            "ttft_p95_ms": _ms(ttft_s.quantile(0.95)),
            "total_p50_ms": _ms(total_s.quantile(0.5)),
            "total_p95_ms": _ms(total_s.quantile(0.95)),
            "token_mean_ms": _ms(token_s.mean),
            "error_rate": round(error_rate, 4),
            "limited_rate": round(limited_rate, 4),
            "cache_share": None if share is None else round(share, 4),
        }


def _prompt_at(prompt_tokens: int) -> int:
    return _PROMPT_AT[(prompt_tokens - 1).bit_length()] if prompt_tokens > 1 else 0


def _of(sketches: dict[int, Sketch], place: int) -> Sketch:
    found = sketches.get(place)
    if found is None:
        found = sketches[place] = Sketch()
    return found


def _factors(at: float, now: float) -> tuple[float, float]:
    """What turns a weight on the scale of `at` into one on the scale of `now`: of an answer, and of a failure."""
    return 2.0 ** ((at - now) / HALF_LIFE_S), 2.0 ** ((at - now) / FAILURE_HALF_LIFE_S)


def _borrowed(known: Sequence[tuple[dict[int, Sketch], float]], place: int, times: float = 1.0) -> Distribution:
    """A cell's own answers first; the fewer they are, the more its neighbours' count, the nearest first."""
    parts = [(sketches[place], slow) for sketches, slow in known if place in sketches]
    own = sum(sketch.total * factor for sketch, factor in parts)
    room, nearness = (ENOUGH - own) / (1.0 + own), 1.0
    for ring in _RINGS[place]:
        if room <= 0.0:
            break
        nearness *= FADING
        found = [(sketches[at], slow * nearness) for sketches, slow in known for at in ring if at in sketches]
        if weight := sum(sketch.total * factor for sketch, factor in found):
            share = min(1.0, room / weight)
            parts += [(sketch, factor * share) for sketch, factor in found]
            room -= weight * share
    return Distribution(parts, times)


def _rates(views: Sequence[_View]) -> tuple[float, float, float]:
    """The shares of recent attempts that failed, that were limited, and that failed beyond chance: one failure among a few attempts is none."""
    attempts, failed, limited = (sum(mode.recent[which] * fast for mode, _, fast in views) for which in range(3))
    attempts += PRIOR_ATTEMPTS
    return failed / attempts, limited / attempts, max(0.0, failed - SURE * sqrt(failed)) / attempts


def _cache_share(views: Sequence[_View], prompt_at: int | None) -> float | None:
    """Of input tokens, those that were cached: at prompts of that length, where any were counted, else at all."""
    sums = [(at, inputs * slow, cached * slow) for mode, slow, _ in views for at, (inputs, cached) in mode.tokens.items()]
    chosen = [each for each in sums if each[0] == prompt_at] or sums
    inputs = sum(each[1] for each in chosen)
    return sum(each[2] for each in chosen) / inputs if inputs else None


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
