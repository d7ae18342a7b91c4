"""Events of any provider as OpenAI chat answers, streamed and whole."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from contract import events as ev
from contract.raw import ABSENT
from contract.usage import Usage
from providers.wires.native import as_member, native_output
from providers.wires.openai_chat.finish import encode_finish
from providers.wires.openai_chat.spans import Spans
from providers.wires.openai_chat.state import extra_content, put_back
from providers.wires.openai_chat.tap import DONE
from providers.wires.openai_chat.usage import encode_usage
from providers.wires.port import Answering
from providers.wires.seal import Seal, seal

NAME = "openai_chat"
_text = msgspec.json.Encoder().encode
_AFTER_TEXT = b'},"finish_reason":null}]}\n\n'


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


def call_extra(event: ev.ToolCallStarted, answering: Answering) -> dict[str, Any]:
    """What a call carries beside its function: where Google puts a signature, its own one or another wire's seal."""
    if event.signature is None:
        return {}
    if event.maker == NAME:
        return {"extra_content": extra_content(event.signature)}
    return {"extra_content": extra_content(seal(Seal(answering.target, event.maker, event.signature, call_id=event.id)))}


def is_legacy(answering: Answering) -> bool:
    """Whether the client asked in the form before tools, and looks for a `function_call`."""
    fields = answering.call.fields
    return "functions" in fields and "tools" not in fields


def finish_word(event: ev.Finished, legacy: bool) -> str:
    word = encode_finish(event.finish)
    return "function_call" if legacy and word == "tool_calls" else word


class _Message:
    """One choice's message while its events come in."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self._legacy = is_legacy(answering)
        self._spans = Spans(answering.target)
        self.texts: dict[str, list[str]] = {}
        self.calls: dict[int, dict[str, Any]] = {}
        self.annotations: list[Any] = []
        self.logprobs: dict[str, list[Any]] = {}
        self.state: dict[str, Any] = {}
        self.audio: Any = None
        self.native: list[dict[str, Any]] = []
        self.finish: str | None = None

    def add(self, event: ev.ContentEvent) -> None:
        match event:
            case ev.TextDelta():
                self._text("content", event.text, event.logprobs)
            case ev.RefusalDelta():
                self._text("refusal", event.text, event.logprobs)
            case ev.ReasoningDelta():
                self._text("reasoning_content", event.text, ABSENT)
                self._sign(self._spans.text(event))
            case ev.ReasoningSignature() if event.maker == NAME:
                put_back(self.state, event.signature)
            case ev.ReasoningSignature():
                self._sign(self._spans.signature(event))
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
                self.native.append(native_output(event))

    def _sign(self, piece: str) -> None:
        if piece:
            self.state["reasoning_signature"] = self.state.get("reasoning_signature", "") + piece

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
        message |= self.state
        for call in self.calls.values():
            call["function"]["arguments"] = call["function"]["arguments"] or "{}"
        if self.calls and self._legacy:
            message["function_call"] = next(iter(self.calls.values()))["function"]
        elif self.calls:
            message["tool_calls"] = list(self.calls.values())
        if self.annotations:
            message["annotations"] = self.annotations
        if self.audio is not None:
            message["audio"] = self.audio
        message |= as_member(self.native)
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
                messages.setdefault(event.choice, _Message(answering)).finish = finish_word(event, is_legacy(answering))
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
    """Implements `providers.wires.port.ResumedEncoder`. Most events are text of a choice that has begun: those are put together of bytes."""

    whole = b""
    closing: Mapping[str, object] = {}

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self._include_usage = answering.call.include_usage
        self._legacy = is_legacy(answering)
        self._usage: Usage | None = None
        self._texts: dict[int, bytes] = {}  # a choice that has begun -> what stands before its text in a chunk
        self._calls: dict[tuple[int, int], int] = {}  # choice, part -> the tool call's index in its choice
        self._bare: dict[tuple[int, int], ev.ToolCallDelta] = {}  # calls that got no argument text yet -> what they are told at the end
        self._counts: dict[int, int] = {}  # choice -> its tool calls so far
        self._spans: dict[int, Spans] = {}
        self._start(ev.Started(id="", model="", created_s=0))

    def _start(self, event: ev.Started) -> None:
        name, created, model = head_of(event, self._answering)
        self._head: dict[str, Any] = {"id": name, "object": "chat.completion.chunk", "created": created, "model": model, **event.extra}
        self._prefix = b"data: " + msgspec.json.encode(self._head)[:-1]

    def feed(self, event: ev.Event) -> bytes:
        if event.__class__ is ev.TextDelta and not event.logprobs and (before := self._texts.get(event.choice)) is not None:
            return before + _text(event.text) + _AFTER_TEXT
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
                return self._empty_arguments(event.choice) + self._chunk(event.choice, {}, finish_word(event, self._legacy))
            case ev.TextDelta() | ev.RefusalDelta():
                kind = "content" if isinstance(event, ev.TextDelta) else "refusal"
                return self._chunk(event.choice, {kind: event.text}, None, event.logprobs)
            case _:
                delta = self._delta(event)
                return self._chunk(event.choice, delta) if delta else b""

    def _delta(self, event: ev.ContentEvent) -> dict[str, Any]:
        match event:
            case ev.ReasoningDelta():
                mark = self._spans_of(event.choice).text(event)
                return {"reasoning_content": event.text, **({"reasoning_signature": mark} if mark else {})}
            case ev.ReasoningSignature() if event.maker == NAME:
                return put_back({}, event.signature)
            case ev.ReasoningSignature():
                return {"reasoning_signature": self._spans_of(event.choice).signature(event)}
            case ev.ToolCallStarted() | ev.ToolCallDelta():
                return self._legacy_call(event) if self._legacy else {"tool_calls": [self._call(event)]}
            case ev.AudioDelta():
                return {"audio": event.audio}
            case ev.Annotated():
                return {"annotations": [annotation_of(event)]}
            case ev.NativeOutput():
                return as_member([native_output(event)])
            case _:
                return {}  # text has a chunk of its own

    def _spans_of(self, choice: int) -> Spans:
        if choice not in self._spans:
            self._spans[choice] = Spans(self._answering.target)
        return self._spans[choice]

    def _call(self, event: ev.ToolCallStarted | ev.ToolCallDelta) -> dict[str, Any]:
        key = (event.choice, event.part)
        if isinstance(event, ev.ToolCallDelta):
            if event.arguments:
                self._bare.pop(key, None)
            return {"index": self._calls[key], "function": {"arguments": event.arguments}}
        index = self._calls[key] = self._counts.get(event.choice, 0)
        self._counts[event.choice] = index + 1
        self._bare[key] = ev.ToolCallDelta(arguments="{}", choice=event.choice, part=event.part)
        function = {"name": event.name, "arguments": ""}
        return {"index": index, "id": event.id, "type": "function", "function": function, **call_extra(event, self._answering)}

    def _legacy_call(self, event: ev.ToolCallStarted | ev.ToolCallDelta) -> dict[str, Any]:
        """The one call that the old form can tell: the first."""
        call = self._call(event)
        return {"function_call": call["function"]} if call["index"] == 0 else {}

    def _empty_arguments(self, choice: int) -> bytes:
        """OpenAI's clients read a call's arguments as JSON, which an empty text is not."""
        return b"".join(self.feed(told) for told in list(self._bare.values()) if told.choice == choice)

    def _chunk(self, choice: int, delta: dict[str, Any], finish: str | None = None, logprobs: Raw = ABSENT) -> bytes:
        if choice not in self._texts:
            self._texts[choice] = b'%b,"choices":[{"index":%d,"delta":{"content":' % (self._prefix, choice)
            delta = {"role": "assistant", **delta}
        encoded: dict[str, Any] = {"index": choice, "delta": delta, "finish_reason": finish}
        if logprobs:
            encoded["logprobs"] = logprobs
        return b"data: %b\n\n" % msgspec.json.encode({**self._head, "choices": [encoded], **(self.closing if finish else {})})

    def _usage_chunk(self) -> bytes:
        if not self._include_usage or self._usage is None:
            return b""
        return b"data: %b\n\n" % msgspec.json.encode({**self._head, "choices": [], "usage": encode_usage(self._usage), **self.closing})

    def in_band(self, body: bytes) -> bytes:
        return b"data: %b\n\n" % body
