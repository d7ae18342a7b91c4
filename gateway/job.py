"""One request on its way through the pipeline, and one attempt of it."""

import time
from collections.abc import Callable
from random import random
from time import monotonic

import msgspec

from contract.call import Call
from contract.errors import AttemptError, AttemptTimeout
from contract.head import HeaderList
from contract.usage import Usage
from gateway.accounting import settled_whole
from gateway.asking import prompt_tokens_about
from gateway.auth import Principal
from gateway.client import Receiver
from gateway.health import Health
from gateway.routes import Route, Target
from gateway.telemetry.trace import Trace
from ledger.prices import cost_nusd
from ledger.row import CacheUse
from policy.ask import Ask
from policy.decision import Decision
from policy.plan import Plan, Planned
from policy.quota import Granted
from policy.rule import Rule
from providers.port import Exchange, Marks
from providers.wires.port import Dialect

Predicted = tuple[int | None, int | None, int | None, int | None, int | None, float | None]  # as a row tells it (gateway/record.py)
NO_TOTALS = (None, None)
NOTHING_PREDICTED: Predicted = (None, None, None, None, None, None)


class Planning(msgspec.Struct):
    """The decision of one request. `found`: its prompt's prefixes. `told`: makes the decision as it is told; called off the request's path.

    `narrowed`: of a long list the plan did not look at all.
    """

    ask: Ask
    plan: Plan
    found: tuple[int, ...]
    told: Callable[[], Decision | msgspec.Raw]
    began: float  # monotonic seconds
    narrowed: bool = False


class Affordable(msgspec.Struct, frozen=True):
    """What a budget leaves of the route's targets: those that cost `most_nusd` at most. `costs`: of each price, at most; None: not known.

    `enough`: for the dearest too, so that only those go whose price is not known.
    """

    costs: tuple[int | None, ...]
    most_nusd: int
    enough: bool = False


class Giving(msgspec.Struct):
    """An answer that its client gets. `whole`: it came to its end. `seams`: it is of several targets."""

    attempt: "Attempt"
    exchange: Exchange
    seams: bool = False
    whole: bool = False


class Job(msgspec.Struct, eq=False):
    """One request. `headers`: the client's."""

    call: Call
    endpoint: str
    principal: Principal
    route: Route
    rule: Rule
    client: Receiver
    words: Dialect  # the client's dialect: it words an error that ends a stream
    bound_to: str | None = None  # the label of the only target that understands the request's state
    batch: str = ""  # the team whose batch it is a row of
    planned: str | None = None  # the label of the target that its batch's plan has it for
    planning: Planning | None = None
    failures: list[AttemptError] = []
    error_status: int | None = None  # the answer's, once the last attempt has failed
    upstream_s: float = 0.0  # time spent in attempts, up to the first output
    affordable: Affordable | None = None  # None: its team counts no money
    granted: Granted | None = None  # what was reserved for it; None: nothing limits its team
    granted_at: float | None = None  # monotonic seconds; None: no request waits for room where this one counts
    used_tokens: int = 0  # so far, of what its team pays
    used_nusd: int = 0
    headers: HeaderList = []
    cache: CacheUse | None = None  # None: its policy keeps no answers
    cut: bool = False  # another request's answer that it was given ended early
    trace: Trace | None = None  # None: its client sent no trace context, and nobody records one
    giving: Giving | None = None  # what its client is given; the newest, where another target went on

    @property
    def prompt_tokens(self) -> int:
        """About, as it was planned with."""
        planning = self.planning
        return prompt_tokens_about(self.call) if planning is None else planning.ask.prompt_tokens


class Attempt:
    """One attempt at one target, while it lasts and for its row. `load`: how many ran there when it began. `abandoned`: another one answers.
    `begun`: its target's statistics were told of its first token.

    `rest`: it answers only what is missing of a cut answer, which says nothing of a whole one. `hurried`: it was given so little time that silence
    says nothing of its target's health. `share_s`: of the time to the request's deadline, what it may take while another target is left; None: no
    matter. `stopped_short`: it stalled while nothing was released, and was stopped for the sake of that. `overhead_s`: of the time to its first
    output, what we took ourselves. `totals`: of its usage, input and output, once it is recorded.
    """

    __slots__ = (
        "_costs",
        "_held",
        "_used",
        "abandoned",
        "begun",
        "exchange",
        "health",
        "hurried",
        "load",
        "marks",
        "number",
        "overhead_s",
        "planned",
        "predicted",
        "reason",
        "rest",
        "share_s",
        "started_at_us",
        "stopped_short",
        "target",
        "totals",
    )

    def __init__(self, number: int, target: Target, planned: Planned, reason: str, health: Health) -> None:
        self.number = number
        self.target = target
        self.planned = planned
        self.reason = reason
        self.started_at_us = time.time_ns() // 1000
        self.marks = Marks(monotonic())
        self.exchange: Exchange | None = None
        self.abandoned = False
        self.begun = False
        self.rest = False
        self.hurried = False
        self.share_s: float | None = None
        self.stopped_short = False
        self.overhead_s: float | None = None
        self.load = target.load()
        self.predicted = NOTHING_PREDICTED
        self.totals: tuple[int | None, int | None] = NO_TOTALS
        self._used: tuple[Usage | None, Usage | None] | None = None
        self._costs: tuple[Usage | None, int | None] | None = None
        self.health = health
        self._held: int | None = health.begin(self.marks.started)

    def used(self, exchange: Exchange, call: Call, prompt_tokens: int) -> Usage | None:
        """What a whole answer took, by what its provider told; worked out once for the headers and the row."""
        told, known = exchange.usage, self._used
        if known is None or known[0] is not told:
            known = self._used = told, settled_whole(call, told, prompt_tokens, exchange.tokens_seen)
        return known[1]

    def cost_of(self, usage: Usage | None) -> int | None:
        """Nano-dollars; worked out once for the headers and the row."""
        known = self._costs
        if known is None or known[0] is not usage:
            known = self._costs = usage, cost_nusd(self.target.price, usage)
        return known[1]

    @property
    def lasts(self) -> bool:
        """Nobody said yet that it is over."""
        return self._held is not None

    def answers(self) -> None:
        """Its first output is in hand."""
        if self._held is not None and self.health.answers(self._held):
            self.target.stats.recovered()

    def was_rushed(self, error: AttemptError | str | None) -> bool:
        """It gave nothing in the little time that it had."""
        return self.hurried and isinstance(error, AttemptTimeout) and (self.stopped_short or error.clock in ("headers", "first_token"))

    def over(self, error: AttemptError | None, answered: bool = False) -> None:
        """Tells the target's health and its backend how it ended, once; what is said later is not heard."""
        held, self._held = self._held, None
        if held is None:
            return
        if error is not None and self.was_rushed(error):
            error = None
        self.health.ended(monotonic(), held, error, answered, random())
        if error is not None:
            self.target.backend.failed(self.target.model, self.marks, error)
