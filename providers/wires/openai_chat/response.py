"""OpenAI chat answers to events and back, streamed and whole. A whole answer is a stream that came at once."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Raw

from contract import events as ev
from contract.errors import MalformedResponse, StreamCut
from contract.raw import ABSENT
from contract.usage import Usage
from providers.sse import SseDecoder, SseEvent
from providers.wires.openai_chat.errors import in_band_error
from providers.wires.openai_chat.finish import decode_finish, encode_finish
from providers.wires.openai_chat.tap import DONE
from providers.wires.openai_chat.usage import decode_usage, encode_usage

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
            events.append(ev.Annotated(annotation=Raw(bytes(annotation)), choice=choice, part=self._part(choice, "text")))
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
            events.append(ev.ToolCallStarted(id=call.id or "", name=name or "", choice=choice, part=part))
        if arguments:
            events.append(ev.ToolCallDelta(arguments=arguments, choice=choice, part=part))

    def _part(self, choice: int, kind: str) -> int:
        """The number of the part that output of this kind belongs to: a new one when the kind changes."""
        open_kind, number = self._parts.get(choice, ("", -1))
        if kind != open_kind:
            number += 1
            self._parts[choice] = (kind, number)
        return number


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

    def feed(self, chunk: bytes) -> list[ev.Event]:
        events: list[ev.Event] = []
        for event in self._sse.feed(chunk):
            self._take(event, events)
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


class _Message:
    """One choice's message while its events come in."""

    def __init__(self) -> None:
        self.texts: dict[str, list[str]] = {}
        self.calls: dict[int, dict[str, Any]] = {}
        self.annotations: list[Raw] = []
        self.logprobs: dict[str, list[Any]] = {}
        self.audio: Any = None
        self.finish: str | None = None

    def add(self, event: ev.ContentEvent) -> None:
        match event:
            case ev.TextDelta():
                self._text("content", event.text, event.logprobs)
            case ev.RefusalDelta():
                self._text("refusal", event.text, event.logprobs)
            case ev.ReasoningDelta():
                self._text("reasoning_content", event.text, ABSENT)
            case ev.ToolCallStarted():
                self.calls[event.part] = {"id": event.id, "type": "function", "function": {"name": event.name, "arguments": ""}}
            case ev.ToolCallDelta():
                self.calls[event.part]["function"]["arguments"] += event.arguments
            case ev.AudioDelta():
                self._audio(msgspec.json.decode(event.audio))
            case ev.Annotated():
                self.annotations.append(event.annotation)
            case ev.ReasoningSignature():
                pass  # OpenAI's chat format has no place for it

    def _text(self, kind: str, text: str, logprobs: Raw) -> None:
        self.texts.setdefault(kind, []).append(text)
        for name, tokens in (msgspec.json.decode(logprobs) if logprobs else {}).items():
            self.logprobs.setdefault(name, []).extend(tokens or ())

    def _audio(self, piece: dict[str, Any]) -> None:
        """Streamed audio comes as pieces of base64 and of transcript beside an id."""
        whole = self.audio = self.audio or {}
        for name, value in piece.items():
            if value is None:
                continue
            whole[name] = whole[name] + value if name in ("data", "transcript") and name in whole else value

    def encode(self, index: int) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": None}
        message |= {kind: "".join(texts) for kind, texts in self.texts.items()}
        if self.calls:
            message["tool_calls"] = list(self.calls.values())
        if self.annotations:
            message["annotations"] = self.annotations
        if self.audio is not None:
            message["audio"] = self.audio
        encoded = {"index": index, "message": message, "finish_reason": self.finish}
        return encoded | {"logprobs": self.logprobs} if self.logprobs else encoded


def encode_response(events: Iterable[ev.Event]) -> bytes:
    """Any provider's events as one whole OpenAI answer."""
    head = ev.Started(id="", model="", created_s=0)
    messages: dict[int, _Message] = {}
    usage: Usage | None = None
    for event in events:
        match event:
            case ev.Started():
                head = event
            case ev.Finished():
                messages.setdefault(event.choice, _Message()).finish = encode_finish(event.finish)
            case ev.UsageReported():
                usage = event.usage
            case ev.Ended():
                pass
            case _:
                messages.setdefault(event.choice, _Message()).add(event)
    body: dict[str, Any] = {"id": head.id, "object": "chat.completion", "created": head.created_s, "model": head.model}
    body["choices"] = [messages[index].encode(index) for index in sorted(messages)]
    if usage is not None:
        body["usage"] = encode_usage(usage)
    return msgspec.json.encode({**body, **head.extra})


class ChatStreamEncoder:
    """Implements `providers.wires.port.StreamEncoder`. `include_usage`: the client asked for the usage chunk."""

    def __init__(self, include_usage: bool) -> None:
        self._include_usage = include_usage
        self._head: dict[str, Any] = {"id": "", "object": "chat.completion.chunk", "created": 0, "model": ""}
        self._usage: Usage | None = None
        self._begun: set[int] = set()
        self._calls: dict[tuple[int, int], int] = {}  # choice, part -> the tool call's index in its choice

    def feed(self, event: ev.Event) -> bytes:
        match event:
            case ev.Started():
                self._head |= {"id": event.id, "created": event.created_s, "model": event.model, **event.extra}
                return b""
            case ev.UsageReported():
                self._usage = event.usage
                return b""
            case ev.Ended():
                return self._usage_chunk() + DONE
            case ev.Finished():
                return self._chunk(event.choice, {}, encode_finish(event.finish))
            case ev.TextDelta() | ev.RefusalDelta():
                kind = "content" if isinstance(event, ev.TextDelta) else "refusal"
                return self._chunk(event.choice, {kind: event.text}, None, event.logprobs)
            case ev.ReasoningDelta():
                return self._chunk(event.choice, {"reasoning_content": event.text})
            case ev.ToolCallStarted() | ev.ToolCallDelta():
                return self._chunk(event.choice, {"tool_calls": [self._call(event)]})
            case ev.AudioDelta():
                return self._chunk(event.choice, {"audio": event.audio})
            case ev.Annotated():
                return self._chunk(event.choice, {"annotations": [event.annotation]})
            case ev.ReasoningSignature():
                return b""

    def _call(self, event: ev.ToolCallStarted | ev.ToolCallDelta) -> dict[str, Any]:
        key = (event.choice, event.part)
        if isinstance(event, ev.ToolCallDelta):
            return {"index": self._calls[key], "function": {"arguments": event.arguments}}
        index = self._calls[key] = sum(1 for choice, _ in self._calls if choice == event.choice)
        return {"index": index, "id": event.id, "type": "function", "function": {"name": event.name, "arguments": ""}}

    def _chunk(self, choice: int, delta: dict[str, Any], finish: str | None = None, logprobs: Raw = ABSENT) -> bytes:
        if choice not in self._begun:
            self._begun.add(choice)
            delta = {"role": "assistant", **delta}
        encoded: dict[str, Any] = {"index": choice, "delta": delta, "finish_reason": finish}
        if logprobs:
            encoded["logprobs"] = logprobs
        return b"data: %b\n\n" % msgspec.json.encode({**self._head, "choices": [encoded]})

    def _usage_chunk(self) -> bytes:
        if not self._include_usage or self._usage is None:
            return b""
        return b"data: %b\n\n" % msgspec.json.encode({**self._head, "choices": [], "usage": encode_usage(self._usage)})

    def error(self, body: bytes) -> bytes:
        return b"data: %b\n\n" % body
