"""Events of any provider as legacy completions, streamed and whole. Only text is shown, and what only its own format knows."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from contract import events as ev
from contract.usage import Usage
from providers.wires.native import as_member, native_output
from providers.wires.openai_chat.finish import encode_finish
from providers.wires.openai_chat.tap import DONE
from providers.wires.openai_chat.usage import encode_usage
from providers.wires.port import Answering

_NOTHING = ev.Started(id="", model="", created_s=0)


def head_of(event: ev.Started, answering: Answering) -> dict[str, Any]:
    """An answer without its choices."""
    call = answering.call
    created, model = event.created_s or answering.now_s, event.model or call.model
    return {"id": event.id or f"cmpl-{call.request_id}", "object": "text_completion", "created": created, "model": model}


def _choice(index: int, text: str, finish: str | None, logprobs: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": logprobs, "finish_reason": finish}


class _Token(msgspec.Struct):
    token: str
    logprob: float
    top_logprobs: list["_Token"] | None = None


class _Logprobs(msgspec.Struct):
    content: list[_Token] | None = None


_logprobs = msgspec.json.Decoder(_Logprobs)


def _tokens(raw: Raw) -> list[_Token] | None:
    """None also for an object of another shape, which has no place here."""
    try:
        return _logprobs.decode(raw).content
    except msgspec.ValidationError:
        return None


class _Choice:
    """One choice while its text comes in: how long it is, for tokens are told with their place in it."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.logprobs: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        self.finish: str | None = None
        self._length = 0

    def piece(self, event: ev.TextDelta | ev.RefusalDelta) -> dict[str, Any] | None:
        """Takes one; gives its tokens in the legacy form (openapi: CreateCompletionResponse.choices.logprobs)."""
        offset = self._length
        self._length += len(event.text)
        self.text.append(event.text)
        tokens = _tokens(event.logprobs) if event.logprobs else None
        if not tokens:
            return None
        told: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for each in tokens:
            told["tokens"].append(each.token)
            told["token_logprobs"].append(each.logprob)
            told["top_logprobs"].append({other.token: other.logprob for other in each.top_logprobs or ()})
            told["text_offset"].append(offset)
            offset += len(each.token)
        for name, values in told.items():
            self.logprobs[name] += values
        return told

    def encode(self, index: int) -> dict[str, Any]:
        return _choice(index, "".join(self.text), self.finish, self.logprobs if self.logprobs["tokens"] else None)


def encode_response(events: Iterable[ev.Event], answering: Answering) -> bytes:
    """Any provider's events as one whole completion."""
    head, usage = _NOTHING, None
    native: list[dict[str, Any]] = []
    choices: defaultdict[int, _Choice] = defaultdict(_Choice)
    for event in events:
        match event:
            case ev.Started():
                head = event
            case ev.UsageReported():
                usage = event.usage
            case ev.Finished():
                choices[event.choice].finish = encode_finish(event.finish)
            case ev.TextDelta() | ev.RefusalDelta():
                choices[event.choice].piece(event)
            case ev.NativeOutput():
                native.append(native_output(event))
            case _:
                pass
    body = {**head_of(head, answering), "choices": [choices[index].encode(index) for index in sorted(choices)], **as_member(native)}
    return msgspec.json.encode(body | {"usage": encode_usage(usage)} if usage is not None else body)


class CompletionsStreamEncoder:
    """Implements `providers.wires.port.ResumedEncoder`."""

    whole = b""
    closing: Mapping[str, object] = {}

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self._head = head_of(_NOTHING, answering)
        self._usage: Usage | None = None
        self._choices: defaultdict[int, _Choice] = defaultdict(_Choice)

    def feed(self, event: ev.Event) -> bytes:
        match event:
            case ev.Started():
                self._head = head_of(event, self._answering)
            case ev.UsageReported():
                self._usage = event.usage
            case ev.TextDelta() | ev.RefusalDelta():
                logprobs = self._choices[event.choice].piece(event)
                return self._chunk([_choice(event.choice, event.text, None, logprobs)]) if event.text or logprobs else b""
            case ev.NativeOutput():
                return self._chunk([_choice(event.choice, "", None)], **as_member([native_output(event)]))
            case ev.Finished():
                return self._chunk([_choice(event.choice, "", encode_finish(event.finish))], **self.closing)
            case ev.Ended():
                if self._usage is None or not self._answering.call.include_usage:
                    return DONE
                return self._chunk([], usage=encode_usage(self._usage), **self.closing) + DONE
        return b""

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        return b"data: %b\n\n" % msgspec.json.encode({**self._head, "choices": choices, **more})

    def in_band(self, body: bytes) -> bytes:
        return b"data: %b\n\n" % body
