"""Events of any provider as OpenAI chat answers, streamed and whole."""

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Raw

from contract import events as ev
from contract.raw import ABSENT
from contract.usage import Usage
from providers.wires.openai_chat.finish import encode_finish
from providers.wires.openai_chat.tap import DONE
from providers.wires.openai_chat.usage import encode_usage
from providers.wires.port import Answering
from providers.wires.seal import Seal, seal

NAME = "openai_chat"
_text = msgspec.json.Encoder().encode


def head_of(event: ev.Started, answering: Answering) -> tuple[str, int, str]:
    """Id, time and model of an answer; what the provider did not tell, the call does."""
    call = answering.call
    return event.id or f"chatcmpl-{call.request_id}", event.created_s or answering.now_s, event.model or call.model


def annotation_of(event: ev.Annotated) -> Any:
    """OpenAI's object for an annotation of any provider."""
    if event.maker in ("", NAME):
        return event.annotation
    citation = {"url": event.url or "", "title": event.title or "", "start_index": event.start or 0, "end_index": event.end or 0}
    if event.cited_text is not None:
        citation["cited_text"] = event.cited_text
    return {"type": "url_citation", "url_citation": citation}


def signature_of(event: ev.ReasoningSignature, answering: Answering) -> str:
    """A signature for `reasoning_signature`: sealed, for OpenAI's format has none of its own."""
    return seal(Seal(answering.target, event.maker, event.signature, redacted=event.redacted, id=event.id))


def call_extra(event: ev.ToolCallStarted, answering: Answering) -> dict[str, Any]:
    """What a call carries beside its function: its seal, where Google puts a signature."""
    if event.signature is None:
        return {}
    sealed = seal(Seal(answering.target, event.maker, event.signature, call_id=event.id))
    return {"extra_content": {"google": {"thought_signature": sealed}}}


class _Message:
    """One choice's message while its events come in."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self.texts: dict[str, list[str]] = {}
        self.calls: dict[int, dict[str, Any]] = {}
        self.annotations: list[Any] = []
        self.logprobs: dict[str, list[Any]] = {}
        self.signature: str | None = None
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
            case ev.ReasoningSignature():
                self.signature = signature_of(event, self._answering)
            case ev.ToolCallStarted():
                function = {"name": event.name, "arguments": ""}
                self.calls[event.part] = {"id": event.id, "type": "function", "function": function, **call_extra(event, self._answering)}
            case ev.ToolCallDelta():
                self.calls[event.part]["function"]["arguments"] += event.arguments
            case ev.AudioDelta():
                self._audio(msgspec.json.decode(event.audio))
            case ev.Annotated():
                self.annotations.append(annotation_of(event))
            case ev.NativeOutput():
                pass  # another format's own

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
        if self.signature is not None:
            message["reasoning_signature"] = self.signature
        if self.calls:
            message["tool_calls"] = list(self.calls.values())
        if self.annotations:
            message["annotations"] = self.annotations
        if self.audio is not None:
            message["audio"] = self.audio
        encoded = {"index": index, "message": message, "finish_reason": self.finish}
        return encoded | {"logprobs": self.logprobs} if self.logprobs else encoded


def encode_response(events: Iterable[ev.Event], answering: Answering) -> bytes:
    """Any provider's events as one whole OpenAI answer."""
    head = ev.Started(id="", model="", created_s=0)
    messages: dict[int, _Message] = {}
    usage: Usage | None = None
    for event in events:
        match event:
            case ev.Started():
                head = event
            case ev.Finished():
                messages.setdefault(event.choice, _Message(answering)).finish = encode_finish(event.finish)
            case ev.UsageReported():
                usage = event.usage
            case ev.Ended():
                pass
            case _:
                messages.setdefault(event.choice, _Message(answering)).add(event)
    name, created, model = head_of(head, answering)
    body: dict[str, Any] = {"id": name, "object": "chat.completion", "created": created, "model": model}
    body["choices"] = [messages[index].encode(index) for index in sorted(messages)]
    if usage is not None:
        body["usage"] = encode_usage(usage)
    return msgspec.json.encode({**body, **head.extra})


class ChatStreamEncoder:
    """Implements `providers.wires.port.StreamEncoder`. Most events are plain text of a choice that has begun: those are put together of bytes."""

    whole = b""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self._include_usage = answering.call.include_usage
        self._usage: Usage | None = None
        self._begun: set[int] = set()
        self._calls: dict[tuple[int, int], int] = {}  # choice, part -> the tool call's index in its choice
        self._counts: dict[int, int] = {}  # choice -> its tool calls so far
        self._start(ev.Started(id="", model="", created_s=0))

    def _start(self, event: ev.Started) -> None:
        name, created, model = head_of(event, self._answering)
        self._head: dict[str, Any] = {"id": name, "object": "chat.completion.chunk", "created": created, "model": model, **event.extra}
        self._prefix = b"data: " + msgspec.json.encode(self._head)[:-1]

    def feed(self, event: ev.Event) -> bytes:
        if event.__class__ is ev.TextDelta and not event.logprobs and event.choice in self._begun:
            return self._piece(event.choice, b"content", event.text)
        match event:
            case ev.Started():
                self._start(event)
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
            case _:
                delta = self._delta(event)
                return self._chunk(event.choice, delta) if delta else b""

    def _piece(self, choice: int, kind: bytes, text: str) -> bytes:
        return b'%b,"choices":[{"index":%d,"delta":{"%b":%b},"finish_reason":null}]}\n\n' % (self._prefix, choice, kind, _text(text))

    def _delta(self, event: ev.ContentEvent) -> dict[str, Any]:
        match event:
            case ev.ReasoningDelta():
                return {"reasoning_content": event.text}
            case ev.ReasoningSignature():
                return {"reasoning_signature": signature_of(event, self._answering)}
            case ev.ToolCallStarted() | ev.ToolCallDelta():
                return {"tool_calls": [self._call(event)]}
            case ev.AudioDelta():
                return {"audio": event.audio}
            case ev.Annotated():
                return {"annotations": [annotation_of(event)]}
            case _:
                return {}  # another format's own output

    def _call(self, event: ev.ToolCallStarted | ev.ToolCallDelta) -> dict[str, Any]:
        key = (event.choice, event.part)
        if isinstance(event, ev.ToolCallDelta):
            return {"index": self._calls[key], "function": {"arguments": event.arguments}}
        index = self._calls[key] = self._counts.get(event.choice, 0)
        self._counts[event.choice] = index + 1
        function = {"name": event.name, "arguments": ""}
        return {"index": index, "id": event.id, "type": "function", "function": function, **call_extra(event, self._answering)}

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

    def in_band(self, body: bytes) -> bytes:
        return b"data: %b\n\n" % body
