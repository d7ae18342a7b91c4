"""A plan as its batch keeps it and shows it, and the target that it has a live row for."""

from functools import lru_cache

import msgspec

from policy.batch_plan import Share, WayKind, dealt

REMEMBERED = 256  # (plan, model) pairs


class KeptShare(msgspec.Struct, frozen=True):
    """`target` None: whichever the policy chooses. Unix seconds; `cost_usd` None: not known."""

    model: str
    target: str | None
    how: WayKind
    rows: int
    cost_usd: float | None
    ends_at: int | None


class KeptPlan(msgspec.Struct, frozen=True, kw_only=True):
    """`rows`: that were to be planned. `in_time` None: not known.

    `unready`: targets that were out of service then; `config`: a digest of what was configured.
    """

    made_at: int
    rows: int
    in_time: bool | None
    shares: list[KeptShare]
    unready: list[str] = []
    config: str = ""

    @property
    def live_rows(self) -> int:
        return sum(share.rows for share in self.shares if share.how != "provider_batch")

    @property
    def live_ends_at(self) -> int | None:
        """When the last live row is to be done; None: that is not known, or there is none."""
        ends = [share.ends_at for share in self.shares if share.how != "provider_batch"]
        return None if not ends or None in ends else max(end for end in ends if end is not None)


def kept_share(model: str, share: Share, made_at: int) -> KeptShare:
    cost = None if share.cost_nusd is None else share.cost_nusd / 1e9
    return KeptShare(model, share.way.target, share.way.kind, share.rows, cost, made_at + int(share.ends_s))


def target_of(plan: str, model: str, line: int) -> str | None:
    """Where the row on this line is asked first, if it is asked live. None: the plan leaves that to the policy."""
    shares = _live(plan, model)
    return shares[dealt(line, [share.rows for share in shares])].target if shares else None


@lru_cache(REMEMBERED)
def kept_plan(plan: str) -> KeptPlan:
    return msgspec.json.decode(plan, type=KeptPlan)


@lru_cache(REMEMBERED)
def _live(plan: str, model: str) -> tuple[KeptShare, ...]:
    return tuple(share for share in kept_plan(plan).shares if share.model == model and share.how != "provider_batch" and share.rows)
