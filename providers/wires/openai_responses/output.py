"""Output items of a Responses answer: events of any provider to the events that build the items, and the items themselves.

Items may be open side by side: tool calls stay open until the answer ends, for OpenAI's parallel calls may come in turns; a message or a
piece of reasoning is closed when something else begins.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from contract import events as ev
from providers.wires.native import native_output
from providers.wires.openai_responses.response import NAME
from providers.wires.port import Answering
from providers.wires.seal import Seal, seal

Told = dict[str, Any]  # one event, without its sequence number
_json = msgspec.json.Encoder().encode


class _Item:
    """An output item while it is made. `part`: the event's part that it is of. `texts`: of the open content part, or a call's arguments."""

    def __init__(self, index: int, item: Told, part: int) -> None:
        self.index = index
        self.item = item
        self.part = part
        self.texts: list[str] = []

    def at(self, kind: str, **more: Any) -> Told:
        return {"type": f"response.{kind}", "item_id": self.item["id"], "output_index": self.index, **more}

    def added(self) -> Told:
        return {"type": "response.output_item.added", "output_index": self.index, "item": _copy(self.item)}

    def done(self) -> Told:
        return {"type": "response.output_item.done", "output_index": self.index, "item": self.item}


def _copy(made: Told) -> Told:
    """As it is now: its lists may grow later."""
    return {name: list(value) if isinstance(value, list) else value for name, value in made.items()}


class Output:
    """Events of choice 0 to Responses events; `items` is what they add up to."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self._id = answering.call.request_id
        self.items: list[Any] = []
        self.native: list[dict[str, Any]] = []  # another format's own, which no item can hold
        self._open: _Item | None = None  # a message or reasoning
        self._content: tuple[str, int] | None = None  # the open content part of a message: its kind and the event's part
        self._prefix = b""  # a text delta's event up to its text, for the open content part
        self._calls: dict[int, _Item] = {}  # event part -> its open call

    def resume(self, items: list[Any], index: int | None, in_text: bool) -> None:
        """Takes up an output whose message `index` is open, and its last content part too if it is `in_text`: that is of part 0."""
        self.items = items
        if index is None:
            return
        self._open = _Item(index, items[index], 0)
        if in_text:
            made = items[index]["content"][-1]
            self._open.texts, made["text"] = [made["text"]], ""
            self._open_content("text", 0)

    def plain(self, event: ev.TextDelta) -> bytes:
        """Takes a piece of text for the part that is open: gives its event up to the text. b"": it must be fed."""
        if self._content is None or self._content != ("text", event.part) or event.logprobs or not event.text:
            return b""
        self._message.texts.append(event.text)
        return self._prefix

    def feed(self, event: ev.ContentEvent) -> Iterator[Told]:
        match event:
            case ev.TextDelta():
                if event.text or event.logprobs:
                    yield from self._text(event)
            case ev.RefusalDelta():
                if event.text:
                    yield from self._refusal(event)
            case ev.ReasoningDelta():
                if event.text:
                    yield from self._reasoning(event)
            case ev.ReasoningSignature():
                yield from self._signature(event)
            case ev.ToolCallStarted():
                yield from self._call(event)
            case ev.ToolCallDelta():
                if event.arguments:
                    yield self._arguments(self._calls[event.part], event.arguments)
            case ev.Annotated():
                yield from self._annotation(event)
            case ev.NativeOutput() if event.maker != NAME:
                self.native.append(native_output(event))
            case ev.NativeOutput():
                yield from self._close()
                yield from self._whole(event.raw, event.raw)
            case _:
                pass  # audio

    def end(self, status: str = "completed") -> Iterator[Told]:
        """Closes what is open. `status`: of what is cut by it, incomplete."""
        yield from self._close(status)
        for call in self._calls.values():
            if not call.texts:
                yield self._arguments(call, "{}")
            text = "".join(call.texts)
            call.item |= {"arguments": text, "status": status}
            yield call.at("function_call_arguments.done", arguments=text, name=call.item["name"])
            yield call.done()
        self._calls.clear()

    def _begin(self, item: Told, part: int) -> _Item:
        self.items.append(item)
        return _Item(len(self.items) - 1, item, part)

    def _whole(self, first: Any, last: Any) -> Iterator[Told]:
        """An item that comes at once."""
        self.items.append(last)
        index = len(self.items) - 1
        yield {"type": "response.output_item.added", "output_index": index, "item": first}
        yield {"type": "response.output_item.done", "output_index": index, "item": last}

    def _name(self, kind: str) -> str:
        return f"{kind}_{self._id}_{len(self.items)}"

    # --- messages ------------------------------------------------------------------------------------------------------
    def _enter(self, kind: str, part: int) -> Iterator[Told]:
        """Makes a content part of that kind the open one."""
        if self._content == (kind, part):
            return
        if self._content is not None:
            yield from self._close_content()
        if self._open is None or self._open.item["type"] != "message":
            yield from self._close()
            item = {"type": "message", "id": self._name("msg"), "status": "in_progress", "role": "assistant", "content": []}
            self._open = self._begin(item, part)
            yield self._open.added()
        made: Told = {"type": "output_text", "text": "", "annotations": [], "logprobs": []} if kind == "text" else {"type": "refusal", "refusal": ""}
        self._open.texts = []
        self._open.item["content"].append(made)
        self._open_content(kind, part)
        yield self._open.at("content_part.added", content_index=self._index, part=_copy(made))

    def _open_content(self, kind: str, part: int) -> None:
        self._content = (kind, part)
        told = self._message.at("output_text.delta", content_index=self._index, logprobs=[])
        self._prefix = b'event: response.output_text.delta\ndata: %b,"delta":' % _json(told)[:-1]

    @property
    def _message(self) -> _Item:
        if self._open is None:
            raise RuntimeError("no item is open")
        return self._open

    @property
    def _index(self) -> int:
        return len(self._message.item["content"]) - 1

    def _text(self, event: ev.TextDelta) -> Iterator[Told]:
        yield from self._enter("text", event.part)
        self._message.texts.append(event.text)
        logprobs = msgspec.json.decode(event.logprobs).get("content") or [] if event.logprobs else []
        self._message.item["content"][-1].setdefault("logprobs", []).extend(logprobs)
        yield self._message.at("output_text.delta", content_index=self._index, logprobs=logprobs, delta=event.text)

    def _refusal(self, event: ev.RefusalDelta) -> Iterator[Told]:
        yield from self._enter("refusal", event.part)
        self._message.texts.append(event.text)
        yield self._message.at("refusal.delta", content_index=self._index, delta=event.text)

    def _annotation(self, event: ev.Annotated) -> Iterator[Told]:
        yield from self._enter("text", event.part)
        made, shown = self._message.item["content"][-1]["annotations"], annotation_of(event)
        made.append(shown)
        place = {"content_index": self._index, "annotation_index": len(made) - 1}
        yield self._message.at("output_text.annotation.added", **place, annotation=shown)

    def _close_content(self) -> Iterator[Told]:
        made = self._message.item["content"][-1]
        text = "".join(self._message.texts)
        self._content = None
        if made["type"] == "output_text":
            made["text"] = text
            yield self._message.at("output_text.done", content_index=self._index, text=text, logprobs=made.setdefault("logprobs", []))
        else:
            made["refusal"] = text
            yield self._message.at("refusal.done", content_index=self._index, refusal=text)
        yield self._message.at("content_part.done", content_index=self._index, part=made)

    def _close(self, status: str = "completed") -> Iterator[Told]:
        """Closes the open message or reasoning."""
        if (open_ := self._open) is None:
            return
        if open_.item["type"] == "message":
            if self._content is not None:
                yield from self._close_content()
            open_.item["status"] = status
        else:
            yield from self._close_reasoning(open_)
        self._open = None
        yield open_.done()

    # --- reasoning -----------------------------------------------------------------------------------------------------
    def _reasoning(self, event: ev.ReasoningDelta) -> Iterator[Told]:
        yield from self._enter_reasoning(event.part)
        item = self._message
        if not item.item["summary"]:
            item.item["summary"].append({"type": "summary_text", "text": ""})
            yield item.at("reasoning_summary_part.added", summary_index=0, part={"type": "summary_text", "text": ""})
        item.texts.append(event.text)
        yield item.at("reasoning_summary_text.delta", summary_index=0, delta=event.text)

    def _enter_reasoning(self, part: int) -> Iterator[Told]:
        if self._open is not None and self._open.item["type"] == "reasoning" and self._open.part == part:
            return
        yield from self._close()
        self._open = self._begin({"type": "reasoning", "id": self._name("rs"), "summary": []}, part)
        yield self._open.added()

    def _signature(self, event: ev.ReasoningSignature) -> Iterator[Told]:
        yield from self._enter_reasoning(event.part)
        sealed = Seal(self._answering.target, event.maker, event.signature, redacted=event.redacted, id=event.id)
        self._message.item["encrypted_content"] = event.signature if event.maker == NAME else seal(sealed)
        yield from self._close()

    def _close_reasoning(self, open_: _Item) -> Iterator[Told]:
        if open_.item["summary"]:
            text = "".join(open_.texts)
            summary = open_.item["summary"][0] = {"type": "summary_text", "text": text}
            yield open_.at("reasoning_summary_text.done", summary_index=0, text=text)
            yield open_.at("reasoning_summary_part.done", summary_index=0, part=summary)
        open_.item.setdefault("encrypted_content", seal(Seal(self._answering.target, "")))

    # --- calls ---------------------------------------------------------------------------------------------------------
    def _call(self, event: ev.ToolCallStarted) -> Iterator[Told]:
        yield from self._close()
        if event.signature is not None:
            sealed = seal(Seal(self._answering.target, event.maker, event.signature, call_id=event.id))
            carrier = {"type": "reasoning", "id": self._name("rs"), "summary": []}
            yield from self._whole(carrier, {**carrier, "encrypted_content": sealed})
        item = {"type": "function_call", "id": self._name("fc"), "call_id": event.id, "name": event.name}
        call = self._calls[event.part] = self._begin({**item, "arguments": "", "status": "in_progress"}, event.part)
        yield call.added()

    def _arguments(self, call: _Item, text: str) -> Told:
        call.texts.append(text)
        return call.at("function_call_arguments.delta", delta=text)


def annotation_of(event: ev.Annotated) -> Any:
    """OpenAI's object for an annotation of any provider."""
    if event.maker == NAME:
        return event.annotation
    place = {"start_index": event.start or 0, "end_index": event.end or 0}
    return {"type": "url_citation", "url": event.url or "", "title": event.title or "", **place}
