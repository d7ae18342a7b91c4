"""The prompts that an engine has taken and not read yet: how many tokens, how fast they are read, and whether one more is read in time."""

from math import inf

BATCH_AT_ONCE = 2048  # tokens of batch work's prompts, about. An H100 reads so many of an 8B model in some 50 ms, and what decodes waits no longer
REMEMBERED_S = 60.0  # of reading; beyond it what was seen first fades
TRUSTED_S = 60.0  # after the last prompt that was read: then one shows whether the engine is still too slow for it
MISSES = 0.05  # of promises: so many may be missed
STEP = 0.02  # of what is promised, by which the allowance for being read later than thought grows with a miss
MOST_LATE = 0.5  # of what is promised, at most
BATCH_PART = 0.1  # of what is promised, that reading a batch prompt takes at most before others are read beside it
LEAST_SHARE = 0.1  # of a step that prompts are thought to have, however many decode


class Prompt:
    """One that is being read. `aside`: nothing was promised to it, and others are read beside it. `seat`: its slot.
    `due`: until when its first token is promised; `tight`: it tells how far such promises hold. `read_s`: of whole steps, what it took so far."""

    __slots__ = ("aside", "batch", "due", "read_s", "seat", "tight", "tokens")

    def __init__(self, tokens: int, batch: bool = False, seat: int | None = None) -> None:
        self.tokens = tokens
        self.batch = batch
        self.seat = seat
        self.aside = False
        self.due = inf
        self.tight = False
        self.read_s = 0.0

    @property
    def promised(self) -> bool:
        return self.due < inf and not self.aside


class Prefills:
    """Tokens as they are estimated from a prompt's length: what a prefix cache holds makes the reading faster. Pure.

    `ttft_s`: from a live request's arrival to its first token; None: nothing is promised. A prompt is let in when those that are read before it and
    itself are read within it, less what it waited and `late_s`. `late_s` is by how much prompts are read later than thought: it grows with each
    promise that is missed and shrinks with each that is kept, so that of those let in for more than half of the promised time 95 in 100 keep it.
    Waiting does not help who finds too much being read, for by what the others get on he waits longer: he is `too_late`. Who is `slow`, whose own
    reading alone takes more than is promised, is promised nothing. While the speed is not known one is read at a time, which tells it.

    Which prompts are read before another, the engine decides:

    * `seated`: those in lower seats. Who comes must not make those in higher ones miss their promise. Who is slow, in the last, holds up nobody,
      and neither does the one that tells the speed.
    * `slow_share` below 1: one after another, beside one that is slow, tells the speed or is long and of batch work, and takes this share of each
      step while others are read.
    * else one after another, in the order in which they came: who is slow goes in while nobody else who is live is read, and holds up all.

    `step_tokens`: of one step, in which each that decodes takes one and prompts have the rest; None: decoding takes nothing of reading. The speed
    is that of a step that is all the prompts', over prompts that were read to their end: the time that one took counts with its tokens and not
    before, else the speed would be next to nothing while a long one is half read. Those who are being read decode once they are, beside who comes
    after them.
    """

    def __init__(
        self,
        ttft_s: float | None = None,
        batch_at_once: int = BATCH_AT_ONCE,
        step_tokens: int | None = None,
        seated: bool = False,
        slow_share: float = 1.0,
    ) -> None:
        self.ttft_s = ttft_s
        self._step_tokens = step_tokens
        self._seated: dict[int, Prompt] | None = {} if seated else None
        self._in_turn: dict[Prompt, None] = {}  # those that are read one after another
        self._aside: dict[Prompt, None] = {}  # those that take their share beside them
        self._slow_share = slow_share
        self.reading = 0  # requests
        self.decoding = 0
        self.batch_at_once = batch_at_once
        self._runs = True
        self._now = 0.0
        self._read = 0.0
        self._reading_s = 0.0
        self._read_at = -inf
        self.live = 0  # tokens of prompts that are promised something, or of all that are live, where nothing is promised
        self.batch = 0
        self.tokens_aside = 0
        self.prompts_aside = 0
        self.late_s = 0.0

    @property
    def tokens(self) -> int:
        """Of prompts being read."""
        return self.live + self.batch + self.tokens_aside

    @property
    def tokens_per_s(self) -> float | None:
        """How fast they are read where nobody decodes; None: none was yet."""
        return self._read / self._reading_s if self._read and self._reading_s else None

    @property
    def untried(self) -> bool:
        """Whether nobody knows yet how fast prompts are read, and none is being read that tells it."""
        return not self.reading and self.tokens_per_s is None

    @property
    def shared(self) -> bool:
        """Whether one that is slow leaves something of each step to who comes after it."""
        return self._seated is not None or self._slow_share < 1.0

    @property
    def holds_up(self) -> bool:
        """Whether one that is slow would be read beside another of its kind, or hold up who is promised something."""
        return self.prompts_aside > 0 or (self.live > 0 and not self.shared)

    def wait_s(self, tokens: int = 0) -> float:
        """Until what is being read before one who comes now is read, and so many tokens more."""
        rate = self.tokens_per_s
        if rate is None:
            return 0.0
        before = self.live + self.batch if self.shared else self.tokens
        return before / (rate * self._share(self.decoding)) + tokens / (rate * self._share(self.decoding + self.reading))

    def _share(self, decoding: int) -> float:
        """Of a step, that prompts have."""
        return 1.0 if self._step_tokens is None else max(LEAST_SHARE, 1 - decoding / self._step_tokens)

    def has_room(self, now: float, tokens: int, batch: bool, waited_s: float = 0.0, seat: int | None = None) -> bool:
        if batch and self.batch and self.batch + tokens > self.batch_at_once:
            return False
        if self.ttft_s is None:
            return True
        if self.tokens_per_s is None:
            return not self._ahead(seat)[0]
        if self.slow(tokens, batch) or self._is_aside(tokens, batch):
            return not self.holds_up and not (batch and self.live)
        if not self.tokens:
            return batch or self._begins_s(tokens, seat) + waited_s <= self.ttft_s
        return self._begins_s(tokens, seat) + (0.0 if batch else waited_s) <= self.ttft_s and not self._delays(now, tokens, seat)

    def too_late(self, tokens: int, batch: bool, waited_s: float, before: int = 0, seat: int | None = None) -> bool:
        """Whether it can no longer begin in time, though alone it would have. `before`: tokens that wait and are read before it."""
        if self.ttft_s is None or batch or self.slow(tokens, batch):
            return False
        if not self._ahead(seat)[0] and not before and not self._slowed:
            return waited_s > self.spare_s(tokens, batch)  # it may find nobody decoding any more
        return self._begins_s(before + tokens, seat) + waited_s > self.ttft_s

    def slow(self, tokens: int, batch: bool) -> bool:
        """Whether no waiting helps: not even alone is it sure to be read in time."""
        return self.spare_s(tokens, batch) <= 0.0

    def unknown(self, batch: bool) -> bool:
        """Whether nobody can say when one would begin who is promised something: what tells the speed is being read."""
        return self.ttft_s is not None and not batch and bool(self.tokens) and self.tokens_per_s is None

    def hopeless(self, now: float, tokens: int, batch: bool) -> bool:
        """Whether it is known to be slow whatever is allowed for: by what was read in the last minute, for the speed may be another since."""
        rate = self.tokens_per_s
        if self.ttft_s is None or batch or rate is None or now - self._read_at > TRUSTED_S:
            return False
        return tokens / rate > self.ttft_s

    def spare_s(self, tokens: int, batch: bool) -> float:
        """How long it may wait and begin in time; inf: nothing is promised to it; at most 0: not even alone would it be sure to be in time."""
        if self.ttft_s is None or batch:
            return inf
        rate = self.tokens_per_s
        return self.ttft_s if rate is None else self.ttft_s - tokens / rate - self.late_s

    def most_wait_s(self, tokens: int, batch: bool) -> float:
        """After which it is sent away; who is promised nothing because it is slow waits no longer than if it were."""
        spare_s = self.spare_s(tokens, batch)
        return spare_s if spare_s > 0.0 or self.ttft_s is None else self.ttft_s

    def _is_aside(self, tokens: int, batch: bool) -> bool:
        """Whether others are read beside one of whom nobody is promised anything: one that tells the speed, or a longer one of batch work."""
        if self._slow_share == 1.0 or self.ttft_s is None:
            return False
        rate = self.tokens_per_s
        return self.untried if rate is None else batch and tokens / rate > BATCH_PART * self.ttft_s

    @property
    def _slowed(self) -> bool:
        """Whether one that is slow takes its share of each step."""
        return self.prompts_aside > 0 and self._slow_share < 1.0

    def _ahead(self, seat: int | None) -> tuple[int, int]:
        """Tokens and number of the prompts that are read before one that comes now. No `seat`, where they count: none is free."""
        if self._seated is None:
            return (self.live + self.batch, self.reading - self.prompts_aside) if self._slow_share < 1.0 else (self.tokens, self.reading)
        if seat is None:
            return self.live, len([each for each in self._seated.values() if each.promised])
        ahead = [each.tokens for at, each in self._seated.items() if at < seat]
        return sum(ahead), len(ahead)

    def _begins_s(self, tokens: int, seat: int | None) -> float:
        rate = self.tokens_per_s
        if rate is None:
            return self.late_s
        if self._slowed:
            rate *= 1 - self._slow_share
        ahead, prompts = self._ahead(seat)
        return ahead / (rate * self._share(self.decoding)) + tokens / (rate * self._share(self.decoding + prompts)) + self.late_s

    def _delays(self, now: float, tokens: int, seat: int | None) -> bool:
        """Whether who comes to that seat would make one in a higher one miss what it was promised."""
        if self._seated is None or seat is None:
            return False
        later = [(at, each) for at, each in self._seated.items() if at > seat and each.promised]
        return any(now + self._begins_s(each.tokens + tokens, at) > each.due for at, each in later)

    def enter(self, now: float, tokens: int, batch: bool, waited_s: float = 0.0, seat: int | None = None) -> Prompt:
        self._pass(now)
        prompt = self._prompt(now, tokens, batch, waited_s, seat)
        self._count(prompt, 1)
        if self._seated is not None and seat is not None:
            self._seated[seat] = prompt
        elif tokens:
            (self._aside if prompt.aside and self._slow_share < 1.0 else self._in_turn)[prompt] = None
        return prompt

    def _prompt(self, now: float, tokens: int, batch: bool, waited_s: float, seat: int | None) -> Prompt:
        prompt, rate = Prompt(tokens, batch, seat), self.tokens_per_s
        prompt.aside = self._is_aside(tokens, batch)
        if self.ttft_s is None or batch or rate is None:
            return prompt
        prompt.aside = self.slow(tokens, batch)
        if tokens / rate <= self.ttft_s:
            prompt.due = now + self.ttft_s - waited_s
            prompt.tight = tokens > 0 and waited_s + self._begins_s(tokens, seat) - self.late_s > self.ttft_s / 2
        return prompt

    def leave(self, now: float, prompt: Prompt, read: bool) -> None:
        """`read`: its first token came; else it ended without one, and says nothing of the speed."""
        self._pass(now)
        self._count(prompt, -1)
        if self._seated is not None and prompt.seat is not None:
            del self._seated[prompt.seat]
        self._in_turn.pop(prompt, None)
        self._aside.pop(prompt, None)
        if read:
            self.decoding += 1
            self._learn(prompt)
            self._read_at = now if prompt.tokens else self._read_at
            if prompt.tight:
                self._told(now > prompt.due, prompt.tokens)

    def _count(self, prompt: Prompt, sign: int) -> None:
        self.reading += sign
        if prompt.aside:
            self.tokens_aside += sign * prompt.tokens
            self.prompts_aside += sign
        elif prompt.batch:
            self.batch += sign * prompt.tokens
        else:
            self.live += sign * prompt.tokens

    def ended(self, now: float) -> None:
        """One that was read decodes no more."""
        self._pass(now)
        self.decoding -= 1

    def _told(self, missed: bool, tokens: int) -> None:
        """A promise was kept or not. Who was too slow for a sure one may be late, and says only so that less needs to be allowed for."""
        if self.ttft_s is None or (missed and self.slow(tokens, batch=False)):
            return
        share = 1 - MISSES if missed else -MISSES
        self.late_s = min(MOST_LATE * self.ttft_s, max(0.0, self.late_s + STEP * share * self.ttft_s))

    def runs(self, now: float, whether: bool) -> None:
        """The engine is ready, or is no more: who waits for its start is not being read."""
        self._pass(now)
        self._runs = whether

    def _learn(self, prompt: Prompt) -> None:
        self._read += prompt.tokens
        self._reading_s += prompt.read_s
        if self._reading_s > REMEMBERED_S:
            self._read, self._reading_s = self._read / 2, self._reading_s / 2

    def _pass(self, now: float) -> None:
        """The time since the last change is of those whose turn it was to be read."""
        took_s, self._now = (now - self._now) * self._share(self.decoding), now
        if not self.tokens or not self._runs:
            return
        first, aside = self._first(), next(iter(self._aside), None)
        if first is not None:
            first.read_s += took_s if aside is None else took_s * (1 - self._slow_share)
        if aside is not None:
            aside.read_s += took_s if first is None else took_s * self._slow_share

    def _first(self) -> Prompt | None:
        """The one whose turn it is."""
        if self._seated and (seats := [seat for seat, each in self._seated.items() if each.tokens]):
            return self._seated[min(seats)]
        return next(iter(self._in_turn), None)
