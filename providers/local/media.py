"""Whether the hosts can be reached from which an engine was to fetch a request's images, audio or video."""

import asyncio

from contract.call import Call
from contract.errors import AttemptError, AttemptTimeout, ConnectFailed, MediaUnreachable
from providers.address import page_address
from providers.http.port import Clocks, Endpoint, HttpClient, Origin
from providers.local.checking import fetched

WITHIN_S = 2.0
CLOCKS = Clocks(connect_s=WITHIN_S, headers_s=WITHIN_S, first_token_s=WITHIN_S, idle_s=WITHIN_S, total_s=WITHIN_S)


async def unreachable(client: HttpClient, chat: Call, engine: str) -> MediaUnreachable | None:
    """Of a request that its engine failed at; None: all of them can be, or there are none."""
    origins = {origin for url in fetched(chat) if (origin := _origin(url)) is not None}
    found = await asyncio.gather(*(_is_reached(client, origin) for origin in origins))
    hosts = sorted(f"{origin.host}:{origin.port}" for origin, reached in zip(origins, found, strict=True) if not reached)
    if not hosts:
        return None
    why = f"the engine {engine!r} could not fetch an image, audio or video: {', '.join(hosts)} cannot be reached from it"
    return MediaUnreachable(f"{why}. It is the host's fault, or its network's: try again later, or send a data: URL", param="messages")


def _origin(url: str) -> Origin | None:
    """None: it has a port that there is none of, which the engine tells."""
    try:
        return page_address(url)[0]
    except ValueError:
        return None


async def _is_reached(client: HttpClient, origin: Origin) -> bool:
    try:
        response = await client.send(Endpoint(origin, "/", method="HEAD"), b"", CLOCKS)
    except (ConnectFailed, AttemptTimeout):
        return False
    except AttemptError:
        return True
    response.abort()
    return True
