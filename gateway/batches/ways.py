"""The ways in which a batch may run, by a configuration and what the ledger has measured: what `policy.batch_plan` chooses from."""

from collections.abc import Container
from fnmatch import fnmatchcase

import msgspec
from sqlalchemy import Engine

from config.settings import Settings
from gateway.batches.clients import limits_for, why_not
from gateway.foresight import foresee
from ledger.prices import NUSD_PER_USD
from policy.ask import Ask
from policy.batch_plan import Way
from policy.decision import Considered
from providers.batch.port import Limits

OUT = "it is out of service just now"
ASSUMED_S = 10.0  # that a row takes where nothing was measured yet; a plan that this deceives is made anew once its rows are behind


class Sized(msgspec.Struct, frozen=True, kw_only=True):
    """A batch in numbers. `prompt_tokens`: of a row on average, about; `max_tokens`: the limit on a row's answer; None: there is none.

    `endpoint`: what its rows ask, as `/v1/chat/completions`.
    """

    model: str
    endpoint: str
    rows: int
    prompt_tokens: int
    max_tokens: int | None = None


def ways_of(settings: Settings, team: str | None, sized: Sized, concurrency: int, ledger: Engine | None, unready: Container[str] = ()) -> list[Way]:
    """Every target of the model, live and by batch API. `concurrency`: how many rows at once; `unready`: targets that answer no live call just now.

    Raises as `gateway.foresight.foresee`.
    """
    ask = Ask(request_id="", streamed=False, prompt_tokens=sized.prompt_tokens, max_tokens=sized.max_tokens)
    decided = foresee(settings, team, sized.model, ask, ledger, most=None)
    most_per_s = _most_per_s(settings, team, sized)
    ways = []
    for each in decided.candidates:
        barred = each.rule if each.verdict == "removed" else ""
        ways.append(_at_a_speed(settings, each, sized, concurrency, most_per_s, barred or (OUT if each.target in unready else "")))
        if not each.owned and (limits := _limits(settings, each.target)) is not None:
            ways.append(_by_batch(settings, each, sized, limits, barred))
    return ways


def _at_a_speed(settings: Settings, each: Considered, sized: Sized, concurrency: int, most_per_s: float | None, barred: str) -> Way:
    """As live calls, or on an engine of our own as many at once as it computes."""
    slots = min(concurrency, settings.engine_replicas[each.target.partition("/")[0]].slots) if each.owned else concurrency
    row_s = each.finish_s or ASSUMED_S
    speed, shared_s = slots / row_s, row_s / concurrency
    if most_per_s is not None and not each.owned:
        speed, shared_s = min(speed, most_per_s), max(shared_s, 1 / most_per_s)
    return Way(
        target=each.target,
        kind="engine" if each.owned else "realtime",
        all_nusd=_all_nusd(each, sized),
        rows_per_s=speed,
        shared_s=shared_s,
        assumed=not each.finish_s,
        barred=barred,
    )


def _by_batch(settings: Settings, each: Considered, sized: Sized, limits: Limits, barred: str) -> Way:
    live = _all_nusd(each, sized)
    provider, _, model = each.target.partition("/")
    barred = barred or why_not(settings, _entry(settings, sized.model), provider, model)
    if not barred and sized.endpoint == "/v1/embeddings" and sized.endpoint not in limits.endpoints:
        barred = "it has no batches of embeddings"
    return Way(
        target=each.target,
        kind="provider_batch",
        all_nusd=live if limits.percent_off is None else limits.cost_nusd(live),  # a discount that is not known is not counted on
        start_s=settings.providers[provider].batch.turnaround_h * 3600,
        min_rows=limits.min_rows,
        barred=barred,
    )


def _entry(settings: Settings, model: str) -> str:
    """The entry of `models` that a name matches: its own, or else the pattern with the longest fixed part."""
    if model in settings.models:
        return model
    patterns = [name for name in settings.models if "*" in name and fnmatchcase(model, name)]
    return max(patterns, key=len, default=model)


def _limits(settings: Settings, target: str) -> Limits | None:
    return limits_for(settings.providers[target.partition("/")[0]])


def _all_nusd(each: Considered, sized: Sized) -> int | None:
    """An engine of our own whose price is not stated costs nothing more for what it does in its idle time."""
    usd = (each.cost_usd or 0.0) if each.owned else each.list_cost_usd
    return None if usd is None else round(usd * NUSD_PER_USD * sized.rows)


def _most_per_s(settings: Settings, team: str | None, sized: Sized) -> float | None:
    """What the team's own limits let through; None: it has none."""
    limits = None if team is None else settings.teams[team].limits
    if limits is None:
        return None
    tokens = sized.prompt_tokens + (sized.max_tokens or 0)
    rates = [rate for rate in (limits.rpm and limits.rpm / 60, limits.tpm and limits.tpm / 60 / max(1, tokens)) if rate]
    return min(rates, default=None)
