"""A legacy completion's stream to events. Only answers of one choice are read so: those that were cut, to go on with them."""

import msgspec

from contract import events as ev
from contract.errors import MalformedResponse
from contract.raw import ABSENT
from contract.usage import Usage
from providers.sse import SseDecoder, SseEvent
from providers.wires.decoding import Decoding
from providers.wires.openai_chat.errors import in_band_error
from providers.wires.openai_chat.finish import decode_finish
from providers.wires.openai_chat.usage import decode_usage

_NULL = msgspec.Raw(b"null")


class _Choice(msgspec.Struct):
    text: str | None = None
    finish_reason: str | None = None
    logprobs: msgspec.Raw = _NULL


class _Chunk(msgspec.Struct):
    id: str | None = None
    created: float | None = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: msgspec.Raw = _NULL
    error: msgspec.Raw = _NULL


_chunk = msgspec.json.Decoder(_Chunk)


class CompletionsStreamDecoder(Decoding[SseEvent]):
    """Implements `providers.wires.port.StreamDecoder`. `logprobs` is in the legacy form, as it came."""

    def __init__(self) -> None:
        super().__init__(SseDecoder())
        self._started = False
        self._usage: Usage | None = None

    def _take(self, event: SseEvent, events: list[ev.Event]) -> None:
        if not event.data:
            return
        if event.data == b"[DONE]":
            self._ended = True
            events += [] if self._usage is None else [ev.UsageReported(usage=self._usage)]
            events.append(ev.Ended())
            return
        try:
            chunk = _chunk.decode(event.data)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise MalformedResponse("an event of the stream is not a completion's") from exc
        if bytes(chunk.error) != b"null" or event.name == b"error":
            raise in_band_error(event.data)
        self._read(chunk, events)

    def _read(self, chunk: _Chunk, events: list[ev.Event]) -> None:
        if not self._started:
            self._started = True
            events.append(ev.Started(id=chunk.id or "", model=chunk.model or "", created_s=int(chunk.created or 0)))
        if bytes(chunk.usage)[:1] == b"{":
            self._usage = decode_usage(chunk.usage)
        for choice in chunk.choices or ():
            logprobs = msgspec.Raw(bytes(choice.logprobs)) if bytes(choice.logprobs)[:1] == b"{" else ABSENT
            if choice.text or logprobs:
                events.append(ev.TextDelta(text=choice.text or "", logprobs=logprobs))
            if choice.finish_reason:
                events.append(ev.Finished(finish=decode_finish(choice.finish_reason)))

    def told_usage(self) -> Usage | None:
        return self._usage
