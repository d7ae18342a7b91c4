"""A tool that must be called, of an engine that cannot be made to: its model is asked for JSON of its parameters, and that is told as a call."""

import secrets
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from contract import events as ev
from contract.call import Call
from contract.finish import Finish
from contract.usage import Usage
from providers.wires.port import StreamDecoder

NOT_FORCED = (b"null", b'"auto"', b'"none"')
ANY = {"type": "object", "properties": {}}
CALLED = Finish("tool_calls", "tool_calls")


class Forced(msgspec.Struct, frozen=True):
    """The functions of which one must be called, as the client gave them. Of one the answer is its arguments; of several {name, arguments}."""

    functions: tuple[dict[str, Any], ...]

    @property
    def only(self) -> str | None:
        return str(self.functions[0]["name"]) if len(self.functions) == 1 else None

    @property
    def schema(self) -> dict[str, Any]:
        if self.only is not None:
            return _parameters(self.functions[0])
        return {"anyOf": [_named(function) for function in self.functions]}

    @property
    def orders(self) -> str:
        """What the model is told; a grammar alone leaves it guessing what the members mean."""
        told = "\n".join(
            f"- {each['name']}: {each.get('description') or ''} {msgspec.json.encode(_parameters(each)).decode()}" for each in self.functions
        )
        form = "JSON with its arguments alone" if self.only is not None else 'JSON: {"name": ..., "arguments": ...}'
        return f"Call {'this function' if self.only is not None else 'one of these functions'}. Answer with {form}.\n{told}"


class _Answer(msgspec.Struct):
    name: str
    arguments: Raw


def is_forced(call: Call) -> bool:
    """Of a chat call: whether one of the functions that it brings must be called."""
    return _forced(call) is not None


def by_schema(call: Call) -> tuple[Call, Forced | None]:
    """The chat call that asks for JSON instead of a tool; None: it forces none, or not as functions are."""
    forced = _forced(call)
    if forced is None:
        return call, None
    left = {name: value for name, value in call.fields.items() if name not in ("tools", "tool_choice", "parallel_tool_calls")}
    form = {"type": "json_schema", "json_schema": {"name": "call", "strict": True, "schema": forced.schema}}
    messages = _instructed(msgspec.json.decode(call.fields["messages"]), forced.orders)
    fields = {**left, "messages": Raw(msgspec.json.encode(messages)), "response_format": Raw(msgspec.json.encode(form))}
    return msgspec.structs.replace(call, fields=fields, body=msgspec.json.encode(fields)), forced


class CallingDecoder:
    """Implements `providers.wires.port.StreamDecoder`: another's, with the text of each choice told as the call that it is."""

    def __init__(self, inner: StreamDecoder, forced: Forced) -> None:
        self._inner = inner
        self._forced = forced
        self._texts: dict[int, str] = {}  # by choice, as far as they came
        self.settled = False
        self.stepped = False

    def feed(self, chunk: bytes) -> list[ev.Event]:
        return self._told(self._inner.feed(chunk))

    def end(self) -> list[ev.Event]:
        return self._told(self._inner.end())

    def told_usage(self) -> Usage | None:
        return self._inner.told_usage()

    def _told(self, events: Iterable[ev.Event]) -> list[ev.Event]:
        out = [each for event in events for each in self._of(event)]
        self.settled = self._inner.settled
        self.stepped, self._inner.stepped = self.stepped or self._inner.stepped, False
        return out

    def _of(self, event: ev.Event) -> Sequence[ev.Event]:
        match event:
            case ev.TextDelta() if event.text:
                return self._piece(event)
            case ev.TextDelta():
                return ()
            case ev.Finished():
                return self._finished(event)
        return (event,)

    def _piece(self, event: ev.TextDelta) -> Sequence[ev.Event]:
        before = self._texts.get(event.choice)
        self._texts[event.choice] = (before or "") + event.text
        if self._forced.only is None:
            self.stepped = True  # no event tells of it before it is whole
            return ()
        delta = ev.ToolCallDelta(arguments=event.text, choice=event.choice)
        return (delta,) if before is not None else (_started(self._forced.only, event.choice), delta)

    def _finished(self, event: ev.Finished) -> Sequence[ev.Event]:
        whole = ev.Finished(finish=CALLED, choice=event.choice) if event.finish.reason == "stop" else event
        text = self._texts.get(event.choice)
        if self._forced.only is not None or text is None:
            return (whole,)
        try:
            said = msgspec.json.decode(text, type=_Answer)
        except msgspec.MsgspecError:  # cut at its most tokens
            return (ev.TextDelta(text=text, choice=event.choice), event)
        return (_started(said.name, event.choice), ev.ToolCallDelta(arguments=bytes(said.arguments).decode(), choice=event.choice), whole)


def _started(name: str, choice: int) -> ev.ToolCallStarted:
    return ev.ToolCallStarted(id=f"call_{secrets.token_hex(12)}", name=name, choice=choice)


def _forced(call: Call) -> Forced | None:
    if "tools" not in call.fields or bytes(call.fields.get("tool_choice", b"null")).strip() in NOT_FORCED:
        return None
    choice, tools = msgspec.json.decode(call.fields["tool_choice"]), msgspec.json.decode(call.fields["tools"])
    functions = [tool.get("function") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    known = [each for each in functions if isinstance(each, dict) and isinstance(each.get("name"), str)]
    if isinstance(choice, dict):
        named = choice.get("function")
        known = [each for each in known if isinstance(named, dict) and each["name"] == named.get("name")]
    elif choice != "required" or len(known) != len(functions):
        return None
    return Forced(tuple(known)) if known else None


def _parameters(function: dict[str, Any]) -> dict[str, Any]:
    return function.get("parameters") or ANY


def _named(function: dict[str, Any]) -> dict[str, Any]:
    members = {"name": {"const": function["name"]}, "arguments": _parameters(function)}
    return {"type": "object", "properties": members, "required": list(members), "additionalProperties": False}


def _instructed(messages: Any, orders: str) -> Any:
    """With the orders in the system's words, where there are some, else before all; what is no list of messages is the engine's to refuse."""
    if not isinstance(messages, list):
        return messages
    first = messages[0] if messages else None
    if isinstance(first, dict) and first.get("role") == "system" and isinstance(first.get("content"), str):
        return [{**first, "content": f"{first['content']}\n\n{orders}"}, *messages[1:]]
    return [{"role": "system", "content": orders}, *messages]
