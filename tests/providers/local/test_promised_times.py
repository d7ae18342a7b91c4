"""What `ttft_ms` promises, in simulated time on an engine that reads exactly as fast as it is thought to."""

import asyncio
import selectors
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errors import EngineBusy
from contract.flow import Flow
from providers.local.admission import Admission, Held
from providers.local.port import Want
from providers.local.prefills import TRUSTED_S, Prefills
from providers.local.seats import Seats

TTFT_S, TOKENS_PER_S, ROUNDING_S = 2.0, 100, 1e-6
REACH = int(TTFT_S * TOKENS_PER_S)  # tokens that can be read in time


class Leap(selectors.SelectSelector):
    """Time passes only where all wait for it."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "all wait for something that never comes"
        self.now += max(0.0, timeout)
        return super().select(0)


class Simulated(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.leap = Leap()
        super().__init__(self.leap)

    def time(self) -> float:
        return self.leap.now


class Asks(NamedTuple):
    at: float
    tokens: int
    decodes_s: float = 0.0
    flow: str = "team"
    spills: bool = False

    @property
    def has_a_chance(self) -> bool:
        return self.tokens < REACH


class Came(NamedTuple):
    """Seconds since its arrival. `entered` None: it was refused, after `waited`."""

    waited: float
    entered: float | None
    first_token: float | None
    others: int  # live ones that waited or were read when it came in
    promised: bool = False


class Engine:
    """Reads prompts one after the other, as they come in."""

    def __init__(self, queue: Admission, known: bool = True) -> None:
        self.loop = asyncio.get_running_loop()
        self.queue = queue
        self.read_until = 0.0
        if known:
            queue.prefills.leave(0.0, queue.prefills.enter(-10.0, 1000, False), read=True)
            queue.prefills.ended(0.0)

    async def serve(self, asks: Asks) -> Came:
        await asyncio.sleep(asks.at)
        came = self.loop.time()
        try:
            place = await self.queue.acquire(Want(Flow(asks.flow), asks.tokens, spills=asks.spills))
        except EngineBusy:
            return Came(self.loop.time() - came, None, None, 0)
        entered = self.loop.time()
        others = self.queue.waiting + self.queue.prefills.reading - 1
        await self.reads(place, asks.tokens / TOKENS_PER_S)
        place.read()
        first_token = self.loop.time()
        await asyncio.sleep(asks.decodes_s)
        place.release()
        return Came(entered - came, entered - came, first_token - came, others, place.prompt.promised)

    async def reads(self, place: Held, prompt_s: float) -> None:
        now = self.loop.time()
        self.read_until = max(self.read_until, now) + prompt_s
        await asyncio.sleep(self.read_until - now)

    async def run(self) -> None:
        """What it does beside its requests."""


class SeatedEngine(Engine):
    """Reads the prompt of its lowest seat first, whenever that came."""

    def __init__(self, queue: Admission, known: bool = True) -> None:
        super().__init__(queue, known)
        self.left: dict[int, tuple[float, asyncio.Future[None]]] = {}
        self.more = asyncio.Event()

    async def reads(self, place: Held, prompt_s: float) -> None:
        assert place.seat is not None and place.seat not in self.left
        read = self.loop.create_future()
        self.left[place.seat] = prompt_s, read
        self.more.set()
        await read

    async def run(self) -> None:
        while True:
            seat = min(self.left, default=None)
            left_s, read = self.left[seat] if seat is not None else (None, None)
            began = self.loop.time()
            self.more.clear()
            try:
                async with asyncio.timeout(left_s):
                    await self.more.wait()
            except TimeoutError:
                left_s = 0.0
            if seat is not None and left_s is not None and read is not None:
                self.left[seat] = left_s - (self.loop.time() - began), read
                if not left_s:
                    del self.left[seat]
                    read.set_result(None)
                    await asyncio.sleep(0)


def play(slots: int, asked: list[Asks], known: bool = True, seated: bool = False) -> list[Came]:
    async def all_of_them() -> list[Came]:
        clock, seats = asyncio.get_running_loop().time, Seats(slots) if seated else None
        queue = Admission(slots, 64, 3600, Prefills(TTFT_S, seated=seated), clock, seats)
        engine = SeatedEngine(queue, known) if seated else Engine(queue, known)
        running = asyncio.create_task(engine.run())
        came = await asyncio.gather(*map(engine.serve, asked))
        running.cancel()
        assert (queue.running, queue.waiting, queue.prefills.reading, queue.prefills.tokens) == (0, 0, 0, 0)
        return came

    with asyncio.Runner(loop_factory=Simulated) as runner:
        return runner.run(all_of_them())


ASKED = st.lists(
    st.builds(
        Asks,
        at=st.integers(0, 200).map(lambda tenths: tenths / 10),
        tokens=st.integers(1, 2 * REACH).filter(lambda tokens: tokens != REACH),
        decodes_s=st.sampled_from([0.0, 0.5, 3.0, 20.0]),
        flow=st.sampled_from(["one", "other"]),
        spills=st.booleans(),
    ),
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(slots=st.integers(1, 5), asked=ASKED)
def test_who_is_let_in_begins_in_time_and_nobody_waits_longer_than_that(slots: int, asked: list[Asks]) -> None:
    for asks, came in zip(asked, play(slots, asked), strict=True):
        assert came.waited <= TTFT_S + ROUNDING_S
        if asks.has_a_chance and came.first_token is not None:
            assert came.first_token <= TTFT_S + ROUNDING_S
        elif came.first_token is not None:
            assert not asks.spills, "another target had it"
            assert came.others == 0, "nobody else was held up"


@settings(max_examples=60, deadline=None)
@given(slots=st.integers(1, 5), asked=ASKED)
def test_an_engine_that_reads_by_seat_keeps_every_promise_whoever_is_slow(slots: int, asked: list[Asks]) -> None:
    for came in play(slots, asked[:12], seated=True):
        assert came.waited <= TTFT_S + ROUNDING_S
        if came.promised:
            assert came.first_token is not None and came.first_token <= TTFT_S + ROUNDING_S


def test_where_slots_are_seats_a_slow_prompt_holds_up_nobody() -> None:
    slow, short = Asks(0.0, 1000), [Asks(0.1 + 0.5 * number, 30) for number in range(19)]
    came = play(4, [slow, *short], seated=True)
    assert [each.first_token for each in came[1:]] == pytest.approx([0.3] * 19)
    assert came[0].first_token == pytest.approx(10.0 + 19 * 0.3)
    assert play(4, [slow, *short])[1].first_token is None, "one after another it holds up all"


def test_who_comes_to_a_lower_seat_waits_while_he_would_make_one_in_a_higher_one_miss_its_promise() -> None:
    first, second, third, low = Asks(0.0, 1), Asks(0.1, 120), Asks(0.1, 60), Asks(0.6, 50)
    came = play(4, [first, second, third, low], seated=True)
    assert [each.first_token for each in came] == pytest.approx([0.01, 1.2, 1.8, 1.8])
    assert came[3].waited == pytest.approx(1.3)


def test_the_prompt_that_tells_the_speed_of_seats_holds_up_nobody() -> None:
    came = play(4, [Asks(0.0, 1000), Asks(0.1, 30), Asks(0.2, 30)], known=False, seated=True)
    assert [each.first_token for each in came[1:]] == pytest.approx([0.3, 0.5]), "the third waits until the second tells the speed"


def test_a_long_prompt_that_is_half_read_makes_nobody_else_seem_slow() -> None:
    came = play(4, [Asks(0.0, 2000), *(Asks(at, 30) for at in (0.1, 5.0, 10.0, 15.0))], known=False, seated=True)
    assert [each.first_token for each in came[1:]] == pytest.approx([0.3] * 4)


@pytest.mark.parametrize("seated", [False, True])
def test_who_was_refused_goes_before_the_next_slow_prompt(seated: bool) -> None:
    slow, short = Asks(0.0, 500), Asks(1.0, 50)
    came = play(1, [slow, short, slow._replace(at=5.1), short._replace(at=6.0), slow._replace(at=20.0)], seated=seated)
    assert [each.first_token is not None for each in came] == [True, False, False, True, True]


@settings(max_examples=40, deadline=None)
@given(slots=st.integers(1, 5), asked=ASKED)
def test_who_has_no_chance_and_another_target_changes_nothing_for_the_others(slots: int, asked: list[Asks]) -> None:
    asked = [asks._replace(at=asks.at + number / 1000, spills=True) for number, asks in enumerate(asked)]  # an order, whoever is left out
    came = play(slots, asked)
    with_a_chance = [asks for asks in asked if asks.has_a_chance]
    told = [each.first_token for asks, each in zip(asked, came, strict=True) if asks.has_a_chance]
    assert told == pytest.approx([each.first_token for each in play(slots, with_a_chance)])
    assert all(each == Came(0.0, None, None, 0) for asks, each in zip(asked, came, strict=True) if not asks.has_a_chance)


def test_many_at_once_go_in_as_far_as_they_are_read_in_time_and_the_others_are_refused_at_once() -> None:
    came = play(4, [Asks(0.0, 60) for _ in range(6)])
    assert [each.first_token for each in came] == pytest.approx([0.6, 1.2, 1.8, None, None, None])
    assert {each.waited for each in came} == {0.0}


def test_a_prompt_without_a_chance_is_answered_where_it_is_alone_and_gives_way_while_it_waits() -> None:
    slow, soon = Asks(0.0, 500), Asks(0.1, 50)
    assert play(4, [slow])[0].first_token == pytest.approx(5.0)
    assert play(4, [slow, slow])[1] == Came(0.0, None, None, 0)
    decoding = Asks(0.0, 10, decodes_s=0.9)
    alone, crowded = play(1, [decoding, slow._replace(at=0.2)]), play(1, [decoding, slow._replace(at=0.2), soon._replace(at=0.5)])
    assert alone[1].first_token == pytest.approx(5.8), "it waited for the slot"
    assert crowded[1].waited == pytest.approx(0.3) and crowded[1].entered is None
    assert crowded[2].first_token == pytest.approx(1.0)


def test_who_waits_is_read_before_who_comes_after_him() -> None:
    decoding = Asks(0.0, 10, decodes_s=0.5)
    came = play(2, [decoding, decoding, Asks(0.2, 90), Asks(0.3, 120), Asks(0.3, 10)])
    assert [each.first_token is not None for each in came] == [True, True, True, False, True]
    assert came[3].waited == 0.0, "0.9 s and 1.2 s are more than is promised"


def test_an_engine_whose_speed_is_not_known_reads_one_and_who_has_another_target_goes_there() -> None:
    came = play(4, [Asks(0.0, 50), Asks(0.0, 50), Asks(0.0, 50, spills=True)], known=False)
    assert came[1].waited == pytest.approx(0.5) and came[1].first_token == pytest.approx(1.0)
    assert came[2] == Came(0.0, None, None, 0)


def test_after_a_minute_one_shows_whether_it_is_still_too_slow() -> None:
    prefills = Prefills(TTFT_S)
    prefills.leave(10.0, prefills.enter(0.0, 1000, False), read=True)
    assert prefills.hopeless(10.0 + TRUSTED_S, REACH + 1, False) and not prefills.hopeless(10.1 + TRUSTED_S, REACH + 1, False)
    assert not prefills.hopeless(10.0, REACH, False) and not prefills.hopeless(10.0, REACH + 1, batch=True)
