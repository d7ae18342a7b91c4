"""A worker's side: the host's engines and their slots, as its parent tells of them and gives them."""

import asyncio
import socket
from collections.abc import Callable
from itertools import count

import structlog

from contract.errors import EngineBusy, EngineError
from contract.flow import NOBODY, Flow
from gateway.workers.host import Host, SharedEngine
from gateway.workers.messages import (
    Acquire,
    Channel,
    Down,
    EngineTold,
    Granted,
    Hang,
    Leave,
    Listening,
    Orders,
    QueueTold,
    Refused,
    address_in,
)
from providers.local.process import EngineAddress
from providers.local.spec import EngineSpec
from providers.local.status import EngineStatus

Say = Callable[[Acquire | Leave | Hang | Listening], None]

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
        self.told(told.state, told.ready_in_s)

    def report_hang(self, generation: int, reason: str) -> None:
        self._say(Hang(self.name, generation, reason))


class RemoteSlots:
    """An engine's slots and queue, which the parent keeps. Implements `providers.local.port.Slots`."""

    def __init__(self, engine: str, say: Say) -> None:
        self.wait_s = 0.0
        self.place_in_s = 0.0
        self._engine = engine
        self._say = say
        self._ids = count(1)
        self._asked: dict[int, asyncio.Future[None]] = {}
        self._held: list[int] = []

    async def acquire(self, *, wait_s: float, flow: Flow = NOBODY) -> None:
        """Raises EngineBusy as `Admission.acquire` does. Cancelling leaves nothing behind."""
        id = next(self._ids)
        turn = self._asked[id] = asyncio.get_running_loop().create_future()
        self._say(Acquire(self._engine, id, wait_s, flow))
        try:
            await turn
        except asyncio.CancelledError:
            self._asked.pop(id, None)
            self._say(Leave(self._engine, id))  # whether it was granted meanwhile or not
            raise
        self._held.append(id)

    def release(self) -> None:
        self._say(Leave(self._engine, self._held.pop()))  # one is as good as another

    def fail_waiting(self, error: Callable[[], EngineError]) -> None:
        asked, self._asked = self._asked, {}
        for id, turn in asked.items():
            self._say(Leave(self._engine, id))
            if not turn.done():
                turn.set_exception(error())

    def take(self, told: Granted | Refused | QueueTold) -> None:
        if isinstance(told, QueueTold):
            self.wait_s, self.place_in_s = told.wait_s, told.place_in_s
            return
        turn = self._asked.pop(told.id, None)
        if turn is None or turn.done():  # given up: that was told already
            return
        if isinstance(told, Granted):
            turn.set_result(None)
        else:
            turn.set_exception(EngineBusy(told.message, retry_after_s=told.retry_after_s))


class Link:
    """The connection to the parent. `host` is usable before `start`, with what the orders told. `on_lost`: the parent is gone."""

    def __init__(self, end: socket.socket, orders: Orders, on_lost: Callable[[], None]) -> None:
        self._end = end
        self._on_lost = on_lost
        self._channel: Channel[Down] | None = None
        self._task: asyncio.Task[None] | None = None
        self._engines = {spec.name: RemoteEngine(spec, self.say) for spec in orders.engines}
        self._slots = {spec.name: RemoteSlots(spec.name, self.say) for spec in orders.engines}
        self.host = Host(orders.worker, {name: SharedEngine(engine, self._slots[name]) for name, engine in self._engines.items()})
        for told in orders.told:
            self._take(told)

    async def start(self) -> None:
        self._channel = Channel(*await asyncio.open_unix_connection(sock=self._end), Down)
        self._task = asyncio.create_task(self._listen(self._channel), name="link to the parent")

    async def stop(self) -> None:
        """Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        if self._channel is not None:
            self._channel.close()

    def say(self, message: Acquire | Leave | Hang | Listening) -> None:
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
            case QueueTold() | Granted() | Refused():
                self._slots[message.engine].take(message)
            case Orders():
                log.error("orders came twice")
