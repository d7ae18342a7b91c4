"""Going on with a response that was cut."""

from typing import Any

import msgspec
from msgspec import Raw

from contract.call import Call
from providers.sse import SseDecoder
from providers.wires.openai_responses.encoder import ResponsesStreamEncoder
from providers.wires.openai_responses.output import Output, Told
from providers.wires.port import Answering
from providers.wires.resuming import asked_on, lessened, with_answer

_THOUGHT_OVER = frozenset({"reasoning"})
_event = msgspec.json.Decoder(dict[str, Any])


def go_on(call: Call, text: str, spent: int) -> Call:
    given = call.fields.get("input", Raw(b'""'))
    if bytes(given)[:1] == b'"':
        given = Raw(b'[{"role":"user","content":%b}]' % bytes(given))
    members = {"input": with_answer(given, text, "output_text")}
    return asked_on(call, text, members | lessened(call, spent, "max_output_tokens"), _THOUGHT_OVER)


class _Told:
    """What the delivered events add up to. `open`: output indexes that are begun and not done; `owed`: what must come next."""

    def __init__(self) -> None:
        self.response: Told = {}
        self.items: list[Any] = []
        self.open: list[int] = []
        self.in_text = False
        self.owed: list[Told] = []
        self.sequence = 0

    def take(self, told: Told) -> None:
        self.sequence = told.get("sequence_number", self.sequence) + 1
        match told["type"]:
            case "response.created":
                self.response = told["response"]
                self.owed = [{"type": "response.in_progress", "response": self.response}]
            case "response.in_progress":
                self.owed = []
            case "response.output_item.added":
                self.items.append(told["item"])
                self.open.append(told["output_index"])
            case "response.output_item.done":
                self.items[told["output_index"]] = told["item"]
                self.open.remove(told["output_index"])
                self.in_text = False
            case "response.content_part.added":
                self._content(told).append(told["part"])
                self.in_text = True
            case "response.output_text.delta":
                self._content(told)[-1]["text"] += told["delta"]
            case "response.output_text.done":
                self.in_text = False
                place = {name: told[name] for name in ("item_id", "output_index", "content_index")}
                self.owed = [{"type": "response.content_part.done", **place, "part": self._content(told)[-1]}]
            case "response.content_part.done":
                self._content(told)[-1] = told["part"]
                self.owed = []

    def _content(self, told: Told) -> list[Any]:
        content: list[Any] = self.items[told["output_index"]]["content"]
        return content


def resumed(delivered: bytes, answering: Answering) -> ResponsesStreamEncoder | None:
    """None: it has not begun, or what is open is not one message. Raises LookupError, TypeError, ValueError for what is no response's stream."""
    told = _Told()
    for event in SseDecoder().feed(delivered):
        if event.data:
            told.take(_event.decode(event.data))
    if not told.response or len(told.open) > 1:
        return None
    index = told.open[0] if told.open else None
    if index is not None and told.items[index].get("type") != "message":
        return None
    output = Output(answering)
    output.resume(told.items, index, told.in_text)
    encoder = ResponsesStreamEncoder(answering)
    encoder.resume(told.response, output, told.sequence, told.owed)
    return encoder
