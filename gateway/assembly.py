"""A model's targets become its route: what the policy compares of each, and the names that responses carry."""

from urllib.parse import quote

from gateway.routes import Route, Target
from ledger.prices import TOKENS, Price
from policy.affinity import Affinity
from policy.explore import ExploreBudget
from policy.hedge import HedgeBudget
from policy.residency import FREE, Candidate, Rates, admit
from policy.rule import Rule
from policy.shortlist import Looks
from policy.slack import Slack
from providers.registry import ProviderKind

VISIBLE = "!#$&'()*+,/:;=?@[]~ \"<>^`{|}"


def assemble(name: str, rule: Rule, targets: list[Target]) -> Route:
    kinds: dict[tuple[object, ...], int] = {}
    candidates = tuple(_candidate(index, target, kinds.setdefault(_price_of(target), len(kinds))) for index, target in enumerate(targets))
    priced = {each.price_kind: target for each, target in zip(candidates, targets, strict=True)}
    return Route(
        name=name,
        rule=rule,
        targets=tuple(targets),
        candidates=candidates,
        labels={target.label: target for target in targets},
        priced=tuple(priced[kind] for kind in range(len(kinds))),
        admitted=admit(rule, candidates),
        header=(b"x-turnout-route", header_text(name)),
        lacking=frozenset().union(*(each.lacks for each in candidates)),
        affinity=Affinity(),
        hedges=HedgeBudget(),
        exploring=ExploreBudget(),
        slack=Slack(),
        looks=Looks(),
        admitted_by={},
    )


def _price_of(target: Target) -> tuple[object, ...]:
    """What an answer's highest price depends on (gateway/metering/bounds.py)."""
    return target.owned, target.price, target.context_tokens


def _candidate(index: int, target: Target, price_kind: int) -> Candidate:
    return Candidate(
        index=index,
        name=target.label,
        owned=target.owned,
        region=target.region,
        rates=FREE if target.owned else _rates(target.price),
        context_tokens=target.context_tokens,
        lacks=target.lacks,
        weight=target.weight,
        replica_of=target.replica_of,
        price_kind=price_kind,
        spare=target.spare,
    )


def _rates(price: Price | None) -> Rates | None:
    """What the policy compares: a price's own for a request of any length. None: input or output has no price."""
    if price is None or price.rates.input is None or price.rates.output is None:
        return None
    into, out, read = price.rates.input / TOKENS, price.rates.output / TOKENS, price.rates.cache_read
    return Rates(into, out, into if read is None else read / TOKENS, float(price.request_nusd))


def lacks_of(kind: ProviderKind) -> frozenset[str]:
    """What a provider says that it cannot do at all. What it merely does not say is left to it."""
    return frozenset(name for name in ("tools", "images", "json_schema") if not getattr(kind.facts, name))


def header_text(text: str) -> bytes:
    """A name as a header's value: visible ASCII as it is, all else percent-encoded, so that a client's model name cannot break a header."""
    return quote(text, safe=VISIBLE).encode()
