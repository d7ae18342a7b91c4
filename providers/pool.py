"""Somebody else's engines behind one base URL (vLLM's production stack, llm-d, SGLang, Ray Serve …): how loaded they say they are."""

import asyncio
from time import monotonic

import msgspec
import structlog

from contract.errors import AttemptError
from providers.http.page import page
from providers.http.port import Endpoint, HttpClient, Origin
from providers.reading import Reader, Reading, page_of

EVERY_S = 0.2
LOOK_S = 2.0
SLOW_S = 5.0  # between two looks where the last one failed
OLD_S = 2.0  # what was told longer ago says nothing of now

log = structlog.get_logger("turnout.pool")


class Pool:
    """Looks at a metrics page, five times a second. Whoever starts it stops it. Without news of it nothing is assumed."""

    def __init__(self, name: str, origin: Origin, path: str, client: HttpClient) -> None:
        self.name = name
        self._endpoint = Endpoint(origin, path, method="GET")
        self._client = client
        self._task: asyncio.Task[None] | None = None
        self._reading: Reading | None = None
        self._page = ""
        self._well = True

    @property
    def reading(self) -> Reading | None:
        """The newest, if it is not old."""
        seen = self._reading
        return seen if seen is not None and monotonic() - seen.at < OLD_S else None

    @property
    def page(self) -> str:
        """Its own metrics, as they were read for that; empty where they are old."""
        return "" if self.reading is None else self._page

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"metrics of {self.name}")

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        reader = Reader()
        while True:
            began = monotonic()
            error = await self._look(reader)
            if self._well and error is not None:
                log.warning("metrics_unreadable", provider=self.name, error=error)
            self._well = error is None
            await asyncio.sleep(SLOW_S if error is not None else max(EVERY_S / 4, EVERY_S - (monotonic() - began)))

    async def _look(self, reader: Reader) -> str | None:
        """What went wrong; None: nothing."""
        try:
            body = await page(self._client, self._endpoint, LOOK_S)
            text = body.decode(errors="replace")
            self._reading, self._page = reader.read(monotonic(), page_of(text)), text
        except AttemptError as error:
            return error.message
        except (msgspec.MsgspecError, ValueError) as error:
            return str(error)
        return None
