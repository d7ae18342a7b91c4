"""What an organisation, a team or a key may use: limits, budgets, and what one request asks of them. Plain values.

Limits are GCRA buckets that hold one minute's worth. Money is integer nano-dollars. A request reserves its upper bound at every scope it
belongs to in one step, all or nothing; what it did not use comes back when it is settled.
"""

from typing import Literal

import msgspec

Window = Literal["day", "week", "month", "total"]
Exhausted = Literal["local", "reject"]
Dimension = Literal["requests", "tokens", "concurrency", "budget"]
ScopeKind = Literal["organisation", "team", "key", "batch"]  # batch: a team's rows of batches


class Limits(msgspec.Struct, frozen=True):
    """A minute's requests and tokens, and requests at once; None: as many as come. `max_wait_s`: how long one may wait for its turn."""

    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None
    max_wait_s: float = 0.0


NO_LIMITS = Limits()


class Budget(msgspec.Struct, frozen=True):
    """Money for a calendar window in UTC; a week begins on Monday. `alert_at`: shares of it at which somebody is told."""

    nusd: int
    window: Window
    on_exhausted: Exhausted = "reject"
    alert_at: tuple[float, ...] = ()


class Scope(msgspec.Struct, frozen=True):
    """One level that a request counts at. `name` is unique among its kind."""

    kind: ScopeKind
    name: str
    limits: Limits = NO_LIMITS
    budgets: tuple[Budget, ...] = ()

    @property
    def id(self) -> str:
        return f"{self.kind}:{self.name}"


class Want(msgspec.Struct, frozen=True):
    """Upper bounds of what one request will use."""

    tokens: int
    cost_nusd: int


class Used(msgspec.Struct, frozen=True):
    """What it used in the end. `answered` False: it failed and nothing came of it, so that not even its turn is counted."""

    tokens: int
    cost_nusd: int
    answered: bool = True


class Left(msgspec.Struct, frozen=True):
    """What the tightest scope has left of one dimension: OpenAI's `x-ratelimit-*`. `reset_s`: until it is whole again."""

    limit: int
    remaining: int
    reset_s: float


class Granted(msgspec.Struct):
    """A reservation: at which scopes, of what. `requests`, `tokens` None: nothing limits them. `degraded`: by a share, without the store."""

    id: str
    scopes: tuple[Scope, ...]
    want: Want
    requests: Left | None = None
    tokens: Left | None = None
    degraded: bool = False


class Refused(msgspec.Struct, frozen=True):
    """Nothing was reserved. `retry_after_s` None: it never fits. `budget`: which one is spent, for the dimension `budget`."""

    scope: Scope
    dimension: Dimension
    retry_after_s: float | None
    budget: Budget | None = None
    requests: Left | None = None
    tokens: Left | None = None
    degraded: bool = False


class Spending(msgspec.Struct, frozen=True):
    """How a budget stands in the window that began at `start_s` (Unix time). `reserved_nusd`: the upper bound of what runs."""

    budget: Budget
    start_s: int
    spent_nusd: int
    reserved_nusd: int


class Standing(msgspec.Struct, frozen=True):
    """How a scope stands. `requests`, `tokens` None: not limited."""

    scope: Scope
    running: int
    requests: Left | None
    tokens: Left | None
    budgets: tuple[Spending, ...]
