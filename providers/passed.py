"""What is read of an answer that passes as it is: its usage, in whichever form its provider tells it, and whether it is an error after all."""

import re

import msgspec
from msgspec import Raw

from contract.errors import MalformedResponse, UpstreamError
from contract.usage import Usage
from providers.wires.answer import WholeAnswer
from providers.wires.classes import input_of, output_of, source_of
from providers.wires.failure import failure

TAIL_BYTES = 64 << 10  # of a stream's end: usage is told in its last event, after what may be a large image
_NULL = Raw(b"null")
_MARK = b'"usage":'
_LAST = re.compile(rb'(?:"type": ?"|event: ?)[a-z_.]+\.(?:done|completed)\b|\[DONE\]')  # speech.audio.done, image_generation.completed …
_OVERLAP = 64  # bytes: more than the name of an event


class _Details(msgspec.Struct):
    cached_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


class _Tokens(msgspec.Struct):
    """Chat's names and Responses', of which an answer has one; a re-ranker may tell the total alone."""

    input_tokens: int | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    input_tokens_details: _Details | None = None
    input_token_details: _Details | None = None  # a transcription's
    output_tokens_details: _Details | None = None


class _Meta(msgspec.Struct):
    tokens: _Tokens | None = None  # Cohere's


class _Answer(msgspec.Struct):
    id: str | None = None
    usage: Raw = _NULL
    meta: Raw = _NULL
    error: Raw = _NULL


_answer = msgspec.json.Decoder(_Answer)
_tokens = msgspec.json.Decoder(_Tokens)
_meta = msgspec.json.Decoder(_Meta)


def read_passed(body: bytes) -> WholeAnswer:
    """Raises MalformedResponse for what is no JSON, UpstreamError for an error object under a 200."""
    try:
        seen = _answer.decode(body)
    except msgspec.ValidationError:
        return WholeAnswer(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedResponse("the upstream's answer is not valid JSON") from exc
    if bytes(seen.error)[:1] == b"{":
        raise failure(UpstreamError, 200)
    return WholeAnswer(body, usage_of(seen.usage) or _meta_usage(seen.meta), seen.id)


def usage_of(raw: Raw) -> Usage | None:
    """A usage object of any of these endpoints; one of another shape (seconds of audio) is kept raw, with every class unknown."""
    if bytes(raw)[:1] != b"{":
        return None
    try:
        told = _tokens.decode(raw)
    except msgspec.ValidationError:
        told = _Tokens()
    return _usage(told, raw)


def _usage(told: _Tokens, raw: Raw) -> Usage:
    output = told.output_tokens if told.completion_tokens is None else told.completion_tokens
    into = told.input_tokens if told.prompt_tokens is None else told.prompt_tokens
    into = told.total_tokens if into is None and output is None else into
    details = told.input_tokens_details or told.input_token_details or _Details()
    read = input_of(into, details.cached_tokens, None, details.audio_tokens, details.image_tokens)
    drawn = None if told.output_tokens_details is None else told.output_tokens_details.image_tokens
    made = output_of(output, images=drawn)
    kept = Raw(bytes(raw))
    return Usage(
        input_uncached=read.uncached,
        cache_read=read.cache_read,
        audio_input=read.audio,
        image_input=read.images,
        output_visible=made.visible,
        image_output=made.images,
        source=source_of(read, made),
        raw=kept,
    )


def _meta_usage(raw: Raw) -> Usage | None:
    """Cohere's: `billed_units` (searches …) and maybe tokens, beside each other."""
    if bytes(raw)[:1] != b"{":
        return None
    try:
        return _usage(_meta.decode(raw).tokens or _Tokens(), raw)
    except msgspec.ValidationError:
        return Usage(raw=Raw(bytes(raw)))


class Tail:
    """The end of an event stream that passes unread: the usage in it, and whether it is the end. `ended`: the event that says so was seen."""

    def __init__(self) -> None:
        self._bytes = b""
        self.ended = False

    def see(self, chunk: bytes) -> None:
        self.ended = self.ended or _LAST.search(self._bytes[-_OVERLAP:] + chunk) is not None
        self._bytes = (self._bytes + chunk)[-TAIL_BYTES:] if len(chunk) < TAIL_BYTES else chunk[-TAIL_BYTES:]

    @property
    def usage(self) -> Usage | None:
        """The last that was told."""
        at = self._bytes.rfind(_MARK)
        return None if at < 0 else usage_of(_value(self._bytes[at + len(_MARK) :].lstrip()))


def _value(text: bytes) -> Raw:
    """The JSON object that the text begins with; null when it is not whole."""
    depth = 0
    for index, byte in enumerate(text[:4096]):
        depth += (byte == 0x7B) - (byte == 0x7D)  # a usage object has no text in it that holds a brace
        if depth == 0:
            return Raw(text[: index + 1]) if byte == 0x7D else _NULL
    return _NULL
