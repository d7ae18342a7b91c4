"""Events of any provider as Anthropic answers, streamed and whole: one state machine, whose blocks are balanced and ascend.

Blocks never interleave here. A tool call stays open until its choice ends, for OpenAI's parallel calls may come in turns: what belongs to
other parts meanwhile waits, and follows it in order.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from contract import events as ev
from contract.finish import Finish
from contract.usage import Usage
from providers.wires.anthropic_messages.finish import encode_finish
from providers.wires.anthropic_messages.response import NAME
from providers.wires.anthropic_messages.usage import encode_usage
from providers.wires.arguments import as_object
from providers.wires.native import as_member, native_output, on_one_line
from providers.wires.port import Answering
from providers.wires.seal import Seal, seal

_json = msgspec.json.Encoder().encode
Step = tuple[str, Any]  # "start" with the block, "delta" with its delta, "stop"


class Blocks:
    """Events of choice 0 to steps: `start`, `delta`, `stop` of one block at a time."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self._open: tuple[str, int] | None = None  # kind and part
        self._waiting: dict[int, list[ev.ContentEvent]] = {}
        self.native: list[dict[str, Any]] = []  # another format's own, which no block can hold
        self._refused = False

    def ending(self, finish: Finish | None) -> dict[str, str | None]:
        """Why the message ends. A refusal is a reason of its own here, where others end in the ordinary way."""
        if finish is None:
            return {"stop_reason": None, "stop_sequence": None}
        reason, sequence = ("refusal", None) if self._refused and finish.reason == "stop" else encode_finish(finish)
        return {"stop_reason": reason, "stop_sequence": sequence}

    def is_open(self, kind: str, part: int) -> bool:
        return self._open == (kind, part)

    def resume_text(self) -> None:
        """A block of text is open: that of part 0."""
        self._open = ("text", 0)

    def feed(self, event: ev.ContentEvent) -> Iterator[Step]:
        if self._open is not None and self._open[0] == "tool_use" and event.part != self._open[1]:
            self._waiting.setdefault(event.part, []).append(event)
            return
        yield from self._take(event)

    def end(self) -> Iterator[Step]:
        """Closes what is open and lets out what waited."""
        yield from self._close()
        for part in sorted(self._waiting):
            for event in self._waiting[part]:
                yield from self._take(event)
            yield from self._close()
        self._waiting.clear()

    def _take(self, event: ev.ContentEvent) -> Iterator[Step]:
        match event:
            case ev.TextDelta() | ev.RefusalDelta():
                if event.text:
                    self._refused = self._refused or isinstance(event, ev.RefusalDelta)
                    yield from self._enter("text", event.part, {"type": "text", "text": ""})
                    yield "delta", {"type": "text_delta", "text": event.text}
            case ev.ReasoningDelta():
                yield from self._enter("thinking", event.part, {"type": "thinking", "thinking": "", "signature": ""})
                yield "delta", {"type": "thinking_delta", "thinking": event.text}
            case ev.ReasoningSignature():
                yield from self._signature(event)
            case ev.ToolCallStarted():
                yield from self._call(event)
            case ev.ToolCallDelta():
                if event.arguments and self._open == ("tool_use", event.part):
                    yield "delta", {"type": "input_json_delta", "partial_json": event.arguments}
            case ev.Annotated():
                yield from self._enter("text", event.part, {"type": "text", "text": ""})
                yield "delta", {"type": "citations_delta", "citation": citation_of(event, self._answering)}
            case ev.NativeOutput() if event.maker != NAME:
                self.native.append(native_output(event))
            case ev.NativeOutput():
                yield from self._close()
                yield "start", on_one_line(event.raw)
                yield "stop", None
            case _:
                pass  # audio

    def _call(self, event: ev.ToolCallStarted) -> Iterator[Step]:
        yield from self._close()
        if event.signature is not None:
            data = seal(Seal(self._answering.target, event.maker, event.signature, call_id=event.id))
            yield "start", {"type": "redacted_thinking", "data": data}
            yield "stop", None
        yield from self._enter("tool_use", event.part, {"type": "tool_use", "id": event.id, "name": event.name, "input": {}})

    def _signature(self, event: ev.ReasoningSignature) -> Iterator[Step]:
        own = event.maker == NAME
        text = event.signature if own else seal(
            Seal(self._answering.target, event.maker, event.signature, redacted=event.redacted, id=event.id)
        )  # fmt: skip
        if event.redacted:
            yield from self._close()
            yield "start", {"type": "redacted_thinking", "data": text}
            yield "stop", None
            return
        yield from self._enter("thinking", event.part, {"type": "thinking", "thinking": "", "signature": ""})
        yield "delta", {"type": "signature_delta", "signature": text}
        self._open = ("signed", event.part)
        yield from self._close()

    def _enter(self, kind: str, part: int, block: dict[str, Any]) -> Iterator[Step]:
        """Makes that block the open one."""
        if self._open == (kind, part):
            return
        yield from self._close()
        self._open = (kind, part)
        yield "start", block

    def _close(self) -> Iterator[Step]:
        if self._open is None:
            return
        if self._open[0] == "thinking":  # Anthropic's clients want a signature: ours says whose reasoning it was
            yield "delta", {"type": "signature_delta", "signature": seal(Seal(self._answering.target, ""))}
        self._open = None
        yield "stop", None


def citation_of(event: ev.Annotated, answering: Answering) -> Any:
    """Anthropic's object for an annotation of any provider; its index tells that it is not Anthropic's own, should it come back."""
    if event.maker == NAME:
        return on_one_line(event.annotation)
    return {
        "type": "web_search_result_location",
        "cited_text": event.cited_text or "",
        "url": event.url or "",
        "title": event.title,
        "encrypted_index": seal(Seal(answering.target, event.maker)),
    }


def head_of(event: ev.Started, answering: Answering, usage: Usage | None) -> dict[str, Any]:
    """A message without its content."""
    return {
        "id": event.id or f"msg_{answering.call.request_id}",
        "type": "message",
        "role": "assistant",
        "model": event.model or answering.call.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": encode_usage(usage),
    }


_NOTHING = ev.Started(id="", model="", created_s=0)


_TEXT = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"text_delta","text":%b}}\n\n'


class MessagesStreamEncoder:
    """Implements `providers.wires.port.ResumedEncoder`."""

    whole = b""
    closing: Mapping[str, object] = {}

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self._blocks = Blocks(answering)
        self._head = _NOTHING
        self._begun = False
        self._index = -1
        self._finish: Finish | None = None
        self._usage: Usage | None = None

    def resume(self, index: int, in_text: bool) -> None:
        """Takes up a message whose block `index` was the last to begin, and is open if it is `in_text`."""
        self._begun = True
        self._index = index
        if in_text:
            self._blocks.resume_text()

    def feed(self, event: ev.Event) -> bytes:
        if event.__class__ is ev.TextDelta and event.choice == 0 and event.text and self._blocks.is_open("text", event.part):
            return _TEXT % (self._index, _json(event.text))  # most events are this
        if getattr(event, "choice", 0) != 0:
            return b""
        match event:
            case ev.Started():
                self._head = event
                return b""
            case ev.UsageReported():
                self._usage = event.usage
                return b""
            case ev.Finished():
                self._finish = event.finish
                return self._begin() + b"".join(map(self._step, self._blocks.end()))
            case ev.Ended():
                return self._end()
            case _:
                return self._begin() + b"".join(map(self._step, self._blocks.feed(event)))

    def _begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return _event(b"message_start", {"type": "message_start", "message": head_of(self._head, self._answering, self._usage)})

    def _step(self, step: Step) -> bytes:
        kind, value = step
        if kind == "delta":
            return b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":%b}\n\n' % (self._index, _json(value))
        if kind == "start":
            self._index += 1
            return _event(b"content_block_start", {"type": "content_block_start", "index": self._index, "content_block": value})
        return b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n' % self._index

    def _end(self) -> bytes:
        out = self._begin() + b"".join(map(self._step, self._blocks.end()))
        told = {"delta": self._blocks.ending(self._finish), "usage": encode_usage(self._usage), **as_member(self._blocks.native), **self.closing}
        return out + _event(b"message_delta", {"type": "message_delta", **told}) + b'event: message_stop\ndata: {"type":"message_stop"}\n\n'

    def in_band(self, body: bytes) -> bytes:
        return b"event: error\ndata: %b\n\n" % body


def _event(name: bytes, data: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name, _json(data))


_PIECES = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}


class _Whole:
    """Steps put together to content blocks."""

    def __init__(self) -> None:
        self.content: list[Any] = []
        self._input: list[str] = []

    def step(self, step: Step) -> None:
        kind, value = step
        if kind == "start":
            self.content.append(dict(value) if isinstance(value, dict) else value)
            self._input = []
        elif kind == "delta":
            self._delta(self.content[-1], value)
        elif isinstance(self.content[-1], dict) and self.content[-1]["type"] == "tool_use":
            self.content[-1]["input"] = as_object("".join(self._input))

    def _delta(self, block: dict[str, Any], delta: dict[str, Any]) -> None:
        if delta["type"] == "input_json_delta":
            self._input.append(delta["partial_json"])
        elif delta["type"] == "citations_delta":
            block.setdefault("citations", []).append(delta["citation"])
        else:
            member = _PIECES[delta["type"]]
            block[member] += delta[member]


def encode_response(events: Iterable[ev.Event], answering: Answering) -> bytes:
    """Any provider's events as one whole message."""
    head, usage, finish = _NOTHING, None, None
    blocks, whole = Blocks(answering), _Whole()
    for event in events:
        match event:
            case ev.Started():
                head = event
            case ev.UsageReported():
                usage = event.usage
            case ev.Finished():
                finish = event.finish if event.choice == 0 else finish
            case ev.Ended():
                pass
            case _ if event.choice == 0:
                for step in blocks.feed(event):
                    whole.step(step)
    for step in blocks.end():
        whole.step(step)
    message = head_of(head, answering, usage) | {"content": whole.content, **blocks.ending(finish)}
    return msgspec.json.encode(message | as_member(blocks.native))
