"""One page of a server's, whole: what it tells of itself."""

import asyncio
from http import HTTPStatus

from providers.http.port import Clocks, Endpoint, HttpClient

PAGE_LIMIT = 8 << 20


async def page(client: HttpClient, endpoint: Endpoint, limit_s: float) -> bytes:
    """Within `limit_s`. Raises AttemptError; ValueError for anything but a page."""
    clocks = Clocks(connect_s=limit_s, headers_s=limit_s, first_token_s=limit_s, idle_s=limit_s, total_s=limit_s)
    response = await client.send(endpoint, b"", clocks)
    try:
        body = await response.read(PAGE_LIMIT)
    except asyncio.CancelledError:
        response.abort()
        raise
    if response.status != HTTPStatus.OK:
        raise ValueError(f"{endpoint.path} answered {response.status}")
    return body
