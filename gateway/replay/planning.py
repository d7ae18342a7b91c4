"""A recorded request as the policy would have met it: what it asked for, and the targets as they were known at that moment."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from msgspec.structs import replace

from contract.usage import BYTES_PER_TOKEN
from gateway.planner import ENGINE_BUSY
from gateway.replay.past import prompt_tokens_of
from gateway.replay.places import Place, Places
from gateway.replay.told import Told
from ledger.history import Recorded
from policy.ask import Ask
from policy.cells import place_of_prompt
from policy.evidence import Target, load_at
from policy.forecast import Forecast
from policy.plan import Plan, plan
from policy.predict import Live
from policy.rule import NO_SLO, Rule
from policy.slots import Slots

HELD_S = 60.0  # a forecast holds so long, a tenth of the statistics' half-life, or until a SIXTEENTH more is known of its target
SIXTEENTH = 1 / 16
SEEN = 1.05  # more than a prompt usually finds cached, from which on it was known to be warm
NOTHING_KNOWN = Forecast()


class Queues(NamedTuple):
    """Of the configuration's engines: with what was recorded, and with what is replayed."""

    then: Mapping[str, Slots]
    now: Mapping[str, Slots]


class _Held(NamedTuple):
    forecast: Forecast
    at: float
    until_changes: int


class Planner:
    """`running`: attempts under way, as recorded."""

    def __init__(self, places: Places, queues: Queues, running: Counter[Target]) -> None:
        self._places = places
        self._queues = queues
        self._running = running
        self._held: dict[tuple[Target, bool, int], _Held] = {}

    def plan(self, first: Recorded, place: Place, told: Told, now: float) -> tuple[Ask, Plan]:
        """`first`: the request's first row."""
        rule, route, stood = place.rule, place.route, told.stood
        limits = [each for each in (told.max_tokens, place.max_tokens) if each is not None]
        bound_to = told.bound_to if told.bound_to in place.by_name else None
        ask = Ask(first.request_id, first.stream, prompt_tokens_of(first), min(limits, default=None), told.needs, bound_to)
        needed = _is_needed(rule, place)
        if needed and len(place.keys) > 1 and (warm := self._warm(ask, place, told, now)):
            ask = replace(ask, warm=warm)
        live = []
        for each, key in zip(place.admitted.allowed, place.keys, strict=True):
            load = self._load(key, now)
            cold_tokens = ask.prompt_tokens - ask.warm.get(each.name, 0)
            forecast = self._forecast(key, ask.streamed, cold_tokens, load, now) if needed else NOTHING_KNOWN
            live.append(self._live(key, forecast, load, stood.get(each.name, ""), now))
        may_explore = rule.explore > 0 and len(live) > 1 and route.exploring.allows(now, rule.explore)
        return ask, plan(rule, ask, place.admitted, live, now, may_explore, route.slack.miss())

    def _load(self, key: Target, now: float) -> int:
        queue = self._queues.now.get(key[0])
        return self._running[key] if queue is None else queue.there(now)

    def _live(self, key: Target, forecast: Forecast, load: int, stood: str, now: float) -> Live:
        """What stood in its way then does now, but for a queue that was full: that is played."""
        queue = self._queues.now.get(key[0])
        if queue is None:
            return Live(forecast, now + 1.0 if stood else 0.0, stood, 0.0, load)
        full = queue.full(now)
        if stood == ENGINE_BUSY and not full and self._queues.then[key[0]].full(now):
            stood = ""
        stood = stood or (ENGINE_BUSY if full else "")
        return Live(forecast, now + 1.0 if stood else 0.0, stood, queue.expected_wait_s(now), load)

    def _warm(self, ask: Ask, place: Place, told: Told, now: float) -> dict[str, int]:
        """How much of the prompt the recorded decision took a target's prefix cache to hold, beyond what prompts usually find there."""
        warm, saved = {}, told.saved_nusd()
        for each, key in zip(place.admitted.allowed, place.keys, strict=True):
            rates = each.rates
            if each.name not in saved or rates is None or each.owned or rates.input <= rates.cache_read:
                continue
            tokens = min(ask.prompt_tokens, round(saved[each.name] / (rates.input - rates.cache_read)))
            usual = self._forecast(key, ask.streamed, ask.prompt_tokens, self._load(key, now), now).cache_share or 0.0
            if tokens > SEEN * usual * ask.prompt_tokens + BYTES_PER_TOKEN:
                warm[each.name] = tokens
        return warm

    def _forecast(self, key: Target, streamed: bool, prompt_tokens: int, load: int, now: float) -> Forecast:
        """As `TargetStats.forecast`, held for longer: requests of a ledger are seconds apart, and each would have its own made."""
        known = self._places.known.get(key)
        if known is None:
            return NOTHING_KNOWN
        stats = known[0]
        cell = (key, streamed, place_of_prompt(prompt_tokens) + load_at(load))
        held = self._held.get(cell)
        if held is not None and now - held.at < HELD_S and stats.changes < held.until_changes:
            return held.forecast
        forecast = stats.forecast(now, streamed=streamed, prompt_tokens=prompt_tokens, load=load)
        known_answers = 0.0 if forecast.outputs is None else forecast.outputs.total
        self._held[cell] = _Held(forecast, now, stats.changes + 1 + int(known_answers * SIXTEENTH))
        return forecast


def _is_needed(rule: Rule, place: Place) -> bool:
    """Whether what is known of the targets could change the order."""
    return (len(place.keys) > 1 and (rule.objective != "ordered" or rule.slo != NO_SLO or rule.explore > 0)) or rule.max_nusd is not None
