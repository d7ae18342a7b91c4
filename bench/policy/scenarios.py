"""The scenarios: traffic, and targets whose behaviour is known. Everything follows from the seed."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from math import exp, log, pi, sin
from random import Random
from zlib import crc32

from bench.policy.world import Request, Target
from policy.affinity import FIRST
from policy.residency import Rates
from policy.rule import Slo

BYTES_A_TOKEN = 4
HOUR = 3600.0
SLO = Slo(ttft_s=1.0, deadline_s=30.0)


@dataclass(frozen=True, slots=True)
class Scenario:
    """`targets` in the order of the model's list. `about`: what is difficult about it."""

    name: str
    about: str
    targets: tuple[Target, ...]
    requests: tuple[Request, ...]
    slo: Slo = SLO


@dataclass(frozen=True, slots=True)
class Lengths:
    """Medians and sigmas (of ln) of log-normal lengths, tokens."""

    prompt: float = 500.0
    prompt_spread: float = 0.9
    output: float = 200.0
    output_spread: float = 0.6
    longest_prompt: int = 30_000


CHAT = Lengths()


def usd(input_: float, output: float, cache_read: float | None = None) -> Rates:
    """From dollars a million tokens."""
    return Rates(input_ * 1000, output * 1000, (input_ if cache_read is None else cache_read) * 1000)


# --- traffic ------------------------------------------------------------------------------------------------------------
def steady(_: float) -> float:
    return 1.0


def day(period_s: float, low: float, high: float) -> Callable[[float], float]:
    """From `low` at midnight to `high` at noon."""
    return lambda now: low + (high - low) * (0.5 - 0.5 * sin(2 * pi * now / period_s + pi / 2))


def window(start_s: float, end_s: float, inside: float, outside: float) -> Callable[[float], float]:
    return lambda now: inside if start_s <= now < end_s else outside


def flapping(every_s: float, down_s: float, share: float, offset_s: float = 0.0) -> Callable[[float], float]:
    """Down for the first `down_s` of every `every_s`, a `share` of the attempts fails then."""
    return lambda now: share if now > offset_s and (now - offset_s) % every_s < down_s else 0.002


def traffic(seed: int, seconds: float, per_s: float, shape: Callable[[float], float] = steady, lengths: Lengths = CHAT) -> tuple[Request, ...]:
    """Poisson arrivals of single prompts, `per_s` of them a second where `shape` is 1."""
    chance = Random(seed)
    made: list[Request] = []
    peak = per_s * max(shape(seconds * i / 200) for i in range(201))
    at = 0.0
    while (at := at + chance.expovariate(peak)) < seconds:
        if chance.random() * peak < per_s * shape(at):
            made.append(
                _request(chance, seed, len(made), at, _drawn(chance, lengths.prompt, lengths.prompt_spread, 10, lengths.longest_prompt), lengths)
            )
    return tuple(made)


def conversations(seed: int, seconds: float, per_s: float, turns: int, lengths: Lengths = CHAT) -> tuple[Request, ...]:
    """Conversations begin `per_s` times a second and have 1 to 2 x `turns` turns; the prompt of each holds all that was said before."""
    chance = Random(seed)
    said: list[tuple[float, int, int, int]] = []  # when, conversation, prompt, output
    at = 0.0
    number = 0
    while (at := at + chance.expovariate(per_s)) < seconds:
        when, prompt = at, _drawn(chance, lengths.prompt, lengths.prompt_spread, 200, lengths.longest_prompt)
        for _ in range(chance.randint(1, 2 * turns)):
            output = _drawn(chance, lengths.output, lengths.output_spread, 5, 2000)
            said.append((when, number, prompt, output))
            when += 10 + chance.expovariate(1 / 25)
            prompt += output + _drawn(chance, 60, 0.8, 5, 2000)
        number += 1
    said.sort()
    return tuple(
        _request(chance, seed, index, when, prompt, lengths, conversation, output)
        for index, (when, conversation, prompt, output) in enumerate(each for each in said if each[0] < seconds)
    )


def _drawn(chance: Random, median: float, spread: float, least: int, most: int) -> int:
    return min(most, max(least, round(exp(log(median) + spread * chance.gauss(0, 1)))))


def _request(
    chance: Random, seed: int, index: int, at: float, prompt: int, lengths: Lengths, conversation: int | None = None, output: int | None = None
) -> Request:
    if output is None:
        output = _drawn(chance, lengths.output, lengths.output_spread, 5, 2000)
    return Request(
        index=index,
        id=blake2b(f"{seed}/{index}".encode(), digest_size=10).hexdigest(),
        at=at,
        prompt_tokens=prompt,
        estimated_tokens=max(1, round(prompt * exp(0.12 * chance.gauss(0, 1)))),
        output_tokens=output,
        max_tokens=chance.choice((None, None, 256, 1024)),
        conversation=conversation,
        prefixes=() if conversation is None else _prefixes(conversation, prompt),
    )


def _prefixes(conversation: int, prompt: int) -> tuple[int, ...]:
    """A conversation only grows, so that each of its prefixes stays what it was."""
    length = prompt * BYTES_A_TOKEN
    return tuple(crc32(f"{conversation}/{place}".encode()) for place in range(30) if FIRST << place <= length)


# --- targets ------------------------------------------------------------------------------------------------------------
PREMIUM = Target("premium", 0.30, 0.010, 0.02, usd(2.5, 10.0))
MIDDLE = Target("middle", 0.42, 0.014, 0.04, usd(0.8, 3.2))
CHEAP = Target("cheap", 0.40, 0.016, 0.05, usd(0.3, 1.2))


def but(target: Target, **changed: object) -> Target:
    from dataclasses import replace

    return replace(target, **changed)  # type: ignore[arg-type]


def _prices(seed: int, hours: float) -> Scenario:
    targets = (
        PREMIUM,
        MIDDLE,
        but(CHEAP, name="wordy", rates=usd(0.5, 2.0), verbosity=2.2),
        but(CHEAP, name="late", ttft_s=1.5, rates=usd(0.1, 0.4)),
    )
    return Scenario("prices", "the list-cheapest is too slow, the next one wordy", targets, traffic(seed, hours * HOUR, 1.0))


def _diurnal(seed: int, hours: float) -> Scenario:
    period = hours * HOUR / 2
    targets = (
        but(MIDDLE, swing=day(period, 1.0, 1.3)),
        but(CHEAP, swing=day(period, 1.0, 3.5)),
        PREMIUM,
    )
    requests = traffic(seed, hours * HOUR, 1.2, day(period, 0.3, 1.7))
    return Scenario("diurnal", "two days: the cheap target is slow around noon, when most requests come", targets, requests)


def _slow(seed: int, hours: float) -> Scenario:
    end = hours * HOUR
    targets = (
        but(CHEAP, swing=window(0.3 * end, 0.6 * end, 5.0, 1.0)),
        MIDDLE,
        PREMIUM,
    )
    return Scenario("slow", "the cheap target, first in the list, is five times as slow for 30 % of the time", targets, traffic(seed, end, 1.0))


def _flapping(seed: int, hours: float) -> Scenario:
    targets = (
        but(CHEAP, errors=flapping(300, 40, 0.95), hangs=flapping(1500, 40, 0.95, 150)),
        MIDDLE,
        PREMIUM,
    )
    return Scenario("flapping", "the cheap target fails for 40 s every 5 min and hangs for 40 s every 25", targets, traffic(seed, hours * HOUR, 1.0))


def _engine(seed: int, hours: float) -> Scenario:
    targets = (
        Target("engine", 0.25, 0.020, 0.10, slots=8),
        MIDDLE,
        PREMIUM,
    )
    requests = traffic(seed, hours * HOUR, 1.6, day(hours * HOUR / 2, 0.3, 2.0))
    return Scenario("engine", "an engine of our own with 8 places and a queue; demand reaches 1.6 times what it can serve", targets, requests)


def _load(seed: int, hours: float) -> Scenario:
    targets = (
        but(CHEAP, capacity=10.0, ttft_s=0.35),
        but(MIDDLE, capacity=25.0),
        PREMIUM,
    )
    requests = traffic(seed, hours * HOUR, 2.5, day(hours * HOUR / 2, 0.4, 2.0))
    return Scenario("load", "the cheap target gets slow with what is in flight there", targets, requests)


def _prompts(seed: int, hours: float) -> Scenario:
    targets = (
        but(CHEAP, ttft_s=0.25, prefill_s=0.30),
        but(MIDDLE, ttft_s=0.35, prefill_s=0.08),
        but(PREMIUM, prefill_s=0.02),
    )
    lengths = Lengths(prompt=1500.0, prompt_spread=1.3)
    return Scenario("prompts", "the cheap target is quick for short prompts only", targets, traffic(seed, hours * HOUR, 1.0, lengths=lengths))


def _conversations(seed: int, hours: float) -> Scenario:
    targets = (
        but(PREMIUM, rates=usd(2.5, 10.0, 0.25), caches=True),
        but(MIDDLE, ttft_s=0.35, prefill_s=0.08, rates=usd(0.8, 2.0, 0.08), caches=True),
        but(CHEAP, ttft_s=0.35, prefill_s=0.08, rates=usd(0.4, 2.0)),
    )
    lengths = Lengths(prompt=2500.0, prompt_spread=0.6)
    return Scenario(
        "conversations", "cached input costs a tenth, but not at the list-cheapest", targets, conversations(seed, hours * HOUR, 0.12, 6, lengths)
    )


def _limits(seed: int, hours: float) -> Scenario:
    targets = (
        but(CHEAP, per_minute=60.0),
        but(MIDDLE, per_minute=90.0),
        PREMIUM,
    )
    requests = traffic(seed, hours * HOUR, 1.4, day(hours * HOUR / 2, 0.4, 2.0))
    return Scenario("limits", "the cheaper two refuse what exceeds their rate limit", targets, requests)


def _mixed(seed: int, hours: float) -> Scenario:
    end = hours * HOUR
    targets = (
        but(CHEAP, errors=flapping(900, 40, 0.9), swing=day(end / 2, 1.0, 2.5), prefill_s=0.15),
        Target("engine", 0.25, 0.020, 0.10, slots=4),
        but(MIDDLE, capacity=25.0, caches=True, rates=usd(0.8, 3.2, 0.08)),
        but(CHEAP, name="wordy", rates=usd(0.25, 1.0), verbosity=2.5, capacity=12.0),
        but(PREMIUM, per_minute=240.0),
    )
    single = traffic(seed, end, 0.8, day(end / 2, 0.4, 2.0), Lengths(prompt=800.0, prompt_spread=1.1))
    return Scenario("mixed", "five targets and all of the above", targets, _merged(seed, single, conversations(seed + 1, end, 0.05, 6)))


def _merged(seed: int, *kinds: tuple[Request, ...]) -> tuple[Request, ...]:
    from dataclasses import replace

    ordered = sorted((each for kind in kinds for each in kind), key=lambda each: each.at)
    return tuple(replace(each, index=index, id=blake2b(f"{seed}/{index}".encode(), digest_size=10).hexdigest()) for index, each in enumerate(ordered))


SCENARIOS: tuple[Callable[[int, float], Scenario], ...] = (
    _prices,
    _diurnal,
    _slow,
    _flapping,
    _engine,
    _load,
    _prompts,
    _conversations,
    _limits,
    _mixed,
)


def scenarios(seed: int, hours: float) -> list[Scenario]:
    """`hours`: of simulated time, each."""
    return [make(seed + 1000 * place, hours) for place, make in enumerate(SCENARIOS)]
