"""What targets were recorded to do, near a moment: what an answer that was never asked for would have been like. Pure.

Attempts stand in a pool for each target, streamed or not, and length of prompt (contract/scale.py). An estimate has the times of one recorded
attempt, chosen among the NEAREST in time by the request's id alone; its tokens are the request's own, as far as they are known, times what the
target's answers differ in length from those of the target that gave them. Where a pool has fewer than LEAST attempts there is no estimate.
"""

from bisect import bisect_left, bisect_right
from zlib import crc32

import msgspec

from contract.scale import prompt_at

NEAREST = 32  # attempts that may stand for one
LEAST = 3  # fewer are no evidence
ALIKE = 5  # answers on both sides, from which on their lengths are compared
MOST = 4_096  # attempts kept in one pool

Target = tuple[str, str]  # backend, model


class Seen(msgspec.Struct, frozen=True):
    """One recorded attempt. Times without the target's own queue, seconds. `load`: `load_at` of what ran there. `cost_nusd`: of a failed one;
    None: not known.

    `prompt_tokens`: estimated; the counts that follow are the provider's own, None where it told none.
    """

    at: float
    answered: bool
    code: str
    ttft_s: float | None
    total_s: float
    load: int
    prompt_tokens: int
    input_tokens: int | None
    cached_tokens: int
    written_tokens: int
    output_tokens: int | None
    cost_nusd: int | None


class Estimate(msgspec.Struct, frozen=True):
    """What the attempt would have been: as `Seen`, with the request's own tokens. `cost_nusd`: of a failure; an answer's follows from its tokens."""

    answered: bool
    code: str
    ttft_s: float | None
    total_s: float
    input_tokens: int | None
    cached_tokens: int
    written_tokens: int
    output_tokens: int | None
    cost_nusd: int | None


class Question(msgspec.Struct, frozen=True):
    """A request, as far as an estimate needs it. `answered_by`: who really did, with how many tokens; None: nobody."""

    request_id: str
    at: float
    streamed: bool
    prompt_tokens: int
    max_tokens: int | None = None
    answered_by: Target | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


def load_at(load: int) -> int:
    """Loads that are thought alike: 0, 1, 2-3, 4-7 …"""
    return load.bit_length()


class _Pool:
    """In the order of time. Sums are of the whole answers in it."""

    __slots__ = ("cached", "estimated", "first", "inputs", "items", "outputs", "told_inputs", "told_outputs", "written")

    def __init__(self) -> None:
        self.items: list[Seen] = []
        self.first = 0  # of those that count
        self.estimated = self.inputs = self.cached = self.written = self.outputs = self.told_inputs = self.told_outputs = 0

    def add(self, seen: Seen) -> None:
        self.items.append(seen)
        self._count(seen, 1)
        if len(self.items) - self.first > MOST:
            self._drop()

    def forget(self, before: float) -> None:
        while self.first < len(self.items) and self.items[self.first].at < before:
            self._drop()

    def _drop(self) -> None:
        self._count(self.items[self.first], -1)
        self.first += 1
        if self.first > MOST:
            del self.items[: self.first]
            self.first = 0

    def _count(self, seen: Seen, sign: int) -> None:
        if not seen.answered:
            return
        if seen.input_tokens is not None:
            self.told_inputs += sign
            self.estimated += sign * seen.prompt_tokens
            self.inputs += sign * seen.input_tokens
            self.cached += sign * seen.cached_tokens
            self.written += sign * seen.written_tokens
        if seen.output_tokens is not None:
            self.told_outputs += sign
            self.outputs += sign * seen.output_tokens

    def near(self, at: float, until: float) -> list[Seen]:
        """The nearest in time, before and after, none of them later than `until`."""
        middle = bisect_left(self.items, at, self.first, key=_at)
        last = bisect_right(self.items, until, self.first, min(len(self.items), middle + NEAREST // 2), key=_at)
        return self.items[max(self.first, middle - NEAREST // 2) : last]


def _at(seen: Seen) -> float:
    return seen.at


class Evidence:
    """`window_s`: how long before and after a request an attempt may have been to stand for it."""

    def __init__(self, window_s: float) -> None:
        self.window_s = window_s
        self._pools: dict[tuple[Target, bool, int], _Pool] = {}

    def add(self, target: Target, streamed: bool, seen: Seen) -> None:
        """Attempts come in the order in which they began."""
        self._pools.setdefault((target, streamed, prompt_at(seen.prompt_tokens)), _Pool()).add(seen)

    def estimate(self, asked: Question, target: Target, load: int | None = None) -> Estimate | None:
        """`load`: what would run there, where that decides. None: nothing is known."""
        pool = self._pool(target, asked)
        if pool is None:
            return None
        near = pool.near(asked.at, asked.at + self.window_s)
        if len(near) < LEAST:
            return None
        if load is not None and len(alike := [each for each in near if each.load == load_at(load)]) >= LEAST:
            near = alike
        chosen = near[crc32(f"{asked.request_id}/{target}".encode()) % len(near)]
        if not chosen.answered:
            return Estimate(False, chosen.code, None, chosen.total_s, None, 0, 0, None, chosen.cost_nusd)
        input_tokens, output_tokens = self._tokens(asked, target, pool, chosen)
        cached = written = 0
        if input_tokens is not None and pool.inputs:
            cached, written = (min(input_tokens, round(input_tokens * each / pool.inputs)) for each in (pool.cached, pool.written))
        total_s = _stretched(chosen, output_tokens)
        return Estimate(True, "", chosen.ttft_s, total_s, input_tokens, cached, written, output_tokens, 0)

    def _pool(self, target: Target, asked: Question) -> _Pool | None:
        pool = self._pools.get((target, asked.streamed, prompt_at(asked.prompt_tokens)))
        if pool is not None:
            pool.forget(asked.at - self.window_s)
        return pool

    def _tokens(self, asked: Question, target: Target, pool: _Pool, chosen: Seen) -> tuple[int | None, int | None]:
        """Of the prompt, by its tokenizer; and of the answer, by its verbosity. The same model has both alike wherever it runs."""
        who = asked.answered_by
        theirs = None if who is None else self._pool(who, asked)
        alike = who is not None and who[1] == target[1]
        into, out = asked.input_tokens, asked.output_tokens
        if into is None or theirs is None:
            into = round(asked.prompt_tokens * pool.inputs / pool.estimated) if pool.estimated else chosen.input_tokens
        elif not alike and pool.estimated and theirs.estimated and theirs.inputs and min(pool.told_inputs, theirs.told_inputs) >= ALIKE:
            into = round(into * pool.inputs / pool.estimated * theirs.estimated / theirs.inputs)
        if out is None:
            out = chosen.output_tokens
        elif not alike and theirs is not None and theirs.outputs and min(pool.told_outputs, theirs.told_outputs) >= ALIKE:
            out = round(out * pool.outputs / pool.told_outputs * theirs.told_outputs / theirs.outputs)
        if out is not None and asked.max_tokens is not None:
            out = min(out, asked.max_tokens)
        return into, out


def _stretched(chosen: Seen, output_tokens: int | None) -> float:
    """How long an answer of so many tokens takes at the pace of the chosen one."""
    if not output_tokens or not chosen.output_tokens:
        return chosen.total_s
    if chosen.ttft_s is None:
        return chosen.total_s * output_tokens / chosen.output_tokens
    if chosen.output_tokens < 2:
        return chosen.total_s
    return chosen.ttft_s + (chosen.total_s - chosen.ttft_s) * (output_tokens - 1) / (chosen.output_tokens - 1)
