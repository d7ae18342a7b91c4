"""Events of any provider as legacy completions, streamed and whole. Only text is shown: no tools can be asked for here."""

from collections.abc import Iterable
from typing import Any

import msgspec

from contract import events as ev
from contract.usage import Usage
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


def _choice(index: int, text: str, finish: str | None) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish}


def encode_response(events: Iterable[ev.Event], answering: Answering) -> bytes:
    """Any provider's events as one whole completion."""
    head, usage = _NOTHING, None
    texts: dict[int, list[str]] = {}
    finishes: dict[int, str] = {}
    for event in events:
        match event:
            case ev.Started():
                head = event
            case ev.UsageReported():
                usage = event.usage
            case ev.Finished():
                finishes[event.choice] = encode_finish(event.finish)
            case ev.TextDelta() | ev.RefusalDelta():
                texts.setdefault(event.choice, []).append(event.text)
            case _:
                pass
    choices = [_choice(index, "".join(texts.get(index, ())), finishes.get(index)) for index in sorted({*texts, *finishes})]
    body = {**head_of(head, answering), "choices": choices}
    return msgspec.json.encode(body | {"usage": encode_usage(usage)} if usage is not None else body)


class CompletionsStreamEncoder:
    """Implements `providers.wires.port.StreamEncoder`."""

    whole = b""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self._head = head_of(_NOTHING, answering)
        self._usage: Usage | None = None

    def feed(self, event: ev.Event) -> bytes:
        match event:
            case ev.Started():
                self._head = head_of(event, self._answering)
            case ev.UsageReported():
                self._usage = event.usage
            case ev.TextDelta() | ev.RefusalDelta():
                return self._chunk([_choice(event.choice, event.text, None)]) if event.text else b""
            case ev.Finished():
                return self._chunk([_choice(event.choice, "", encode_finish(event.finish))])
            case ev.Ended():
                if self._usage is None or not self._answering.call.include_usage:
                    return DONE
                return self._chunk([], usage=encode_usage(self._usage)) + DONE
        return b""

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        return b"data: %b\n\n" % msgspec.json.encode({**self._head, "choices": choices, **more})

    def in_band(self, body: bytes) -> bytes:
        return b"data: %b\n\n" % body
