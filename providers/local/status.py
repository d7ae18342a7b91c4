"""How an engine is, as its callers ask for it; told by whoever knows: the supervisor in its own process, or a message from it in another.

stopped --start--> starting --ready--> ready --exit, hang--> restarting --> ready
starting, restarting --several starts in vain--> failed --a later one--> ready
ready --idle--> sleeping --wanted--> waking --> ready
"""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Literal

from contract.errors import EngineUnavailable
from providers.local.process import EngineAddress
from providers.local.spec import EngineSpec
from providers.reading import Reading

EngineState = Literal["stopped", "starting", "ready", "restarting", "failed", "sleeping", "waking"]
COMING: frozenset[EngineState] = frozenset({"starting", "restarting", "waking"})
DOWN: frozenset[EngineState] = frozenset({"starting", "restarting", "failed"})
RESTING: frozenset[EngineState] = frozenset({"sleeping", "waking"})
STOPPED_RETRY_AFTER_S = 60.0  # what a caller is told while nobody works on it


class EngineStatus:
    """`generation` counts the children started. Read on one event loop, on which whoever knows calls `told`."""

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self.state: EngineState = "stopped"
        self.generation = 0
        self.reading: Reading | None = None  # the newest look at the child that is ready
        self.page = ""  # its own metrics, as they were read for that
        self.stage: str | None = None  # of its start, as far as its log tells
        self.been_ready = False  # ever
        self.reason: str | None = None  # why its last child ended, in a line; None once one is ready
        self.wakes_in_s = 0.0  # how long it is thought to take, where it sleeps
        self.idle_s: Callable[[], float] = lambda: 0.0  # for how long nobody wanted it, by its queue
        self.listeners: list[Callable[[EngineStatus], None]] = []  # told of every change, and of every look
        self._expected_at = 0.0
        self._changed = asyncio.Event()

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def address(self) -> EngineAddress | None:
        """How to reach the child that is ready now; None in every state but `ready`."""
        raise NotImplementedError

    @property
    def ready_in_s(self) -> float:
        """When the engine is thought to be ready, if it is being started; below 0 once that has passed."""
        return self._expected_at - monotonic()

    @property
    def retry_after_s(self) -> float:
        """An estimate of the seconds until the engine is ready: 0 when it is."""
        if self.state in ("ready", "sleeping"):  # who asks one that sleeps wakes it, and may find that it is too slow for him
            return 0.0
        if self.state == "stopped":
            return STOPPED_RETRY_AFTER_S
        return max(1.0, self.ready_in_s)

    def told(self, state: EngineState, ready_in_s: float = 0.0) -> None:
        """What is so from now on; wakes all who wait."""
        self.state = state
        self._expected_at = monotonic() + ready_in_s
        self.been_ready = self.been_ready or state == "ready"
        if state == "ready":
            self.reason = None
        if state not in COMING:
            self.stage = None
        self._tell()
        if state != "ready":
            self.page = ""
        self.seen(self.reading if state == "ready" else None)

    def staged(self, stage: str | None) -> None:
        """What its start has come to."""
        if stage != self.stage:
            self.stage = stage
            self._tell()

    def _tell(self) -> None:
        self._changed.set()  # those who come later wait for the next change
        self._changed = asyncio.Event()

    def wake(self) -> None:
        """It is wanted: one that sleeps begins to wake. Does nothing to any other."""
        raise NotImplementedError

    def seen(self, reading: Reading | None) -> None:
        """What a look at the engine showed."""
        self.reading = reading
        for listener in self.listeners:
            listener(self)

    async def changed(self) -> None:
        """Waits until `told` or `staged` is called."""
        await self._changed.wait()

    async def wait_ready(self, timeout_s: float) -> EngineAddress:
        """The address of a child that is ready, waiting for it while it starts or restarts; one that sleeps is woken.

        Raises EngineUnavailable after `timeout_s`; at once when the engine is stopped, failed, or surely not back by then.
        """
        if address := self.address:
            return address
        if self.state == "sleeping":
            self.wake()
        if self.ready_in_s > timeout_s:
            raise self.unavailable()
        try:
            async with asyncio.timeout(timeout_s):
                while self.state in COMING:
                    await self.changed()
        except TimeoutError:
            raise self.unavailable() from None
        if address := self.address:
            return address
        raise self.unavailable()

    async def is_lost(self, generation: int, within_s: float) -> bool:
        """True when the child of that generation serves no more, or is seen to die `within_s`: its broken connections may show it first."""
        try:
            async with asyncio.timeout(within_s):
                while self.generation == generation and self.state == "ready":
                    await self.changed()
        except TimeoutError:
            return False
        return True

    def unavailable(self) -> EngineUnavailable:
        """The error for a caller who cannot be served in the present state."""
        return EngineUnavailable(f"the engine {self.name!r} {self.standing}", retry_after_s=self.retry_after_s)

    @property
    def standing(self) -> str:
        """How it stands, in words that follow its name."""
        if self.reason is not None and self.state in DOWN:
            return f"is down, and will be back in about {self.retry_after_s:.0f} s: {self.reason}"
        return {"ready": "is ready", "stopped": "is stopped", "waking": "slept, and wakes"}.get(self.state, "is not ready yet")
