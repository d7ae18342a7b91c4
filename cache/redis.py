"""Answers that several processes share, in Redis: one namespace, each with its time to live. And whose turn it is to ask for a new one.

Nobody waits for Redis longer than its deadline. One that fails or is late is left alone for a while and as long as the process knows it to be lost,
and then tried by one request at a time. Implements `cache.port.Store`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from secrets import token_bytes
from time import monotonic
from typing import Any, TypeVar

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, RedisError

from cache.port import MAX_ANSWER, Entry, Kept, packed, unpacked

DEADLINE_S = 0.05
SLICES = 5  # that the deadline is made of: while the process itself is held up, one passes at most
REST_S = 1.0  # for which a Redis that failed is left alone
LEASE_MS = 1_500  # so long after its leader died another process goes on
RENEW_S = LEASE_MS / 3000
LOOK_S = 0.1  # between two looks for an answer that another process makes
ONCE_MORE = Retry(NoBackoff(), 1, (ConnectionError,))  # a pooled connection may be one to a Redis that has been restarted since
PREFIX = b"turnout:cache:1:"  # 1: the form of an entry
LEASES = b"turnout:cache:lease:1:"
_RENEW = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('pexpire', KEYS[1], ARGV[2]) end return 0"
_RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"

T = TypeVar("T")

log = structlog.get_logger("turnout.cache")


class _Lost(Exception):
    """Redis does not answer just now."""


class RedisStore:
    """Whoever makes it closes it. `lost`: whether the process knows, from who looks in the background, that this Redis is lost."""

    def __init__(self, url: str, lost: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
        self._redis = Redis.from_url(url, socket_timeout=2, socket_connect_timeout=deadline_s, retry=ONCE_MORE)
        self._deadline_s = deadline_s
        self._lost = lost
        self._under_way: set[asyncio.Task[Any]] = set()
        self._rest_until = 0.0
        self._probing = False
        self.error: str | None = None  # why it is left alone

    async def get(self, key: bytes) -> Kept | None:
        try:
            return await self._asked(lambda: self._get(key))
        except _Lost:
            return None

    async def put(self, key: bytes, entry: Entry, ttl_s: float) -> None:
        data = packed(entry)
        if len(data) <= MAX_ANSWER and (ttl_ms := int(ttl_s * 1000)) > 0:
            try:
                await self._asked(lambda: self._redis.set(PREFIX + key, data, px=ttl_ms))
            except _Lost:
                return

    async def turn(self, key: bytes, wait_s: float) -> "Kept | RedisLease | None":
        until = monotonic() + wait_s
        name, token = LEASES + key, token_bytes(16)
        try:
            while not await self._asked(lambda: self._redis.set(name, token, nx=True, px=LEASE_MS)):
                if monotonic() + LOOK_S > until:
                    return None
                await asyncio.sleep(LOOK_S)
                if (found := await self._asked(lambda: self._get(key))) is not None:
                    return found
            if (found := await self._asked(lambda: self._get(key))) is not None:  # made between the first look and the lease
                await self._asked(lambda: self._redis.eval(_RELEASE, 1, name, token))
                return found
        except _Lost:
            return None
        return RedisLease(self, name, token)

    async def _get(self, key: bytes) -> Kept | None:
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.get(PREFIX + key)
            pipe.pttl(PREFIX + key)
            data, left_ms = await pipe.execute()
        entry = unpacked(data) if isinstance(data, bytes) else None
        return None if entry is None or left_ms <= 0 else Kept(entry, left_ms / 1000)

    async def renewed(self, name: bytes, token: bytes) -> None:
        """Raises nothing: a lease that cannot be renewed ends by itself."""
        try:
            await self._asked(lambda: self._redis.eval(_RENEW, 1, name, token, LEASE_MS))
        except _Lost:
            return

    async def released(self, name: bytes, token: bytes) -> None:
        try:
            await self._asked(lambda: self._redis.eval(_RELEASE, 1, name, token))
        except _Lost:
            return

    async def aclose(self) -> None:
        """Idempotent."""
        while self._under_way:
            for task in self._under_way:
                task.cancel()  # again and again: the client loses one that comes while it reads
            await asyncio.wait(self._under_way, timeout=DEADLINE_S)
        try:
            async with asyncio.timeout(self._deadline_s):
                await self._redis.aclose()
        except (RedisError, OSError, TimeoutError):
            return

    # --- within the deadline -------------------------------------------------------------------------------------------
    async def _asked(self, work: Callable[[], Awaitable[T]]) -> T:
        """Raises _Lost. A task of its own: the client loses a cancellation that comes while it reads."""
        probe = self.error is not None
        if probe and (self._probing or monotonic() < self._rest_until or self._lost()):
            raise _Lost
        self._probing = probe
        task = asyncio.ensure_future(work())
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        try:
            for _ in range(SLICES):
                await asyncio.wait({task}, timeout=self._deadline_s / SLICES)
                if task.done():
                    break
            else:
                raise TimeoutError
            answer = task.result()
        except (RedisError, OSError, TimeoutError) as exc:
            task.cancel()
            self._rest_until = monotonic() + REST_S
            self._told(type(exc).__name__)
            raise _Lost from exc
        finally:
            if probe:
                self._probing = False
        self._told(None)
        return answer

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited has been told

    def _told(self, error: str | None) -> None:
        if (error is None) != (self.error is None):
            log.warning("answers are shared by Redis" if error is None else "answers are not shared: Redis fails", error=error)
        self.error = error


class RedisLease:
    """Held by one process, renewed while the answer is made. It ends by itself when the process dies."""

    def __init__(self, store: RedisStore, name: bytes, token: bytes) -> None:
        self._store, self._name, self._token = store, name, token
        self._renewing = asyncio.create_task(self._renew(), name="cache-lease")

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            await self._store.renewed(self._name, self._token)

    async def release(self) -> None:
        self._renewing.cancel()
        await self._store.released(self._name, self._token)
