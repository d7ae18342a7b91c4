"""What would be decided about a request that nobody sent: the plan by a configuration and a ledger. Nothing is started, nobody is asked."""

import time

from sqlalchemy import Engine

from config.settings import Settings
from contract.errors import ModelNotFound
from gateway.planner import admitted_by
from gateway.routes import RouteTable
from gateway.runtime import Builder
from gateway.warm import warm_start
from policy.ask import Ask
from policy.decision import Decision, decision
from policy.plan import plan
from policy.predict import Live


def foresee(settings: Settings, team: str | None, model: str, ask: Ask, ledger: Engine | None) -> Decision:
    """The decision for a team's request, every target taken to be ready and idle. `team` None: one without a policy of its own.

    `ledger`: what the targets are known by; None: nothing is known of them. Raises ModelNotFound, KeyError for a team that is not configured,
    WeightsNotFound, SQLAlchemyError.
    """
    its = None if team is None else settings.teams[team]
    builder = Builder(settings)
    route = RouteTable([builder.route(name, entry) for name, entry in settings.models.items()], builder.fill_in).find(model)
    if route is None or (its is not None and its.models is not None and route.name not in its.models):
        raise ModelNotFound(f"there is no model {model!r}{'' if team is None else f' for the team {team!r}'}")
    rule = builder.rules[its.policy] if its is not None and its.policy else route.rule
    now = time.monotonic()
    if ledger is not None:
        warm_start(ledger, {key: stats for key, (stats, _) in builder.known.items()}, now, time.time())
    admitted = admitted_by(rule, route)
    live = []
    for each in admitted.allowed:
        stats = route.targets[each.index].stats
        live.append(Live(stats.forecast(now, streamed=ask.streamed, prompt_tokens=ask.prompt_tokens, load=0), idle=True))
    return decision(rule, ask, plan(rule, ask, admitted, live, now), model)
