"""The routes as they are told: targets and how each does, models with policies and prices, and what would be decided about a request now."""

import time
from collections.abc import Collection, Iterable
from typing import Annotated, Any

import msgspec
from fastapi import Query

from contract.errors import InvalidRequest
from gateway.auth import Principal, no_such_model
from gateway.engines_shown import engine_shown
from gateway.planner import snapshot
from gateway.routes import Route, RouteTable, Target
from gateway.rules import Caps
from ledger.prices import NUSD_PER_USD, Price
from policy.ask import Ask
from policy.decision import decision
from policy.plan import plan
from policy.residency import admit
from policy.rule import Rule
from providers.local.backend import EngineBackend
from providers.port import Backend

PROMPT_TOKENS = 1_000
MOST_TOKENS = 100_000_000
ALL_TEAMS_ONLY = ("attempts", "failures", "output_tokens", "live", "running")  # what says how much others asked


class Question:
    """A request that nobody sent, read from a query by FastAPI."""

    def __init__(
        self,
        model: Annotated[str, Query(max_length=500)],
        prompt_tokens: Annotated[int, Query(ge=0, le=MOST_TOKENS)] = PROMPT_TOKENS,
        max_tokens: Annotated[int | None, Query(ge=1, le=MOST_TOKENS)] = None,
        stream: bool = True,
    ) -> None:
        self.model = model
        self.ask = Ask(request_id="", streamed=stream, prompt_tokens=prompt_tokens, max_tokens=max_tokens)


def visible(routes: RouteTable, models: Collection[str] | None) -> list[Route]:
    """`models` None: all."""
    return [route for route in routes.all if models is None or route.name in models]


def targets_shown(routes: Iterable[Route], rule: Rule | None) -> list[dict[str, Any]]:
    """Each target once, by its label. `rule`: the team's own policy."""
    seen = {target.label: target for route in routes for target in route.open_to(rule or route.rule)}
    now = time.monotonic()
    return [_target(target, now) for target in seen.values()]


def _target(target: Target, now: float) -> dict[str, Any]:
    now_shown = {
        "engine": _engine(target.backend),
        "live": _live(target.backend),
        "breaker": target.health.breaker.state(now),
        "running": target.load(),
    }
    return {"target": target.label, "owned": target.owned, **now_shown, **target.stats.summary(now)}


def _engine(backend: Backend) -> dict[str, Any] | None:
    """How an engine of ours stands; null: it is none."""
    return engine_shown(backend.supervisor) if isinstance(backend, EngineBackend) else None


def _live(backend: Backend) -> dict[str, Any] | None:
    """What an engine tells of itself just now, whoever's requests are in it; null: it is not looked at."""
    seen = backend.reading()
    return None if seen is None else {name: value for name, value in msgspec.to_builtins(seen).items() if name != "at"}


def routes_shown(routes: Iterable[Route], rule: Rule | None) -> list[dict[str, Any]]:
    """`rule`: the team's own policy, which takes the place of every model's."""
    return [
        {"model": route.name, "policy": _rule(rule or route.rule), "targets": [_priced(target) for target in route.open_to(rule or route.rule)]}
        for route in routes
    ]


def _rule(rule: Rule) -> dict[str, Any]:
    """Times in seconds, money in US dollars."""
    told: dict[str, Any] = msgspec.to_builtins(rule)
    most_nusd: int | None = told.pop("max_nusd")
    return {**told, "max_usd": None if most_nusd is None else most_nusd / NUSD_PER_USD}


def _priced(target: Target) -> dict[str, Any]:
    told = {"target": target.label, "owned": target.owned, "region": target.region or None, "context_tokens": target.context_tokens}
    hourly = target.engine_nusd_per_s
    return {
        **told,
        "weight": target.weight,
        "usd_per_mtok": _usd_per_mtok(target.price),
        "usd_per_hour": None if hourly is None else hourly * 3600 / NUSD_PER_USD,
    }


def _usd_per_mtok(price: Price | None) -> dict[str, float | None] | None:
    """Below the first tier. null: not known."""
    if price is None:
        return None
    rates: dict[str, int | None] = msgspec.to_builtins(price.rates)
    return {name: None if rate is None else rate / NUSD_PER_USD for name, rate in rates.items()}


def explained(routes: RouteTable, question: Question, who: Principal | None) -> dict[str, Any]:
    """The decision as plain values, by the targets as they are. `who` None: a team without a policy of its own.

    Raises ModelNotFound, InvalidRequest (a longer answer than the team may have).
    """
    model, ask = question.model, question.ask
    route = routes.find(model)
    if route is None:
        raise no_such_model(model)
    rule = route.rule
    if who is not None:
        who.require_route(route.name, model)
        rule = who.rule or rule
        rule = rule if who.max_nusd is None else Caps().capped(rule, who.max_nusd)
        ask = msgspec.structs.replace(ask, max_tokens=_most_tokens(ask.max_tokens, who.max_tokens))
    now = time.monotonic()
    admitted = admit(rule, route.candidates)
    live = [snapshot(route.targets[each.index], ask, now) for each in admitted.allowed]
    told: dict[str, Any] = msgspec.to_builtins(decision(rule, ask, plan(rule, ask, admitted, live, now), model))
    return told


def _most_tokens(asked: int | None, most: int | None) -> int | None:
    if asked is not None and most is not None and asked > most:
        raise InvalidRequest(f"{asked} tokens are more than this team may ask for: {most} at most", param="max_tokens")
    return most if asked is None else asked
