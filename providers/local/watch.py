"""Looks at an engine that is ready, five times a second and more, for as long as its child lives: what runs in it, what waits, how full it is."""

import asyncio
from time import monotonic

import msgspec
import structlog

from contract.errors import AttemptError
from providers.http.page import page
from providers.http.port import Endpoint, HttpClient
from providers.local.process import EngineAddress
from providers.local.status import EngineStatus
from providers.reading import Reader, page_of

EVERY_S = 0.15
LOOK_S = 5.0  # an engine answers between two steps, and reading a long prompt is one

log = structlog.get_logger("turnout.engine")


async def watch(engine: EngineStatus, client: HttpClient) -> None:
    """Until it is cancelled. Whether the engine lives is for others to judge: a look that fails is no news."""
    reader, address, told = Reader(), engine.address, False
    with_slots = engine.spec.kind == "llamacpp"  # whose metrics do not say how full it is
    while address is not None:
        began = monotonic()
        try:
            metrics, slots = await _get(client, address, "/metrics"), await _get(client, address, "/slots") if with_slots else None
            text = metrics.decode(errors="replace")
            reading = reader.read(monotonic(), page_of(text), slots)
            if engine.address is address:
                engine.page = text
                engine.seen(reading)
        except AttemptError:
            pass
        except (msgspec.MsgspecError, ValueError) as error:
            if not told:
                log.warning("engine_metrics_unreadable", engine=engine.name, error=str(error))
            told = True
        await asyncio.sleep(max(EVERY_S / 3, EVERY_S - (monotonic() - began)))


async def _get(client: HttpClient, address: EngineAddress, path: str) -> bytes:
    """Raises AttemptError, ValueError."""
    return await page(client, Endpoint(address.origin, path, ((b"authorization", address.authorization),), "GET"), LOOK_S)
