"""Every legal sequence of the contract's events (contract/events.py), as hypothesis strategies: whole answers, and answers that were cut."""

from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import Raw

from contract import events as ev
from contract.finish import Finish
from contract.raw import ABSENT
from contract.usage import Usage
from tests.contract.strategies import NAMES, TEXTS, WORDS, maybe

MAKERS = ("openai_chat", "openai_responses", "anthropic_messages", "gemini", "")
FINISHES = st.builds(Finish, st.sampled_from(["stop", "length", "tool_calls", "content_filter", "paused", "unknown"]), maybe(NAMES))
COUNTS = maybe(st.integers(0, 10**6))
USAGES = st.builds(
    Usage,
    input_uncached=COUNTS,
    cache_read=COUNTS,
    cache_write_5m=COUNTS,
    cache_write_1h=COUNTS,
    output_visible=COUNTS,
    reasoning=COUNTS,
    server_tool_calls=COUNTS,
)
STARTS = st.builds(ev.Started, id=TEXTS, model=TEXTS, created_s=st.integers(0, 2**31))

Events = st.SearchStrategy[list[Any]]


def _raw(value: Any) -> Raw:
    return Raw(msgspec.json.encode(value))


LOGPROBS = st.just(ABSENT) | WORDS.map(lambda token: _raw({"content": [{"token": token, "logprob": -0.5, "bytes": [120], "top_logprobs": []}]}))
PLACES = maybe(st.integers(0, 99))


@st.composite
def _annotations(draw: st.DrawFn, choice: int, part: int) -> ev.Annotated:
    """Of the Responses format as its own object, of any other as what all have in common."""
    maker = draw(st.sampled_from(MAKERS))
    told = {"url": draw(maybe(NAMES)), "title": draw(maybe(TEXTS)), "start": draw(PLACES), "end": draw(PLACES)}
    names = {"url": told["url"] or "", "title": told["title"] or ""}
    raw: dict[str, Any] = {"type": "url_citation", **names, "start_index": told["start"] or 0, "end_index": told["end"] or 0}
    if maker == "anthropic_messages":
        raw = {"type": "web_search_result_location", "url": told["url"], "title": told["title"], "cited_text": "x", "encrypted_index": "e"}
    elif maker == "openai_chat":
        raw = {"type": "url_citation", "url_citation": {key: value for key, value in raw.items() if key != "type"}}
    cited = draw(maybe(TEXTS))
    return ev.Annotated(annotation=_raw(raw), maker=maker, cited_text=cited, choice=choice, part=part, **told)


@st.composite
def _texts(draw: st.DrawFn, choice: int, part: int) -> list[Any]:
    at: dict[str, Any] = {"choice": choice, "part": part}
    pieces = st.builds(ev.TextDelta, text=TEXTS, logprobs=LOGPROBS, choice=st.just(choice), part=st.just(part))
    annotations = _annotations(choice, part)
    return [ev.TextDelta(text=draw(TEXTS), **at), *draw(st.lists(pieces | annotations, max_size=4))]


@st.composite
def _refusals(draw: st.DrawFn, choice: int, part: int) -> list[Any]:
    return [ev.RefusalDelta(text=text, choice=choice, part=part) for text in draw(st.lists(TEXTS, min_size=1, max_size=3))]


@st.composite
def _reasonings(draw: st.DrawFn, choice: int, part: int) -> list[Any]:
    """Text, a signature that closes it, or both; a redacted one has no text."""
    at = {"choice": choice, "part": part}
    kind = draw(st.sampled_from(["open", "signed", "redacted"]))
    texts = [] if kind == "redacted" else draw(st.lists(TEXTS, min_size=1 if kind == "open" else 0, max_size=3))
    events: list[Any] = [ev.ReasoningDelta(text=text, **at) for text in texts]
    if kind != "open":
        maker, name = draw(st.sampled_from(MAKERS)), draw(maybe(NAMES))
        events.append(ev.ReasoningSignature(signature=draw(WORDS), maker=maker, id=name, redacted=kind == "redacted", **at))
    return events


@st.composite
def _natives(draw: st.DrawFn, choice: int, part: int) -> list[Any]:
    """A server tool's call as its own format has it."""
    maker = draw(st.sampled_from(["openai_responses", "anthropic_messages", "gemini"]))
    kind = {"openai_responses": "web_search_call", "anthropic_messages": "server_tool_use", "gemini": "executableCode"}[maker]
    raw: dict[str, Any] = {"type": kind, "id": f"ws_{choice}_{part}", "status": "completed", "action": {"type": "search", "query": "x"}}
    if maker == "anthropic_messages":
        raw = {"type": kind, "id": f"srvtoolu_{choice}_{part}", "name": "web_search", "input": {"query": draw(TEXTS)}}
    return [ev.NativeOutput(kind=kind, raw=_raw(raw), maker=maker, choice=choice, part=part)]


@st.composite
def _audios(draw: st.DrawFn, choice: int, part: int) -> list[Any]:
    pieces = draw(st.lists(NAMES, min_size=1, max_size=2))
    return [ev.AudioDelta(audio=_raw({"id": "audio_1", "data": piece}), choice=choice, part=part) for piece in pieces]


@st.composite
def _call(draw: st.DrawFn, choice: int, part: int) -> list[Any]:
    """One call. Its arguments are an object in pieces, or no JSON, or nothing at all."""
    signature = draw(maybe(WORDS))
    maker = draw(st.sampled_from(MAKERS)) if signature is not None else ""
    begun = ev.ToolCallStarted(id=f"call_{choice}_{part}", name=draw(NAMES), signature=signature, maker=maker, choice=choice, part=part)
    value = msgspec.json.encode(draw(st.dictionaries(NAMES, TEXTS | st.integers(-9, 9), max_size=2))).decode()
    text = draw(st.just(value) | TEXTS)
    cut = draw(st.integers(0, len(text)))
    pieces = draw(st.sampled_from([[], [text], [text[:cut], text[cut:]], ["", text, ""]]))
    return [begun, *(ev.ToolCallDelta(arguments=piece, choice=choice, part=part) for piece in pieces)]


@st.composite
def _interleaved(draw: st.DrawFn, sequences: list[list[Any]]) -> list[Any]:
    """Those sequences as one, each in its own order."""
    waiting = [list(sequence) for sequence in sequences if sequence]
    mixed: list[Any] = []
    while waiting:
        next_ = waiting[draw(st.integers(0, len(waiting) - 1))]
        mixed.append(next_.pop(0))
        waiting = [sequence for sequence in waiting if sequence]
    return mixed


@st.composite
def _calls(draw: st.DrawFn, choice: int, part: int, count: int) -> list[Any]:
    """Parallel calls: they begin in order, and their deltas come in turns."""
    calls = [draw(_call(choice, part + n)) for n in range(count)]
    mixed = draw(_interleaved([call[1:] for call in calls]))
    for n in reversed(range(count)):  # each begins somewhere before its first delta, and after the one before it has begun
        own = (at for at, event in enumerate(mixed) if event.part >= part + n)
        mixed.insert(draw(st.integers(0, next(own, len(mixed)))), calls[n][0])
    return mixed


@st.composite
def contents(draw: st.DrawFn, choice: int = 0, audio: bool = False) -> list[Any]:
    """The content of one choice: parts in ascending order, a group of parallel calls among them perhaps, and its finish."""
    events: list[Any] = []
    part = 0
    kinds = ["text", "text", "refusal", "reasoning", "native", "calls", *(["audio"] if audio else [])]
    for kind in draw(st.lists(st.sampled_from(kinds), max_size=5)):
        count = draw(st.integers(1, 3)) if kind == "calls" else 1
        made: dict[str, Any] = {"text": _texts, "refusal": _refusals, "reasoning": _reasonings, "native": _natives, "audio": _audios}
        events += draw(_calls(choice, part, count) if kind == "calls" else made[kind](choice, part))
        part += count
    return [*events, ev.Finished(finish=draw(FINISHES), choice=choice)]


@st.composite
def answers(draw: st.DrawFn, choices: int = 1, audio: bool = False) -> list[Any]:
    """A whole answer. The alternatives come in turns; usage may be absent; the last event is `Ended`."""
    mixed = draw(_interleaved([draw(contents(choice, audio)) for choice in range(choices)]))
    usage = draw(st.lists(USAGES.map(lambda usage: ev.UsageReported(usage=usage)), max_size=1))
    return [draw(STARTS), *mixed, *usage, ev.Ended()]


@st.composite
def cut_answers(draw: st.DrawFn, choices: int = 1, audio: bool = False) -> list[Any]:
    """An answer that ends anywhere before `Ended`."""
    whole = draw(answers(choices, audio))
    return whole[: draw(st.integers(0, len(whole) - 1))]
