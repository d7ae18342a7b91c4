"""What the processes of one gateway learn of their targets, shared by Redis: each publishes its own, and takes in what the others did.

Nothing of a request waits for it. A Redis that is slow, full or gone costs one short try every round; each process then learns for itself.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from operator import itemgetter
from secrets import token_hex
from time import monotonic

import msgspec
import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from policy.stats import TargetStats

EVERY_S = 3.0
DEADLINE_S = 0.05  # of one exchange with Redis, where nothing else is set
KEPT_ROUNDS = 10  # what a process published outlives it by so many rounds
MAX_TARGETS = 500  # the busiest that are published: about 2 MB
PREFIX = "turnout:stats:2:"  # 2: the form of a dump

Key = tuple[str, str]  # backend, model
_SHARES = msgspec.msgpack.Decoder(list[tuple[str, str, bytes]])

log = structlog.get_logger("turnout.sharing")


class Sharing:
    """One process's part. `targets` tells the statistics there are now. Whoever starts it stops it."""

    def __init__(
        self,
        url: str,
        targets: Callable[[], Mapping[Key, TargetStats]],
        *,
        every_s: float = EVERY_S,
        prefix: str = PREFIX,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._redis = Redis.from_url(url, socket_timeout=deadline_s, socket_connect_timeout=deadline_s, retry=Retry(NoBackoff(), 0))
        self._deadline_s = deadline_s
        self._targets = targets
        self._every_s = every_s
        self._members = f"{prefix}members"
        self._prefix = prefix.encode()
        self._own = token_hex(8).encode()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self.error: str | None = None  # why nothing is shared just now

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="sharing")

    async def stop(self) -> None:
        """Idempotent."""
        self._stopping = True
        while self._task is not None and not self._task.done():
            self._task.cancel()  # again and again: the client loses one that comes while it reads
            await asyncio.wait({self._task}, timeout=DEADLINE_S)
        self._task = None
        with suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(self._deadline_s):
                await self._redis.delete(self._prefix + self._own)
        with suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(self._deadline_s):
                await self._redis.aclose()

    async def _run(self) -> None:
        while not self._stopping:
            try:
                await self.exchange()
            except (RedisError, OSError, TimeoutError) as exc:
                self._told(type(exc).__name__)
            except Exception as exc:  # the task's top: one bad round must not end all later ones
                log.error("sharing statistics failed", exc_info=exc)
            else:
                self._told(None)
            await asyncio.sleep(self._every_s)

    async def exchange(self) -> None:
        """One round. Raises RedisError, OSError or TimeoutError; what was known of the others then stays."""
        mine = await self._dumped()
        kept_ms = int(self._every_s * KEPT_ROUNDS * 1000)
        async with asyncio.timeout(self._deadline_s), self._redis.pipeline(transaction=False) as pipe:
            pipe.set(self._prefix + self._own, mine, px=kept_ms)
            pipe.sadd(self._members, self._own)
            pipe.smembers(self._members)
            members = (await pipe.execute())[-1]
        others = sorted({member for member in members if isinstance(member, bytes)} - {self._own})
        if not others:
            return
        async with asyncio.timeout(self._deadline_s):
            dumps = await self._redis.mget([self._prefix + name for name in others])
        await self._take_in([dump for dump in dumps if isinstance(dump, bytes)])
        if gone := [name for name, dump in zip(others, dumps, strict=True) if dump is None]:
            async with asyncio.timeout(self._deadline_s):
                await self._redis.srem(self._members, *gone)

    async def _dumped(self) -> bytes:
        """What this process saw itself. Requests get their turn between any two targets."""
        known = sorted(((stats.changes, key, stats) for key, stats in self._targets().items() if stats.changes), key=itemgetter(0), reverse=True)
        dumps: list[tuple[str, str, bytes]] = []
        for _, (backend, model), stats in known[:MAX_TARGETS]:
            dumps.append((backend, model, stats.dump(monotonic())))
            await asyncio.sleep(0)
        return msgspec.msgpack.encode(dumps)

    async def _take_in(self, dumps: Iterable[bytes]) -> None:
        """All of the others' together, in place of what they said a round ago."""
        targets, now = self._targets(), monotonic()
        together: dict[Key, TargetStats] = {}
        for dump in dumps:
            try:
                for backend, model, data in _SHARES.decode(dump):
                    if (key := (backend, model)) in targets:
                        together.setdefault(key, TargetStats()).merge(data, now)
                        await asyncio.sleep(0)
            except (msgspec.MsgspecError, ValueError) as exc:
                log.warning("what another process shares cannot be read", error=str(exc))
        for key, stats in together.items():
            targets[key].set_others(stats)

    def _told(self, error: str | None) -> None:
        if (error is None) != (self.error is None):
            log.warning("statistics are shared by Redis" if error is None else "statistics are not shared: Redis fails", error=error)
        self.error = error
