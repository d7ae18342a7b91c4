"""Recorded requests planned again, each with what was known at its time: the same statistics, the same pure plan, another configuration."""

from collections import Counter
from collections.abc import Iterable
from heapq import heappop, heappush
from itertools import count
from operator import attrgetter
from typing import NamedTuple

from msgspec.structs import replace

from gateway.replay.outcome import Outcome, ran_s, recorded_outcome, stands
from gateway.replay.past import Event, Past
from gateway.replay.places import Place, Places
from gateway.replay.planning import Planner, Queues
from gateway.replay.road import Estimated, Ground, Road, question
from gateway.replay.sums import NOBODY, Sums
from gateway.replay.told import Told, told_of
from gateway.warm import teach
from ledger.history import Recorded
from policy.evidence import Evidence, Target
from policy.forecast import KNOWN
from policy.plan import Plan
from policy.rule import NO_SLO

BEFORE_S = 3600.0  # what is read of the time before: an answer weighs a sixty-fourth by then
_in_turn = attrgetter("attempt")


class Span(NamedTuple):
    """The time that is replayed, in microseconds of Unix time; `team` None: everybody's requests."""

    from_us: int
    to_us: int
    team: str | None = None

    @property
    def origin_us(self) -> int:
        """Where the replay's clock begins, and reading with it."""
        return self.from_us - int(BEFORE_S * 1e6)


class Replay:
    """One run over one span; what it finds is in `sums`."""

    def __init__(self, places: Places, evidence: Evidence, sums: Sums, span: Span) -> None:
        self._places = places
        self._evidence = evidence
        self._sums = sums
        self._span = span
        self._owned = frozenset(places.settings.engine_replicas)
        self._queues = Queues(places.slots(), places.slots())
        self._running: Counter[Target] = Counter()
        self._ground = Ground(places, evidence, self._queues.now, self._running)
        self._planner = Planner(places, self._queues, self._running)
        self._ends: list[tuple[float, int, Recorded, int]] = []  # of recorded attempts, with the load that they met
        self._results: list[tuple[float, int, Place, Plan | None, Outcome]] = []  # of requests, as they are replayed
        self._estimates: list[tuple[float, int, Estimated]] = []  # of attempts that nobody made
        self._number = count()

    def run(self, rows: Iterable[Recorded]) -> None:
        """`rows`: from the span's origin on, in the order in which they began; what comes after the span is evidence."""
        for event in Past(rows, self._evidence, self._evidence.window_s, self._span.origin_us):
            if event.row.started_at_us >= self._span.to_us:
                return
            now = self._at(event.row)
            self._until(now)
            if event.request is not None:
                self._request(sorted(event.request, key=_in_turn), now)
            self._begins(event, now)

    def _at(self, row: Recorded) -> float:
        return (row.started_at_us - self._span.origin_us) / 1e6

    def _begins(self, event: Event, now: float) -> None:
        row = event.row
        if row.attempt and row.end_us is not None:
            self._running[row.key] += 1
            heappush(self._ends, (now + row.end_us / 1e6, next(self._number), row, event.load))

    def _until(self, now: float) -> None:
        """What ended by then is known."""
        while self._ends and self._ends[0][0] <= now:
            at, _, row, load = heappop(self._ends)
            self._running[row.key] -= 1
            if (known := self._places.known.get(row.key)) is not None:
                teach(known[0], row, at, load)
        while self._estimates and self._estimates[0][0] <= now:
            _, _, each = heappop(self._estimates)
            each.teach(self._places.known[each.target][0])
            self._planner.taught(each.target, each.at)
        while self._results and self._results[0][0] <= now:
            at, _, place, made, outcome = heappop(self._results)
            _learn(place, made, outcome, at)

    # --- a request --------------------------------------------------------------------------------------------------------
    def _request(self, rows: list[Recorded], now: float) -> None:
        """`rows`: every attempt, in turn; or the one row of a request that got none."""
        first, span = rows[0], self._span
        place = self._places.find(first.team, first.model_asked)
        ours = first.started_at_us >= span.from_us and span.team in (None, first.team)
        told = told_of(first.decision)
        if ours and place is not None and (first.attempt or told.candidates):
            self._plan(rows, place, told, now)
            return
        outcome = recorded_outcome(rows, self._owned)
        for row in rows:
            self._turn(row)
        if place is not None and first.attempt:
            self._ends_at(now, place, None, outcome)
        if ours:
            self._sums.unplanned["not_served" if place is None else "kept_answers" if first.target else "refused"] += 1
            self._sums.budgets.paid(first.team, first.started_at_us, outcome.team_nusd, outcome.team_nusd)

    def _plan(self, rows: list[Recorded], place: Place, told: Told, now: float) -> None:
        sums, first, rule = self._sums, rows[0], place.rule
        then = recorded_outcome(rows, self._owned)
        ask, made = self._planner.plan(first, place, told, now)
        chosen = made.attempts[0].candidate.name if made.attempts else NOBODY
        unknown = [] if rule.slo == NO_SLO else [each.candidate.name for each in made.attempts if each.prediction.samples < KNOWN]
        sums.chose(_name(first, place), chosen, unknown)
        if stands(rows, made, place):
            more_s = sum([self._turn(row) for row in rows])
            found: Outcome | Target = _later(then, more_s)
        else:
            for row in rows:
                self._took_turn(row)
            asked = question(rows, now, ask.max_tokens)
            road = Road(self._ground, rows, place, asked)
            found = road.outcome(made, rule.max_attempts)
            for each in road.estimated:
                heappush(self._estimates, (each.at, next(self._number), each))
        if not isinstance(found, Outcome):
            sums.no_evidence[place.names[found]] += 1
            sums.budgets.paid(first.team, first.started_at_us, then.team_nusd, then.team_nusd)
            return
        slo = rule.slo if rule.slo != NO_SLO else told.promised
        sums.compare(then, found, (then.kept(slo), found.kept(slo)))
        sums.budgets.paid(first.team, first.started_at_us, then.team_nusd, found.team_nusd)
        self._ends_at(now, place, made, found)

    def _ends_at(self, now: float, place: Place, made: Plan | None, outcome: Outcome) -> None:
        heappush(self._results, (now + outcome.total_s, next(self._number), place, made, outcome))

    # --- engines ----------------------------------------------------------------------------------------------------------
    def _turn(self, row: Recorded) -> float:
        """A recorded attempt's turn in its engine's queue, then and now; how much longer it waits now."""
        then = self._took_turn(row)
        if then is None or (takes_s := ran_s(row)) is None:
            return 0.0
        now = self._queues.now[row.target].enter(self._at(row), takes_s)
        return 0.0 if now is None else now - then

    def _took_turn(self, row: Recorded) -> float | None:
        """Then alone: how long it waited, as it is played; None: it was in no engine."""
        if row.target not in self._queues.then or (takes_s := ran_s(row)) is None:
            return None
        return self._queues.then[row.target].enter(self._at(row), takes_s)


def _name(first: Recorded, place: Place) -> str:
    """Whom a request asked first, as the configuration names it, or as one names what is not in it."""
    if not first.attempt:
        return NOBODY
    alone = first.target == first.model_sent
    return place.names.get(first.key) or (first.target if alone else f"{first.target}/{first.model_sent}")


def _later(outcome: Outcome, more_s: float) -> Outcome:
    if not more_s:
        return outcome
    ttft_s = None if outcome.ttft_s is None else max(0.0, outcome.ttft_s + more_s)
    return replace(outcome, ttft_s=ttft_s, total_s=max(0.0, outcome.total_s + more_s))


def _learn(place: Place, made: Plan | None, outcome: Outcome, at: float) -> None:
    """What a request teaches of its model at its end, as gateway/learning.py has it."""
    route, slo = place.route, place.rule.slo
    explored = made is not None and made.exploring
    if outcome.answered:
        best = made.attempts[1].prediction.effective_nusd if explored and made is not None and len(made.attempts) > 1 else None
        extra = None if best is None or outcome.cost_nusd is None else outcome.cost_nusd - best
        route.exploring.answered(outcome.cost_nusd, extra)
    if explored:
        route.exploring.explored(failed=outcome.failed_first)
    if slo != NO_SLO and outcome.judged:
        route.slack.answered(at, late=outcome.late(slo))
