"""What an engine of ours says when it refuses a request, in its own words: they are ours, so nothing of a provider's gets out with them."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec

from contract.errors import AttemptError, EngineRefused, UpstreamModelNotFound, UpstreamRejected
from providers.backend import read_error
from providers.http.port import HttpResponse
from providers.local.passing import Passing
from providers.wires.openai_chat import OPENAI_CHAT

MOST_CHARACTERS = 500
EVENT_END = b"\n\n"
FIELD = b"data: "
BEGINNING = b'data: {"error"'

_body = msgspec.json.Decoder(dict[str, Any])


async def read_refusal(response: HttpResponse, engine: str, path: str) -> AttemptError:
    """The error that its response other than 200 means, to what was asked at `path`."""
    error = await read_error(response, partial(decode_refusal, engine))
    return _no_such_work(engine, path) if isinstance(error, UpstreamModelNotFound) and not error.param else error


def decode_refusal(engine: str, status: int, headers: Mapping[bytes, bytes], body: bytes) -> AttemptError:
    """As any provider's, but that a request at fault hears why."""
    error = OPENAI_CHAT.decode_error(status, dict(headers), body)
    words = _words(body)
    if type(error) is not UpstreamRejected or not words:
        return error
    told = UpstreamRejected(f"the engine {engine!r} refused the request: {words}", param=error.param)
    told.upstream_status = status
    return told


class TellingRefusal(Passing):
    """Of vLLM, which begins its stream before it looks at the request, and tells in the first event that it refuses it."""

    def __init__(self, inner: HttpResponse, engine: str) -> None:
        super().__init__(inner)
        self._engine = engine
        self._begun = False

    async def chunk(self) -> bytes:
        """Raises what the refusal means."""
        piece = await self._inner.chunk()
        if self._begun:
            return piece
        self._begun, seen = True, piece
        while piece and EVENT_END not in seen and (seen.startswith(BEGINNING) or BEGINNING.startswith(seen)):
            piece = await self._inner.chunk()
            seen += piece
        if seen.startswith(BEGINNING) and (error := _told(self._engine, seen.partition(EVENT_END)[0].removeprefix(FIELD))) is not None:
            raise error
        return seen


def _told(engine: str, event: bytes) -> AttemptError | None:
    """None: it has no status that blames the request."""
    try:
        error = _body.decode(event)["error"]
    except msgspec.MsgspecError:
        return None
    status = error.get("code") if isinstance(error, dict) else None
    return decode_refusal(engine, status, {}, event) if isinstance(status, int) and 400 <= status < 500 else None


def _no_such_work(engine: str, path: str) -> EngineRefused:
    return EngineRefused(
        f"the model of the engine {engine!r} is not one for {path.removeprefix('/v1')}: embeddings need a model that makes them (of vLLM a pooling "
        "engine), chats and completions one that makes text. Ask for another model"
    )


def _words(body: bytes) -> str:
    try:
        said = _body.decode(body)
    except msgspec.MsgspecError:
        return ""
    inner = said.get("error")
    message = (inner if isinstance(inner, dict) else said).get("message")
    return " ".join(message.split())[:MOST_CHARACTERS] if isinstance(message, str) else ""
