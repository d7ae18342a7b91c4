"""What the parent of several workers and each of them say to one another: msgpack, each message after its length, over a pair of sockets.

The pair has no name, so nobody else can come in, and its end is seen at once by the other, however one of the two died.
"""

import asyncio
import socket
from contextlib import suppress
from typing import Any, Generic, TypeVar

import msgspec

from contract.flow import Flow
from providers.local.process import EngineAddress
from providers.local.spec import EngineSpec
from providers.local.status import EngineState, EngineStatus
from providers.reading import Reading

LENGTH_BYTES = 4
ENDED_S = 1.0
SLOW_BYTES = 1 << 20  # waiting to be read by the other side: what will be said anew is left out meanwhile


# --- the parent's ------------------------------------------------------------------------------------------------------
class EngineTold(msgspec.Struct, frozen=True, tag=True):
    """How an engine is. `socket` and `key` reach the child that is ready. `wakes_in_s`: how long it is thought to take, where it sleeps."""

    engine: str
    state: EngineState
    generation: int
    ready_in_s: float
    stage: str | None = None
    been_ready: bool = False
    wakes_in_s: float = 0.0
    reason: str | None = None
    socket: str = ""
    key: str = ""


class QueueTold(msgspec.Struct, frozen=True, tag=True):
    """How long who comes to an engine now would wait, and until the queue has room. `requests`: in the engine.

    `work_at`: its time as it is divided (providers/local/work.py) at `at`, a moment of the host's monotonic clock; it goes on while it is `up`.
    """

    engine: str
    wait_s: float
    place_in_s: float
    requests: int
    work_at: float
    up: bool
    at: float


class ReadingTold(msgspec.Struct, frozen=True, tag=True):
    """A look at an engine."""

    engine: str
    reading: Reading


class Orders(msgspec.Struct, frozen=True, tag=True):
    """What a worker is to serve. `settings`: pickled, because a configuration's secrets have no text of their own."""

    worker: int
    settings: bytes
    bootstrap_key: str | None
    engines: tuple[EngineSpec, ...]
    told: tuple[EngineTold | QueueTold, ...]


class Granted(msgspec.Struct, frozen=True, tag=True):
    """The slot that a worker asked for is its own, until it leaves it. `seat`: its number, where we choose it."""

    engine: str
    id: int
    seat: int | None = None


class Refused(msgspec.Struct, frozen=True, tag=True):
    """No slot: the queue was full, or the wait too long."""

    engine: str
    id: int
    message: str
    retry_after_s: float | None


class MakeRoom(msgspec.Struct, frozen=True, tag=True):
    """The slot is asked back, for who is interactive."""

    engine: str
    id: int


class TellCounts(msgspec.Struct, frozen=True, tag=True):
    """What did you count so far? The answer names the round."""

    round: int


class AllCounted(msgspec.Struct, frozen=True, tag=True):
    """What all workers counted, an encoded `gateway.metrics.snapshot.Snapshot`. `pages`: the engines' own metrics."""

    id: int
    snapshot: bytes
    pages: dict[str, str]


Down = Orders | EngineTold | QueueTold | ReadingTold | Granted | Refused | MakeRoom | TellCounts | AllCounted


# --- a worker's --------------------------------------------------------------------------------------------------------
class Listening(msgspec.Struct, frozen=True, tag=True):
    """Requests are taken. `example_model`: a name that may be asked for."""

    example_model: str


class Acquire(msgspec.Struct, frozen=True, tag=True):
    """A slot is wanted, or several. `id`: the worker's own, never used again. `tokens`: of the prompt. `may_leave`: it can be asked back.
    `spills`: another target is left for the request. `seen`: its first token will be. `begins`: of the prompt (providers/local/seats.py)."""

    engine: str
    id: int
    wait_s: float
    flow: Flow
    tokens: int = 0
    slots: int = 1
    may_leave: bool = False
    spills: bool = False
    seen: bool = True
    begins: tuple[int, ...] = ()


class Read(msgspec.Struct, frozen=True, tag=True):
    """Who has the slot gave its first token."""

    engine: str
    id: int


class Leave(msgspec.Struct, frozen=True, tag=True):
    """The slot is given back, or not wanted any more."""

    engine: str
    id: int


class Hang(msgspec.Struct, frozen=True, tag=True):
    """The engine's child of that generation hangs, or serves no more."""

    engine: str
    generation: int
    reason: str


class Wake(msgspec.Struct, frozen=True, tag=True):
    """The engine sleeps, and is wanted."""

    engine: str


class Counted(msgspec.Struct, frozen=True, tag=True):
    """What this worker counted since its start. `round`: 0 where nobody asked."""

    round: int
    snapshot: bytes


class AskCounts(msgspec.Struct, frozen=True, tag=True):
    """What did all count?"""

    id: int


Up = Listening | Acquire | Read | Leave | Hang | Wake | Counted | AskCounts

In = TypeVar("In")


class Channel(Generic[In]):
    """One side. `send` never waits; what comes is decoded as `kind`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: Any) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder: msgspec.msgpack.Decoder[In] = msgspec.msgpack.Decoder(kind)

    @property
    def slow(self) -> bool:
        """Much of what was said is not read yet."""
        return self._writer.transport.get_write_buffer_size() > SLOW_BYTES

    def send(self, message: Down | Up) -> None:
        if not self._writer.is_closing():
            self._writer.write(framed(message))

    async def receive(self) -> In | None:
        """The next message; None: the other side is gone."""
        try:
            length = int.from_bytes(await self._reader.readexactly(LENGTH_BYTES))
            return self._decoder.decode(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError):
            return None

    def close(self) -> None:
        self._writer.close()

    async def ended(self) -> None:
        """Closes it once what was said is the other side's, or that does not listen for ENDED_S."""
        self._writer.close()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(ENDED_S):
                await self._writer.wait_closed()


def framed(message: Down | Up) -> bytes:
    data = msgspec.msgpack.encode(message)
    return len(data).to_bytes(LENGTH_BYTES) + data


def read_orders(end: socket.socket) -> Orders | None:
    """Waits for the first message to a worker, without an event loop; None: the parent is gone."""
    length = _exactly(end, LENGTH_BYTES)
    data = length and _exactly(end, int.from_bytes(length))
    return msgspec.msgpack.decode(data, type=Orders) if data else None


def _exactly(end: socket.socket, count: int) -> bytes:
    """So many bytes; none, when the other side is gone."""
    parts = bytearray()
    while len(parts) < count:
        part = end.recv(count - len(parts))
        if not part:
            return b""
        parts += part
    return bytes(parts)


def state_of(engine: EngineStatus) -> EngineTold:
    address = engine.address
    told = EngineTold(
        engine=engine.name,
        state=engine.state,
        generation=engine.generation,
        ready_in_s=engine.ready_in_s,
        stage=engine.stage,
        been_ready=engine.been_ready,
        wakes_in_s=engine.wakes_in_s,
        reason=engine.reason,
    )
    return told if address is None else msgspec.structs.replace(told, socket=str(address.origin.uds), key=address.key)


def address_in(told: EngineTold) -> EngineAddress | None:
    return EngineAddress(told.generation, told.socket, told.key) if told.socket else None
