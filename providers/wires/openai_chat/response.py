"""OpenAI chat answers to events, streamed and whole. A whole answer is a stream that came at once."""

from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Raw

from contract import events as ev
from contract.errors import MalformedResponse, UpstreamError
from contract.finish import Finish
from contract.raw import ABSENT
from contract.usage import Usage
from providers.wires.failure import failure
from providers.wires.openai_chat.errors import in_band_error
from providers.wires.openai_chat.finish import FAILED, decode_finish
from providers.wires.openai_chat.state import MessageState, call_signature, state_text
from providers.wires.openai_chat.usage import decode_usage, with_thoughts
from providers.wires.tiers import is_told, so_far, without_counts

NAME = "openai_chat"
_KNOWN = frozenset({"id", "object", "created", "model", "choices", "usage", "error"})
_NULL = Raw(b"null")  # `Raw | None` takes nothing but null


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _Custom(msgspec.Struct, gc=False):
    name: str | None = None
    input: str | None = None


class _ToolCall(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None
    custom: _Custom | None = None
    extra_content: Raw = _NULL


class _Output(msgspec.Struct):
    """A whole message or a delta."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None
    annotations: list[Raw] | None = None
    audio: Raw = _NULL
    reasoning_details: Raw = _NULL
    extra_content: Raw = _NULL


class _Choice(msgspec.Struct):
    index: int = 0
    message: _Output | None = None
    delta: _Output | None = None
    finish_reason: str | None = None
    logprobs: Raw = _NULL
    error: Raw = _NULL


class _Answer(msgspec.Struct):
    id: str | None = None
    object: str | None = None
    model: str | None = None
    created: int | float | None = None
    choices: list[_Choice] | None = None
    usage: Raw = _NULL
    error: Raw = _NULL
    service_tier: Raw = _NULL


_answer = msgspec.json.Decoder(_Answer)
_members = msgspec.json.Decoder(dict[str, Raw])


def _read(data: bytes) -> _Answer:
    try:
        answer = _answer.decode(data)
        if (answer.error is not _NULL and bytes(answer.error) != b"null") or answer.object == "error":
            raise in_band_error(data)
        if not data.isascii():
            data.decode()  # what stays JSON is read later
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedResponse("the upstream's answer is not a chat completion") from exc
    return answer


class _OpenCall(msgspec.Struct):
    """A tool call that began. `part` -1: all that came of it so far is not its name."""

    part: int
    id: str
    signature: str | None


class Reader:
    """Turns outputs into events, and numbers the parts of each choice. `usage`: the last that was told, for the end."""

    def __init__(self) -> None:
        self._answer_id: str | None = None
        self._created_s = 0
        self._extra: dict[str, Raw] = {}
        self._finished: set[int] = set()
        self._parts: dict[int, tuple[str, int]] = {}  # choice -> the open part's kind and number
        self._calls: dict[tuple[int, int], _OpenCall] = {}  # choice, tool call's index -> the call
        self._states: dict[int, MessageState] = {}  # choice -> what goes back on the message and was not told yet
        self._thought = False
        self.usage = self.tier = _NULL

    @property
    def finished(self) -> int:
        return len(self._finished)

    def skip_start(self) -> None:
        self._answer_id = ""

    def read(self, data: bytes, events: list[ev.Event]) -> None:
        """Adds the events of one chunk, or of a whole answer; those before a failure are there when it is raised."""
        answer = _read(data)
        if self._answer_id is None:
            self._start(answer, data, events)
        if self.tier is _NULL and answer.service_tier is not _NULL and is_told(answer.service_tier):
            self.tier = answer.service_tier
        if bytes(answer.usage) != b"null":
            self.usage = answer.usage
            self.tier = answer.service_tier if is_told(answer.service_tier) else self.tier
        for choice in answer.choices or ():
            output = choice.message or choice.delta
            if output is not None:
                self._output(choice, output, events)
            native = choice.finish_reason
            if native is None or (not native and choice.message is None) or choice.index in self._finished:
                continue  # some send an empty one until there is one, some again what they have sent
            if native in FAILED:
                raise in_band_error(choice.error) if bytes(choice.error) != b"null" else failure(UpstreamError, 200)
            self._tell_state(choice.index, events)
            self._finished.add(choice.index)
            events.append(ev.Finished(finish=self._finish(choice.index, native), choice=choice.index))

    def _finish(self, choice: int, native: str) -> Finish:
        """Some say `stop` after calls: xAI, and vLLM when it was told which tool to call."""
        finish = decode_finish(native)
        if finish.reason == "stop" and any(of == choice for of, _ in self._calls):
            return Finish("tool_calls", native)
        return finish

    @property
    def owes(self) -> bool:
        """Whether what comes next may be told something before."""
        return bool(self._states)

    def texts(self, make: type[ev.TextDelta] | type[ev.ReasoningDelta], choice: int, texts: list[str]) -> list[ev.Event]:
        """The events of so many chunks that hold nothing but a piece of text or of reasoning."""
        part = self._part(choice, "text" if make is ev.TextDelta else "reasoning") if any(texts) else 0
        return [make(text=text, choice=choice, part=part) for text in texts if text]

    def end(self, events: list[ev.Event]) -> None:
        """Adds the usage, which several chunks may have told (the last is the truth), and the answer's end."""
        if bytes(self.usage) == b"null":
            events.append(ev.Ended(without_counts(self.tier)))
            return
        events += ev.UsageReported(usage=self._counted()), ev.Ended()
        self.usage = _NULL

    def told_usage(self) -> Usage | None:
        """Of the answer so far, as far as it has told it."""
        if bytes(self.usage) == b"null":
            return without_counts(self.tier)
        return so_far(self._counted(), self.tier)

    def _counted(self) -> Usage:
        usage = decode_usage(self.usage, self.tier)
        return with_thoughts(usage) if self._thought else usage

    def _start(self, answer: _Answer, data: bytes, events: list[ev.Event]) -> None:
        """Azure's first chunk has neither id nor choices: what it holds goes with the next."""
        self._extra |= {name: Raw(bytes(raw)) for name, raw in _members.decode(data).items() if name not in _KNOWN and bytes(raw) != b"null"}
        if answer.id or answer.choices or bytes(answer.usage) != b"null":
            self._answer_id, self._created_s = answer.id or "", int(answer.created or 0)
            events.append(ev.Started(id=self._answer_id, model=answer.model or "", created_s=self._created_s, extra=self._extra))

    def _output(self, of: _Choice, output: _Output, events: list[ev.Event]) -> None:
        choice = of.index
        probabilities = Raw(bytes(of.logprobs)) if bytes(of.logprobs)[:1] == b"{" else ABSENT
        reasoning = output.reasoning_content or output.reasoning
        if bytes(output.reasoning_details)[:1] == b"[" or bytes(output.extra_content)[:1] == b"{":
            state = self._states.setdefault(choice, MessageState())
            told = state.add(output.reasoning_details, output.extra_content, whole=of.message is not None)
            reasoning = reasoning or told
        if reasoning:
            self._thought = True
            events.append(ev.ReasoningDelta(text=reasoning, choice=choice, part=self._part(choice, "reasoning")))
        if self._states and (output.content or output.refusal or output.tool_calls):
            self._tell_state(choice, events)
        if output.content or (probabilities and _has_tokens(probabilities, "content" if output.refusal else None)):
            events.append(ev.TextDelta(text=output.content or "", choice=choice, part=self._part(choice, "text"), logprobs=probabilities))
            probabilities = ABSENT
        if output.refusal:
            events.append(ev.RefusalDelta(text=output.refusal, choice=choice, part=self._part(choice, "refusal"), logprobs=probabilities))
        for annotation in output.annotations or ():
            events.append(_annotated(annotation, choice, self._part(choice, "text")))
        if bytes(output.audio)[:1] == b"{":
            events.append(ev.AudioDelta(audio=Raw(bytes(output.audio)), choice=choice, part=self._part(choice, "audio")))
        for place, call in enumerate(output.tool_calls or ()):
            self._tool_call(choice, place if call.index is None else call.index, call, events)
        if output.function_call is not None and (output.function_call.name or output.function_call.arguments):
            self._tool_call(choice, 0, _ToolCall(function=output.function_call), events)

    def _tell_state(self, choice: int, events: list[ev.Event]) -> None:
        """What the provider wants back on the message, once it is all there: a signature of the reasoning before it."""
        state = self._states.get(choice)
        if state is None or not state.binds:
            return
        del self._states[choice]
        has_text = self._parts.get(choice, ("", -1))[0] == "reasoning"
        part = self._part(choice, "reasoning")
        events.append(ev.ReasoningSignature(signature=state_text(state), maker=NAME, redacted=not has_text, choice=choice, part=part))

    def _tool_call(self, choice: int, index: int, call: _ToolCall, events: list[ev.Event]) -> None:
        name, arguments = _named(call)
        key = (choice, index)
        open_ = self._calls.get(key)
        if open_ is None or (name and call.id and open_.id != call.id and open_.part >= 0):  # some give each call the same index
            open_ = self._calls[key] = _OpenCall(-1, call.id or "", call_signature(call.extra_content))
        if open_.part < 0:
            if not name and not arguments:
                return
            open_.part = self._part(choice, "tool", anew=True)
            open_.id = open_.id or self._made_id(choice, open_.part)
            maker = "" if open_.signature is None else NAME
            events.append(ev.ToolCallStarted(id=open_.id, name=name or "", signature=open_.signature, maker=maker, choice=choice, part=open_.part))
        if arguments:
            events.append(ev.ToolCallDelta(arguments=arguments, choice=choice, part=open_.part))

    def _made_id(self, choice: int, part: int) -> str:
        """For a call that has none: of the answer it is in, so that no two answers' calls have the same."""
        told = f"{self._answer_id} {self._created_s} {choice} {part}"
        return f"call_{sha256(told.encode()).hexdigest()[:24]}"

    def _part(self, choice: int, kind: str, *, anew: bool = False) -> int:
        """The number of the part that output of this kind belongs to: a new one when the kind changes."""
        open_kind, number = self._parts.get(choice, ("", -1))
        if kind != open_kind or anew:
            number += 1
            self._parts[choice] = (kind, number)
        return number


class _UrlCitation(msgspec.Struct):
    url: str | None = None
    title: str | None = None
    start_index: int | None = None
    end_index: int | None = None


class _Annotation(msgspec.Struct):
    url_citation: _UrlCitation | None = None


_annotation = msgspec.json.Decoder(_Annotation)


def _annotated(raw: Raw, choice: int, part: int) -> ev.Annotated:
    kept = Raw(bytes(raw))
    try:
        cited = _annotation.decode(kept).url_citation or _UrlCitation()
    except msgspec.ValidationError:
        cited = _UrlCitation()
    place: dict[str, Any] = {"start": cited.start_index, "end": cited.end_index, "choice": choice, "part": part}
    return ev.Annotated(annotation=kept, maker=NAME, url=cited.url, title=cited.title, **place)


def _has_tokens(probabilities: Raw, kind: str | None) -> bool:
    """Whether an object of log probabilities says anything, of that kind of text or of any."""
    tokens: dict[str, Any] = msgspec.json.decode(probabilities)
    return bool(tokens.get(kind)) if kind is not None else any(tokens.values())


def _named(call: _ToolCall) -> tuple[str | None, str | None]:
    """Name and arguments; some send an empty object of the other kind beside the one that is meant."""
    if call.custom is not None and (call.function is None or call.custom.name or call.custom.input):
        return call.custom.name, call.custom.input
    return (call.function.name, call.function.arguments) if call.function is not None else (None, None)


def decode_response(body: bytes) -> list[ev.Event]:
    """A whole answer. Raises MalformedResponse, or what an error object in it means."""
    reader = Reader()
    events: list[ev.Event] = []
    reader.read(body, events)
    if not reader.finished:
        raise MalformedResponse("the upstream's answer holds no finished choice")
    reader.end(events)
    return events
