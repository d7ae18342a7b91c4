"""Exports spans and metrics to an OpenTelemetry collector: OTLP over HTTP as protobuf, in the background, and lost rather than waited for."""

import asyncio
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from importlib.metadata import version
from random import random
from socket import gethostname
from urllib.parse import urlsplit

import structlog
from google.protobuf.message import Message
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from config.telemetry import TelemetrySettings
from contract.errors import AttemptError
from gateway.metrics.gathering import Gathering
from gateway.telemetry.meters import metrics
from gateway.telemetry.spans import Value, traces
from gateway.watching import Request
from providers.http.port import Clocks, Endpoint, HttpClient, Origin

GATHER_S = 1.0  # how long spans are gathered
BATCH = 512  # requests in one export
MOST_WAITING = 4096  # requests; what comes beyond is lost, and counted
ATTEMPTS = 3
LAST_S = 3.0  # for what is left when the gateway stops
CLOCKS = Clocks(connect_s=3, headers_s=10, first_token_s=10, idle_s=5, total_s=15)
MAX_ANSWER = 1 << 16
AGAIN = frozenset({429, 502, 503, 504})  # what OTLP says may be sent again

log = structlog.get_logger("turnout.telemetry")


class Exporter:
    """Whoever starts it stops it. `kinds`: of each provider and engine, by its name."""

    def __init__(self, settings: TelemetrySettings, client: HttpClient, gathering: Gathering, kinds: Mapping[str, str]) -> None:
        url = urlsplit(settings.endpoint)
        tls = url.scheme == "https"
        self._origin = Origin(url.hostname or "", url.port or (443 if tls else 80), tls)
        self._path = url.path.rstrip("/")
        given = ((name.lower().encode(), value.encode()) for name, value in settings.headers.items())
        self._headers = ((b"content-type", b"application/x-protobuf"), *given)
        self._share = settings.sample
        self._every_s = settings.metrics_every_s
        self._client = client
        self._gathering = gathering
        self._kinds = dict(kinds)
        self._version = version("turnout")
        self._resource: dict[str, Value] = {
            "service.name": settings.service,
            "service.version": self._version,
            "service.instance.id": f"{gethostname()}:{os.getpid()}",
        }
        self._since_ns = time.time_ns()
        self._waiting: deque[Request] = deque()
        self._tasks: list[asyncio.Task[None]] = []
        self._failing = False
        self.dropped = 0

    def sample(self) -> bool:
        """Whether a request that carries no trace begins one."""
        return self._share >= 1.0 or random() < self._share

    def add(self, request: Request) -> None:
        """Never blocks."""
        if len(self._waiting) >= MOST_WAITING:
            self.dropped += 1
        else:
            self._waiting.append(request)

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._keep_traces(), name="traces"), asyncio.create_task(self._keep_metrics(), name="telemetry's metrics")]

    async def stop(self) -> None:
        """What waits is exported, if that is quickly done. Idempotent."""
        tasks, self._tasks = self._tasks, []
        if not tasks:
            return
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        try:
            async with asyncio.timeout(LAST_S):
                await self._guarded(self._export_traces)
                await self._guarded(self._export_metrics)
        except TimeoutError:
            log.warning("telemetry was not exported to its end", requests=len(self._waiting))

    async def _keep_traces(self) -> None:
        while True:
            await asyncio.sleep(GATHER_S)
            await self._guarded(self._export_traces)

    async def _keep_metrics(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            await self._guarded(self._export_metrics)

    async def _guarded(self, export: Callable[[], Awaitable[None]]) -> None:
        try:
            await export()
        except Exception as exc:  # the task's top: one batch that cannot be told must not end all later ones
            log.error("telemetry failed", exc_info=exc)

    async def _export_traces(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            await self._send("/v1/traces", await asyncio.to_thread(traces, batch, self._resource, self._kinds, self._version), len(batch))

    async def _export_metrics(self) -> None:
        """Of this process; a collector adds several."""
        snapshot, span_ns = self._gathering.own(), (self._since_ns, time.time_ns())
        await self._send("/v1/metrics", await asyncio.to_thread(metrics, snapshot, self._resource, self._kinds, self._version, span_ns), 0)

    async def _send(self, path: str, message: Message, requests: int) -> None:
        """Tries a few times, then gives up what it was given."""
        try:
            waits = wait_exponential_jitter(multiplier=0.2, max=2.0)
            retrying = AsyncRetrying(stop=stop_after_attempt(ATTEMPTS), wait=waits, retry=retry_if_exception_type(_Again), reraise=True)
            async for attempt in retrying:
                with attempt:
                    await self._post(path, message.SerializeToString())
        except (_Again, _Refused) as error:
            self.dropped += requests
            self._told(str(error))
        else:
            self._told(None)

    async def _post(self, path: str, body: bytes) -> None:
        """Raises _Again, _Refused."""
        try:
            response = await self._client.send(Endpoint(self._origin, self._path + path, self._headers), body, CLOCKS)
            try:
                await response.read(MAX_ANSWER)
            except asyncio.CancelledError:
                response.abort()
                raise
        except AttemptError as error:
            raise _Again(error.reason) from error
        if response.status in AGAIN:
            raise _Again(f"status {response.status}")
        if response.status not in (HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT):
            raise _Refused(f"status {response.status}")

    def _told(self, error: str | None) -> None:
        """Says it once, when it begins to fail and when it does no more."""
        if error is not None and not self._failing:
            log.warning("telemetry is not exported", error=error)
        elif error is None and self._failing:
            log.warning("telemetry is exported again", lost_requests=self.dropped)
        self._failing = error is not None


class _Again(Exception):
    """The collector may take it later."""


class _Refused(Exception):
    """The collector does not take it."""
