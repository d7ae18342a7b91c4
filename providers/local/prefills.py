"""The prompts that an engine has taken and not read yet: how many tokens, how fast they are read, and whether one more is read in time."""

from math import inf

BATCH_AT_ONCE = 2048  # tokens of batch work's prompts, about. An H100 reads so many of an 8B model in some 50 ms, and what decodes waits no longer
REMEMBERED_S = 60.0  # of reading; beyond it what was seen first fades
MISSES = 0.05  # of prompts that may be read later than was thought when they were let in
STEP = 0.1  # by which the allowance for it follows what is seen
LEAST_LATE_S = 0.001


class Prefills:
    """Tokens as they are estimated from a prompt's length: what a prefix cache holds makes the reading faster. Pure.

    `ttft_s`: from a live request's arrival to its first token; None: nothing is promised. A prompt is let in when all that are being read and
    itself are read within it, less what it waited and `late_s`, which 95 of 100 keep; one alone always is. Waiting does not help who finds too
    much being read, for by what the others get on he waits longer: he is `too_late`, unless his own reading alone takes more than is promised.
    """

    def __init__(self, ttft_s: float | None = None, batch_at_once: int = BATCH_AT_ONCE) -> None:
        self._ttft_s = ttft_s
        self.batch_at_once = batch_at_once
        self._now = 0.0
        self._read = 0.0
        self._reading_s = 0.0
        self.live = 0
        self.batch = 0
        self.late_s = LEAST_LATE_S

    @property
    def tokens(self) -> int:
        """Of prompts being read."""
        return self.live + self.batch

    @property
    def tokens_per_s(self) -> float | None:
        """How fast they are read; None: none was yet."""
        return self._read / self._reading_s if self._read and self._reading_s else None

    def wait_s(self, tokens: int = 0) -> float:
        """Until what is being read is read, and so many tokens more."""
        rate = self.tokens_per_s
        return 0.0 if rate is None else (self.tokens + tokens) / rate

    def has_room(self, tokens: int, batch: bool, waited_s: float = 0.0) -> bool:
        if batch and self.batch and self.batch + tokens > self.batch_at_once:
            return False
        return self._ttft_s is None or not self.tokens or self._begins_s(tokens, batch, waited_s) <= self._ttft_s

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

    def enter(self, now: float, tokens: int, batch: bool) -> float | None:
        """When its first token is thought to come; None: how fast prompts are read is not known."""
        self._pass(now)
        if batch:
            self.batch += tokens
        else:
            self.live += tokens
        return now + self.wait_s() if self._read else None

    def leave(self, now: float, tokens: int, batch: bool, read: bool, due: float | None = None) -> None:
        """`read`: its first token came; else it ended without one, and says nothing of the speed. `due`: what `enter` said."""
        self._pass(now)
        if batch:
            self.batch -= tokens
        else:
            self.live -= tokens
        if read:
            self._read += tokens
            if due is not None:
                share = 1 + STEP * (1 - MISSES) if now - due > self.late_s else 1 - STEP * MISSES
                self.late_s = max(LEAST_LATE_S, self.late_s * share)

    def _pass(self, now: float) -> None:
        if self.tokens:
            self._reading_s += now - self._now
            if self._reading_s > REMEMBERED_S:
                self._read, self._reading_s = self._read / 2, self._reading_s / 2
        self._now = now
