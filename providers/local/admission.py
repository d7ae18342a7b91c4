"""Our own queue before an engine, in fair turns (providers/fair.py): a request waits here, where its turn can still change, and not in the engine.

It goes in when a slot, room in the KV cache and time to read its prompt are there. Turns are shares of the engine's time (providers/local/work.py).
"""

import asyncio
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import NamedTuple

from contract.errors import EngineBusy, EngineError
from providers.fair import Turns
from providers.local.port import NOTHING, Want
from providers.local.prefills import Prefills, Prompt
from providers.local.seats import Seats
from providers.local.spec import EngineSpec
from providers.local.status import RESTING, EngineStatus
from providers.local.work import Typical, Work

MIN_RETRY_AFTER_S = 1.0
LIVE_SHARE = 8  # of so many slots batch work leaves one free, and one at least: who is interactive finds it at once
KV_FULL = 0.95  # of the KV cache: the rest is for answers that grow until the next look
ANSWER_TOKENS = 64  # of its answer that a request is sure to have room for
SMOOTHING = 0.2  # weight of the newest hand-over in the average


class Held:
    """A place in the engine, from its slot to its end. `seat`: the number of its slot, where we choose it. `prefill_s`, `decode_s`: of the engine's
    time, known once it is released."""

    __slots__ = ("_admission", "began", "decode_s", "leaves", "prefill_s", "prompt", "read_at", "slots", "want")

    def __init__(self, admission: "Admission", want: Want, slots: int, began: float, prompt: Prompt) -> None:
        self._admission: Admission | None = admission
        self.want = want
        self.slots = slots
        self.began = began  # by the engine's divided time
        self.prompt = prompt
        self.read_at: float | None = None
        self.leaves = False  # it was asked to
        self.prefill_s = self.decode_s = 0.0

    @property
    def seat(self) -> int | None:
        return self.prompt.seat

    def read(self) -> None:
        """Its first token came."""
        if self.read_at is None and self._admission is not None:
            self.read_at = self._admission.was_read(self)

    def release(self) -> None:
        """It ended, however. Idempotent."""
        admission, self._admission = self._admission, None
        if admission is not None:
            ended = admission.ended(self)
            read_at = ended if self.read_at is None else self.read_at
            self.prefill_s, self.decode_s = read_at - self.began, ended - read_at


class _Waiter(NamedTuple):
    """`size`: engine-seconds that it is thought to take."""

    since: float
    want: Want
    size: float
    timer: asyncio.TimerHandle


class Admission:
    """`slots` requests run, `max_queue` more wait, each at most `max_wait_s`. For one event loop. Implements `providers.local.port.Slots`.

    A request may need several slots (`n` choices); it then waits until it is first in the queue and that many are free. Where the queue is full
    of batch work, one who is interactive takes the place of the last of it; where the engine is, batch work that can leave does so for it.
    `seats`: where each request gets a slot of our choice.
    """

    def __init__(
        self,
        slots: int,
        max_queue: int,
        max_wait_s: float,
        prefills: Prefills | None = None,
        clock: Callable[[], float] = monotonic,
        seats: Seats | None = None,
    ) -> None:
        self._clock = clock
        self._slots = slots
        self._replica_slots = slots  # of one, where there are several behind one socket
        self._max_queue = max_queue
        self._max_wait_s = max_wait_s
        self._running = 0
        self._held: dict[Held, float] = {}  # -> engine-seconds that it was thought to take
        self._waiting: dict[asyncio.Future[Held], _Waiter] = {}
        self._turns: Turns[asyncio.Future[Held]] = Turns()
        self._released_at: float | None = None
        self._gap_s = MIN_RETRY_AFTER_S  # smoothed time between two releases while others wait
        self._kv_left = inf  # tokens
        self._typical = Typical()
        self._used_at = clock()
        self._others_first_until = -inf
        self.prefills = prefills or Prefills()
        self._seats = seats
        self.work = Work(clock())

    @classmethod
    def of(cls, spec: EngineSpec) -> "Admission":
        prefills = Prefills(spec.ttft_s, spec.batch_prompt_tokens, spec.shared_step, spec.seated, spec.slow_share)
        return cls(spec.slots, spec.max_queue, spec.max_wait_s, prefills, seats=Seats(spec.slots) if spec.seated else None)

    @property
    def running(self) -> int:
        """Slots in use."""
        return self._running

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    @property
    def requests(self) -> int:
        """Requests in the engine."""
        return len(self._held)

    @property
    def wait_s(self) -> float:
        """An estimate of how long one who came now would wait; 0 while there is room."""
        if not self._waiting and self._has_room(NOTHING):
            return 0.0
        return min(self._gap_s * (len(self._waiting) + 1), self._max_wait_s)

    @property
    def place_in_s(self) -> float:
        """An estimate of how long until one who comes is not refused; 0 while the queue has room."""
        full = len(self._waiting) >= self._max_queue and (self._waiting or not self._has_room(NOTHING))
        return min(self._gap_s, self._max_wait_s) if full else 0.0

    @property
    def retry_after_s(self) -> float:
        """What one who is refused now is told to wait."""
        return max(MIN_RETRY_AFTER_S, self.wait_s)

    def stands_before(self, engine: EngineStatus) -> None:
        """It is this one's: each hears of the other."""
        engine.listeners.append(self.heard)
        engine.idle_s = self.idle_s

    def idle_s(self) -> float:
        """For how long nobody was in the engine or in the queue."""
        return 0.0 if self._held or self._waiting else self._clock() - self._used_at

    def heard(self, engine: EngineStatus) -> None:
        """The engine's state changed, or it was looked at."""
        self.work.turned(self._clock(), engine.state == "ready", engine.state in RESTING)
        self.prefills.runs(self._clock(), engine.state == "ready")
        if self._seats is not None and engine.state != "ready":
            self._seats.forget()
        seen = engine.reading
        known = seen is not None and seen.kv_used is not None and seen.kv_tokens is not None
        if seen is not None and seen.replicas is not None:  # some may have died, or come
            self._slots = max(1, seen.replicas) * self._replica_slots
        self._kv_left = (KV_FULL - (seen.kv_used or 0.0)) * (seen.kv_tokens or 0) if seen is not None and known else inf
        self._hand_over()

    async def acquire(self, want: Want = NOTHING, wait_s: float = inf) -> Held:
        """A place, waiting in turn; whoever has it releases it. A request that wants more slots than there are takes all.

        Raises EngineBusy at once when the queue is full, after `max_wait_s` in it, or `wait_s`, and as soon as its first token cannot come in the
        promised time. One whose reading takes longer than that goes in only where it takes nothing from anybody else who is live, and no other
        target is left for it. Cancelling leaves nothing behind.
        """
        if self._begins_late(want):
            raise self._late(want)
        if not self._waiting and self._has_room(want):
            return self._enter(want, self._typical.of(want.flow))
        if len(self._waiting) >= self._max_queue:
            last = self._turns.last_behind(want.flow)
            if last is None:
                raise self._full()
            self._leave(last)
            if not last.done():
                last.set_exception(self._full())
        return await self._wait(want, min(wait_s, self._max_wait_s))

    def fail_waiting(self, error: Callable[[], EngineError]) -> None:
        """Ends the wait of all in the queue, each with an error of its own."""
        waiting, self._waiting = self._waiting, {}
        self._turns = Turns()
        for turn, waiter in waiting.items():
            waiter.timer.cancel()
            if not turn.done():
                turn.set_exception(error())

    # --- room ----------------------------------------------------------------------------------------------------------
    def _has_room(self, want: Want, waited_s: float = 0.0) -> bool:
        """Who is alone always has."""
        if self._missing_slots(want) > 0:
            return False
        seat, tokens = self._seat(want)
        if seat is None and self._seats is not None:
            return False
        if not self._held:
            return True
        return self._has_memory(want) and self.prefills.has_room(self._clock(), tokens, want.is_batch, waited_s, seat)

    def _seat(self, want: Want) -> tuple[int | None, int]:
        """The slot that it would get now, and the tokens of its prompt that are to be read there."""
        if self._seats is None:
            return None, want.tokens
        promised = not want.is_batch and not self.prefills.untried
        seat = self._seats.choice(want.begins, promised)
        tokens = self._seats.unread(want.begins, want.tokens, seat)
        if not promised or not self.prefills.slow(tokens, batch=False):
            return seat, tokens
        return self._seats.last, self._seats.unread(want.begins, want.tokens, self._seats.last)

    def _is_slow(self, want: Want) -> bool:
        return self.prefills.slow(self._seat(want)[1], want.is_batch)

    def _begins_late(self, want: Want) -> bool:
        """Whether one who comes now is refused at once, whatever else there is room for."""
        (seat, tokens), is_batch, prefills = self._seat(want), want.is_batch, self.prefills
        if prefills.slow(tokens, is_batch):
            return self._in_the_way(want, others=self._live_waiting())
        if want.spills and prefills.unknown(is_batch):
            return True
        return prefills.too_late(tokens, is_batch, 0.0, self._read_before(want), seat)

    def _read_before(self, want: Want) -> int:
        """Tokens of prompts that wait and go before it; who is slow gives way."""
        if not self._waiting:
            return 0
        before = [self._waiting[turn].want for turn in self._turns.before(want.flow)]
        tokens = [(self._seat(other)[1], other.is_batch) for other in before]
        return sum([each for each, is_batch in tokens if not self.prefills.slow(each, is_batch)])

    def _in_the_way(self, want: Want, others: int) -> bool:
        """Whether one that is too slow for a promise would take from `others`, who are live and wait, from those who are read, or from those who were
        refused and may come again."""
        if others > 0 or self.prefills.holds_up or self._gives_way_s() > 0.0:
            return True
        return want.spills and self.prefills.hopeless(self._clock(), self._seat(want)[1], want.is_batch)

    def _gives_way_s(self) -> float:
        """How long one that is too slow for a promise, and would hold up others, still leaves the engine to who was refused."""
        return self._others_first_until - self._clock() if self._slots == 1 or not self.prefills.shared else 0.0

    def _live_waiting(self) -> int:
        return sum([not waiter.want.is_batch for waiter in self._waiting.values()])

    def _missing_slots(self, want: Want) -> int:
        slots = min(want.slots, self._slots)
        most = self._slots - max(1, self._slots // LIVE_SHARE) if want.is_batch and self._slots > 1 else self._slots
        return self._running + slots - max(slots, most)

    def _has_memory(self, want: Want) -> bool:
        return want.tokens + ANSWER_TOKENS <= self._kv_left

    def _enter(self, want: Want, size: float, waited_s: float = 0.0) -> Held:
        now = self._clock()
        slots = min(want.slots, self._slots)
        self._running += slots
        self._kv_left -= want.tokens + ANSWER_TOKENS  # until the next look shows it
        seat, tokens = self._seat(want)
        if self._seats is not None and seat is not None:
            self._seats.take(seat, want.begins)
        prompt = self.prefills.enter(now, tokens if want.seen else 0, want.is_batch, waited_s, seat)
        held = Held(self, want, slots, self.work.changed(now, len(self._held) + 1), prompt)
        self._held[held] = size
        return held

    def was_read(self, held: Held) -> float:
        """Its first token came; the engine's divided time."""
        now = self._clock()
        self.prefills.leave(now, held.prompt, read=True)
        self._hand_over()
        return self.work.at(now)

    def ended(self, held: Held) -> float:
        """It left the engine; whose turn it is has its place before anyone who comes later. The engine's divided time."""
        now, want = self._clock(), held.want
        self._used_at = now
        size = self._held.pop(held)
        self._running -= held.slots
        if self._seats is not None and held.seat is not None:
            self._seats.give_back(held.seat, read=held.read_at is not None)
        if held.read_at is None:
            self.prefills.leave(now, held.prompt, read=False)
        else:
            self.prefills.ended(now)
        at = self.work.changed(now, len(self._held))
        self._turns.settle(want.flow, at - held.began - size)
        self._typical.took(want.flow, at - held.began)
        if self._waiting:
            self._measure(now)
        self._hand_over()
        return at

    # --- the queue -----------------------------------------------------------------------------------------------------
    def _full(self) -> EngineBusy:
        return EngineBusy(f"the engine's queue of {self._max_queue} is full", retry_after_s=self.retry_after_s)

    async def _wait(self, want: Want, wait_s: float) -> Held:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[Held] = loop.create_future()
        size, most_s = self._typical.of(want.flow), self.prefills.most_wait_s(self._seat(want)[1], want.is_batch)
        self._turns.add(turn, want.flow, size)
        timer = loop.call_later(*((most_s, self._miss, turn) if most_s < wait_s else (wait_s, self._time_out, turn, wait_s)))
        self._waiting[turn] = _Waiter(self._clock(), want, size, timer)
        self._hand_over()  # a slot may be free that the batch work before it had to leave
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                turn.result().release()  # its turn came and the cancellation too: the place goes on to the next
            else:
                self._leave(turn)
            raise

    def _hand_over(self) -> None:
        while (turn := self._turns.first()) is not None:
            waiter = self._waiting[turn]
            given_up = turn.done()  # cancelled, and its task has not run since
            waited_s = self._clock() - waiter.since
            if not given_up and self._lost(waiter.want, waited_s):
                turn.set_exception(self._late(waiter.want))
                given_up = True
            if not given_up and not self._has_room(waiter.want, waited_s):
                self._ask_to_leave(waiter.want)
                return
            del self._waiting[turn]
            waiter.timer.cancel()
            if given_up:
                self._turns.leave(turn)
                continue
            self._turns.served(turn)
            turn.set_result(self._enter(waiter.want, waiter.size, waited_s))

    def _lost(self, want: Want, waited_s: float) -> bool:
        """Whether the first in the queue would begin too late, or take from those behind it."""
        seat, tokens = self._seat(want)
        if self.prefills.slow(tokens, want.is_batch):
            return self._in_the_way(want, others=self._live_waiting() - 1)
        return self.prefills.too_late(tokens, want.is_batch, waited_s, seat=seat)

    def _ask_to_leave(self, want: Want) -> None:
        """Batch work makes room for who is interactive: what came last has the least to lose."""
        if want.is_batch:
            return
        missing = max(self._missing_slots(want), 0 if self._has_memory(want) else 1)
        missing -= sum(held.slots for held in self._held if held.leaves)
        for held in reversed(self._held):
            if missing <= 0:
                return
            if held.want.leave is not None and not held.leaves:
                held.leaves = True
                missing -= held.slots
                held.want.leave()

    def _leave(self, turn: asyncio.Future[Held]) -> None:
        """Out of the queue before its turn; whoever was held up by it may go."""
        if waiter := self._waiting.pop(turn, None):
            self._used_at = self._clock()
            waiter.timer.cancel()
            self._turns.leave(turn)
            self._hand_over()

    def _time_out(self, turn: asyncio.Future[Held], wait_s: float) -> None:
        if not turn.done():
            turn.set_exception(EngineBusy(f"waited {wait_s:.3g} s in the engine's queue", retry_after_s=self.retry_after_s))
            self._leave(turn)

    def _miss(self, turn: asyncio.Future[Held]) -> None:
        if not turn.done():
            turn.set_exception(self._late(self._waiting[turn].want))
            self._leave(turn)

    def _late(self, want: Want) -> EngineBusy:
        """Who is promised something and refused may come again before one that is too slow for a promise goes in and holds him up: until he was told
        to come, and for the time of a promise after it."""
        why = "the engine would not begin to answer within its `ttft_ms`"
        again_s = max(self.retry_after_s, self.prefills.wait_s())
        if self._is_slow(want):
            why += f": it takes longer to read a prompt of about {want.tokens} tokens, and takes one only while nobody else is waiting"
            again_s = max(again_s, self._gives_way_s())
        else:
            self._others_first_until = max(self._others_first_until, self._clock() + again_s + (self.prefills.ttft_s or 0.0))
        return EngineBusy(why, retry_after_s=again_s)

    def _measure(self, now: float) -> None:
        if self._released_at is not None:
            self._gap_s += SMOOTHING * (min(now - self._released_at, self._max_wait_s) - self._gap_s)
        self._released_at = now
