"""A recorded request as the policy would have met it: what it asked for, and the targets as they were known at that moment."""

from collections import Counter
from collections.abc import Mapping
from typing import Generic, NamedTuple, TypeVar

from msgspec.structs import replace

from contract.usage import BYTES_PER_TOKEN
from gateway.planner import ENGINE_FULL
from gateway.replay.past import prompt_tokens_of
from gateway.replay.places import Place, Places
from gateway.replay.told import Considered, Told
from ledger.history import Recorded
from policy.ask import Ask
from policy.cells import HALF_LIFE_S, CellForecast, place_of_prompt
from policy.evidence import Target, load_at
from policy.forecast import Forecast
from policy.plan import Plan, plan
from policy.predict import Live, asked_of
from policy.residency import Candidate
from policy.rule import NO_SLO, Rule
from policy.slots import Slots
from policy.stats import Common

HELD_S = 300.0  # a forecast holds so long, half of the statistics' half-life, or until a SIXTEENTH more is known of its target
SIXTEENTH = 1 / 16
CHANGED = 0.1  # of the answers behind a prediction: from so many on that the replay added, it is made anew
SEEN = 1.05  # more than a prompt usually finds cached, from which on it was known to be warm
NOTHING_KNOWN = Forecast()
T = TypeVar("T")


class Queues(NamedTuple):
    """Of the configuration's engines: with what was recorded, and with what is replayed."""

    then: Mapping[str, Slots]
    now: Mapping[str, Slots]


class _Held(NamedTuple, Generic[T]):
    what: T
    at: float
    until_changes: int


class Planner:
    """`running`: attempts under way, as recorded."""

    def __init__(self, places: Places, queues: Queues, running: Counter[Target]) -> None:
        self._places = places
        self._queues = queues
        self._running = running
        self._taught: dict[Target, tuple[float, float]] = {}
        self._held: dict[tuple[Target, bool, int], _Held[CellForecast]] = {}
        self._common: dict[tuple[Target, bool], _Held[Common]] = {}

    def taught(self, key: Target, at: float) -> None:
        """The replay told a target's statistics of an attempt that nobody made."""
        self._taught[key] = self._untold(key, at) + 1.0, at

    def plan(self, first: Recorded, place: Place, told: Told, now: float) -> tuple[Ask, Plan]:
        """`first`: the request's first row."""
        rule, route, stood = place.rule, place.route, told.stood
        limits = [each for each in (told.max_tokens, place.max_tokens) if each is not None]
        bound_to = told.bound_to if told.bound_to in place.by_name else None
        ask = Ask(first.request_id, first.stream, prompt_tokens_of(first), min(limits, default=None), told.needs, bound_to)
        needed = _is_needed(rule, place)
        alike = needed and rule.slo == told.promised and ask.max_tokens == told.max_tokens
        asked = asked_of(ask, rule.slo) if alike else 0
        live, warm, seen = [], {}, told.seen if needed else {}
        for each, key in zip(place.admitted.allowed, place.keys, strict=True):
            load, considered = self._load(key, now), seen.get(each.name)
            forecast = None
            if considered is not None and (tokens := _warm_tokens(ask, each, considered)):
                warm[each.name] = tokens
            if alike and considered is not None and self._is_as_it_was(key, considered, now):
                forecast = considered.forecast(rule.slo, asked)
            if forecast is not None:
                live.append(self._live(key, forecast, load, stood.get(each.name, ""), now, 0.0))
                continue
            forecast = self._forecast(key, ask.streamed, ask.prompt_tokens, load, now) if needed else NOTHING_KNOWN
            if (tokens := warm.get(each.name, 0)) and tokens <= SEEN * (forecast.cache_share or 0.0) * ask.prompt_tokens + BYTES_PER_TOKEN:
                del warm[each.name]  # what prompts usually find there
            elif tokens:
                forecast = self._forecast(key, ask.streamed, ask.prompt_tokens - tokens, load, now)
            live.append(self._live(key, forecast, load, stood.get(each.name, ""), now, None))
        if warm:
            ask = replace(ask, warm=warm)
        may_explore = rule.explore > 0 and len(live) > 1 and route.exploring.allows(now, rule.explore)
        made = plan(rule, ask, place.admitted, live, now, may_explore, route.slack.miss())
        route.slack.asked(now, made.dearest_nusd)
        return ask, made

    def _is_as_it_was(self, key: Target, considered: Considered, now: float) -> bool:
        """Whether the replay has changed next to nothing of what is known of a target, and nothing of its queue."""
        queue = self._queues.now.get(key[0])
        if queue is not None and queue.there(now) != self._queues.then[key[0]].there(now):
            return False
        return self._untold(key, now) <= max(1.0, CHANGED * (considered.samples or 0.0))

    def _untold(self, key: Target, now: float) -> float:
        """The weight of what the replay taught of a target."""
        weight, at = self._taught.get(key, (0.0, 0.0))
        return weight * 0.5 ** ((now - at) / HALF_LIFE_S) if weight else 0.0

    def _load(self, key: Target, now: float) -> int:
        queue = self._queues.now.get(key[0])
        return self._running[key] if queue is None else queue.there(now)

    def _live(self, key: Target, forecast: Forecast, load: int, stood: str, now: float, wait_s: float | None) -> Live:
        """What stood in its way then does now, but for a queue that was full: that is played. `wait_s` None: as the queue says."""
        queue = self._queues.now.get(key[0])
        if queue is None:
            return Live(forecast, now + 1.0 if stood else 0.0, stood, 0.0, load)
        full = queue.full(now)
        if stood == ENGINE_FULL and not full and self._queues.then[key[0]].full(now):
            stood = ""
        stood = stood or (ENGINE_FULL if full else "")
        return Live(forecast, now + 1.0 if stood else 0.0, stood, queue.expected_wait_s(now) if wait_s is None else wait_s, load)

    def _forecast(self, key: Target, streamed: bool, prompt_tokens: int, load: int, now: float) -> Forecast:
        """As `TargetStats.forecast`, held for longer: requests of a ledger are seconds apart, and each would have its own made."""
        known = self._places.known.get(key)
        if known is None:
            return NOTHING_KNOWN
        stats = known[0]
        cell = (key, streamed, place_of_prompt(prompt_tokens) + load_at(load))
        held = self._held.get(cell)
        if held is None or now - held.at >= HELD_S or stats.changes >= held.until_changes:
            common = self._common.get((key, streamed))
            if common is None or now - common.at >= HELD_S or stats.changes >= common.until_changes:
                made = stats.common(now, streamed)
                common = self._common[key, streamed] = _Held(made, now, stats.changes + 1 + int(made.outputs.total * SIXTEENTH))
            anew = stats.forecast_with(common.what, now, streamed=streamed, prompt_tokens=prompt_tokens, load=load)
            held = self._held[cell] = _Held(anew, now, stats.changes + 1 + int(common.what.outputs.total * SIXTEENTH))
        return stats.placed(held.what, streamed=streamed, prompt_tokens=prompt_tokens, load=load)


def _warm_tokens(ask: Ask, candidate: Candidate, considered: Considered) -> int:
    """How many of the prompt's tokens the recorded decision took the target's cache to hold."""
    rates, listed, cost = candidate.rates, considered.list_cost_usd, considered.cost_usd
    if rates is None or listed is None or cost is None or cost >= listed or rates.input <= rates.cache_read:
        return 0
    return min(ask.prompt_tokens, round((listed - cost) * 1e9 / (rates.input - rates.cache_read)))


def _is_needed(rule: Rule, place: Place) -> bool:
    """Whether what is known of the targets could change the order."""
    return (len(place.keys) > 1 and (rule.objective != "ordered" or rule.slo != NO_SLO or rule.explore > 0)) or rule.max_nusd is not None
