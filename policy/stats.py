"""Live statistics of one target: what it did lately, by prompt length and by load, and what a request may expect of it.

Old attempts fade by decay: after HALF_LIFE_S an answer weighs half, after FAILURE_HALF_LIFE_S a failure. No samples are kept, and what
several processes saw adds up.
"""

from typing import NamedTuple

import msgspec

from policy.affinity import WarmHits
from policy.cells import (
    FAILURE_HALF_LIFE_S,
    HALF_LIFE_S,
    LOADS,
    Answer,
    CellForecast,
    Dump,
    Mode,
    View,
    borrowed,
    carried,
    place_of,
    place_of_prompt,
    point_of,
    rates,
    share_cached,
    slopes_of,
)
from policy.forecast import KNOWN, Forecast
from policy.line import Point, Slopes, carries
from policy.memory import ENOUGH
from policy.sketch import Distribution

MOST_HALF_LIVES = 500.0  # before the scale is reset, within the range of a float
MAX_WASTE_FACTOR = 5.0
MOST_PLACED = 1000
MOST_SEEN = 64  # answers that wait to be taken in

_DUMPS = msgspec.msgpack.Decoder(tuple[Dump, Dump])


class Common(NamedTuple):
    """What a target's forecasts of one mode have in common. `totals` None: unary answers' are their waits. `token_s`: by load, once asked for."""

    totals: Distribution | None
    outputs: Distribution
    rates: tuple[float, float, float, float]
    token_s: dict[int, Distribution]


class TargetStats:
    """What one target did. `attempts`, `failures` by code and `output_tokens` are counted since the start; all else fades.

    What others know of the target (other processes, or the ledger of an earlier run) stands apart: forecasts are of both together, a dump
    is of its own alone, so that nothing comes back to be counted twice.
    """

    __slots__ = ("_at", "_changes", "_modes", "_others", "_seen", "attempts", "failures", "hits", "output_tokens")

    def __init__(self) -> None:
        self.attempts = 0
        self.failures: dict[str, int] = {}
        self.output_tokens = 0
        self.hits = WarmHits()  # this process's own
        self._modes = (Mode(streamed=False), Mode(streamed=True))  # unary, streamed
        self._at: float | None = None  # when a weight of 1 was given
        self._changes = 0
        self._seen: list[Answer] = []  # that are not in the modes yet: before any of these is read, or its forecasts are changed, they are taken in
        self._others: TargetStats | None = None

    # --- taking in ----------------------------------------------------------------------------------------------------
    def began(self, now: float, *, prompt_tokens: int, load: int, ttft_s: float) -> None:
        """The first token of a streamed answer, which may go on for long: how slow the target is at the moment need not wait for its end.

        `prompt_tokens`, `load`: as its forecast was asked for.
        """
        self._take_in()
        self._changes += 1
        self._modes[1].saw(now, ttft_s, place_of(prompt_tokens, load))

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
        begun: bool = False,
    ) -> None:
        """A whole answer. `load`: how many requests ran at the target when this one began. Times without the target's own queue.

        `begun`: `began` was told of its first token.
        """
        self.attempts += 1
        self._changes += 1
        if output_tokens:
            self.output_tokens += output_tokens
        seen = self._seen
        seen.append((now, streamed, prompt_tokens, load, ttft_s, total_s, output_tokens, input_tokens, cached_tokens, begun))
        if len(seen) >= MOST_SEEN:
            self._take_in()

    def _take_in(self) -> None:
        """Adds up the answers that came since somebody asked for what they come to: together they cost half of what each by itself would."""
        if not self._seen:
            return
        seen, self._seen = self._seen, []
        at = self._landmark(seen[-1][0])
        for streamed, mode in enumerate(self._modes):
            if answers := [each for each in seen if each[1] == streamed]:
                mode.take_in(answers, at)

    def failed(self, now: float, *, streamed: bool, code: str, limited: bool, paid: bool = False, asked: bool = True) -> None:
        """An attempt that gave no whole answer. `limited`: the target is well, but wants fewer requests (429). `paid`: it cost money even so.
        `asked`: it was; else our own queue before it had no room."""
        self._take_in()
        self.attempts += asked
        self.failures[code] = self.failures.get(code, 0) + 1
        self._changes += 1
        weight = 2.0 ** ((now - self._landmark(now)) / FAILURE_HALF_LIFE_S)
        recent = self._modes[streamed].recent
        recent[0] += weight
        recent[2 if limited else 1] += weight
        if paid:
            recent[3] += weight

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
        self._take_in()
        slow, fast = (1.0, 1.0) if self._at is None else _factors(self._at, now)
        return msgspec.msgpack.encode([mode.dump(now, slow, fast) for mode in self._modes])

    def merge(self, data: bytes, now: float) -> None:
        """Adds what a dump holds. Raises ValueError for bytes that are none; then nothing may be relied on."""
        try:
            dumps = _DUMPS.decode(data)
        except msgspec.MsgspecError as exc:
            raise ValueError("this is no dump of a target's statistics") from exc
        self._take_in()
        at = self._landmark(now)
        slow, fast = _factors(now, at)
        for mode, dump in zip(self._modes, dumps, strict=True):
            mode.merge(dump, now, slow, fast)
        self._changes += 1

    def recovered(self) -> None:
        """An outage is over: its failures say nothing of what comes now."""
        self._take_in()
        for mode in self._modes:
            mode.recent = [mode.recent[0], 0.0, mode.recent[2], 0.0]
            mode.forget_forecasts()

    def set_others(self, others: "TargetStats") -> None:
        """What others know from now on, instead of what they were said to know before."""
        self._take_in()
        others._take_in()
        self._others = others
        for mode in self._modes:
            mode.forget_forecasts()

    @property
    def changes(self) -> int:
        """Rises with every attempt of its own; 0: a dump would say nothing."""
        return self._changes

    # --- asking -------------------------------------------------------------------------------------------------------
    def forecast(self, now: float, *, streamed: bool, prompt_tokens: int, load: int) -> Forecast:
        """What to expect; at most FRESH_S old, or older when nothing came since; sooner renewed where little was known, of the target or here."""
        mode = self._modes[streamed]
        place = place_of(prompt_tokens, load)
        if (kept := mode.placed.get(place)) is not None and kept[1].holds(now, self._changes):
            return kept[0]
        self._take_in()
        cell = place_of_prompt(prompt_tokens) + min(LOADS - 1, load.bit_length())
        of_cell = mode.cached[cell]
        if of_cell is None or not of_cell.holds(now, self._changes):
            of_cell = self._made(self.common(now, streamed), now, streamed, cell, point_of(place))
        return self.placed(of_cell, streamed=streamed, prompt_tokens=prompt_tokens, load=load)

    def common(self, now: float, streamed: bool) -> Common:
        """The part of its forecasts that is alike for all prompts and loads."""
        self._take_in()
        views = self._views(now, streamed)
        totals = Distribution((each, slow) for mode, slow, _ in views for each in mode.totals) if streamed else None
        return Common(totals, Distribution((mode.outputs, slow) for mode, slow, _ in views), rates(views), {})

    def forecast_with(self, common: Common, now: float, *, streamed: bool, prompt_tokens: int, load: int) -> CellForecast:
        """Of their cell, made anew but for a common part, which may be older."""
        self._take_in()
        cell = place_of_prompt(prompt_tokens) + min(LOADS - 1, load.bit_length())
        return self._made(common, now, streamed, cell, point_of(place_of(prompt_tokens, load)))

    def placed(self, of_cell: CellForecast, *, streamed: bool, prompt_tokens: int, load: int) -> Forecast:
        """What the cell says, carried to the place in it."""
        placed, place = self._modes[streamed].placed, place_of(prompt_tokens, load)
        if (kept := placed.get(place)) is not None and kept[1] is of_cell:
            return kept[0]
        self._take_in()
        forecast = of_cell.forecast
        times = carries(of_cell.slope, of_cell.there, point_of(place))
        if forecast.waits is not None and times != 1.0:
            forecast = _carried(forecast, forecast.waits.carried(times), streamed, times)
        if not streamed and (begins := self._begins(of_cell.made_at, prompt_tokens, load)) is not None:
            forecast = forecast.changed(begins=begins.waits, begins_samples=begins.samples)
        if len(placed) >= MOST_PLACED:
            placed.clear()
        placed[place] = forecast, of_cell
        return forecast

    def _begins(self, now: float, prompt_tokens: int, load: int) -> Forecast | None:
        """Of such streamed answers, which show the TTFT; None: too little is known."""
        if not any(mode.waits for mode, _, _ in self._views(now, True)):
            return None
        streamed = self.forecast(now, streamed=True, prompt_tokens=prompt_tokens, load=load)
        return streamed if streamed.samples >= KNOWN or streamed.remembered else None

    def _made(self, common: Common, now: float, streamed: bool, cell: int, here: Point) -> CellForecast:
        """A cell's, anew. `here`: the point that is asked for."""
        views, mode = self._views(now, streamed), self._modes[streamed]
        forecast, there, slope = self._forecast(common, now, streamed, cell, here)
        known = sum([each.weight * slow for each, slow, _ in views])
        own = sum([found.total * slow for each, slow, _ in views if (found := each.waits.get(cell)) is not None])
        made = mode.cached[cell] = CellForecast(forecast, now, self._changes, known, own, there, slope)
        return made

    def _forecast(self, common: Common, now: float, streamed: bool, cell: int, here: Point) -> tuple[Forecast, Point, Slopes]:
        views = self._views(now, streamed)
        mode = self._modes[streamed]
        level, slope = mode.level.times(now), slopes_of(mode, views, now)
        waits, there = carried(views, cell, here, slope)
        waits = waits.carried(level)
        median_s = waits.quantile(0.5) if streamed else None
        load = cell % LOADS
        token_s = common.token_s.get(load)
        if token_s is None:
            token_s = common.token_s[load] = borrowed([(mode.token_s, slow) for mode, slow, _ in views], load)
        totals = common.totals or waits
        error_rate, limited_rate, failing, paid_rate = common.rates
        all_answers = sum(each.weight * slow for each, slow, _ in views)
        forecast = Forecast(
            samples=max(waits.total, min(KNOWN, all_answers)),
            remembered=sum(each.memory.answers(now) for each, _, _ in views) >= ENOUGH,
            ttft_mean_s=waits.mean if streamed else None,
            ttft_p50_s=median_s,
            ttft_p95_s=waits.quantile(0.95) if streamed else None,
            token_s_mean=token_s.mean,
            token_s_p95=token_s.quantile(0.95),
            total_mean_s=totals.mean,
            total_p95_s=totals.quantile(0.95),
            output_mean=common.outputs.mean,
            error_rate=error_rate,
            failing=failing,
            limited_rate=limited_rate,
            cache_share=share_cached(views, cell - load),
            waste_factor=min(MAX_WASTE_FACTOR, 1.0 / (1.0 - paid_rate)),
            waits=waits,
            outputs=common.outputs,
            median_s=None if median_s is None else median_s / level,
        )
        return forecast, there, slope

    def _views(self, now: float, streamed: bool) -> list[View]:
        return [(each._modes[streamed], *_factors(each._at, now)) for each in (self, self._others) if each is not None and each._at is not None]

    def summary(self, now: float) -> dict[str, object]:
        """Plain values for a report, of this process alone: times in milliseconds."""
        self._take_in()
        own = [(mode, *_factors(self._at, now)) for mode in self._modes] if self._at is not None else []
        ttft_s = Distribution((sketch, slow) for mode, slow, _ in own[1:] for sketch in mode.waits.values())
        total_s = Distribution((sketch, slow) for mode, slow, _ in own for sketch in mode.totals)
        token_s = Distribution((sketch, slow) for mode, slow, _ in own[1:] for sketch in mode.token_s.values())
        error_rate, limited_rate, _, _ = rates(own)
        share = share_cached(own, None)
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


def _carried(forecast: Forecast, waits: Distribution, streamed: bool, times: float) -> Forecast:
    mean_s, p95_s = waits.mean, waits.quantile(0.95)
    if not streamed:
        return forecast.changed(total_mean_s=mean_s, total_p95_s=p95_s, waits=waits)
    median_s = None if forecast.median_s is None else forecast.median_s * times
    p50_s = waits.quantile(0.5)
    return forecast.changed(ttft_mean_s=mean_s, ttft_p50_s=p50_s, ttft_p95_s=p95_s, waits=waits, median_s=median_s)


def _factors(at: float, now: float) -> tuple[float, float]:
    """What turns a weight on the scale of `at` into one on the scale of `now`: of an answer, and of a failure."""
    return 2.0 ** ((at - now) / HALF_LIFE_S), 2.0 ** ((at - now) / FAILURE_HALF_LIFE_S)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
