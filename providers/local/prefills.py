"""The prompts that an engine has taken and not read yet: how many tokens, how fast they are read, and whether one more is read in time."""

from math import inf

BATCH_AT_ONCE = 2048  # tokens of batch work's prompts, about. An H100 reads so many of an 8B model in some 50 ms, and what decodes waits no longer
REMEMBERED_S = 60.0  # of reading; beyond it what was seen first fades
MISSES = 0.05  # of promises: so many may be missed
STEP = 0.02  # of what is promised, by which the allowance for being read later than thought grows with a miss
MOST_LATE = 0.5  # of what is promised, at most
LEAST_SHARE = 0.1  # of a step that prompts are thought to have, however many decode


class Prefills:
    """Tokens as they are estimated from a prompt's length: what a prefix cache holds makes the reading faster. Pure.

    `ttft_s`: from a live request's arrival to its first token; None: nothing is promised. A prompt is let in when all that are being read and itself
    are read within it, less what it waited and `late_s`; one alone always is. `late_s` is by how much prompts are read later than thought: it grows
    with each promise that is missed and shrinks with each that is kept, so that of those let in for more than half of the promised time 95 in 100
    keep it. Waiting does not help who finds too much being read, for by what the others get on he waits longer: he is `too_late`, unless his own
    reading alone takes more than is promised.

    `step_tokens`: of one step, in which each that decodes takes one and prompts have the rest; None: decoding takes nothing of reading. The speed
    is that of a step that is all the prompts'. Those who are being read decode once they are, beside who comes after them.
    """

    def __init__(self, ttft_s: float | None = None, batch_at_once: int = BATCH_AT_ONCE, step_tokens: int | None = None) -> None:
        self._ttft_s = ttft_s
        self._step_tokens = step_tokens
        self.reading = 0  # requests
        self.decoding = 0
        self.batch_at_once = batch_at_once
        self._now = 0.0
        self._read = 0.0
        self._reading_s = 0.0
        self.live = 0
        self.batch = 0
        self.late_s = 0.0

    @property
    def tokens(self) -> int:
        """Of prompts being read."""
        return self.live + self.batch

    @property
    def tokens_per_s(self) -> float | None:
        """How fast they are read where nobody decodes; None: none was yet."""
        return self._read / self._reading_s if self._read and self._reading_s else None

    def wait_s(self, tokens: int = 0) -> float:
        """Until what is being read is read, and so many tokens more."""
        rate = self.tokens_per_s
        if rate is None:
            return 0.0
        return self.tokens / (rate * self._share(self.decoding)) + tokens / (rate * self._share(self.decoding + self.reading))

    def _share(self, decoding: int) -> float:
        """Of a step, that prompts have."""
        return 1.0 if self._step_tokens is None else max(LEAST_SHARE, 1 - decoding / self._step_tokens)

    def has_room(self, tokens: int, batch: bool, waited_s: float = 0.0) -> bool:
        if batch and self.batch and self.batch + tokens > self.batch_at_once:
            return False
        slowed = self._step_tokens is not None and self.decoding and not batch and self.spare_s(tokens, batch) > 0.0
        if self._ttft_s is None or not (self.tokens or slowed):
            return True
        return self._begins_s(tokens, batch, waited_s) <= self._ttft_s

    def too_late(self, tokens: int, batch: bool, waited_s: float) -> bool:
        """Whether it can no longer begin in time, though alone it would."""
        if self._ttft_s is None or batch or not self.tokens:
            return False
        return self._begins_s(tokens, batch, waited_s) > self._ttft_s and self.spare_s(tokens, batch) > 0.0

    def spare_s(self, tokens: int, batch: bool) -> float:
        """How long it may wait and begin in time; inf: nothing is promised to it; at most 0: no engine's reading would be in time."""
        rate = self.tokens_per_s
        if self._ttft_s is None or batch or rate is None:
            return inf
        return self._ttft_s - tokens / rate - self.late_s

    def _begins_s(self, tokens: int, batch: bool, waited_s: float) -> float:
        return self.wait_s(tokens) + self.late_s + (0.0 if batch else waited_s)

    def enter(self, now: float, tokens: int, batch: bool, waited_s: float = 0.0) -> float | None:
        """Until when its first token is to come, where that will be tight and tells how far such promises hold."""
        self._pass(now)
        self.reading += 1
        if batch:
            self.batch += tokens
        else:
            self.live += tokens
        if self._ttft_s is None or batch or self.spare_s(tokens, batch) <= 0.0:
            return None
        return now + self._ttft_s - waited_s if waited_s + self.wait_s() > self._ttft_s / 2 else None

    def leave(self, now: float, tokens: int, batch: bool, read: bool, due: float | None = None) -> None:
        """`read`: its first token came; else it ended without one, and says nothing of the speed. `due`: what `enter` said."""
        self._pass(now)
        self.reading -= 1
        if batch:
            self.batch -= tokens
        else:
            self.live -= tokens
        if read:
            self.decoding += 1
            self._read += tokens
            if due is not None and self._ttft_s is not None:
                share = 1 - MISSES if now > due else -MISSES
                self.late_s = min(MOST_LATE * self._ttft_s, max(0.0, self.late_s + STEP * share * self._ttft_s))

    def ended(self, now: float) -> None:
        """One that was read decodes no more."""
        self._pass(now)
        self.decoding -= 1

    def _pass(self, now: float) -> None:
        if self.tokens:
            self._reading_s += (now - self._now) * self._share(self.decoding)
            if self._reading_s > REMEMBERED_S:
                self._read, self._reading_s = self._read / 2, self._reading_s / 2
        self._now = now
