"""What of the contract OpenAI's chat format can carry, as Hypothesis strategies."""

from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import Raw

from contract import events as ev
from contract import requests as r
from contract.finish import Finish
from contract.raw import ABSENT
from contract.usage import Usage
from tests.contract.strategies import COUNTS, NAMES, OBJECTS, REASONS, TEXTS, WORDS, chat_requests, extras, marks, maybe, tuples

URLS = TEXTS.map("https://x.test/{}".format)
SHARED: dict[str, Any] = {"cache_control": marks(True), "extra": extras()}
TEXT_PARTS = st.builds(r.TextPart, text=TEXTS, **SHARED)
IMAGE_PARTS = st.builds(r.ImagePart, url=URLS, detail=maybe(NAMES), **SHARED) | st.builds(
    r.ImagePart, data=TEXTS, media_type=TEXTS.filter(lambda text: "," not in text), detail=maybe(NAMES), **SHARED
)
INPUTS = st.one_of(
    TEXT_PARTS,
    IMAGE_PARTS,
    st.builds(r.AudioPart, data=TEXTS, format=maybe(NAMES), **SHARED),
    st.builds(r.FilePart, file_id=NAMES, filename=maybe(TEXTS), **SHARED),
    st.builds(r.FilePart, url=URLS, filename=maybe(TEXTS), **SHARED),
    st.builds(r.FilePart, data=TEXTS, media_type=NAMES, filename=maybe(TEXTS), **SHARED),
)
FUNCTION_CALLS = st.builds(r.ToolCallPart, id=NAMES, name=NAMES, arguments=TEXTS, extra=extras())
CUSTOM_CALLS = st.builds(r.ToolCallPart, id=NAMES, name=NAMES, arguments=TEXTS, extra=extras().map(lambda rest: {"type": Raw(b'"custom"'), **rest}))


def _message(role: Any, parts: st.SearchStrategy[Any]) -> st.SearchStrategy[r.Message]:
    return st.builds(r.Message, role=role, parts=parts, name=maybe(NAMES), extra=extras())


@st.composite
def assistant_parts(draw: st.DrawFn) -> tuple[r.Part, ...]:
    """In the order in which the decoder reads them."""
    reasoning = [r.ReasoningPart(text=draw(TEXTS))] if draw(st.booleans()) else []
    refusal = [r.RefusalPart(text=draw(TEXTS))] if draw(st.booleans()) else []
    audio = [r.AudioPart(id=draw(NAMES))] if draw(st.booleans()) else []
    return (*reasoning, *draw(tuples(TEXT_PARTS)), *refusal, *audio, *draw(tuples(FUNCTION_CALLS | CUSTOM_CALLS)))


def requests() -> st.SearchStrategy[r.ChatRequest]:
    """Left out, because OpenAI's chat format has no place for it:

    - a reasoning part's signature, id, redaction, and more than one such part; a tool call's signature; `is_error`;
    - `cache_control` and `extra` of parts that are a message's own member there (refusal, reasoning, earlier audio, call, result);
    - parts of an assistant in another order than reasoning, content, refusal, audio, calls; more than one refusal;
    - a result without content (it becomes an empty text), a user's message without content;
    - an image or file without content, with both URL and data, or with data of no media type; a media type with a comma;
    - reasoning's `budget_tokens` and `summary`.
    """
    results = st.builds(r.ToolResultPart, tool_call_id=NAMES, content=tuples(TEXT_PARTS | IMAGE_PARTS, 1))
    messages = st.one_of(
        _message(st.sampled_from(["system", "developer", "user"]), tuples(INPUTS, 1)),
        _message(st.just("assistant"), assistant_parts()),
        _message(st.just("tool"), results.map(lambda part: (part,))),
    )
    return chat_requests(messages, st.builds(r.Reasoning, effort=NAMES), raw=True)


def usages() -> st.SearchStrategy[Usage]:
    """Left out: one-hour cache writes, server tool calls, estimates, and totals that are unknown while a part of them is known."""
    parts = ("cache_read", "cache_write_5m", "audio_input", "reasoning", "audio_output")
    return st.builds(Usage, input_uncached=COUNTS, output_visible=COUNTS, **dict.fromkeys(parts, maybe(COUNTS)))


class _Choice:
    """Numbers the parts of one choice as the contract wants."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.kind = ""
        self.part = -1
        self.calls: list[int] = []

    def open(self, kind: str) -> dict[str, Any]:
        if kind != self.kind or kind == "call":
            self.kind, self.part = kind, self.part + 1
        return {"choice": self.index, "part": self.part}


@st.composite
def _piece(draw: st.DrawFn, choice: _Choice) -> ev.Event:
    kind = draw(st.sampled_from(["text", "text", "tokens", "refusal", "reasoning", "call", "arguments", "arguments", "note"]))
    match kind:
        case "refusal":
            return ev.RefusalDelta(text=draw(TEXTS), **choice.open("refusal"))
        case "reasoning":
            return ev.ReasoningDelta(text=draw(TEXTS), **choice.open("reasoning"))
        case "tokens":
            logprobs = Raw(msgspec.json.encode({"content": [{"token": draw(TEXTS), "logprob": -0.5}]}))
            return ev.TextDelta(text=draw(TEXTS), logprobs=logprobs, **choice.open("text"))
        case "call":
            where = choice.open("call")
            choice.calls.append(where["part"])
            return ev.ToolCallStarted(id=draw(NAMES), name=draw(NAMES), **where)
        case "arguments" if choice.calls:
            return ev.ToolCallDelta(arguments=draw(TEXTS), choice=choice.index, part=draw(st.sampled_from(choice.calls)))
        case "note":
            return ev.Annotated(annotation=draw(OBJECTS), **choice.open("text"))
    return ev.TextDelta(text=draw(TEXTS), **choice.open("text"))


@st.composite
def answers(draw: st.DrawFn) -> tuple[int, list[ev.Event]]:
    """How many choices were asked for, and a whole answer's events; choices and the arguments of tool calls come interleaved.

    Left out: reasoning signatures, finish reasons with a word of another provider, `paused`, and usage that `usages` leaves out.
    """
    choices = [_Choice(index) for index in range(draw(st.integers(1, 3)))]
    events: list[ev.Event] = [ev.Started(id=draw(WORDS), model=draw(WORDS), created_s=draw(COUNTS) + 1, extra=draw(extras()))]
    order = draw(st.lists(st.sampled_from(choices), max_size=8))
    events += [draw(_piece(choice)) for choice in order]
    for choice in draw(st.permutations(choices)):
        reason = draw(st.sampled_from([*REASONS]))
        events.append(ev.Finished(finish=Finish(reason, REASONS[reason]), choice=choice.index))
    if draw(st.booleans()):
        events.append(ev.UsageReported(usage=draw(usages())))
    return len(choices), [*events, ev.Ended()]


def content(events: list[ev.Event]) -> Any:
    """What an answer says, of however many pieces. No arguments are an empty object, `stop` after calls means them, and 0 tokens of thoughts that are
    there are not known."""
    said: dict[Any, Any] = {}
    calls: dict[tuple[int, int], list[str]] = {}
    for event in events:
        match event:
            case ev.Started():
                said["head"] = (event.id, event.model, event.created_s, {name: bytes(raw) for name, raw in event.extra.items()})
            case ev.TextDelta() | ev.RefusalDelta() | ev.ReasoningDelta():
                key = (type(event).__name__, event.choice)
                said[key] = said.get(key, "") + event.text
                if isinstance(event, ev.TextDelta) and event.logprobs:
                    said.setdefault(("tokens", event.choice), []).extend(msgspec.json.decode(event.logprobs)["content"])
            case ev.ToolCallStarted():
                calls[event.choice, event.part] = [event.id, event.name, ""]
            case ev.ToolCallDelta():
                calls[event.choice, event.part][2] += event.arguments
            case ev.Annotated():
                said.setdefault(("notes", event.choice), []).append(bytes(event.annotation))
            case ev.Finished():
                said["finish", event.choice] = event.finish
            case ev.UsageReported():
                said["usage"] = msgspec.structs.replace(event.usage, raw=ABSENT)
            case ev.Ended():
                said["ended"] = True
    for (choice, _), call in calls.items():
        said.setdefault(("calls", choice), []).append([*call[:2], call[2] or "{}"])
        finish = said.get(("finish", choice))
        if finish is not None and finish.reason == "stop":
            said["finish", choice] = Finish("tool_calls", finish.native)
    usage = said.get("usage")
    if usage is not None and usage.reasoning == 0 and any(key[0] == "ReasoningDelta" and value for key, value in said.items()):
        said["usage"] = msgspec.structs.replace(usage, reasoning=None)
    return {key: value for key, value in said.items() if value != ""}
