"""The parent of several workers: binds the socket, owns the engines, keeps so many workers alive, and ends them all with itself.

A spare process stands by that has imported everything, so that the place of a worker that died is taken within a moment.
"""

import asyncio
import pickle
import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

import msgspec
import structlog
import uvloop

from config.settings import Settings
from gateway.engine_hours import EngineHours
from gateway.server import BACKLOG, GRACE_S, Sockets
from gateway.workers.counting import Sums
from gateway.workers.desk import Desk
from gateway.workers.messages import AskCounts, Counted, Listening, Orders
from gateway.workers.process import WorkerProcess, end_of
from gateway.workers.restarts import MOST, WINDOW_S, Restarts
from gateway.workers.tally import ABSENT, Tally
from ledger.database import open_engine
from providers.http.client import PooledClient
from providers.local.spec import EngineSpec
from providers.local.supervisor import EngineSupervisor

LATE_S = 10.0  # what a worker has beyond its own grace before it is killed
FORCED_S = 5.0  # after a second signal

log = structlog.get_logger("turnout.workers")


class Plan(msgspec.Struct, frozen=True):
    """What is served. `bootstrap_key`: what workers take besides the configuration's keys."""

    settings: Settings
    bootstrap_key: str | None
    engines: tuple[EngineSpec, ...]


def serve_with_workers(plan: Plan, sockets: Sockets, on_listening: Callable[[str], None]) -> int:
    """Serves until SIGINT or SIGTERM; the exit code. `on_listening`: called once, when the first worker listens, with a model's name.

    Raises OSError when another process listens there already.
    """
    sockets.listener.listen(BACKLOG)  # until the first worker takes them, connections wait
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash must not write keys and prompts to a file; workers inherit it
    return uvloop.run(_run(plan, sockets, on_listening))


async def _run(plan: Plan, sockets: Sockets, on_listening: Callable[[str], None]) -> int:
    client = PooledClient()
    desk = Desk([EngineSupervisor(spec, client) for spec in plan.engines])
    ledger = open_engine(plan.settings.state.database)
    hours = EngineHours(desk.queues, ledger)
    parent = Parent(plan, sockets, desk, on_listening)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, parent.signalled)
    try:
        await desk.start()
        hours.start()
        return await parent.run()
    finally:
        await hours.stop()
        await desk.stop()
        ledger.dispose()
        await client.aclose()


class Parent:
    """Keeps the workers. One task for each place among them, one for the spare."""

    def __init__(self, plan: Plan, sockets: Sockets, desk: Desk, on_listening: Callable[[str], None]) -> None:
        self._plan = plan
        self._settings = pickle.dumps(plan.settings)
        self._sockets = sockets
        self._desk = desk
        self._sums = Sums(desk.pages)
        self._tally = Tally.of(plan.settings.server.workers)
        self._on_listening: Callable[[str], None] | None = on_listening
        self._workers: dict[int, WorkerProcess] = {}  # by their place
        self._spare: WorkerProcess | None = None
        self._spare_wanted = asyncio.Event()
        self._stop = asyncio.Event()
        self._forced = asyncio.Event()
        self._failed = False

    def signalled(self) -> None:
        """The first lets streams finish, the second ends them."""
        (self._forced if self._stop.is_set() else self._stop).set()

    async def run(self) -> int:
        """Until it is told to stop, or a worker is given up; the exit code."""
        places = [asyncio.create_task(self._keep(place), name=f"worker {place}") for place in range(1, self._plan.settings.server.workers + 1)]
        spare = asyncio.create_task(self._keep_spare(), name="spare worker")
        stopped = asyncio.create_task(self._stop.wait(), name="stop")
        await asyncio.wait([*places, spare, stopped], return_when=asyncio.FIRST_COMPLETED)
        self._stop.set()
        self._sockets.close()
        spare.cancel()
        await self._end(places)
        await asyncio.wait([spare, stopped])
        for task in (*places, spare):
            if not task.cancelled():
                task.result()  # a fault of ours is shown
        return 1 if self._failed else 0

    # --- one place -----------------------------------------------------------------------------------------------------
    async def _keep(self, place: int) -> None:
        """A worker there, and another when it dies, until all stop or it is given up."""
        restarts = Restarts()
        while not self._stop.is_set():
            lived_s, end = await self._one(place)
            if self._stop.is_set():
                return
            pause_s = restarts.pause_s(lived_s, monotonic())
            if pause_s is None:
                self._failed = True
                log.error(f"a worker was given up: {MOST} died at once within {WINDOW_S:g} s; the gateway ends", worker=place, last=end)
                return
            log.error("worker died", worker=place, end=end, restart_in_s=pause_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stop.wait()

    async def _one(self, place: int) -> tuple[float, str]:
        """One worker from its orders to its end: how long it served, in seconds, and its end in words."""
        try:
            worker = self._workers[place] = await self._take()
        except OSError as exc:
            return 0.0, f"could not be started: {exc}"
        counter = self._desk.open(worker.channel)
        self._sums.open(worker.channel)
        try:
            worker.channel.send(Orders(place, self._settings, self._plan.bootstrap_key, self._desk.specs, self._desk.state()))
            if self._stop.is_set():
                worker.signal(signal.SIGTERM)
            while (message := await worker.channel.receive()) is not None:
                if isinstance(message, Listening):
                    self._listens(place, worker, message)
                elif isinstance(message, Counted | AskCounts):
                    self._sums.take(worker.channel, message)
                else:
                    self._desk.take(counter, message)
        finally:
            self._desk.close(counter)
            self._sums.close(worker.channel)
            self._tally[place] = ABSENT
            code = await worker.end(LATE_S)
            del self._workers[place]
        return worker.lived_s, end_of(code)

    def _listens(self, place: int, worker: WorkerProcess, message: Listening) -> None:
        worker.listening_at = monotonic()
        log.info("worker listens", worker=place, pid=worker.pid)
        told, self._on_listening = self._on_listening, None
        if told is not None:
            told(message.example_model)
        if sum(each.listening_at is not None for each in self._workers.values()) == self._plan.settings.server.workers:
            self._spare_wanted.set()

    # --- the spare -----------------------------------------------------------------------------------------------------
    async def _keep_spare(self) -> None:
        """One more process whenever all places are taken. One that died is missed when it is needed, no sooner."""
        try:
            while True:
                await self._spare_wanted.wait()
                self._spare_wanted.clear()
                if self._spare is None:
                    with suppress(OSError):  # then a place that falls free waits for its interpreter
                        self._spare = await WorkerProcess.spawn(self._sockets, self._tally)
        finally:
            if self._spare is not None:
                await self._spare.end(0.0)

    async def _take(self) -> WorkerProcess:
        """The spare, or a new one where there is none. Raises OSError."""
        spare, self._spare = self._spare, None
        if spare is not None and spare.runs:
            return spare
        if spare is not None:
            await spare.end(0.0)
        return await WorkerProcess.spawn(self._sockets, self._tally)

    # --- the end -------------------------------------------------------------------------------------------------------
    async def _end(self, places: list[asyncio.Task[None]]) -> None:
        """Streams finish within their grace, unless a second signal comes."""
        forced = asyncio.create_task(self._forced.wait(), name="forced")
        all_gone = asyncio.create_task(asyncio.wait(places), name="all workers' end")
        self._signal(signal.SIGTERM)
        await asyncio.wait([all_gone, forced], timeout=GRACE_S + LATE_S, return_when=asyncio.FIRST_COMPLETED)
        for number in (signal.SIGINT, signal.SIGKILL):
            if not all_gone.done():
                self._signal(number)
                await asyncio.wait([all_gone], timeout=FORCED_S)
        forced.cancel()
        await asyncio.wait([all_gone, forced])

    def _signal(self, number: signal.Signals) -> None:
        for worker in self._workers.values():
            worker.signal(number)
