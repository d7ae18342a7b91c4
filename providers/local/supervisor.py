"""Keeps one engine's child process alive: starts it, watches it, and starts it again after a crash, ever more slowly while it is of no use.

Any exit that nobody asked for is a crash, exit code 0 too. A request in flight learns of it at once, because its connection breaks.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

from providers.http.port import HttpClient
from providers.local.cores import Cores
from providers.local.folders import remove_left_folders
from providers.local.health import LOST, health
from providers.local.process import CHILDREN, EngineAddress, EngineProcess
from providers.local.sleep import fall_asleep, wake_up
from providers.local.spec import EngineSpec, Pace
from providers.local.status import EngineState, EngineStatus
from providers.local.watch import watch

FIRST_START_S = {"llamacpp": 2.0, "vllm": 120.0, "ray-serve": 60.0}  # how long a start is thought to take before one was seen
EXITED = "exited"  # stands for the exit code, known once the process was reaped
ASLEEP = "asleep"  # it was stopped because nobody wanted it, and somebody will
FIRST_WAKE_S = 5.0  # how long one that keeps its process is thought to take to wake before it was seen

log = structlog.get_logger("turnout.engine")


class EngineSupervisor(EngineStatus):
    """Owns one engine's child. `start` and `stop` from one event loop; everything else only reads.

    `state` with `detail` in words (for operators: it may quote the engine's log).
    """

    def __init__(self, spec: EngineSpec, client: HttpClient, pace: Pace | None = None, command: tuple[str, ...] | None = None) -> None:
        super().__init__(spec)
        self.detail = "not started"
        self._client = client
        self._pace = pace or Pace()
        self._command = command or CHILDREN[spec.kind]
        self._task: asyncio.Task[None] | None = None
        self._process: EngineProcess | None = None
        self._crashes = 0  # in succession: no child lived long between them
        self._vain_starts = 0  # in succession
        self._start_took_s = FIRST_START_S[spec.kind]
        self._wake_took_s = FIRST_WAKE_S
        self._ready_at: float | None = None  # of this child, or of its last waking
        self._wanted = asyncio.Event()
        self._given_up: str | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id; None between children."""
        return self._process.pid if self._process else None

    @property
    def address(self) -> EngineAddress | None:
        """How to reach the child that is ready now; None in every state but `ready`."""
        return self._process.address if self._process and self.state == "ready" else None

    async def start(self) -> None:
        """Begins to look after the engine and returns at once. Does nothing to one that is looked after."""
        if self._task is None or self._task.done():
            remove_left_folders()
            self._crashes = self._vain_starts = 0
            self.reason = None
            self._enter("starting", "starting", self._start_took_s)
            self._task = asyncio.create_task(self._run(), name=f"engine {self.name}")

    async def stop(self) -> None:
        """Ends the child and its process group, and waits until they are gone. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self._enter("stopped", "stopped")

    def give_up(self, generation: int, reason: str) -> None:
        """Someone saw the child of that generation hang, or serve no more: it is killed, and started again as after any crash."""
        if self._process is not None and generation == self.generation and self.state == "ready":
            self._given_up = reason
            self._enter("restarting", reason, self._start_took_s)  # nobody may take the address from here on
            self._process.kill()

    def wake(self) -> None:
        if self.state == "sleeping":
            self._enter("waking", "waking", self.wakes_in_s)
            self._wanted.set()

    # --- the one task ----------------------------------------------------------------------------------------------
    async def _run(self) -> None:
        while True:
            try:
                reason = await self._live_and_die()
            except Exception as error:  # a fault of ours, which must show, and must not leave the engine to itself
                log.exception("engine_supervisor_failed", engine=self.name)
                reason = self.reason = f"the supervisor failed: {error!r}"
            if reason == ASLEEP:
                await self._wanted.wait()
                continue
            await asyncio.sleep(self._crashed(reason))

    async def _live_and_die(self) -> str:
        """One child from spawn to end; returns why it ended, with its last words."""
        self.generation += 1
        self._given_up = None
        self._ready_at = None
        began = asyncio.get_running_loop().time()
        try:
            process = self._process = await EngineProcess.spawn(self.spec, self.generation, self._command)
        except OSError as error:
            self.reason = f"could not be started: {error}"
            return self.reason
        process.on_stage = self.staged
        try:
            reason = await self._until_ready(process)
            if reason is None:
                process.cause.is_ready()
                self._start_took_s = self._serves(process, began)
                watching = asyncio.create_task(watch(self, self._client), name=f"engine {self.name} metrics")
                try:
                    reason = await self._until_lost(process)
                finally:
                    watching.cancel()
                if reason != ASLEEP:
                    self._enter("restarting", self._given_up or reason, self._start_took_s)
        finally:
            code = await _to_its_end(process.end(self._pace.stop_grace_s))
            self._process = None
        if reason == ASLEEP:
            return reason
        if reason == EXITED:
            reason = f"exited with code {code}" if code >= 0 else f"killed by signal {-code}"
        reason = self._given_up or reason
        self.reason = f"{reason}: {process.cause.told}" if process.cause.told else reason
        return f"{reason}; its last words:\n" + "\n".join(process.tail) if process.tail else reason

    async def _until_ready(self, process: EngineProcess) -> str | None:
        """None: it is ready. Otherwise why it will not be."""
        try:
            async with asyncio.timeout(self.spec.start_timeout_s):
                return None if await process.said_ready() else EXITED
        except TimeoutError:
            return f"was not ready within {self.spec.start_timeout_s:g} s"

    async def _until_lost(self, process: EngineProcess) -> str:
        """Waits for the child's exit, asking for its health meanwhile; returns why it is lost."""
        failures, cores = 0, Cores.of(process.pid) if self.spec.kind == "vllm" else Cores()
        while failures < self._pace.health_failures:
            if (reason := await self._until_next_look(process, cores)) is not None:
                return reason
            failures = 0 if await self._looks_well(process) else failures + 1
            if self._given_up is not None:
                return EXITED
            if not failures and self._is_idle() and (reason := await self._sleep(process)) is not None:
                return reason
        self.give_up(self.generation, f"failed {failures} health checks in a row")  # no SIGTERM will be heard, and the requests in it wait
        return EXITED

    async def _until_next_look(self, process: EngineProcess, cores: Cores) -> str | None:
        """None: the next check of its health is due. Otherwise why it is lost."""
        pace, loop = self._pace, asyncio.get_running_loop()
        due = loop.time() + pace.health_every_s
        while (left_s := due - loop.time()) > 0:
            if await process.exit_within(min(left_s, pace.core_every_s)) is not None:
                return EXITED
            now = loop.time()
            lost = cores.gone() or cores.stopped(now, pace.still_s) or cores.still(now, pace.silent_s, self.idle_s() <= 0 and self._runs())
            if lost is not None:
                self.give_up(self.generation, lost)
                return EXITED
        return None

    def _runs(self) -> bool:
        """Whether requests run in it, by its own last word."""
        return self.reading is not None and bool(self.reading.running)

    async def _looks_well(self, process: EngineProcess) -> bool:
        """Whether it answers a health check. Gives it up when it computes nothing meanwhile, or says itself that it is dead."""
        computed = process.computed_ns()
        look = asyncio.create_task(health(self._client, process.address, self._pace.health_timeout_s), name=f"engine {self.name} health")
        try:
            await asyncio.wait([look], timeout=self._pace.still_s)
            if not look.done() and computed is not None and process.computed_ns() == computed:
                self.give_up(self.generation, f"hung: it neither answered nor computed anything for {self._pace.still_s:g} s")
                return False
            found = await look
        finally:
            look.cancel()
        if found in LOST:
            self.give_up(self.generation, LOST[found])
        return found == "well"

    def _serves(self, process: EngineProcess, began: float) -> float:
        """It is ready; the seconds that took."""
        self._ready_at = now = asyncio.get_running_loop().time()
        took_s = now - began
        self._enter("ready", f"ready after {took_s:.2f} s, process {process.pid}")
        return took_s

    def _is_idle(self) -> bool:
        after_s, since = self.spec.sleep_after_s, self._ready_at
        return after_s is not None and since is not None and self.idle_s() >= after_s and asyncio.get_running_loop().time() - since >= after_s

    async def _sleep(self, process: EngineProcess) -> str | None:
        """Until it is wanted. None: it is awake again. ASLEEP: it cannot sleep, and is to be stopped instead. Else why it is lost."""
        self._wanted.clear()
        self.wakes_in_s = self._wake_took_s if self.spec.kind == "vllm" else self._start_took_s
        unwanted = f"nobody wanted it for {self.spec.sleep_after_s:g} s"
        self._enter("sleeping", unwanted)
        if self.spec.kind != "vllm" or not await fall_asleep(self._client, process.address):
            self.wakes_in_s = self._start_took_s
            self._enter(self.state, "stopped until it is wanted", self._start_took_s if self.state == "waking" else 0.0)
            return ASLEEP
        if self.state == "sleeping":
            self._enter("sleeping", f"{unwanted}; its process stays")
        waits = {asyncio.create_task(process.exited()), asyncio.create_task(self._wanted.wait())}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        if not self._wanted.is_set():
            return EXITED
        began = asyncio.get_running_loop().time()
        if not await wake_up(self._client, process.address):
            return "did not wake up"
        self._wake_took_s = self._serves(process, began)
        return None

    def _crashed(self, reason: str) -> float:
        """Counts the crash; the seconds until the next start."""
        lived_s = None if self._ready_at is None else asyncio.get_running_loop().time() - self._ready_at
        self._crashes = self._pace.crashes_after(self._crashes, lived_s)
        self._vain_starts = self._vain_starts + 1 if lived_s is None else 0
        failed = self._vain_starts >= self._pace.max_starts
        backoff_s = self._pace.max_backoff_s if failed else self._pace.backoff_s(self._crashes)
        words = f"{self._vain_starts} starts in a row came to nothing; the last: {reason}" if failed else reason
        self._enter("failed" if failed else "restarting", words, backoff_s + self._start_took_s)
        log.error("engine_crashed", engine=self.name, crashes=self._crashes, vain_starts=self._vain_starts, restart_in_s=backoff_s, reason=reason)
        return backoff_s

    def _enter(self, state: EngineState, detail: str, ready_in_s: float = 0.0) -> None:
        if state != self.state:
            log.info("engine_state", engine=self.name, state=state, generation=self.generation)
        self.detail = detail
        self.told(state, ready_in_s)


async def _to_its_end(ending: Coroutine[Any, Any, int]) -> int:
    """What it gives; also where who waits is cancelled meanwhile it goes on to its end, and only then is he."""
    task = asyncio.ensure_future(ending)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
