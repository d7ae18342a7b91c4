"""OpenAI chat answers to events, streamed and whole. A whole answer is a stream that came at once."""

from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Raw

from contract import events as ev
from contract.errors import AttemptError, MalformedResponse, StreamCut, UpstreamError
from contract.raw import ABSENT
from providers.sse import SseDecoder, SseEvent
from providers.wires.failure import failure
from providers.wires.openai_chat.errors import in_band_error
from providers.wires.openai_chat.finish import decode_finish
from providers.wires.openai_chat.usage import decode_usage

_KNOWN = frozenset({"id", "object", "created", "model", "choices", "usage", "error"})


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Custom(msgspec.Struct):
    name: str | None = None
    input: str | None = None


class _ToolCall(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None
    custom: _Custom | None = None


class _Output(msgspec.Struct):
    """A whole message or a delta."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None
    annotations: list[Raw] | None = None
    audio: Raw = Raw(b"null")  # `Raw | None` takes nothing but null


class _Choice(msgspec.Struct):
    index: int = 0
    message: _Output | None = None
    delta: _Output | None = None
    finish_reason: str | None = None
    logprobs: Raw = Raw(b"null")


class _Answer(msgspec.Struct):
    id: str | None = None
    object: str | None = None
    model: str | None = None
    created: int | float | None = None
    choices: list[_Choice] | None = None
    usage: Raw = Raw(b"null")
    error: Raw = Raw(b"null")


_answer = msgspec.json.Decoder(_Answer)
_members = msgspec.json.Decoder(dict[str, Raw])


def _read(data: bytes) -> _Answer:
    try:
        answer = _answer.decode(data)
        if bytes(answer.error) != b"null" or answer.object == "error":
            raise in_band_error(data)
        if not data.isascii():
            data.decode()  # what stays JSON is read later
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedResponse("the upstream's answer is not a chat completion") from exc
    return answer


class _Reader:
    """Turns outputs into events, and numbers the parts of each choice."""

    def __init__(self) -> None:
        self._started = False
        self._extra: dict[str, Raw] = {}
        self._finished: set[int] = set()
        self._parts: dict[int, tuple[str, int]] = {}  # choice -> the open part's kind and number
        self._calls: dict[tuple[int, int], int] = {}  # choice, tool call's index -> part

    @property
    def finished(self) -> int:
        return len(self._finished)

    def read(self, data: bytes) -> list[ev.Event]:
        answer = _read(data)
        events: list[ev.Event] = []
        if not self._started:
            self._start(answer, data, events)
        for choice in answer.choices or ():
            output = choice.message or choice.delta
            if output is not None:
                self._output(choice.index, output, choice.logprobs, events)
            native = choice.finish_reason
            if native is None or (not native and choice.message is None) or choice.index in self._finished:
                continue  # some send an empty one until there is one, some again what they have sent
            if native == "error":  # OpenRouter's word for a provider behind it that failed
                raise failure(UpstreamError, 200)
            self._finished.add(choice.index)
            events.append(ev.Finished(finish=decode_finish(native), choice=choice.index))
        if bytes(answer.usage) != b"null":
            events.append(ev.UsageReported(usage=decode_usage(answer.usage)))
        return events

    def _start(self, answer: _Answer, data: bytes, events: list[ev.Event]) -> None:
        """Azure's first chunk has neither id nor choices: what it holds goes with the next."""
        self._extra |= {name: Raw(bytes(raw)) for name, raw in _members.decode(data).items() if name not in _KNOWN and bytes(raw) != b"null"}
        if answer.id or answer.choices or bytes(answer.usage) != b"null":
            self._started = True
            events.append(ev.Started(id=answer.id or "", model=answer.model or "", created_s=int(answer.created or 0), extra=self._extra))

    def _output(self, choice: int, output: _Output, logprobs: Raw, events: list[ev.Event]) -> None:
        probabilities = Raw(bytes(logprobs)) if bytes(logprobs)[:1] == b"{" else ABSENT
        if reasoning := output.reasoning_content or output.reasoning:
            events.append(ev.ReasoningDelta(text=reasoning, choice=choice, part=self._part(choice, "reasoning")))
        if output.content or (probabilities and _has_tokens(probabilities, "content" if output.refusal else None)):
            events.append(ev.TextDelta(text=output.content or "", choice=choice, part=self._part(choice, "text"), logprobs=probabilities))
            probabilities = ABSENT
        if output.refusal:
            events.append(ev.RefusalDelta(text=output.refusal, choice=choice, part=self._part(choice, "refusal"), logprobs=probabilities))
        for annotation in output.annotations or ():
            events.append(_annotated(annotation, choice, self._part(choice, "text")))
        if bytes(output.audio)[:1] == b"{":
            events.append(ev.AudioDelta(audio=Raw(bytes(output.audio)), choice=choice, part=self._part(choice, "audio")))
        for place, call in enumerate(output.tool_calls or ()):
            self._tool_call(choice, place if call.index is None else call.index, call, events)
        if output.function_call is not None and (output.function_call.name or output.function_call.arguments):
            self._tool_call(choice, 0, _ToolCall(function=output.function_call), events)

    def _tool_call(self, choice: int, index: int, call: _ToolCall, events: list[ev.Event]) -> None:
        name, arguments = _named(call)
        part = self._calls.get((choice, index))
        if part is None:
            part = self._calls[choice, index] = self._part(choice, f"tool {index}")
            events.append(ev.ToolCallStarted(id=call.id or f"call_{choice}_{part}", name=name or "", choice=choice, part=part))
        if arguments:
            events.append(ev.ToolCallDelta(arguments=arguments, choice=choice, part=part))

    def _part(self, choice: int, kind: str) -> int:
        """The number of the part that output of this kind belongs to: a new one when the kind changes."""
        open_kind, number = self._parts.get(choice, ("", -1))
        if kind != open_kind:
            number += 1
            self._parts[choice] = (kind, number)
        return number


class _UrlCitation(msgspec.Struct):
    url: str | None = None
    title: str | None = None
    start_index: int | None = None
    end_index: int | None = None


class _Annotation(msgspec.Struct):
    url_citation: _UrlCitation | None = None


_annotation = msgspec.json.Decoder(_Annotation)


def _annotated(raw: Raw, choice: int, part: int) -> ev.Annotated:
    kept = Raw(bytes(raw))
    try:
        cited = _annotation.decode(kept).url_citation or _UrlCitation()
    except msgspec.ValidationError:
        cited = _UrlCitation()
    place: dict[str, Any] = {"start": cited.start_index, "end": cited.end_index, "choice": choice, "part": part}
    return ev.Annotated(annotation=kept, maker="openai_chat", url=cited.url, title=cited.title, **place)


def _has_tokens(probabilities: Raw, kind: str | None) -> bool:
    """Whether an object of log probabilities says anything, of that kind of text or of any."""
    tokens: dict[str, Any] = msgspec.json.decode(probabilities)
    return bool(tokens.get(kind)) if kind is not None else any(tokens.values())


def _named(call: _ToolCall) -> tuple[str | None, str | None]:
    """Name and arguments; some send an empty object of the other kind beside the one that is meant."""
    if call.custom is not None and (call.function is None or call.custom.name or call.custom.input):
        return call.custom.name, call.custom.input
    return (call.function.name, call.function.arguments) if call.function is not None else (None, None)


def decode_response(body: bytes) -> list[ev.Event]:
    """A whole answer. Raises MalformedResponse, or what an error object in it means."""
    reader = _Reader()
    events = reader.read(body)
    if not reader.finished:
        raise MalformedResponse("the upstream's answer holds no finished choice")
    return [*events, ev.Ended()]


class ChatStreamDecoder:
    """Implements `providers.wires.port.StreamDecoder`. `choices`: how many were asked for."""

    def __init__(self, choices: int) -> None:
        self._choices = choices
        self._sse = SseDecoder()
        self._reader = _Reader()
        self._ended = False
        self._failed: AttemptError | None = None

    def feed(self, chunk: bytes) -> list[ev.Event]:
        events: list[ev.Event] = []
        if self._failed is not None:
            raise self._failed
        try:
            for event in self._sse.feed(chunk):
                self._take(event, events)
        except AttemptError as error:
            if not events:
                raise
            self._failed = error  # what came before it is told first
        return events

    def _take(self, event: SseEvent, events: list[ev.Event]) -> None:
        data = event.data
        if data is None or self._ended:
            return
        if data == b"[DONE]":
            self._ended = True
            events.append(ev.Ended())
            return
        if event.name == b"error":
            raise in_band_error(data)
        events += self._reader.read(data)

    def end(self) -> list[ev.Event]:
        if self._failed is not None:
            raise self._failed
        events: list[ev.Event] = []
        last = self._sse.end()
        if last is not None:
            with suppress(MalformedResponse):  # it was cut, and counts for nothing
                self._take(last, events)
        if not self._ended:
            if self._reader.finished < self._choices:
                raise StreamCut("the upstream's stream ended before its answer was whole")
            self._ended = True
            events.append(ev.Ended())
        return events
