"""A worker's side: the host's engines and their slots, as its parent tells of them and gives them."""

import asyncio
import socket
from collections.abc import Callable
from itertools import count
from time import monotonic

import structlog

from contract.errors import EngineBusy, EngineError
from gateway.workers.counting import Telling
from gateway.workers.host import Host, SharedEngine
from gateway.workers.messages import (
    Acquire,
    AllCounted,
    Channel,
    Down,
    EngineTold,
    Granted,
    Hang,
    Leave,
    MakeRoom,
    Orders,
    QueueTold,
    Read,
    ReadingTold,
    Refused,
    TellCounts,
    Up,
    Wake,
    address_in,
)
from providers.local.port import Want
from providers.local.process import EngineAddress
from providers.local.spec import EngineSpec
from providers.local.status import EngineStatus
from providers.local.work import Work

Say = Callable[[Acquire | Read | Leave | Hang | Wake], None]

log = structlog.get_logger("turnout.workers")


class RemoteEngine(EngineStatus):
    """An engine that the parent looks after. Implements `providers.local.port.Supervisor`."""

    def __init__(self, spec: EngineSpec, say: Say) -> None:
        super().__init__(spec)
        self._say = say
        self._address: EngineAddress | None = None

    @property
    def address(self) -> EngineAddress | None:
        return self._address if self.state == "ready" else None

    async def start(self) -> None:
        """The parent did."""

    async def stop(self) -> None:
        """The parent will."""

    def take(self, told: EngineTold) -> None:
        self.generation, self._address = told.generation, address_in(told)
        self.wakes_in_s, self.reason = told.wakes_in_s, told.reason
        self.told(told.state, told.ready_in_s)
        self.been_ready = told.been_ready
        self.staged(told.stage)

    def wake(self) -> None:
        if self.state == "sleeping":
            self._say(Wake(self.name))
            self.told("waking", self.wakes_in_s)

    def give_up(self, generation: int, reason: str) -> None:
        self._say(Hang(self.name, generation, reason))


class RemotePlace:
    """One of the engine's places, held by this worker. Implements `providers.local.port.Place`."""

    __slots__ = ("_began", "_id", "_read", "_slots", "decode_s", "prefill_s", "seat")

    def __init__(self, slots: "RemoteSlots", id: int, seat: int | None) -> None:
        self.seat = seat
        self._slots: RemoteSlots | None = slots
        self._id = id
        self._began = slots.work.at(monotonic())
        self._read: float | None = None
        self.prefill_s = self.decode_s = 0.0

    def read(self) -> None:
        if self._read is None and self._slots is not None:
            self._read = self._slots.work.at(monotonic())
            self._slots.say(Read(self._slots.engine, self._id))

    def release(self) -> None:
        slots, self._slots = self._slots, None
        if slots is not None:
            ended = slots.work.at(monotonic())
            read = ended if self._read is None else self._read
            self.prefill_s, self.decode_s = max(0.0, read - self._began), max(0.0, ended - read)  # what was told sets it back a little
            slots.left(self._id)


class RemoteSlots:
    """The parent's queue before an engine. Implements `providers.local.port.Slots`. `work`: the engine's time as it was last told, carried on."""

    def __init__(self, engine: str, say: Say) -> None:
        self.wait_s = 0.0
        self.place_in_s = 0.0
        self.requests = 0
        self.work = Work(monotonic())
        self.engine = engine
        self.say = say
        self._ids = count(1)
        self._asked: dict[int, asyncio.Future[int | None]] = {}
        self._may_leave: dict[int, Callable[[], None]] = {}

    async def acquire(self, want: Want, wait_s: float) -> RemotePlace:
        """Raises EngineBusy as `Admission.acquire` does. Cancelling leaves nothing behind."""
        id = next(self._ids)
        turn = self._asked[id] = asyncio.get_running_loop().create_future()
        if want.leave is not None:
            self._may_leave[id] = want.leave
        may_leave = want.leave is not None
        self.say(Acquire(self.engine, id, wait_s, want.flow, want.tokens, want.slots, may_leave, want.spills, want.seen, want.begins))
        try:
            seat = await turn
        except BaseException as error:
            self._asked.pop(id, None)
            if isinstance(error, asyncio.CancelledError):
                self.left(id)  # whether it was granted meanwhile or not
            self._may_leave.pop(id, None)
            raise
        return RemotePlace(self, id, seat)

    def left(self, id: int) -> None:
        self._may_leave.pop(id, None)
        self.say(Leave(self.engine, id))

    def fail_waiting(self, error: Callable[[], EngineError]) -> None:
        asked, self._asked = self._asked, {}
        for id, turn in asked.items():
            self.left(id)
            if not turn.done():
                turn.set_exception(error())

    def take(self, told: Granted | Refused | MakeRoom | QueueTold) -> None:
        if isinstance(told, QueueTold):
            self.wait_s, self.place_in_s, self.requests = told.wait_s, told.place_in_s, told.requests
            self.work.told(told.at, told.work_at, told.requests, told.up)
            return
        if isinstance(told, MakeRoom):
            if (leave := self._may_leave.pop(told.id, None)) is not None:
                leave()
            return
        turn = self._asked.pop(told.id, None)
        if turn is None or turn.done():  # given up: that was told already
            return
        if isinstance(told, Granted):
            turn.set_result(told.seat)
        else:
            turn.set_exception(EngineBusy(told.message, retry_after_s=told.retry_after_s))


class Link:
    """The connection to the parent. `host` is usable before `start`, with what the orders told. `on_lost`: the parent is gone."""

    def __init__(self, end: socket.socket, orders: Orders, on_lost: Callable[[], None]) -> None:
        self._end = end
        self._on_lost = on_lost
        self._channel: Channel[Down] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._engines = {spec.name: RemoteEngine(spec, self.say) for spec in orders.engines}
        self._slots = {spec.name: RemoteSlots(spec.name, self.say) for spec in orders.engines}
        self._telling = Telling(self.say)
        shared = {name: SharedEngine(engine, self._slots[name]) for name, engine in self._engines.items()}
        self.host = Host(orders.worker, shared, self._telling)
        for told in orders.told:
            self._take(told)

    async def start(self) -> None:
        self._channel = Channel(*await asyncio.open_unix_connection(sock=self._end), Down)
        self._tasks = [
            asyncio.create_task(self._listen(self._channel), name="link to the parent"),
            asyncio.create_task(self._telling.push(), name="counts to the parent"),
        ]

    async def stop(self) -> None:
        """Idempotent."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
            self._telling.tell()
        if self._channel is not None:
            await self._channel.ended()

    def say(self, message: Up) -> None:
        if self._channel is not None:
            self._channel.send(message)

    async def _listen(self, channel: Channel[Down]) -> None:
        while (message := await channel.receive()) is not None:
            self._take(message)
        log.error("the parent process is gone: this worker ends")
        for name, engine in self._engines.items():
            engine.told("stopped")
            self._slots[name].fail_waiting(engine.unavailable)
        self._on_lost()

    def _take(self, message: Down) -> None:
        match message:
            case EngineTold():
                self._engines[message.engine].take(message)
            case ReadingTold():
                self._engines[message.engine].seen(message.reading)
            case QueueTold() | Granted() | Refused() | MakeRoom():
                self._slots[message.engine].take(message)
            case TellCounts() | AllCounted():
                self._telling.take(message)
            case Orders():
                log.error("orders came twice")
