"""The engine's socket by hand: plain HTTP/1.1, one connection a request, nothing of ours in between."""

import asyncio
import json
from typing import Any

from providers.local.process import EngineAddress


async def send(
    address: EngineAddress, method: str, path: str, body: Any = None, key: bool = True
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Sends one request; the caller reads the answer and closes the writer."""
    assert address.origin.uds is not None
    reader, writer = await asyncio.open_unix_connection(address.origin.uds)
    payload = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nhost: engine\r\nconnection: close\r\ncontent-length: {len(payload)}\r\n".encode()
    head += b"content-type: application/json\r\n"
    auth = b"authorization: " + address.authorization + b"\r\n" if key else b""
    writer.write(head + auth + b"\r\n" + payload)
    return reader, writer


async def fetch(address: EngineAddress, method: str, path: str, body: Any = None, key: bool = True) -> tuple[int, bytes]:
    """The status and everything after the head."""
    reader, writer = await send(address, method, path, body, key)
    try:
        answer = await reader.read()
    finally:
        writer.close()
    head, _, rest = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), rest


async def busy_slots(address: EngineAddress) -> int:
    """How many of the engine's slots are at work."""
    status, body = await fetch(address, "GET", "/slots")
    assert status == 200
    return sum(slot["is_processing"] for slot in json.loads(body))


def chat(text: str = "Say hello.", **extra: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **extra}
