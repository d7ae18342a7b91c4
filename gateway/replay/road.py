"""A request on its way through another plan's targets in turn: its own attempts where it made them, else what others saw there near that time."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from contract.usage import Usage
from gateway.replay.outcome import REFUSED, Outcome, cost_of, ran_s
from gateway.replay.past import prompt_tokens_of
from gateway.replay.places import Place, Places
from gateway.warm import LIMITED
from ledger.history import Recorded
from ledger.prices import cost_nusd
from policy.evidence import Estimate, Evidence, Question, Target
from policy.plan import Plan
from policy.slots import Slots
from policy.stats import TargetStats


class Ground(NamedTuple):
    """What every request goes over. `slots`: engines' queues as the replay has them. `running`: recorded attempts under way."""

    places: Places
    evidence: Evidence
    slots: Mapping[str, Slots]
    running: Mapping[Target, int]


class Estimated(NamedTuple):
    """An attempt that nobody made, and when it would have ended; `load`: what would have run beside it."""

    at: float
    target: Target
    asked: Question
    found: Estimate
    load: int

    def teach(self, stats: TargetStats) -> None:
        found, streamed = self.found, self.asked.streamed
        if not found.answered:
            stats.failed(self.at, streamed=streamed, code=found.code, limited=found.code in LIMITED, paid=bool(found.cost_nusd))
            return
        cold = None if found.input_tokens is None else max(0, found.input_tokens - found.cached_tokens - found.written_tokens)
        stats.observe(
            self.at,
            streamed=streamed,
            prompt_tokens=self.asked.prompt_tokens if cold is None else cold,
            load=self.load,
            ttft_s=found.ttft_s,
            total_s=found.total_s,
            output_tokens=found.output_tokens,
            input_tokens=found.input_tokens,
            cached_tokens=found.cached_tokens,
        )


class Road:
    """A request on its way. `estimated`: the attempts on it that nobody made."""

    def __init__(self, ground: Ground, rows: Sequence[Recorded], place: Place, asked: Question) -> None:
        self._ground = ground
        self._slots = ground.slots
        self._rows = rows
        self._place = place
        self._asked = asked
        self._at_s = 0.0
        self._cost: int | None = 0
        self.estimated: list[Estimated] = []

    def outcome(self, plan: Plan, most: int) -> Outcome | Target:
        """A target: nothing is known of what it would have done. `most`: attempts."""
        judged = all(row.status != "client_closed" for row in self._rows)
        failed_first = False
        for place, planned in enumerate(plan.attempts[:most]):
            target = self._place.by_name[planned.candidate.name]
            own = [row for row in self._rows if row.key == target and row.status in ("ok", "failed", "cut")]
            found = self._recorded(own) if own and own[-1].end_us is not None else self._estimated(target)
            if found is None:
                return target
            answered, ttft_s, total_s, output_tokens = found
            if answered:
                began_s = None if ttft_s is None else self._at_s + ttft_s
                return Outcome(True, judged, began_s, self._at_s + total_s, output_tokens, self._cost, self._cost or 0, failed_first)
            failed_first = failed_first or place == 0
            self._at_s += total_s
            if own and (own[-1].status == "cut" or own[-1].error_code in REFUSED):  # its client saw some of it, or nobody would take it
                break
        return Outcome(False, judged, None, self._at_s, None, self._cost, self._cost or 0, failed_first)

    def _paid(self, cost: int | None) -> None:
        self._cost = None if cost is None or self._cost is None else self._cost + cost

    def _recorded(self, own: Sequence[Recorded]) -> tuple[bool, float | None, float, int | None] | None:
        """As it was; in an owned engine after another wait."""
        first, last = own[0], own[-1]
        for row in own:
            self._paid(cost_of(row, frozenset(self._slots)))
        waited_s = more_s = 0.0
        if last.target in self._slots and (takes_s := ran_s(last)) is not None:
            waited_s = (last.queue_us or 0) / 1e6
            turn_s = self._slots[last.target].enter(self._asked.at + self._at_s, takes_s)
            if turn_s is None:
                return False, None, 0.0, None
            more_s = turn_s - waited_s
        before_us = last.started_at_us - first.started_at_us
        began_s = None if last.first_token_us is None or not last.stream else (before_us + last.first_token_us) / 1e6 + more_s
        return last.status == "ok", began_s, (before_us + (last.end_us or 0)) / 1e6 + more_s, last.output_tokens

    def _estimated(self, target: Target) -> tuple[bool, float | None, float, int | None] | None:
        slots = self._slots.get(target[0])
        now = self._asked.at + self._at_s
        found = self._ground.evidence.estimate(self._asked, target, None if slots is None else slots.there(now))
        if found is None:
            return None
        load = self._ground.running[target] if slots is None else slots.there(now)
        wait_s = 0.0
        if not found.answered:
            self._paid(found.cost_nusd if slots is None else found.cost_nusd or 0)
        elif slots is not None:
            turn_s = slots.enter(now, found.total_s)
            if turn_s is None:
                return False, None, 0.0, None
            wait_s = turn_s
        else:
            self._paid(self._price(target, found))
        self.estimated.append(Estimated(now + wait_s + found.total_s, target, self._asked, found, load))
        began_s = None if found.ttft_s is None else found.ttft_s + wait_s
        return found.answered, began_s, found.total_s + wait_s, found.output_tokens

    def _price(self, target: Target, found: Estimate) -> int | None:
        if found.input_tokens is None:
            return None
        into = max(0, found.input_tokens - found.cached_tokens - found.written_tokens)
        usage = Usage(into, found.cached_tokens, found.written_tokens, output_visible=found.output_tokens, source="estimated")
        return cost_nusd(self._ground.places.price(target, self._place.route.name, self._rows[0].started_at_us), usage)


def question(rows: Sequence[Recorded], at: float, max_tokens: int | None) -> Question:
    """`at`: the request's begin, on the replay's clock."""
    first = rows[0]
    answer = next((row for row in reversed(rows) if row.status == "ok"), None)
    prompt_tokens = prompt_tokens_of(first)
    if answer is None:
        return Question(first.request_id, at, first.stream, prompt_tokens, max_tokens)
    return Question(first.request_id, at, first.stream, prompt_tokens, max_tokens, answer.key, answer.input_tokens, answer.output_tokens)
