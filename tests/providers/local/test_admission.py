"""The queue before the slots: never too many, first come first served, and nothing lost however waiters leave."""

import asyncio
from functools import partial
from math import inf
from random import Random
from time import monotonic
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errors import EngineBusy, EngineUnavailable
from contract.flow import Flow
from providers.local.admission import Admission, Held
from providers.local.port import NOTHING, Want
from providers.local.prefills import BATCH_AT_ONCE, Prefills
from providers.local.status import EngineStatus
from providers.local.work import Work
from providers.reading import Reading
from tests.providers.local.conftest import engine_spec


class Queue(Admission):
    """An Admission that keeps the places that it gave, to give back any of them."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.places: list[Held] = []

    async def acquire(self, want: Want = NOTHING, wait_s: float = inf) -> Held:
        place = await super().acquire(want, wait_s)
        self.places.append(place)
        return place

    def release(self) -> None:
        self.places.pop().release()


class Crowd:
    """Requests that came to one Admission, by their number: who holds slots, who was turned away or left."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.tasks: list[asyncio.Task[None]] = []
        self.wants: list[int] = []
        self.let_go: list[asyncio.Event] = []
        self.admitted: list[int] = []
        self.left: set[int] = set()
        self.held = 0
        self.most_held = 0

    def arrive(self, slots: int = 1) -> int:
        number = len(self.tasks)
        self.wants.append(slots)
        self.let_go.append(asyncio.Event())
        self.tasks.append(asyncio.create_task(self._request(number, slots)))
        return number

    async def _request(self, number: int, slots: int) -> None:
        try:
            place = await self.admission.acquire(Want(slots=slots))
        except BaseException:
            self.left.add(number)
            raise
        self.admitted.append(number)
        self.held += slots
        self.most_held = max(self.most_held, self.held)
        try:
            await self.let_go[number].wait()
        finally:
            self.held -= slots
            place.release()

    async def settle(self) -> None:
        for _ in range(4):
            await asyncio.sleep(0)


OPS = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), st.integers(1, 3)),
        st.tuples(st.just("finish"), st.integers(0, 30)),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("settle"), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(slots=st.integers(1, 4), max_queue=st.integers(0, 6), ops=OPS)
def test_no_schedule_runs_too_many_overtakes_or_loses_a_slot(slots: int, max_queue: int, ops: list[tuple[str, int]]) -> None:
    async def play() -> None:
        admission = Admission(slots, max_queue, max_wait_s=3600)
        crowd = Crowd(admission)
        for op, value in ops:
            match op:
                case "arrive":
                    crowd.arrive(min(value, slots))
                case "finish" if value < len(crowd.tasks):
                    crowd.let_go[value].set()
                case "cancel" if value < len(crowd.tasks):
                    crowd.tasks[value].cancel()
                case "settle":
                    await crowd.settle()
                    check_at_rest(crowd, slots, max_queue)
        for event in crowd.let_go:
            event.set()
        async with asyncio.timeout(30):
            await asyncio.gather(*crowd.tasks, return_exceptions=True)
        assert (admission.running, admission.waiting) == (0, 0)
        assert crowd.most_held <= slots
        assert sorted({*crowd.admitted, *crowd.left} | {n for n, t in enumerate(crowd.tasks) if t.cancelled()}) == list(range(len(crowd.tasks)))

    asyncio.run(play())


def check_at_rest(crowd: Crowd, slots: int, max_queue: int) -> None:
    """Between the loop's steps: the books agree, nobody was overtaken, and no slot stands idle that the first in the queue could use."""
    admission = crowd.admission
    assert admission.running == crowd.held <= slots
    assert admission.waiting <= max_queue
    waiting = [n for n, task in enumerate(crowd.tasks) if not task.done() and n not in crowd.admitted]
    assert admission.waiting == len(waiting)
    if waiting:
        assert max(crowd.admitted, default=-1) < waiting[0]
        assert admission.running + crowd.wants[waiting[0]] > slots


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    admission = Queue(1, 1, max_wait_s=60)
    await admission.acquire()
    waiter = asyncio.create_task(admission.acquire())
    await asyncio.sleep(0)
    with pytest.raises(EngineBusy) as refused:
        await admission.acquire()
    assert refused.value.retry_after_s is not None and 1 <= refused.value.retry_after_s <= 60
    assert (admission.running, admission.waiting) == (1, 1)
    admission.release()
    await waiter


async def test_who_waited_too_long_is_refused_and_leaves_the_queue() -> None:
    admission = Queue(1, 5, max_wait_s=0.05)
    await admission.acquire()
    with pytest.raises(EngineBusy, match="waited"):
        await admission.acquire()
    assert (admission.running, admission.waiting) == (1, 0)
    admission.release()
    await admission.acquire()


async def test_a_slot_handed_to_a_waiter_that_is_cancelled_in_that_moment_goes_to_the_next() -> None:
    admission = Queue(1, 5, max_wait_s=60)
    await admission.acquire()
    first, second = asyncio.create_task(admission.acquire()), asyncio.create_task(admission.acquire())
    await asyncio.sleep(0)
    admission.release()
    first.cancel()
    await asyncio.wait_for(second, 10)
    assert first.cancelled() and (admission.running, admission.waiting) == (1, 0)


async def test_a_large_request_that_leaves_lets_those_behind_it_go() -> None:
    admission = Queue(2, 5, max_wait_s=60)
    await admission.acquire()
    large, small = asyncio.create_task(admission.acquire(Want(slots=2))), asyncio.create_task(admission.acquire())
    await asyncio.sleep(0)
    assert admission.waiting == 2
    large.cancel()
    await asyncio.wait_for(small, 10)
    assert (admission.running, admission.waiting) == (2, 0)


async def test_those_who_wait_can_be_sent_away_together() -> None:
    admission = Queue(1, 5, max_wait_s=60)
    await admission.acquire()
    waiters = [asyncio.create_task(admission.acquire()) for _ in range(3)]
    await asyncio.sleep(0)
    waiters[0].cancel()
    admission.fail_waiting(lambda: EngineUnavailable("gone", retry_after_s=5))
    results: list[Any] = await asyncio.gather(*waiters, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert [type(r) for r in results[1:]] == [EngineUnavailable, EngineUnavailable] and results[1] is not results[2]
    admission.release()
    assert (admission.running, admission.waiting) == (0, 0)


async def test_the_free_path_makes_no_future() -> None:
    """`acquire` with a free slot finishes in one step of the coroutine."""
    admission = Queue(1, 0, max_wait_s=60)
    with pytest.raises(StopIteration):
        admission.acquire().send(None)
    assert admission.running == 1


async def test_one_who_has_less_time_leaves_the_queue_sooner() -> None:
    admission = Queue(1, 5, max_wait_s=60)
    await admission.acquire()
    with pytest.raises(EngineBusy, match=r"waited 0\.05 s"):
        await admission.acquire(wait_s=0.05)
    assert (admission.running, admission.waiting) == (1, 0)


async def test_the_expected_wait_is_none_while_a_slot_is_free_and_grows_with_the_queue() -> None:
    admission = Queue(2, 2, max_wait_s=60)
    await admission.acquire()
    assert (admission.wait_s, admission.place_in_s) == (0.0, 0.0)
    await admission.acquire()
    assert admission.wait_s > 0 and admission.place_in_s == 0.0, "there is room in the queue"
    waiters, expected = [], [admission.wait_s]
    for _ in range(2):
        waiters.append(asyncio.create_task(admission.acquire()))
        await asyncio.sleep(0)
        expected.append(admission.wait_s)
    assert expected == sorted(expected) and expected[0] < expected[-1] <= 60
    assert 0 < admission.place_in_s <= admission.wait_s, "a place in a full queue comes before a slot"
    for _ in range(2):
        admission.release()
    await asyncio.gather(*waiters)
    for _ in range(2):
        admission.release()
    assert (admission.wait_s, admission.place_in_s) == (0.0, 0.0)


async def test_an_engine_without_a_queue_has_a_place_when_a_slot_is_free() -> None:
    admission = Queue(1, 0, max_wait_s=60)
    assert admission.place_in_s == 0.0
    await admission.acquire()
    assert admission.place_in_s > 0.0


async def test_batch_work_leaves_a_slot_to_who_is_interactive() -> None:
    admission, batch = Queue(4, 8, 10.0), Flow("nightly", priority="batch")
    for _ in range(3):
        await admission.acquire(Want(batch))
    waiting = asyncio.create_task(admission.acquire(Want(batch)))
    await asyncio.sleep(0)
    assert admission.running == 3 and admission.waiting == 1
    await asyncio.wait_for(admission.acquire(Want(Flow("search"))), 1)
    assert admission.running == 4 and not waiting.done()
    admission.release()
    admission.release()
    await asyncio.wait_for(waiting, 1)
    assert admission.running == 3


def test_prompts_of_batch_work_are_read_a_few_at_a_time() -> None:
    prefills = Prefills()
    assert prefills.has_room(0.0, BATCH_AT_ONCE * 2, batch=True), "one that is larger than all goes alone"
    prompt = prefills.enter(0.0, 1500, True)
    assert prefills.has_room(0.0, 548, batch=True) and not prefills.has_room(0.0, 549, batch=True)
    assert prefills.has_room(0.0, 5000, batch=False), "who is interactive is not held up by it"
    prefills.leave(1.0, prompt, read=True)
    assert prefills.has_room(0.0, 549, batch=True)


async def test_batch_prompts_go_in_so_many_tokens_at_once() -> None:
    queue, batch = Queue(8, 8, 60, Prefills(batch_at_once=1000)), Flow("nightly", priority="batch")
    await queue.acquire(Want(batch, 100))
    with_it = asyncio.create_task(queue.acquire(Want(batch, 901)))
    await asyncio.sleep(0)
    assert queue.waiting == 1 and queue.prefills.batch == 100
    with_it.cancel()


def test_a_prompt_goes_in_only_if_it_is_read_in_the_promised_time() -> None:
    prefills = Prefills(ttft_s=1.0)
    prompt = prefills.enter(0.0, 1000, False)
    assert not prefills.has_room(0.0, 1, batch=False), "how fast it reads is not known yet: the first one tells it"
    prefills.leave(2.0, prompt, read=True)
    assert prefills.tokens_per_s == 500
    assert prefills.has_room(0.0, 10_000, batch=False), "nothing is being read: it would wait for nothing"
    prompt = prefills.enter(9.0, 300, False)
    assert prefills.has_room(0.0, 200, batch=False) and not prefills.has_room(0.0, 201, batch=False)
    assert prefills.has_room(0.0, 100, batch=False, waited_s=0.2) and not prefills.has_room(0.0, 100, batch=False, waited_s=0.21)
    assert prefills.has_room(0.0, 200, batch=True, waited_s=60), "batch work may wait"
    prefills.leave(9.5, prompt, read=False)
    assert prefills.tokens_per_s == 500, "one that left unread says nothing of the speed"


def test_so_much_is_kept_free_that_95_of_100_promises_hold() -> None:
    prefills, rng, now, asked, kept = Prefills(ttft_s=1.0), Random(7), 0.0, 0, 0
    for number in range(6000):
        tokens = rng.randrange(100, 1000)
        if not prefills.has_room(0.0, tokens, batch=False, waited_s=0.2) or prefills.spare_s(tokens, False) < 0.2:
            continue  # refused
        prompt = prefills.enter(now, tokens, False, waited_s=0.2)
        now += tokens / 1000 * rng.uniform(0.5, 1.5)
        if number >= 3000:
            asked += prompt.tight
            kept += prompt.tight and now <= prompt.due
        prefills.leave(now, prompt, read=True)
    assert asked > 500 and 0.92 < kept / asked < 0.98
    assert 0 < prefills.late_s <= 0.5


def reads(queue: "Queue", tokens_per_s: float) -> None:
    """It has seen prompts read at that speed."""
    queue.prefills.leave(1000 / tokens_per_s, queue.prefills.enter(0.0, 1000, False), read=True)


async def test_who_would_not_be_read_in_time_is_refused_at_once() -> None:
    queue = Queue(8, 8, 60, Prefills(ttft_s=1.0))
    reads(queue, 1000)
    reading = await queue.acquire(Want(tokens=900))
    with pytest.raises(EngineBusy, match="ttft_ms"):
        await queue.acquire(Want(tokens=500))
    nightly = asyncio.create_task(queue.acquire(Want(Flow("nightly", priority="batch"), tokens=500)))
    await asyncio.sleep(0)
    assert queue.waiting == 1, "batch work was promised nothing"
    reading.read()
    await asyncio.wait_for(nightly, 10)


async def test_a_whole_answer_whose_first_token_is_not_seen_tells_nothing_of_the_speed() -> None:
    now = [1000.0]
    queue = Queue(8, 8, 60, Prefills(ttft_s=1.0), clock=lambda: now[0])
    reads(queue, 1000)
    places = [await queue.acquire(Want(tokens=900, seen=False)) for _ in range(2)]
    now[0] += 60.0
    for place in places:
        place.read()
        place.release()
    assert queue.prefills.tokens_per_s == 1000 and queue.prefills.late_s == 0.0


async def test_who_waits_for_a_slot_until_he_would_begin_too_late_is_refused() -> None:
    queue = Queue(1, 8, 60, Prefills(ttft_s=0.3))
    reads(queue, 1000)
    held = await queue.acquire(Want(tokens=10))
    held.read()
    began = monotonic()
    with pytest.raises(EngineBusy, match="ttft_ms"):
        await queue.acquire(Want(tokens=200))
    assert monotonic() - began < 30 and queue.waiting == 0
    held.release()
    await queue.acquire(Want(tokens=200))


def looked_at(kv_used: float) -> EngineStatus:
    status = EngineStatus(engine_spec())
    status.state = "ready"
    status.reading = Reading(at=0.0, kv_used=kv_used, kv_tokens=1000)
    return status


async def test_who_finds_no_room_in_the_kv_cache_waits_for_the_next_look_at_it() -> None:
    queue = Queue(8, 8, 60)
    await queue.acquire(Want(tokens=100))
    queue.heard(looked_at(kv_used=0.70))
    await queue.acquire(Want(tokens=100))
    later = asyncio.create_task(queue.acquire(Want(tokens=100)))
    await asyncio.sleep(0)
    assert queue.waiting == 1, "what went in since the look counts"
    queue.heard(looked_at(kv_used=0.85))
    await asyncio.sleep(0)
    assert queue.waiting == 1
    queue.heard(looked_at(kv_used=0.60))
    await asyncio.wait_for(later, 10)


async def test_batch_work_that_can_leaves_for_who_is_interactive_the_latest_first() -> None:
    queue, batch, left = Queue(4, 8, 60), Flow("nightly", priority="batch"), []
    places = {name: await queue.acquire(Want(batch, leave=partial(left.append, name))) for name in ("first", "second", "third")}
    await queue.acquire()
    live = [asyncio.create_task(queue.acquire()) for _ in range(2)]
    again = asyncio.create_task(queue.acquire(Want(batch)))
    await asyncio.sleep(0)
    assert left == ["third"], "one for whose turn it is"
    places["third"].release()
    await asyncio.wait_for(live[0], 10)
    assert left == ["third", "second"] and not again.done()
    places["second"].release()
    await asyncio.wait_for(live[1], 10)
    assert left == ["third", "second"], "nobody interactive waits any more, and batch work waits for its turn"
    again.cancel()


async def test_teams_share_the_engine_s_time_and_not_the_number_of_requests() -> None:
    """One team's requests take four times as long as the other's: of many, each has half of the time."""
    took, now, order = {"long": 4.0, "short": 1.0}, [0.0], list[str]()
    queue = Queue(1, 200, 3600, clock=lambda: now[0])
    place = await queue.acquire()

    async def one(team: str) -> None:
        held = await queue.acquire(Want(Flow(team)))
        order.append(team)
        now[0] += took[team]
        held.release()

    tasks = [asyncio.create_task(one(team)) for _ in range(60) for team in took]
    await asyncio.sleep(0)
    place.release()
    await asyncio.wait(tasks, timeout=60)
    seen = order[:50]
    assert 0.35 <= seen.count("long") * 4.0 / (seen.count("long") * 4.0 + seen.count("short")) <= 0.65, seen


def test_shares_of_the_engine_s_time_add_up_to_the_time_in_which_it_was_busy() -> None:
    work = Work(0.0)
    first = work.changed(10.0, 1)
    second = work.changed(12.0, 2)
    first_s = work.changed(16.0, 1) - first
    work.turned(17.0, up=False)  # it is down for a while
    work.turned(18.0, up=False, asleep=True)
    work.turned(20.0, up=True)
    second_s = work.changed(21.0, 0) - second
    assert (first_s, second_s) == (4.0, 4.0) and work.busy_s == 8.0 and work.at(99.0) == 6.0
    assert (work.up_s, work.asleep_s) == (96.0, 2.0), "it was down for a second"
