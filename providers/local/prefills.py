"""The prompts that an engine has taken and not read yet: how many tokens, how fast they are read, and whether one more is read in time."""

from math import inf

BATCH_AT_ONCE = 2048  # tokens of batch work's prompts, about. An H100 reads so many of an 8B model in some 50 ms, and what decodes waits no longer
REMEMBERED_S = 60.0  # of reading; beyond it what was seen first fades
TRUSTED_S = 60.0  # after the last prompt that was read: then one shows whether the engine is still too slow for it
MISSES = 0.05  # of promises: so many may be missed
STEP = 0.02  # of what is promised, by which the allowance for being read later than thought grows with a miss
MOST_LATE = 0.5  # of what is promised, at most
LEAST_SHARE = 0.1  # of a step that prompts are thought to have, however many decode


class Prefills:
    """Tokens as they are estimated from a prompt's length: what a prefix cache holds makes the reading faster. Pure.

    `ttft_s`: from a live request's arrival to its first token; None: nothing is promised. A prompt is let in when all that are being read and itself
    are read within it, less what it waited and `late_s`. `late_s` is by how much prompts are read later than thought: it grows with each promise that
    is missed and shrinks with each that is kept, so that of those let in for more than half of the promised time 95 in 100 keep it. Waiting does not
    help who finds too much being read, for by what the others get on he waits longer: he is `too_late`. Who is `slow`, whose own reading alone
    takes more than is promised, is promised nothing: he goes in while nobody else who is live is read. While the speed is not known one is read at a
    time, which tells it.

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
        self._read_at = -inf
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
        if self._ttft_s is None:
            return True
        if self.tokens_per_s is None:
            return not self.tokens
        if batch:
            return not self.tokens or self._begins_s(tokens) <= self._ttft_s
        if self.slow(tokens, batch):
            return not self.live
        return self._begins_s(tokens) + waited_s <= self._ttft_s

    def too_late(self, tokens: int, batch: bool, waited_s: float, before: int = 0) -> bool:
        """Whether it can no longer begin in time, though alone it would have. `before`: tokens that wait and are read before it."""
        if self._ttft_s is None or batch or self.slow(tokens, batch):
            return False
        if not self.tokens and not before:
            return waited_s > self.spare_s(tokens, batch)  # it may find nobody decoding any more
        return self._begins_s(before + tokens) + waited_s > self._ttft_s

    def slow(self, tokens: int, batch: bool) -> bool:
        """Whether no waiting helps: not even alone is it sure to be read in time."""
        return self.spare_s(tokens, batch) <= 0.0

    def unknown(self, batch: bool) -> bool:
        """Whether nobody can say when one would begin who is promised something: what tells the speed is being read."""
        return self._ttft_s is not None and not batch and bool(self.tokens) and self.tokens_per_s is None

    def hopeless(self, now: float, tokens: int, batch: bool) -> bool:
        """Whether it is known to be slow whatever is allowed for: by what was read in the last minute, for the speed may be another since."""
        rate = self.tokens_per_s
        if self._ttft_s is None or batch or rate is None or now - self._read_at > TRUSTED_S:
            return False
        return tokens / rate > self._ttft_s

    def spare_s(self, tokens: int, batch: bool) -> float:
        """How long it may wait and begin in time; inf: nothing is promised to it; at most 0: not even alone would it be sure to be in time."""
        if self._ttft_s is None or batch:
            return inf
        rate = self.tokens_per_s
        return self._ttft_s if rate is None else self._ttft_s - tokens / rate - self.late_s

    def most_wait_s(self, tokens: int, batch: bool) -> float:
        """After which it is sent away; who is promised nothing because it is slow waits no longer than if it were."""
        spare_s = self.spare_s(tokens, batch)
        return spare_s if spare_s > 0.0 or self._ttft_s is None else self._ttft_s

    def _begins_s(self, tokens: int) -> float:
        return self.wait_s(tokens) + self.late_s

    def enter(self, now: float, tokens: int, batch: bool, waited_s: float = 0.0) -> float | None:
        """Until when its first token is to come, where that will be tight and tells how far such promises hold."""
        self._pass(now)
        self.reading += 1
        if batch:
            self.batch += tokens
        else:
            self.live += tokens
        rate = self.tokens_per_s
        if self._ttft_s is None or batch or rate is None or tokens / rate > self._ttft_s:
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
            self._read_at = now if tokens else self._read_at
            if due is not None:
                self._told(now > due, tokens)

    def ended(self, now: float) -> None:
        """One that was read decodes no more."""
        self._pass(now)
        self.decoding -= 1

    def _told(self, missed: bool, tokens: int) -> None:
        """A promise was kept or not. Who was too slow for a sure one may be late, and says only so that less needs to be allowed for."""
        if self._ttft_s is None or (missed and self.slow(tokens, batch=False)):
            return
        share = 1 - MISSES if missed else -MISSES
        self.late_s = min(MOST_LATE * self._ttft_s, max(0.0, self.late_s + STEP * share * self._ttft_s))

    def _pass(self, now: float) -> None:
        if self.tokens:
            self._reading_s += (now - self._now) * self._share(self.decoding)
            if self._reading_s > REMEMBERED_S:
                self._read, self._reading_s = self._read / 2, self._reading_s / 2
        self._now = now
