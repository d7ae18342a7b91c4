"""The queue before the slots: never too many, first come first served, and nothing lost however waiters leave."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errors import EngineBusy, EngineUnavailable
from contract.flow import Flow
from providers.local.admission import Admission
from providers.local.prefills import Prefills


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
            await self.admission.acquire(slots)
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
            self.admission.release(slots)

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
    admission = Admission(1, 1, max_wait_s=60)
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
    admission = Admission(1, 5, max_wait_s=0.05)
    await admission.acquire()
    with pytest.raises(EngineBusy, match="waited"):
        await admission.acquire()
    assert (admission.running, admission.waiting) == (1, 0)
    admission.release()
    await admission.acquire()


async def test_a_slot_handed_to_a_waiter_that_is_cancelled_in_that_moment_goes_to_the_next() -> None:
    admission = Admission(1, 5, max_wait_s=60)
    await admission.acquire()
    first, second = asyncio.create_task(admission.acquire()), asyncio.create_task(admission.acquire())
    await asyncio.sleep(0)
    admission.release()
    first.cancel()
    await asyncio.wait_for(second, 10)
    assert first.cancelled() and (admission.running, admission.waiting) == (1, 0)


async def test_a_large_request_that_leaves_lets_those_behind_it_go() -> None:
    admission = Admission(2, 5, max_wait_s=60)
    await admission.acquire()
    large, small = asyncio.create_task(admission.acquire(2)), asyncio.create_task(admission.acquire(1))
    await asyncio.sleep(0)
    assert admission.waiting == 2
    large.cancel()
    await asyncio.wait_for(small, 10)
    assert (admission.running, admission.waiting) == (2, 0)


async def test_those_who_wait_can_be_sent_away_together() -> None:
    admission = Admission(1, 5, max_wait_s=60)
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
    admission = Admission(1, 0, max_wait_s=60)
    with pytest.raises(StopIteration):
        admission.acquire().send(None)
    assert admission.running == 1


async def test_one_who_has_less_time_leaves_the_queue_sooner() -> None:
    admission = Admission(1, 5, max_wait_s=60)
    await admission.acquire()
    with pytest.raises(EngineBusy, match=r"waited 0\.05 s"):
        await admission.acquire(wait_s=0.05)
    assert (admission.running, admission.waiting) == (1, 0)


async def test_the_expected_wait_is_none_while_a_slot_is_free_and_grows_with_the_queue() -> None:
    admission = Admission(2, 2, max_wait_s=60)
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
    for _ in range(4):
        admission.release()
    await asyncio.gather(*waiters)
    assert (admission.wait_s, admission.place_in_s) == (0.0, 0.0)


async def test_an_engine_without_a_queue_has_a_place_when_a_slot_is_free() -> None:
    admission = Admission(1, 0, max_wait_s=60)
    assert admission.place_in_s == 0.0
    await admission.acquire()
    assert admission.place_in_s > 0.0


async def test_batch_work_leaves_a_slot_to_who_is_interactive() -> None:
    admission, batch = Admission(4, 8, 10.0), Flow("nightly", priority="batch")
    for _ in range(3):
        await admission.acquire(flow=batch)
    waiting = asyncio.create_task(admission.acquire(flow=batch))
    await asyncio.sleep(0)
    assert admission.running == 3 and admission.waiting == 1
    await asyncio.wait_for(admission.acquire(flow=Flow("search")), 1)
    assert admission.running == 4 and not waiting.done()
    admission.release()
    admission.release()
    await asyncio.wait_for(waiting, 1)
    assert admission.running == 3


async def test_prompts_of_batch_work_are_read_a_few_at_a_time() -> None:
    prefills = Prefills(at_once=100)
    assert await prefills.enter(60) == 60 and await prefills.enter(40) == 40
    later = [asyncio.create_task(prefills.enter(size)) for size in (500, 50, 50)]
    await asyncio.sleep(0)
    prefills.leave(60)
    await asyncio.sleep(0)
    assert not any(task.done() for task in later)  # the large one needs all of it, and the small ones came after it
    prefills.leave(40)
    assert await asyncio.wait_for(later[0], 1) == 100
    later[1].cancel()
    await asyncio.sleep(0)
    prefills.leave(100)
    assert await asyncio.wait_for(later[2], 1) == 50
    assert prefills.reading == 50
