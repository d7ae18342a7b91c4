"""The parent's side: the host's engines, one supervisor and one queue each, and which worker holds which slots of them."""

import asyncio
from collections.abc import Iterable
from functools import partial
from time import monotonic

from contract.errors import EngineBusy
from gateway.workers.messages import (
    Acquire,
    Channel,
    EngineTold,
    Granted,
    Hang,
    Leave,
    MakeRoom,
    QueueTold,
    Read,
    ReadingTold,
    Refused,
    Up,
    Wake,
    state_of,
)
from providers.local.admission import Admission, Held
from providers.local.port import Want
from providers.local.spec import EngineSpec
from providers.local.status import EngineStatus
from providers.local.supervisor import EngineSupervisor

TELL_QUEUE_S = 0.02  # how old what a worker knows of a queue may be


class Counter:
    """One worker at the desk: what it waits for, and what it holds, by its own ids."""

    def __init__(self, channel: Channel[Up]) -> None:
        self.channel = channel
        self.waits: dict[tuple[str, int], asyncio.Task[None]] = {}
        self.holds: dict[tuple[str, int], Held] = {}


class Desk:
    """Whoever starts it stops it; workers come and go meanwhile, and take nothing with them."""

    def __init__(self, engines: Iterable[EngineSupervisor]) -> None:
        self._engines = {engine.name: engine for engine in engines}
        self._queues = {name: Admission.of(engine.spec) for name, engine in self._engines.items()}
        for name, engine in self._engines.items():
            self._queues[name].stands_before(engine)
            engine.listeners.append(self._tell_reading)
        self._counters: set[Counter] = set()
        self._tellers: list[asyncio.Task[None]] = []
        self._untold: set[str] = set()

    @property
    def specs(self) -> tuple[EngineSpec, ...]:
        return tuple(engine.spec for engine in self._engines.values())

    @property
    def queues(self) -> list[tuple[EngineSpec, Admission]]:
        return [(engine.spec, self._queues[name]) for name, engine in self._engines.items()]

    def pages(self) -> dict[str, str]:
        """What the engines tell of themselves, as it was read last."""
        return {name: engine.page for name, engine in self._engines.items() if engine.page}

    def state(self) -> tuple[EngineTold | QueueTold, ...]:
        """How all engines and queues are now."""
        return (*(state_of(engine) for engine in self._engines.values()), *(self._queue(name) for name in self._queues))

    async def start(self) -> None:
        for engine in self._engines.values():
            await engine.start()
            self._tellers.append(asyncio.create_task(self._tell_of(engine), name=f"tell of engine {engine.name}"))

    async def stop(self) -> None:
        """Ends the engines. Idempotent."""
        for teller in self._tellers:
            teller.cancel()
        if self._tellers:
            await asyncio.wait(self._tellers)
        await asyncio.gather(*(engine.stop() for engine in self._engines.values()))

    # --- workers -------------------------------------------------------------------------------------------------------
    def open(self, channel: Channel[Up]) -> Counter:
        """A worker's, which is told of every change from now on."""
        counter = Counter(channel)
        self._counters.add(counter)
        return counter

    def close(self, counter: Counter) -> None:
        """The worker is gone: what it held and waited for is the others'."""
        self._counters.discard(counter)
        for task in counter.waits.values():
            task.cancel()
        for place in tuple(counter.holds):
            self._release(counter, place)

    def take(self, counter: Counter, message: Acquire | Read | Leave | Hang | Wake) -> None:
        match message:
            case Acquire():
                self._engines[message.engine].wake()  # it may have fallen asleep since it was last told of
                place = (message.engine, message.id)
                task = counter.waits[place] = asyncio.create_task(self._admit(counter, message))
                task.add_done_callback(partial(self._admitted, counter, place))
                self._queue_changed(message.engine)
            case Read():
                if (held := counter.holds.get((message.engine, message.id))) is not None:
                    held.read()
                    self._queue_changed(message.engine)
            case Leave():
                place = (message.engine, message.id)
                if place in counter.holds:
                    self._release(counter, place)
                elif (waiting := counter.waits.get(place)) is not None:
                    waiting.cancel()
            case Hang():
                self._engines[message.engine].give_up(message.generation, message.reason)
            case Wake():
                self._engines[message.engine].wake()

    async def _admit(self, counter: Counter, asked: Acquire) -> None:
        leave = partial(counter.channel.send, MakeRoom(asked.engine, asked.id)) if asked.may_leave else None
        want = Want(asked.flow, asked.tokens, asked.slots, leave, asked.spills, asked.seen, asked.begins)
        try:
            held = await self._queues[asked.engine].acquire(want, asked.wait_s)
        except EngineBusy as busy:
            counter.channel.send(Refused(asked.engine, asked.id, busy.message, busy.retry_after_s))
        else:
            counter.holds[asked.engine, asked.id] = held
            counter.channel.send(Granted(asked.engine, asked.id, held.seat))

    def _admitted(self, counter: Counter, place: tuple[str, int], _: asyncio.Task[None]) -> None:
        del counter.waits[place]
        self._queue_changed(place[0])

    def _release(self, counter: Counter, place: tuple[str, int]) -> None:
        counter.holds.pop(place).release()
        self._queue_changed(place[0])

    # --- what is told --------------------------------------------------------------------------------------------------
    async def _tell_of(self, engine: EngineSupervisor) -> None:
        while True:
            await engine.changed()
            for counter in self._counters:
                counter.channel.send(state_of(engine))

    def _queue(self, name: str) -> QueueTold:
        queue, now = self._queues[name], monotonic()
        return QueueTold(name, queue.wait_s, queue.place_in_s, queue.requests, queue.work.at(now), queue.work.up, now)

    def _tell_reading(self, engine: EngineStatus) -> None:
        if engine.reading is not None:
            for counter in self._counters:
                if not counter.channel.slow:
                    counter.channel.send(ReadingTold(engine.name, engine.reading))
        self._queue_changed(engine.name)

    def _queue_changed(self, name: str) -> None:
        if not self._untold:
            asyncio.get_running_loop().call_later(TELL_QUEUE_S, self._tell_queues)
        self._untold.add(name)

    def _tell_queues(self) -> None:
        untold, self._untold = self._untold, set()
        for told in map(self._queue, untold):
            for counter in self._counters:
                if not counter.channel.slow:
                    counter.channel.send(told)
