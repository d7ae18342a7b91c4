"""What an engine's backend needs of its supervisor and of its queue, wherever those are: in this process, or in one that it shares them with."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from contract.errors import EngineError, EngineUnavailable
from contract.flow import NOBODY, Flow
from providers.local.process import EngineAddress
from providers.local.spec import EngineSpec
from providers.local.status import EngineState
from providers.reading import Reading


class Supervisor(Protocol):
    """One engine, looked after. `EngineSupervisor` is one; its methods say what each is to do."""

    spec: EngineSpec
    state: EngineState
    generation: int
    page: str
    reading: Reading | None
    stage: str | None
    been_ready: bool
    reason: str | None

    @property
    def ready_in_s(self) -> float: ...
    @property
    def retry_after_s(self) -> float: ...
    @property
    def standing(self) -> str: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def wait_ready(self, timeout_s: float) -> EngineAddress: ...
    async def is_lost(self, generation: int, within_s: float) -> bool: ...
    def unavailable(self) -> EngineUnavailable: ...
    def give_up(self, generation: int, reason: str) -> None: ...


class Want(NamedTuple):
    """What a request needs of an engine. `tokens`: of its prompt, about. `leave`: asks it, once, to give its place to who is interactive.
    `spills`: another target is left for it. `seen`: its first token will be; else nobody knows how long its prompt was read. `begins`: of its prompt
    (providers/local/seats.py), where the engine's slots are ours to choose."""

    flow: Flow = NOBODY
    tokens: int = 0
    slots: int = 1
    leave: Callable[[], None] | None = None
    spills: bool = False
    seen: bool = True
    begins: tuple[int, ...] = ()

    @property
    def is_batch(self) -> bool:
        return self.flow.priority == "batch"


NOTHING = Want()


class Place(Protocol):
    """In the engine, held by one request. `seat`: the number of its slot, where we choose it. `prefill_s`, `decode_s`: of the engine's time, once it
    is released."""

    prefill_s: float
    decode_s: float

    @property
    def seat(self) -> int | None: ...
    def read(self) -> None: ...
    def release(self) -> None: ...


class Slots(Protocol):
    """An engine's slots, and the queue before them. `Admission` is one."""

    @property
    def wait_s(self) -> float: ...
    @property
    def place_in_s(self) -> float: ...
    @property
    def requests(self) -> int: ...
    async def acquire(self, want: Want, wait_s: float) -> Place: ...
    def fail_waiting(self, error: Callable[[], EngineError]) -> None: ...
