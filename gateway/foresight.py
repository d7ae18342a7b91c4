"""What would be decided about a request that nobody sent: the plan by a configuration and a ledger. Nothing is started, nobody is asked."""

import time

from msgspec.structs import replace
from sqlalchemy import Engine

from config.settings import Settings
from contract.errors import InvalidRequest, ModelNotFound
from gateway.planner import admitted_by
from gateway.routes import RouteTable
from gateway.rules import Caps
from gateway.runtime import Builder
from gateway.scopes import principal_of
from gateway.warm import warm_start
from policy.ask import Ask
from policy.decision import MOST_TOLD, Decision, decision
from policy.plan import plan
from policy.predict import Live


def foresee(settings: Settings, team: str | None, model: str, ask: Ask, ledger: Engine | None, most: int | None = MOST_TOLD) -> Decision:
    """The decision for a team's request, every target taken to be ready and idle, its limits and budgets to have room.

    `team` None: one without a policy of its own. `ledger`: what the targets are known by; None: nothing is known of them. `most`: how many
    candidates are told; None: all.
    Raises ModelNotFound, InvalidRequest (a longer answer than the team may have), KeyError (no such team), WeightsNotFound, SQLAlchemyError.
    """
    its = None if team is None else settings.teams[team]
    builder = Builder(settings)
    route = RouteTable([builder.route(name, entry) for name, entry in settings.models.items()], builder.fill_in).find(model)
    who = None if team is None else principal_of(settings, team, "", builder.rules[its.policy] if its is not None and its.policy else None)
    if route is None or (who is not None and who.models is not None and route.name not in who.models):
        raise ModelNotFound(f"there is no model {model!r}{'' if team is None else f' for the team {team!r}'}")
    rule = who.rule if who is not None and who.rule is not None else route.rule
    if who is not None and who.max_nusd is not None:
        rule = Caps().capped(rule, who.max_nusd)
    if who is not None and who.max_tokens is not None:
        if ask.max_tokens is not None and ask.max_tokens > who.max_tokens:
            raise InvalidRequest(f"{ask.max_tokens} tokens are more than this team may ask for: {who.max_tokens} at most", param="max_tokens")
        ask = replace(ask, max_tokens=who.max_tokens if ask.max_tokens is None else ask.max_tokens)
    now = time.monotonic()
    if ledger is not None:
        warm_start(ledger, {key: stats for key, (stats, _) in builder.known.items()}, now, time.time())
    admitted = admitted_by(rule, route)
    live = []
    for each in admitted.allowed:
        stats = route.targets[each.index].stats
        live.append(Live(stats.forecast(now, streamed=ask.streamed, prompt_tokens=ask.prompt_tokens, load=0)))
    return decision(rule, ask, plan(rule, ask, admitted, live, now), model, most=most)
