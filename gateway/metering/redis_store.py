"""The Redis that limits and budgets are kept in: steps of lua/meter.lua, those of many requests in one exchange; and whether it is well.

Nothing waits for it longer than a deadline of this process's own running time: while the process itself is held up, Redis is not to blame.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha1
from importlib.resources import files
from typing import Any

import msgspec
import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

DEADLINE_S = 0.05
NOT_ASKED = "not asked yet"
SLICES = 5  # that the deadline is made of
SLOW_SLICES = 2  # an exchange that took more was slow
SLOW_AT_ONCE = 8  # slow exchanges one after the other: it is as good as lost
BATCH = 16  # steps in one exchange: few, so that what other processes ask comes between
SCRIPT = files("gateway.metering").joinpath("lua/meter.lua").read_text()
SHA = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()  # Redis names scripts by it

log = structlog.get_logger("turnout.meter")


class StoreLost(Exception):
    """Redis does not answer, or not in time, or takes no writes. What was asked of it may have happened."""


class _Asked(msgspec.Struct, eq=False):
    step: str
    args: bytes
    answer: asyncio.Future[Any]


class RedisStore:
    """Whoever opens it closes it. `lost`: why nothing is asked of it just now."""

    def __init__(self, url: str, prefix: str, deadline_s: float = DEADLINE_S) -> None:
        self._redis = Redis.from_url(url, socket_timeout=2, socket_connect_timeout=deadline_s, retry=Retry(NoBackoff(), 0), max_connections=2)
        self._prefix = prefix
        self._deadline_s = deadline_s
        self._asked: deque[_Asked] = deque()
        self._wake = asyncio.Event()
        self._lane: asyncio.Task[None] | None = None
        self._slow = 0
        self.lost: str | None = NOT_ASKED

    def open(self) -> None:
        self._lane = asyncio.create_task(self._run(), name="meter-store")

    async def close(self) -> None:
        """Idempotent."""
        lane, self._lane = self._lane, None
        if lane is not None:
            await _ended(lane)
        self.lost = self.lost or "closed"
        self._fail(self.lost)
        with suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(self._deadline_s):
                await self._redis.aclose()

    async def ask(self, step: str, args: Sequence[Any], *, probe: bool = False) -> Any:
        """One step's reply. Raises StoreLost; at once while Redis is lost, unless this is the `probe` that looks whether it is back."""
        return await self.post(step, args, probe=probe)

    def post(self, step: str, args: Sequence[Any], *, probe: bool = False) -> asyncio.Future[Any]:
        """As `ask`, for who does not wait. Steps happen in the order in which they were posted. Raises StoreLost."""
        if self._lane is None or (self.lost is not None and not probe):
            raise StoreLost(self.lost or "closed")
        asked = _Asked(step, msgspec.msgpack.encode(args), asyncio.get_running_loop().create_future())
        self._asked.append(asked)
        self._wake.set()
        return asked.answer

    def found(self) -> bool:
        """It has answered a probe. False: too slowly to be asked again."""
        if self._slow:
            self.lost = "slow"
        elif self.lost is not None:
            (log.info if self.lost is NOT_ASKED else log.warning)("limits and budgets are shared by Redis")
            self.lost = None
        return self.lost is None

    # --- the lane ----------------------------------------------------------------------------------------------------
    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._asked:
                batch = [self._asked.popleft() for _ in range(min(BATCH, len(self._asked)))]
                if batch := [asked for asked in batch if not asked.answer.done()]:  # nobody waits for the others any more: they are not asked
                    await self._exchange(batch)

    async def _exchange(self, batch: list[_Asked]) -> None:
        """Answers everyone of the batch, with a reply or StoreLost."""
        task = asyncio.create_task(self._send(batch))
        slices = 0
        try:
            while not task.done() and slices < SLICES:
                await asyncio.wait({task}, timeout=self._deadline_s / SLICES)
                slices += 1
        finally:
            if not task.done():
                await _ended(task)
        error = TimeoutError() if task.cancelled() else task.exception()
        if error is not None:
            self._fail(f"{type(error).__name__}: {error}", batch)
            with suppress(RedisError, OSError):
                await self._redis.connection_pool.disconnect()
            return
        for asked, reply in zip(batch, task.result(), strict=True):
            if not asked.answer.done():
                asked.answer.set_result(msgspec.msgpack.decode(reply))
        self._slow = self._slow + 1 if slices > SLOW_SLICES else 0
        if self._slow >= SLOW_AT_ONCE and self.lost is None:
            self._fail("slow")

    async def _send(self, batch: list[_Asked]) -> list[bytes]:
        replies = await self._evaluate(batch)
        if unknown := [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]:
            await self._redis.script_load(SCRIPT)
            for at, reply in zip(unknown, await self._evaluate([batch[at] for at in unknown]), strict=True):
                replies[at] = reply
        for reply in replies:
            if not isinstance(reply, bytes):
                raise reply if isinstance(reply, Exception) else RedisError("no reply")
        return replies

    async def _evaluate(self, batch: list[_Asked]) -> list[Any]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for asked in batch:
                pipe.evalsha(SHA, 1, self._prefix, asked.step, asked.args)
            return await pipe.execute(raise_on_error=False)

    def _fail(self, why: str, batch: Sequence[_Asked] = ()) -> None:
        if self.lost is None:
            log.warning("limits and budgets are not shared: Redis fails", error=why)
        self.lost = why
        for asked in (*batch, *self._asked):
            if not asked.answer.done():
                asked.answer.set_exception(StoreLost(why))
        self._asked.clear()


async def _ended(task: asyncio.Task[Any]) -> None:
    """Cancels it for as long as it takes: the client loses a cancellation that comes while it reads."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=DEADLINE_S)
