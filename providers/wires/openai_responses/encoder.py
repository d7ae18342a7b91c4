"""Events of any provider as Responses answers: one state machine makes the stream's events, and its last one holds the whole answer."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import msgspec
from msgspec import Raw

from contract import events as ev
from contract.finish import Finish
from contract.usage import Usage
from providers.wires.native import as_member
from providers.wires.openai_responses.output import Output, Told
from providers.wires.openai_responses.tap import failed_event
from providers.wires.openai_responses.usage import encode_usage
from providers.wires.port import Answering

_json = msgspec.json.Encoder().encode
_members = msgspec.json.Decoder(dict[str, Raw])

# what a response says of its request, with the API's default where the client said nothing
_ECHO: dict[str, Any] = {
    "background": False,
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
_WORDS = {"length": "max_output_tokens", "content_filter": "content_filter"}
_CHANGING = frozenset({"status", "incomplete_details", "error", "output", "usage"})
_IN_PROGRESS: Told = {"status": "in_progress", "incomplete_details": None}


def _echoed(fields: dict[str, Raw]) -> Told:
    return {name: _given(fields.get(name), default) for name, default in _ECHO.items()}


def _given(raw: Raw | None, default: Any) -> Any:
    """What the client said; of an object, with the defaults of the members that it left out."""
    if raw is None or bytes(raw) == b"null":
        return default
    return {**default, **_members.decode(raw)} if isinstance(default, dict) and bytes(raw)[:1] == b"{" else raw


def status_of(finish: Finish | None) -> Told:
    """Status and, where an answer is incomplete, why. A reason that nobody knows is never `completed`."""
    if finish is not None and finish.reason in ("stop", "tool_calls"):
        return {"status": "completed", "incomplete_details": None}
    finish = finish or Finish("unknown")
    return {"status": "incomplete", "incomplete_details": {"reason": _WORDS.get(finish.reason) or finish.native or finish.reason}}


class _Response:
    """The response object around the output: who it is, how it stands, what was asked, what it cost."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self._started = ev.Started(id="", model="", created_s=0)
        self._echo = _echoed(answering.call.fields)
        if answering.call.continues is not None:
            self._echo["previous_response_id"] = answering.call.continues
        self.resumed: Told = {}  # of an answer that is gone on with: who it is and what was asked, as its first part said
        self.finish: Finish | None = None
        self.usage: Usage | None = None

    def start(self, event: ev.Started) -> None:
        self._started = event

    def told(self, status: Told, output: list[Any]) -> Told:
        """Its id is made of the request's, so that all of a stream's events agree and a kept answer is found by it."""
        call, started = self._answering.call, self._started
        head = {"id": f"resp_{call.request_id}", "object": "response", "created_at": started.created_s or self._answering.now_s}
        head["model"] = started.model or call.model
        usage = encode_usage(self.usage) if self.usage is not None else None
        return {**head, "error": None, **status, **self._echo, **self.resumed, "output": output, "usage": usage}


class ResponsesStreamEncoder:
    """Implements `providers.wires.port.ResumedEncoder`. `whole`: the last event's response, once it is there."""

    closing: Mapping[str, object] = {}

    def __init__(self, answering: Answering) -> None:
        self._response = _Response(answering)
        self._output = Output(answering)
        self._begun = False
        self._sequence = 0
        self._owed: list[Told] = []  # what the first part of an answer did not come to tell
        self.whole = b""

    def resume(self, response: Told, output: Output, sequence: int, owed: list[Told]) -> None:
        """Takes up a response as its first event had it, with the output that was told, up to the event before `sequence`."""
        self._response.resumed = {name: value for name, value in response.items() if name not in _CHANGING}
        self._output = output
        self._begun = True
        self._sequence = sequence
        self._owed = owed

    def feed(self, event: ev.Event) -> bytes:
        if event.__class__ is ev.TextDelta and event.choice == 0 and (prefix := self._output.plain(event)):
            return b'%b%b,"sequence_number":%d}\n\n' % (prefix, _json(event.text), self._next())
        match event:
            case ev.Started():
                self._response.start(event)
            case ev.UsageReported():
                self._response.usage = event.usage
            case ev.Ended():
                return self._end()
            case ev.Finished(choice=0):
                self._response.finish = event.finish
                return self._begin() + self._all(self._output.end(status_of(event.finish)["status"]))
            case ev.Finished():
                pass
            case _ if event.choice == 0:
                return self._begin() + self._all(self._output.feed(event))
        return b""

    def _begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        response = self._response.told(_IN_PROGRESS, [])
        return self._all({"type": f"response.{kind}", "response": response} for kind in ("created", "in_progress"))

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence - 1

    def _all(self, told: Iterator[Told]) -> bytes:
        owed, self._owed = self._owed, []
        return b"".join([self._one(event) for event in chain(owed, told)])

    def _one(self, told: Told) -> bytes:
        return b"event: %b\ndata: %b\n\n" % (told["type"].encode(), _json({**told, "sequence_number": self._next()}))

    def _end(self) -> bytes:
        status = status_of(self._response.finish)
        out = self._begin() + self._all(self._output.end(status["status"]))
        self.whole = _json({**self._response.told(status, self._output.items), **as_member(self._output.native), **self.closing})
        return out + self._one({"type": f"response.{status['status']}", "response": Raw(self.whole)})

    def in_band(self, body: bytes) -> bytes:
        return self._begin() + failed_event(body, self._response.told(_IN_PROGRESS, []), self._next())


def encode_response(events: Iterable[ev.Event], answering: Answering) -> bytes:
    """Any provider's events as one whole response: the object that its stream would end with."""
    encoder = ResponsesStreamEncoder(answering)
    for event in events:
        encoder.feed(event)
    return encoder.whole
