"""The truth that a simulation replays: how targets really behave, and what one request would see at each of them, now.

Chance is drawn by the hash of (seed, request, target), never from a stream: every strategy meets the same luck, whatever it chose before.
What depends on load (queues, slowness, rate limits) and on history (prefix caches) follows from the strategy's own choices: each has its own World.

Seconds of simulated time; nano-dollars.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from heapq import heapify, heapreplace
from math import exp, inf
from statistics import NormalDist
from struct import Struct

from policy.residency import FREE, Rates

PATIENCE_S = 10.0  # an attempt without a first token for so long is given up, whoever chose it
REFUSED_S = 0.05  # a 429 or a refused connection comes at once
ERROR_S = 0.2  # a 500 comes after some work
CACHE_TTL_S = 300.0
CACHE_LEAST = 1024  # tokens of the shortest prefix that a provider caches
QUEUE = 64  # more requests than that do not wait at an engine of our own
TOKEN_SPREAD = 0.1  # sigma of ln: of a token's time between requests
OUTPUT_SPREAD = 0.15  # sigma of ln: how much the length of the same answer differs between models

_UNIFORMS = Struct("<6Q")
_NORMAL = NormalDist().inv_cdf

Fault = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Request:
    """`prompt_tokens` is true, `estimated_tokens` what a gateway thinks; `output_tokens`: what a model of ordinary verbosity would answer.

    `prefixes`: hashes of the prompt's growing prefixes, as `policy.affinity.prefixes` makes them of its bytes.
    """

    index: int
    id: str
    at: float
    prompt_tokens: int
    estimated_tokens: int
    output_tokens: int
    max_tokens: int | None = None
    conversation: int | None = None
    prefixes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """One target's true behaviour.

    Time to the first token: `ttft_s` + `prefill_s` a thousand prompt tokens that no cache holds; times `swing(now)`; times
    1 + (in flight / `capacity`)²; times a log-normal chance of `spread`; `slow_factor` times as long for a `slow_share` of the requests.
    Each token takes `token_s`, which `swing` and load stretch half as much. `errors`, `hangs`: the share of attempts at a time that end in
    a 500, or in silence. `per_minute`: attempts beyond it are refused with a Retry-After. `slots`: an engine of our own, with so many places.
    """

    name: str
    ttft_s: float
    token_s: float = 0.015
    prefill_s: float = 0.05
    rates: Rates = FREE
    verbosity: float = 1.0
    spread: float = 0.2
    slow_share: float = 0.01
    slow_factor: float = 4.0
    capacity: float = inf
    swing: Callable[[float], float] | None = None
    errors: Fault | None = None
    hangs: Fault | None = None
    error_share: float = 0.002
    per_minute: float = inf
    caches: bool = False
    slots: int = 0


@dataclass(frozen=True, slots=True)
class Luck:
    """Uniform and normal draws of one request at one target."""

    fault: float
    slow: float
    ttft_z: float
    token_z: float
    output_z: float
    jitter: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attempt gives. `wait_s`: in an engine's queue, before its service. `failure`: why there is no answer; it then ends after `ttft_s`.

    `ttft_s`, `total_s` count from the attempt's start, the queue included.
    """

    ttft_s: float
    total_s: float
    cost_nusd: float
    output_tokens: int = 0
    cached_tokens: int = 0
    wait_s: float = 0.0
    failure: str | None = None
    retry_after_s: float | None = None


class Chance:
    """Draws for a whole scenario, remembered, because every strategy asks for the same ones."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._drawn: dict[tuple[int, int], Luck] = {}

    def of(self, request: int, target: int) -> Luck:
        luck = self._drawn.get((request, target))
        if luck is None:
            digest = blake2b(f"{self._seed}/{request}/{target}".encode(), digest_size=48).digest()
            fault, slow, a, b, c, jitter = ((n >> 11) / 2**53 for n in _UNIFORMS.unpack(digest))
            luck = Luck(fault, slow, *(_NORMAL(min(max(u, 1e-9), 1 - 1e-9)) for u in (a, b, c)), jitter)
            self._drawn[request, target] = luck
        return luck


@dataclass(slots=True)
class _State:
    """What a strategy's own choices have made of one target."""

    in_flight: int = 0
    free_at: list[float] = field(default_factory=list)  # of each slot, a heap
    service_s: float = 5.0  # mean time in a slot, as the engine itself has seen it
    allowance: float = 0.0  # attempts left under the rate limit
    allowance_at: float = 0.0
    caches: dict[int, tuple[int, float]] = field(default_factory=dict)  # conversation -> tokens held, since when


class World:
    """The targets as one strategy meets them."""

    def __init__(self, targets: tuple[Target, ...], chance: Chance) -> None:
        self.targets = targets
        self._chance = chance
        self._states = [_State(free_at=[0.0] * each.slots, allowance=each.per_minute / 6) for each in targets]

    def in_flight(self, index: int) -> int:
        return self._states[index].in_flight

    def expected_wait_s(self, index: int, now: float) -> float:
        """The wait that an engine of our own would announce: it knows its queue, not how long those who run will run."""
        state, slots = self._states[index], self.targets[index].slots
        if not slots or state.in_flight < slots:
            return 0.0
        return (state.in_flight - slots + 1) / slots * state.service_s

    def outcome(self, index: int, request: Request, now: float) -> Outcome:
        """What the request would see at the target if it were sent now. Changes nothing."""
        target, state, luck = self.targets[index], self._states[index], self._chance.of(request.index, index)
        if (refused := self._refused(target, state, now)) is not None:
            return refused
        point = luck.fault
        for share, after_s, failure in (
            (target.error_share if target.errors is None else target.errors(now), ERROR_S, "upstream_error"),
            (0.0 if target.hangs is None else target.hangs(now), PATIENCE_S, "timeout"),
        ):
            if point < share:
                return Outcome(after_s, after_s, 0.0, failure=failure)
            point -= share
        return self._answer(target, state, luck, request, now)

    def _refused(self, target: Target, state: _State, now: float) -> Outcome | None:
        if target.slots and state.in_flight >= target.slots + QUEUE:
            return Outcome(REFUSED_S, REFUSED_S, 0.0, failure="rate_limited", retry_after_s=state.service_s)
        if target.per_minute != inf and (left := self._allowance(target, state, now)) < 1.0:
            return Outcome(REFUSED_S, REFUSED_S, 0.0, failure="rate_limited", retry_after_s=max(1.0, (1.0 - left) * 60 / target.per_minute))
        return None

    @staticmethod
    def _allowance(target: Target, state: _State, now: float) -> float:
        """A bucket that fills at the limit's rate and holds 10 seconds of it."""
        return min(target.per_minute / 6, state.allowance + (now - state.allowance_at) * target.per_minute / 60)

    def _answer(self, target: Target, state: _State, luck: Luck, request: Request, now: float) -> Outcome:
        cached = self._cached(target, state, request, now)
        median_s, token_s = self._pace(target, state, request.prompt_tokens - cached, now)
        ttft_s = median_s * exp(target.spread * luck.ttft_z)
        if luck.slow < target.slow_share:
            ttft_s *= target.slow_factor
        wait_s = max(0.0, state.free_at[0] - now) if target.slots else 0.0
        if wait_s + ttft_s > PATIENCE_S:
            return Outcome(PATIENCE_S, PATIENCE_S, request.prompt_tokens * target.rates.input, failure="timeout")
        token_s *= exp(TOKEN_SPREAD * luck.token_z)
        output = max(1, round(request.output_tokens * target.verbosity * exp(OUTPUT_SPREAD * luck.output_z)))
        if request.max_tokens is not None:
            output = min(output, request.max_tokens)
        rates = target.rates
        cost = (request.prompt_tokens - cached) * rates.input + cached * rates.cache_read + output * rates.output + rates.request
        return Outcome(wait_s + ttft_s, wait_s + ttft_s + output * token_s, cost, output, cached, wait_s)

    @staticmethod
    def _pace(target: Target, state: _State, cold_tokens: int, now: float) -> tuple[float, float]:
        """Medians of the time to the first token, without a queue, and of a token's time."""
        slower = (1.0 if target.swing is None else target.swing(now)) * (1.0 + (state.in_flight / target.capacity) ** 2)
        return (target.ttft_s + target.prefill_s * cold_tokens / 1000) * slower, target.token_s * (1.0 + (slower - 1.0) / 2)

    def pace(self, index: int, request: Request, now: float) -> tuple[float, float]:
        """What the target's medians are for this request now, no luck in them: the time to the first token in service, and a token's time."""
        target, state = self.targets[index], self._states[index]
        return self._pace(target, state, request.prompt_tokens - self._cached(target, state, request, now), now)

    @staticmethod
    def _cached(target: Target, state: _State, request: Request, now: float) -> int:
        if not target.caches or request.conversation is None:
            return 0
        held, since = state.caches.get(request.conversation, (0, -inf))
        held = min(held, request.prompt_tokens)
        return held if held >= CACHE_LEAST and now - since < CACHE_TTL_S else 0

    def begin(self, index: int, request: Request, now: float) -> Outcome:
        """The attempt is made: what it will see, and the target is the busier for it until `end`."""
        outcome = self.outcome(index, request, now)
        target, state = self.targets[index], self._states[index]
        if target.per_minute != inf and outcome.failure != "rate_limited":
            state.allowance, state.allowance_at = self._allowance(target, state, now) - 1.0, now
        state.in_flight += 1
        if target.slots and outcome.failure is None:
            heapreplace(state.free_at, now + outcome.total_s)
        return outcome

    def end(self, index: int, request: Request, now: float, outcome: Outcome) -> None:
        """The attempt is over: its answer is whole, or it failed."""
        target, state = self.targets[index], self._states[index]
        state.in_flight -= 1
        if outcome.failure is not None:
            return
        if target.slots:
            state.service_s += 0.05 * (outcome.total_s - outcome.wait_s - state.service_s)
        if request.conversation is not None:
            state.caches[request.conversation] = (request.prompt_tokens + outcome.output_tokens, now)

    def abandon(self, index: int, now: float, began: float, outcome: Outcome) -> float:
        """The attempt is given up before its end. Returns what it cost: its prompt, where that is not free."""
        state = self._states[index]
        state.in_flight -= 1
        if began + outcome.total_s in state.free_at:  # whoever has been given the place behind it keeps the time of its turn
            state.free_at[state.free_at.index(began + outcome.total_s)] = now
            heapify(state.free_at)
        return 0.0 if outcome.failure else outcome.cost_nusd - outcome.output_tokens * self.targets[index].rates.output
