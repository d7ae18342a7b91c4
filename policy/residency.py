"""Where a request's data may go. A target that is not admitted here has no type that a plan could hold.

Fails closed: under a list of regions, a managed target without a region is forbidden. Engines of the gateway's own are in every region.
"""

from collections.abc import Sequence

import msgspec

from policy.prediction import Prediction
from policy.rule import Residency, Rule


class Rates(msgspec.Struct, frozen=True):
    """Nano-dollars a token; `request`: for a request beside its tokens."""

    input: float
    output: float
    cache_read: float
    request: float = 0.0


FREE = Rates(0.0, 0.0, 0.0)  # an owned engine's tokens: it costs the same when it idles


class Candidate(msgspec.Struct, frozen=True):
    """A target of a model, as the configuration describes it. `index` is its place in the model's list.

    `owned`: an engine of the gateway's own. `rates` None: its price is not known. `lacks`: what it cannot do (see `Ask.needs`).
    `weight`: its share of the requests under `ordered`. `batch_factor`: the batch price as a share of the usual one.
    `replica_of`: what it is one of several of, which are alike but for what their caches hold. `price_kind`: the same number for the same price.
    `spare`: the model does not list it; it is there for rules with `fallback: local` alone.
    """

    index: int
    name: str
    owned: bool
    region: str = ""
    rates: Rates | None = None
    context_tokens: int | None = None
    lacks: frozenset[str] = frozenset()
    weight: float | None = None
    batch_factor: float = 1.0
    replica_of: str = ""
    price_kind: int = 0
    spare: bool = False


class Allowed(Candidate, frozen=True):
    """A candidate that the rule's residency allows. Made by `admit` alone; only such stand in a plan."""


class Removed(msgspec.Struct, frozen=True):
    """`rule`: why the target was left out."""

    candidate: Candidate
    rule: str
    prediction: Prediction | None = None


class Admitted(msgspec.Struct, frozen=True):
    """A model's targets under one rule, before anything is known of the request. `price_kinds`: those of the allowed, where `admit` made it."""

    allowed: tuple[Allowed, ...]
    removed: tuple[Removed, ...]
    price_kinds: tuple[int, ...] = ()


def admit(rule: Rule, candidates: tuple[Candidate, ...]) -> Admitted:
    """The rule's residency, applied to a model's targets; spare ones do not exist for a rule that has no use for them."""
    residency = rule.residency
    if rule.fallback != "local":
        candidates = tuple(each for each in candidates if not each.spare)
    allowed = [Allowed(*msgspec.structs.astuple(each)) for each in candidates if permits(residency, each)]
    told = residency if isinstance(residency, str) else f"[{', '.join(residency)}]"
    removed = [Removed(each, f"residency: {told}") for each in candidates if not permits(residency, each)]
    return Admitted(tuple(allowed), tuple(removed), tuple(dict.fromkeys(each.price_kind for each in allowed)))


def affordable(admitted: Admitted, bounds: Sequence[int | None], most_nusd: int) -> Admitted:
    """Those whose answer costs `most_nusd` at most, whatever comes. `bounds[candidate.price_kind]`: what it may cost; None: nobody knows."""
    for each in admitted.allowed:
        bound = bounds[each.price_kind]
        if bound is None or bound > most_nusd:
            return _afforded(admitted, bounds, most_nusd)
    return admitted


def _afforded(admitted: Admitted, bounds: Sequence[int | None], most_nusd: int) -> Admitted:
    allowed: list[Allowed] = []
    removed: list[Removed] = []
    for each in admitted.allowed:
        bound = bounds[each.price_kind]
        if bound is not None and bound <= most_nusd:
            allowed.append(each)
        else:
            removed.append(Removed(each, _beyond(bound, most_nusd)))
    return Admitted(tuple(allowed), (*admitted.removed, *removed))


def _beyond(bound: int | None, most_nusd: int) -> str:
    if bound is None:
        return "budget: its price is not known"
    return "budget: spent" if most_nusd == 0 else f"budget: may cost ${bound / 1e9:.6f}, ${most_nusd / 1e9:.6f} is reserved"


def permits(residency: Residency, candidate: Candidate) -> bool:
    """`eu` permits `eu` and every region whose name begins with `eu-`."""
    if residency == "any" or candidate.owned:
        return True
    if residency == "local_only":
        return False
    region = candidate.region
    return any(region == each or region.startswith(f"{each}-") for each in residency)
