"""The decoder of httpx-sse, alone: its package wants a client library that this project does not have."""

import codecs
import importlib
import importlib.util
import sys
import types
from typing import Any


def _decoders() -> Any:
    spec = importlib.util.find_spec("httpx_sse")
    assert spec is not None and spec.submodule_search_locations is not None
    bare = types.ModuleType("httpx_sse")
    bare.__path__ = list(spec.submodule_search_locations)
    sys.modules["httpx_sse"] = bare
    try:
        return importlib.import_module("httpx_sse._decoders")
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "httpx_sse"]:
            del sys.modules[name]


_httpx_sse = _decoders()


def events_of(stream: bytes) -> list[tuple[str, str]]:
    """Name and data of every event that has either; the stream ends with a blank line, or its last event is not one."""
    lines, decoder = _httpx_sse.SSELineDecoder(), _httpx_sse.SSEDecoder()
    text = codecs.decode(stream, "utf-8-sig")
    found = [decoder.decode(line) for line in [*(lines.decode(text) if text else []), *lines.flush()]]
    return [(event.event, event.data) for event in found if event is not None and (event.event, event.data) != ("message", "")]
