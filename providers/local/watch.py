"""Looks at an engine that is ready, five times a second and more, for as long as its child lives: what runs in it, what waits, how full it is."""

import asyncio
from time import monotonic

import msgspec
import structlog

from contract.errors import AttemptError
from providers.http.port import Clocks, Endpoint, HttpClient
from providers.local.process import EngineAddress
from providers.local.status import EngineStatus
from providers.reading import Reader, page_of

EVERY_S = 0.15
LOOK_S = 5.0  # an engine answers between two steps, and reading a long prompt is one
CLOCKS = Clocks(connect_s=LOOK_S, headers_s=LOOK_S, first_token_s=LOOK_S, idle_s=LOOK_S, total_s=LOOK_S)
PAGE_LIMIT = 4 << 20
OK = 200

log = structlog.get_logger("turnout.engine")


async def watch(engine: EngineStatus, client: HttpClient) -> None:
    """Until it is cancelled. Whether the engine lives is for others to judge: a look that fails is no news."""
    reader, address, told = Reader(), engine.address, False
    with_slots = engine.spec.kind == "llamacpp"  # whose metrics do not say how full it is
    while address is not None:
        began = monotonic()
        try:
            page, slots = await _get(client, address, "/metrics"), await _get(client, address, "/slots") if with_slots else None
            reading = reader.read(monotonic(), page_of(page.decode(errors="replace")), slots)
            if engine.address is address:
                engine.seen(reading)
        except AttemptError:
            pass
        except (msgspec.MsgspecError, ValueError) as error:
            if not told:
                log.warning("engine_metrics_unreadable", engine=engine.name, error=str(error))
            told = True
        await asyncio.sleep(max(EVERY_S / 3, EVERY_S - (monotonic() - began)))


async def _get(client: HttpClient, address: EngineAddress, path: str) -> bytes:
    """Raises AttemptError, ValueError for anything but a page."""
    response = await client.send(Endpoint(address.origin, path, ((b"authorization", address.authorization),), "GET"), b"", CLOCKS)
    try:
        body = await response.read(PAGE_LIMIT)
    except asyncio.CancelledError:
        response.abort()
        raise
    if response.status != OK:
        raise ValueError(f"{path} answered {response.status}")
    return body
