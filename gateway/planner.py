"""Where the policy meets the live state: a snapshot of the targets, the plan for one request, and how long each attempt may take."""

from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from contract.patience import Patience
from gateway.asking import ask_of, prefixes_of
from gateway.job import Job, Planning
from gateway.routes import Route, Target
from policy.ask import Ask
from policy.decision import decision
from policy.hedge import Hedge, hedge
from policy.load import behind_s
from policy.plan import DEAR, Plan, Planned, plan
from policy.predict import Live
from policy.ranking import BOUND, Whole
from policy.residency import Admitted, Candidate, admit, affordable
from policy.reuse import plan_or_reuse
from policy.rule import Rule
from policy.shortlist import FEW, LeftOut, counted, left_out, likeness, look_at, pick
from policy.slack import Miss
from providers.local.backend import EngineBackend
from providers.local.status import DOWN

PATIENT_S = 10.0  # a stream's first token may always take so long, another target waiting or not
PATIENT_UNARY_S = 30.0
LEAST_QUEUE_S = 0.01
PATIENT_TIMES = 3.0  # or so many times the predicted p95
KNOWN_SAMPLES = 5.0  # by which a p95 is known that may lengthen it
ENGINE_DOWN = "not ready: the engine is down"
ENGINE_FULL = "not ready: the engine's queue is full"
BREAKER_BUSY = "not ready: its breaker is open after failures"
COOLING = "not ready: it asked to be left alone for a while"
KEYS_BUSY = "not ready: rate limited, or its keys are set aside"
MAX_ADMITTED = 200  # rules for which a route remembers whom they admit
STALL_S = 15.0  # between two pieces of an answer that can still be mended elsewhere

Moment = tuple[Rule, Ask, Admitted, list[Live], float, bool, Miss]  # as `policy.plan.plan` takes it


def plan_for(job: Job, now: float) -> Planning:
    route, rule, call = job.route, job.rule, job.call
    found = prefixes_of(call) if len(route.targets) > 1 else ()
    ask = ask_of(call, rule, route, job.bound_to, found, now)
    if job.planned is not None:
        ask = msgspec.structs.replace(ask, planned=job.planned)
    admitted = admitted_by(rule, route)
    if len(admitted.allowed) > FEW:
        return _of_many(job, ask, admitted, found, now)
    made, reusable = plan_or_reuse(*_at_this_moment(job, ask, admitted, now))
    route.slack.asked(now, made.dearest_nusd)
    told = partial(decision, rule, ask, made, call.model) if reusable is None else partial(reusable.told, ask, made, call.model)
    return Planning(ask, made, found, told, now)


def _of_many(job: Job, ask: Ask, admitted: Admitted, found: tuple[int, ...], now: float) -> Planning:
    narrowed = _of_some(job, ask, admitted, now)
    made, passed_over = (_plan(job, ask, admitted, now), None) if narrowed is None else narrowed
    job.route.slack.asked(now, made.dearest_nusd)
    told = partial(decision, job.rule, ask, made, job.call.model, passed_over)
    return Planning(ask, made, found, told, now, narrowed=narrowed is not None)


def further(job: Job, planning: Planning, now: float) -> list[Planned]:
    """Those that may follow of the targets that a plan of some did not look at."""
    rule, seen = job.rule, {each.candidate.index for each in planning.plan.attempts}
    admitted = admitted_by(rule, job.route)
    rest = msgspec.structs.replace(admitted, allowed=tuple(each for each in admitted.allowed if each.index not in seen))
    made = _plan(job, planning.ask, rest, now, may_explore=False)
    followers = [msgspec.structs.replace(each, reason="fallback") for each in made.attempts if rule.fallback == "any" or each.candidate.owned]
    return [] if rule.fallback == "none" else followers


def _plan(job: Job, ask: Ask, admitted: Admitted, now: float, may_explore: bool = True, whole: Whole | None = None) -> Plan:
    return plan(*_at_this_moment(job, ask, admitted, now, may_explore), whole)


def _at_this_moment(job: Job, ask: Ask, admitted: Admitted, now: float, may_explore: bool = True) -> Moment:
    """What a plan is made of."""
    route, rule = job.route, job.rule
    if job.affordable is not None:
        admitted = affordable(admitted, job.affordable.costs, job.affordable.most_nusd)
    live = _live(route, ask, admitted, now, job.batch)
    may_explore = may_explore and rule.explore > 0 and len(live) > 1 and route.exploring.allows(now, rule.explore)
    return rule, ask, admitted, live, now, may_explore, _miss(rule, route)


def _of_some(job: Job, ask: Ask, admitted: Admitted, now: float) -> tuple[Plan, Callable[[], tuple[LeftOut, ...]]] | None:
    """A plan of some of a long list, and whom it did not look at (policy/shortlist.py). None: all must be looked at."""
    rule, route, budget = job.rule, job.route, job.affordable
    if ask.bound_to is not None:
        some = tuple(each for each in admitted.allowed if each.name == ask.bound_to)
        made = _plan(job, ask, Admitted(some, ()), now)
        others = (LeftOut(BOUND, len(admitted.allowed) - len(some)), *counted([each.rule for each in admitted.removed]))
        return (made, lambda: others) if made.attempts else None
    if budget is not None and not budget.enough:
        return None
    alike = likeness(rule, ask, priced=budget is not None)
    look = route.looks.find(alike, now)
    while True:
        newest = look is None
        if look is None:
            asked = admitted if budget is None else affordable(admitted, budget.costs, budget.most_nusd)
            look = route.looks.keep(alike, look_at(rule, ask, asked, _live(route, ask, asked, now, job.batch), now, _miss(rule, route)))
        places, whole = pick(look, rule, ask)
        allowed = look.admitted.allowed
        made = _plan(job, ask, Admitted(tuple([allowed[place] for place in places]), ()), now, whole=whole)
        if made.attempts and (newest or not made.beaten):
            named: list[Candidate] = [*(each.candidate for each in made.attempts), *(each.candidate for each in made.removed)]
            return made, partial(left_out, look, named)
        if newest:
            return None
        look = None


def _live(route: Route, ask: Ask, admitted: Admitted, now: float, batch: str) -> list[Live]:
    targets, live = route.targets, []
    for each in admitted.allowed:  # no comprehension: it would make cells of all that it takes from here, for each request
        live.append(snapshot(targets[each.index], ask, now, batch))
    return live


def _miss(rule: Rule, route: Route) -> Miss:
    return route.slack.miss() if rule.weighs_lateness else DEAR


def admitted_by(rule: Rule, route: Route) -> Admitted:
    """Whom the residency admits: known for the route's own rule, and for that of a team that asked before; worked out for what one request says."""
    if rule is route.rule:
        return route.admitted
    found = route.admitted_by.get(id(rule))
    if found is not None and found[0] is rule:
        return found[1]
    made = admit(rule, route.candidates)
    if len(route.admitted_by) >= MAX_ADMITTED:
        route.admitted_by.clear()
    route.admitted_by[id(rule)] = rule, made  # the rule is kept with it, so that its id stays its own
    return made


def snapshot(target: Target, ask: Ask, now: float, batch: str = "") -> Live:
    """`batch`: the team as whose batches' rows find the target."""
    health = target.health.of(batch)
    backend, load = target.backend, target.load()
    engine = backend.supervisor if target.owned and isinstance(backend, EngineBackend) else None
    if engine is not None and engine.state == "ready":
        target.health.lives(engine.generation)
    cold_tokens = ask.prompt_tokens - ask.warm.get(target.label, 0)
    forecast = target.stats.forecast(now, streamed=ask.streamed, prompt_tokens=cold_tokens, load=load)
    ready_at, busy = backend.ready_at(target.model, now), KEYS_BUSY
    if engine is not None:
        busy = ENGINE_DOWN if engine.retry_after_s else ENGINE_FULL
    if (state := health.state(now)) == "closed" or (engine is not None and engine.state in DOWN):
        pass  # its supervisor knows better than its breaker when it is back
    elif not health.available(now):
        ready_at, busy = max(ready_at, health.retry_at(now)), COOLING if state == "cooling" else BREAKER_BUSY
    elif state == "half_open":  # its failures are what opened it; whether it is well again one request must find out
        forecast = forecast.changed(failing=0.0, waste_factor=1.0)
    wait_s = backend.wait_s()
    if not target.owned and (seen := backend.reading()) is not None and seen.running is not None:  # whose queue is not ours
        wait_s += behind_s(seen.running, seen.waiting or 0, seen.kv_used, forecast.total_mean_s)
    if target.owned and isinstance(backend, EngineBackend) and backend.asleep:
        load += 1  # so that replicas that sleep are left asleep while one is awake and idle
    slots = 0 if engine is None else engine.spec.slots
    return Live(forecast, ready_at, busy if ready_at > now else "", wait_s, load, slots)


def hedge_for(job: Job, planning: Planning, now: float) -> Hedge | None:
    if job.rule.hedge_after is None:
        return None
    route, made = job.route, planning.plan
    idle = [each.candidate.name for each in made.attempts if route.targets[each.candidate.index].load() == 0]
    return hedge(job.rule, made, idle, now, route.hedges)


def patience_of(job: Job, planned: Planned, others: Sequence[Planned], now: float) -> Patience | None:
    """How long this attempt may take. A policy's own clock for the first token is what it says, whoever waits."""
    rule = job.rule
    own, deadline_s = rule.patience, rule.slo.deadline_s
    if own is None and deadline_s is None and not others:
        return None
    left_s = None if deadline_s is None else max(0.001, deadline_s - (now - job.client.started_at))
    first_output_s = stall_s = queue_s = None
    if others:
        if rule.slo.ttft_s is not None and job.call.stream:
            queue_s = max(LEAST_QUEUE_S, rule.slo.ttft_s - (now - job.client.started_at))
        if own is None or (own.first_token_s is None and own.headers_s is None):
            least_s = PATIENT_S if job.call.stream else PATIENT_UNARY_S
            known_s = _p95_s(job, planned) if planned.prediction.samples >= KNOWN_SAMPLES else None
            first_output_s = max(least_s, PATIENT_TIMES * (known_s or 0.0))
            its_s = share_s(job, planned, others, left_s)
            if its_s is not None:
                first_output_s = min(first_output_s, its_s)
        if own is None or own.idle_s is None:
            if not job.call.stream:
                stall_s = PATIENT_S  # its head has come: the body is made, or somebody else had better make it
            elif rule.recovery != "error":
                stall_s = STALL_S
    its_own = own or Patience()
    return msgspec.structs.replace(its_own, first_output_s=first_output_s, stall_s=stall_s, left_s=left_s, queue_s=queue_s, spills=bool(others))


def hurried(job: Job, planned: Planned, patience: Patience) -> bool:
    """Whether a target that gives nothing in that time is not unwell for it: it is slower, or the request itself brought its deadline."""
    given_s = patience.first_output_s
    if given_s is None or given_s >= PATIENT_S:
        return False
    p95_s = _p95_s(job, planned)
    if p95_s is not None:
        return given_s < PATIENT_TIMES * p95_s
    return job.rule.slo.deadline_s != (job.principal.rule or job.route.rule).slo.deadline_s


def _p95_s(job: Job, planned: Planned) -> float | None:
    """To its first output, as predicted."""
    return planned.prediction.ttft_p95_s if job.call.stream else planned.prediction.finish_p95_s


def share_s(job: Job, planned: Planned, others: Sequence[Planned], left_s: float | None) -> float | None:
    """Of what is left until the deadline, so that the next target has a chance too: half of it; more for who is predicted to need more, as far as
    that leaves the next one what it needs. None: there is no deadline, or nobody else."""
    if left_s is None or not others:
        return None
    p95_s, needs_s = _p95_s(job, planned), others[0].prediction.finish_p95_s
    return max(left_s / 2, 0.0 if p95_s is None or needs_s is None else min(p95_s, left_s - needs_s))
