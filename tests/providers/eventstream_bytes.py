"""Amazon's event stream, written: what tests and scripted upstreams send."""

import json
import struct
from collections.abc import Mapping
from typing import Any
from zlib import crc32

_INTEGERS = {2: ">b", 3: ">h", 4: ">i", 5: ">q", 8: ">q"}


def header(name: str, kind: int, value: Any) -> bytes:
    """One header; `kind` is the number of its value's type."""
    head = bytes([len(name.encode())]) + name.encode() + bytes([kind])
    if kind in _INTEGERS:
        return head + struct.pack(_INTEGERS[kind], value)
    if kind in (6, 7):
        return head + struct.pack(">H", len(value)) + bytes(value)
    return head + bytes(value if kind == 9 else b"")


def framed(headers: bytes, payload: bytes) -> bytes:
    """A message around headers that are already written."""
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    body = prelude + struct.pack(">I", crc32(prelude)) + headers + payload
    return body + struct.pack(">I", crc32(body))


def message(headers: Mapping[str, str], payload: bytes) -> bytes:
    return framed(b"".join(header(name, 7, value.encode()) for name, value in headers.items()), payload)


def event(kind: str, **members: Any) -> bytes:
    """An event of a Converse stream, padded as Bedrock does it."""
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return message(headers, json.dumps({**members, "p": "abcdefgh"}).encode())


def exception(kind: str, text: str = "CANARY-upstream-text", **members: Any) -> bytes:
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return message(headers, json.dumps({"message": text, **members}).encode())
