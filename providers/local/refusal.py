"""What an engine of ours says when it refuses a request, in its own words: they are ours, so nothing of a provider's gets out with them."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec

from contract.errors import AttemptError, UpstreamRejected
from providers.backend import read_error
from providers.http.port import HttpResponse
from providers.wires.openai_chat import OPENAI_CHAT

MOST_CHARACTERS = 500

_body = msgspec.json.Decoder(dict[str, Any])


async def read_refusal(response: HttpResponse, engine: str) -> AttemptError:
    """The error that its response other than 200 means."""
    return await read_error(response, partial(decode_refusal, engine))


def decode_refusal(engine: str, status: int, headers: Mapping[bytes, bytes], body: bytes) -> AttemptError:
    """As any provider's, but that a request at fault hears why."""
    error = OPENAI_CHAT.decode_error(status, dict(headers), body)
    words = _words(body)
    if type(error) is not UpstreamRejected or not words:
        return error
    told = UpstreamRejected(f"the engine {engine!r} refused the request: {words}", param=error.param)
    told.upstream_status = status
    return told


def _words(body: bytes) -> str:
    try:
        said = _body.decode(body)
    except msgspec.MsgspecError:
        return ""
    inner = said.get("error")
    message = (inner if isinstance(inner, dict) else said).get("message")
    return " ".join(message.split())[:MOST_CHARACTERS] if isinstance(message, str) else ""
