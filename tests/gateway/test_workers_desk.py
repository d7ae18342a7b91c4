"""The desk at which workers get an engine's slots, over real socket pairs in one process; and when a worker is started again."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from time import monotonic

import pytest

from contract.errors import EngineBusy, EngineUnavailable
from contract.flow import NOBODY, Flow
from gateway.workers.desk import Desk
from gateway.workers.link import Link, RemoteSlots
from gateway.workers.messages import Channel, Orders, Up
from gateway.workers.restarts import MOST, QUICK_S, WINDOW_S, Restarts
from providers.http.client import PooledClient
from providers.local.port import Place, Want
from providers.local.supervisor import EngineSupervisor
from tests.providers.local.conftest import engine_spec, eventually


class Worker:
    """A link, and the desk's side of it."""

    def __init__(self, desk: Desk, number: int) -> None:
        self._desk = desk
        self._ours, theirs = socket.socketpair()
        self.held: list[Place] = []
        self.lost = asyncio.Event()
        self.link = Link(theirs, Orders(number, b"", None, desk.specs, desk.state()), self.lost.set)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> "Worker":
        await self.link.start()
        channel: Channel[Up] = Channel(*await asyncio.open_unix_connection(sock=self._ours), Up)
        self._task = asyncio.create_task(self._attend(channel))
        return self

    async def _attend(self, channel: Channel[Up]) -> None:
        counter = self._desk.open(channel)
        try:
            while (message := await channel.receive()) is not None:
                self._desk.take(counter, message)  # type: ignore[arg-type]
        finally:
            self._desk.close(counter)
            channel.close()

    @property
    def slots(self) -> RemoteSlots:
        slots = self.link.host.engines["cpu"].slots
        assert isinstance(slots, RemoteSlots)
        return slots

    async def acquire(self, wait_s: float, flow: Flow = NOBODY, leave: Callable[[], None] | None = None) -> None:
        self.held.append(await self.slots.acquire(Want(flow, leave=leave), wait_s))

    def release(self) -> None:
        self.held.pop().release()

    async def die(self) -> None:
        await self.link.stop()
        assert self._task is not None
        await self._task

    async def abandon(self) -> None:
        """The parent's side is gone."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])


@contextlib.asynccontextmanager
async def workers(count: int = 2, **spec: object) -> AsyncIterator[list[Worker]]:
    client = PooledClient()
    desk = Desk([EngineSupervisor(engine_spec(**spec), client)])
    made = [await Worker(desk, number + 1).start() for number in range(count)]
    yield made
    for worker in made:
        await worker.link.stop()
        await worker.abandon()
    await desk.stop()
    await client.aclose()


def asking(worker: Worker, wait_s: float = 30.0) -> "asyncio.Task[None]":
    return asyncio.create_task(worker.acquire(wait_s))


async def full(*others: Worker) -> None:
    """Until all know that who comes must wait."""
    await eventually(lambda: all(worker.slots.wait_s > 0 for worker in others))


async def test_slots_are_given_in_turn_whoever_asks() -> None:
    async with workers(slots=2) as (one, two):
        await one.acquire(1)
        await two.acquire(1)
        third = asking(one)
        await full(one, two)
        fourth = asking(two)
        two.release()
        await third
        assert not fourth.done()
        one.release()
        await fourth


async def test_turns_are_fair_over_all_workers() -> None:
    async with workers(slots=1) as (one, two):
        await one.acquire(1)
        batch = asyncio.create_task(one.acquire(30, Flow("night", 1.0, "batch")))
        await full(one, two)
        interactive = asyncio.create_task(two.acquire(30, Flow("day", 1.0, "interactive")))
        before = two.slots.wait_s
        await eventually(lambda: two.slots.wait_s > before)
        one.release()
        await interactive
        assert not batch.done()
        two.release()
        await batch


async def test_batch_work_in_one_worker_is_asked_to_leave_for_who_is_interactive_in_another() -> None:
    async with workers(slots=1) as (one, two):
        asked = asyncio.Event()
        await one.acquire(1, Flow("night", 1.0, "batch"), asked.set)
        interactive = asking(two)
        await asked.wait()
        assert not interactive.done()
        one.release()
        await interactive


async def test_who_is_too_slow_for_what_is_promised_is_refused_where_a_worker_says_that_another_target_is_left() -> None:
    async with workers(count=1, slots=2, ttft_s=0.01) as (one,):
        slow = Want(tokens=1000)
        place = await one.slots.acquire(slow, 1)
        await asyncio.sleep(0.05)
        place.read()
        place.release()
        await eventually(lambda: one.slots.requests == 0)
        with pytest.raises(EngineBusy, match="1000 tokens"):
            await one.slots.acquire(slow._replace(spills=True), 1)
        (await one.slots.acquire(slow, 1)).release()


async def test_workers_know_what_share_of_the_engine_s_time_their_requests_took() -> None:
    async with workers(slots=2) as (one, two):
        await one.acquire(1)
        await two.acquire(1)
        await eventually(lambda: (one.slots.requests, two.slots.requests) == (2, 2))
        began = monotonic()
        await asyncio.sleep(0.1)
        places = [one.held[0], two.held[0]]
        one.release()
        two.release()
        took_s = [place.prefill_s + place.decode_s for place in places]
        assert all(0 < each <= monotonic() - began for each in took_s)
        assert sum(took_s) < 1.5 * (monotonic() - began) + 0.1, "they share it: the whole is not counted twice"


async def test_a_full_queue_refuses_and_tells_both_when_there_is_room() -> None:
    async with workers(slots=1, max_queue=1) as (one, two):
        await one.acquire(1)
        waiting = asking(one)
        await eventually(lambda: two.slots.place_in_s > 0)
        with pytest.raises(EngineBusy, match="queue of 1 is full") as refused:
            await two.acquire(1)
        assert refused.value.retry_after_s is not None and refused.value.retry_after_s >= 1
        one.release()
        await waiting
        one.release()
        await eventually(lambda: (two.slots.place_in_s, two.slots.wait_s) == (0, 0))


async def test_who_waits_too_long_is_refused() -> None:
    async with workers(slots=1) as (one, two):
        await one.acquire(1)
        with pytest.raises(EngineBusy, match=r"waited 0.05 s"):
            await two.acquire(0.05)


async def test_who_leaves_the_queue_or_a_slot_just_granted_leaves_nothing_behind() -> None:
    async with workers(slots=1) as (one, two):
        for turns in range(12):  # the cancellation comes before, with and after the grant
            asked = asking(one)
            for _ in range(turns):
                await asyncio.sleep(0)
            asked.cancel()
            await asyncio.wait([asked])
            if not asked.cancelled():
                one.release()
        await two.acquire(5)


async def test_a_worker_that_dies_takes_nothing_with_it() -> None:
    async with workers(slots=2) as (one, two):
        await one.acquire(1)
        await one.acquire(1)
        lost, waiting = asking(one), asking(two)
        await full(two)
        await one.die()
        await waiting
        await two.acquire(1)
        lost.cancel()


async def test_who_waits_is_sent_away_when_its_worker_stops_and_the_next_has_the_turn() -> None:
    async with workers(slots=1) as (one, two):
        await two.acquire(1)
        gone = asking(one)
        await full(one)
        next_one = asking(two)
        one.slots.fail_waiting(lambda: EngineUnavailable("stopping"))
        with pytest.raises(EngineUnavailable, match="stopping"):
            await gone
        two.release()
        await next_one


async def test_a_parent_that_is_gone_is_told_and_its_engines_are_stopped() -> None:
    async with workers(slots=1) as (one, two):
        await two.acquire(1)
        waiting = asking(one)
        await full(one)
        await one.abandon()
        await one.lost.wait()
        with pytest.raises(EngineUnavailable, match="is stopped"):
            await waiting
        with pytest.raises(EngineUnavailable, match="is stopped"):
            await one.link.host.engines["cpu"].supervisor.wait_ready(1.0)


# --- when a worker is started again ----------------------------------------------------------------------------------------
def test_who_dies_at_once_waits_longer_each_time_and_is_given_up() -> None:
    restarts = Restarts()
    assert [restarts.pause_s(0.0, float(at)) for at in range(MOST)] == [0.0, 1.0, 2.0, 4.0, None]


def test_a_long_life_makes_good_for_earlier_deaths() -> None:
    restarts = Restarts()
    assert [restarts.pause_s(lived_s, 0.0) for lived_s in (0.0, 0.0, QUICK_S, 0.0)] == [0.0, 1.0, 0.0, 0.0]


def test_deaths_of_another_minute_count_no_more() -> None:
    restarts = Restarts()
    assert [restarts.pause_s(0.0, number * WINDOW_S / 2) for number in range(6)] == [0.0, 1.0, 2.0, 2.0, 2.0, 2.0]


async def test_workers_are_told_their_slots_numbers_where_those_are_chosen_and_know_of_what_they_asked_for() -> None:
    async with workers(slots=3, ttft_s=1.0) as (one, two):
        batch = asyncio.create_task(one.acquire(5, Flow("night", 1.0, "batch")))
        await batch
        places = [await worker.slots.acquire(Want(), 5) for worker in (one, two)]
        assert [one.held[0].seat, *(place.seat for place in places)] == [2, 0, 1]
        before = one.slots.requests
        more = [asking(one) for _ in range(2)]
        await asyncio.sleep(0)
        assert one.slots.requests >= before + 2
        for place in places:
            place.release()
        await asyncio.gather(*more)
    async with workers(slots=1) as (one, two):
        assert (await two.slots.acquire(Want(), 5)).seat is None
