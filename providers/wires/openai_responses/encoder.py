"""Events of any provider as Responses answers: one state machine makes the stream's events, and its last one holds the whole answer.

Items may be open side by side: tool calls stay open until the answer ends, for OpenAI's parallel calls may come in turns; a message or a
piece of reasoning is closed when something else begins.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Raw

from contract import events as ev
from contract.finish import Finish
from contract.usage import Usage
from providers.wires.openai_responses.response import NAME
from providers.wires.openai_responses.tap import failed_event
from providers.wires.openai_responses.usage import encode_usage
from providers.wires.port import Answering
from providers.wires.seal import Seal, seal

_json = msgspec.json.Encoder().encode
Told = dict[str, Any]  # one event, without its sequence number

# what a response says of its request, with the API's default where the client said nothing
_ECHO: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}


class _Item:
    """An output item while it is made."""

    def __init__(self, index: int, item: Told) -> None:
        self.index = index
        self.item = item
        self.texts: list[str] = []  # of the open content part, or the call's arguments

    def at(self, kind: str, **more: Any) -> Told:
        return {"type": f"response.{kind}", "item_id": self.item["id"], "output_index": self.index, **more}

    def added(self, shown: Told) -> Told:
        return {"type": "response.output_item.added", "output_index": self.index, "item": shown}

    def done(self) -> Told:
        return {"type": "response.output_item.done", "output_index": self.index, "item": self.item}


class Builder:
    """Events of choice 0 to Responses events; `output` is what they add up to."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self._id = answering.call.request_id
        self.output: list[Any] = []
        self._open: _Item | None = None  # a message or reasoning
        self._part: tuple[str, int] | None = None  # the open content part of a message: its kind and the event's part
        self._calls: dict[int, _Item] = {}  # event part -> its open call

    def feed(self, event: ev.ContentEvent) -> Iterator[Told]:
        match event:
            case ev.TextDelta():
                if event.text or event.logprobs:
                    yield from self._text(event)
            case ev.RefusalDelta():
                if event.text:
                    yield from self._refusal(event)
            case ev.ReasoningDelta():
                yield from self._reasoning(event)
            case ev.ReasoningSignature():
                yield from self._signature(event)
            case ev.ToolCallStarted():
                yield from self._call(event)
            case ev.ToolCallDelta():
                call = self._calls[event.part]
                if event.arguments:
                    call.texts.append(event.arguments)
                    yield call.at("function_call_arguments.delta", delta=event.arguments)
            case ev.Annotated():
                yield from self._annotation(event)
            case ev.NativeOutput() if event.maker == NAME:
                yield from self._close()
                index = self._add(event.raw)
                yield {"type": "response.output_item.added", "output_index": index, "item": event.raw}
                yield {"type": "response.output_item.done", "output_index": index, "item": event.raw}
            case _:
                pass  # audio, and another format's own

    def end(self) -> Iterator[Told]:
        """Closes what is open."""
        yield from self._close()
        for call in self._calls.values():
            text = "".join(call.texts) or "{}"
            call.item |= {"arguments": text, "status": "completed"}
            yield call.at("function_call_arguments.done", arguments=text, name=call.item["name"])
            yield call.done()
        self._calls.clear()

    def _add(self, item: Any) -> int:
        self.output.append(item)
        return len(self.output) - 1

    # --- messages ------------------------------------------------------------------------------------------------------
    def _content(self, kind: str, part: int) -> Iterator[Told]:
        """Makes a content part of that kind the open one."""
        if self._part == (kind, part):
            return
        if self._part is not None:
            yield self._close_part()
        if self._open is None or self._open.item["type"] != "message":
            yield from self._close()
            item = {"type": "message", "id": f"msg_{self._id}_{len(self.output)}", "status": "in_progress", "role": "assistant", "content": []}
            self._open = _Item(self._add(item), item)
            yield self._open.added({**item, "content": []})
        self._part = (kind, part)
        self._open.texts = []
        made = {"type": "output_text", "text": "", "annotations": [], "logprobs": []} if kind == "text" else {"type": "refusal", "refusal": ""}
        self._open.item["content"].append(made)
        yield self._open.at("content_part.added", content_index=self._content_index, part=_copy(made))

    @property
    def _content_index(self) -> int:
        return len(self._message.item["content"]) - 1

    @property
    def _message(self) -> _Item:
        if self._open is None:
            raise RuntimeError("no message is open")
        return self._open

    def _text(self, event: ev.TextDelta) -> Iterator[Told]:
        yield from self._content("text", event.part)
        message = self._message
        message.texts.append(event.text)
        logprobs = msgspec.json.decode(event.logprobs).get("content") or [] if event.logprobs else []
        message.item["content"][-1]["logprobs"] += logprobs
        yield message.at("output_text.delta", content_index=self._content_index, delta=event.text, logprobs=logprobs)

    def _refusal(self, event: ev.RefusalDelta) -> Iterator[Told]:
        yield from self._content("refusal", event.part)
        self._message.texts.append(event.text)
        yield self._message.at("refusal.delta", content_index=self._content_index, delta=event.text)

    def _annotation(self, event: ev.Annotated) -> Iterator[Told]:
        yield from self._content("text", event.part)
        made, shown = self._message.item["content"][-1], annotation_of(event)
        made["annotations"].append(shown)
        place = {"content_index": self._content_index, "annotation_index": len(made["annotations"]) - 1}
        yield self._message.at("output_text.annotation.added", **place, annotation=shown)

    def _close_part(self) -> Told:
        made = self._message.item["content"][-1]
        member = "text" if made["type"] == "output_text" else "refusal"
        made[member] = "".join(self._message.texts)
        self._part = None
        return {**self._message.at("content_part.done", content_index=self._content_index, part=made), "_text": (member, made)}

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
        if self._open is not None and self._open.item.get("_part") == part:
            return
        yield from self._close()
        item = {"type": "reasoning", "id": f"rs_{self._id}_{len(self.output)}", "summary": [], "_part": part}
        self._open = _Item(self._add(item), item)
        yield self._open.added({"type": "reasoning", "id": item["id"], "summary": []})

    def _signature(self, event: ev.ReasoningSignature) -> Iterator[Told]:
        yield from self._enter_reasoning(event.part)
        item = self._message.item
        if event.maker == NAME:
            item["encrypted_content"] = event.signature
        else:
            sealed = Seal(self._answering.target, event.maker, event.signature, redacted=event.redacted, id=event.id)
            item["encrypted_content"] = seal(sealed)
        yield from self._close()

    def _close(self) -> Iterator[Told]:
        """Closes the open message or reasoning."""
        if self._open is None:
            return
        open_ = self._open
        if open_.item["type"] == "message":
            if self._part is not None:
                yield self._close_part()
            open_.item["status"] = "completed"
        else:
            open_.item.pop("_part")
            if open_.item["summary"]:
                text = "".join(open_.texts)
                summary = open_.item["summary"][0] = {"type": "summary_text", "text": text}
                yield open_.at("reasoning_summary_text.done", summary_index=0, text=text)
                yield open_.at("reasoning_summary_part.done", summary_index=0, part=summary)
            open_.item.setdefault("encrypted_content", seal(Seal(self._answering.target, "")))
        self._open = None
        yield open_.done()

    # --- calls ---------------------------------------------------------------------------------------------------------
    def _call(self, event: ev.ToolCallStarted) -> Iterator[Told]:
        yield from self._close()
        if event.signature is not None:
            sealed = seal(Seal(self._answering.target, event.maker, event.signature, call_id=event.id))
            carrier = {"type": "reasoning", "id": f"rs_{self._id}_{len(self.output)}", "summary": [], "encrypted_content": sealed}
            index = self._add(carrier)
            yield {"type": "response.output_item.added", "output_index": index, "item": {**carrier, "encrypted_content": None}}
            yield {"type": "response.output_item.done", "output_index": index, "item": carrier}
        item = {"type": "function_call", "id": f"fc_{self._id}_{len(self.output)}", "call_id": event.id, "name": event.name}
        item |= {"arguments": "", "status": "in_progress"}
        call = self._calls[event.part] = _Item(self._add(item), item)
        yield call.added(dict(item))


def _copy(made: Told) -> Told:
    return {name: list(value) if isinstance(value, list) else value for name, value in made.items()}


def annotation_of(event: ev.Annotated) -> Any:
    """OpenAI's object for an annotation of any provider."""
    if event.maker == NAME:
        return event.annotation
    place = {"start_index": event.start or 0, "end_index": event.end or 0}
    return {"type": "url_citation", "url": event.url or "", "title": event.title or "", **place}


def status_of(finish: Finish | None) -> Told:
    """Status and, where an answer is incomplete, why. A reason that nobody knows is never `completed`."""
    if finish is None or finish.reason in ("stop", "tool_calls"):
        return {"status": "completed", "incomplete_details": None}
    words = {"length": "max_output_tokens", "content_filter": "content_filter"}
    return {"status": "incomplete", "incomplete_details": {"reason": words.get(finish.reason) or finish.native or finish.reason}}


class _Answer:
    """What both a stream and a whole answer keep of the events beside their output."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self._model = ""
        self._created = 0
        self.finish: Finish | None = None
        self.usage: Usage | None = None
        self.builder = Builder(answering)
        fields = answering.call.fields
        self._echo = {name: fields.get(name, default) for name, default in _ECHO.items()}

    def start(self, event: ev.Started) -> None:
        self._model, self._created = event.model, event.created_s

    def head(self) -> Told:
        """The response's own identity: made from the request's id, so that a stream's events agree with its end."""
        call, now = self._answering.call, self._answering.now_s
        return {"id": f"resp_{call.request_id}", "object": "response", "created_at": self._created or now, "model": self._model or call.model}

    def response(self, status: Told, output: list[Any]) -> Told:
        usage = encode_usage(self.usage) if self.usage is not None else None
        return {**self.head(), "background": False, "error": None, **status, **self._echo, "output": output, "usage": usage}


class ResponsesStreamEncoder:
    """Implements `providers.wires.port.StreamEncoder`. `whole`: the last event's response, once it is there."""

    def __init__(self, answering: Answering) -> None:
        self._answer = _Answer(answering)
        self._begun = False
        self._sequence = 0
        self.whole = b""

    def feed(self, event: ev.Event) -> bytes:
        if getattr(event, "choice", 0) != 0:
            return b""
        match event:
            case ev.Started():
                self._answer.start(event)
                return b""
            case ev.UsageReported():
                self._answer.usage = event.usage
                return b""
            case ev.Finished():
                self._answer.finish = event.finish
                return self._begin() + self._all(self._answer.builder.end())
            case ev.Ended():
                return self._end()
            case _:
                return self._begin() + self._all(self._answer.builder.feed(event))

    def _begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        response = self._answer.response({"status": "in_progress", "incomplete_details": None}, [])
        return self._one({"type": "response.created", "response": response}) + self._one({"type": "response.in_progress", "response": response})

    def _all(self, told: Iterator[Told]) -> bytes:
        return b"".join(map(self._one, told))

    def _one(self, told: Told) -> bytes:
        """An event; the end of a content part is two: its text's, and its own."""
        if "_text" in told:
            member, made = told.pop("_text")
            done = {name: told[name] for name in ("item_id", "output_index", "content_index")} | {member: made[member]}
            if member == "text":
                done["logprobs"] = made["logprobs"]
            first = self._one({"type": "response.output_text.done" if member == "text" else "response.refusal.done", **done})
            return first + self._one(told)
        number, self._sequence = self._sequence, self._sequence + 1
        return b"event: %b\ndata: %b\n\n" % (told["type"].encode(), _json({**told, "sequence_number": number}))

    def _end(self) -> bytes:
        answer = self._answer
        out = self._begin() + self._all(answer.builder.end())
        status = status_of(answer.finish)
        response = answer.response(status, answer.builder.output)
        self.whole = _json(response)
        return out + self._one({"type": f"response.{status['status']}", "response": Raw(self.whole)})

    def in_band(self, body: bytes) -> bytes:
        return failed_event(body, self._answer.head(), self._sequence)


def encode_response(events: Iterable[ev.Event], answering: Answering) -> bytes:
    """Any provider's events as one whole response: the object that its stream would end with."""
    encoder = ResponsesStreamEncoder(answering)
    for event in events:
        encoder.feed(event)
    return encoder.whole
