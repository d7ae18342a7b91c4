"""The prompts that an engine has taken and not read yet: how many tokens, how fast they are read, and whether one more is read in time."""

BATCH_AT_ONCE = 2048  # tokens of batch work's prompts, about. An H100 reads so many of an 8B model in some 50 ms, and what decodes waits no longer
REMEMBERED_S = 60.0  # of reading; beyond it what was seen first fades


class Prefills:
    """Tokens as they are estimated from a prompt's length: what a prefix cache holds makes the reading faster. `ttft_s` None: nothing is promised.

    A prompt is let in when all that are being read and itself are read within `ttft_s`; one alone always is. Pure.
    """

    def __init__(self, ttft_s: float | None = None, batch_at_once: int = BATCH_AT_ONCE) -> None:
        self._ttft_s = ttft_s
        self.batch_at_once = batch_at_once
        self._now = 0.0
        self._read = 0.0
        self._reading_s = 0.0
        self.live = 0
        self.batch = 0

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

    def has_room(self, tokens: int, batch: bool) -> bool:
        if batch and self.batch and self.batch + tokens > self.batch_at_once:
            return False
        return self._ttft_s is None or not self.tokens or self.wait_s(tokens) <= self._ttft_s

    def enter(self, now: float, tokens: int, batch: bool) -> None:
        self._pass(now)
        if batch:
            self.batch += tokens
        else:
            self.live += tokens

    def leave(self, now: float, tokens: int, batch: bool, read: bool) -> None:
        """`read`: its first token came; else it ended without one, and says nothing of the speed."""
        self._pass(now)
        if batch:
            self.batch -= tokens
        else:
            self.live -= tokens
        if read:
            self._read += tokens

    def _pass(self, now: float) -> None:
        if self.tokens:
            self._reading_s += now - self._now
            if self._reading_s > REMEMBERED_S:
                self._read, self._reading_s = self._read / 2, self._reading_s / 2
        self._now = now
