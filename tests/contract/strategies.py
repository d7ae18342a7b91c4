"""Hypothesis strategies for the contract's structs."""

from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import Raw

from contract import events as ev
from contract import requests as r
from contract.call import Call
from contract.finish import Finish, FinishReason
from contract.raw import ABSENT
from contract.usage import Usage

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
WORDS = TEXTS.filter(bool)
NAMES = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
COUNTS = st.integers(0, 10**6)
NUMBERS = st.floats(-10, 10, allow_nan=False)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)
RAWS = JSON.map(lambda value: Raw(msgspec.json.encode(value)))
OBJECTS = st.dictionaries(NAMES, JSON, max_size=2).map(lambda value: Raw(msgspec.json.encode(value)))


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def extras() -> st.SearchStrategy[dict[str, Raw]]:
    """Members that no dialect knows."""
    values = JSON.filter(lambda value: value is not None).map(lambda value: Raw(msgspec.json.encode(value)))
    return st.dictionaries(NAMES.map("x_{}".format), values, max_size=2)


def marks(raw: bool) -> st.SearchStrategy[Any]:
    """A field of JSON, present or absent; absent alone where `raw` is false."""
    return st.just(ABSENT) | OBJECTS if raw else st.just(ABSENT)


def part_kinds(raw: bool) -> dict[str, st.SearchStrategy[Any]]:
    shared = {"cache_control": marks(raw), "extra": extras()}
    text = st.builds(r.TextPart, text=TEXTS, **shared)
    image = st.builds(r.ImagePart, url=maybe(TEXTS), data=maybe(TEXTS), media_type=maybe(NAMES), detail=maybe(NAMES), **shared)
    return {
        "text": text,
        "refusal": st.builds(r.RefusalPart, text=TEXTS, **shared),
        "image": image,
        "audio": st.builds(r.AudioPart, data=maybe(TEXTS), format=maybe(NAMES), id=maybe(NAMES), **shared),
        "file": st.builds(
            r.FilePart, file_id=maybe(NAMES), url=maybe(TEXTS), data=maybe(TEXTS), filename=maybe(TEXTS), media_type=maybe(NAMES), **shared
        ),
        "call": st.builds(r.ToolCallPart, id=NAMES, name=NAMES, arguments=TEXTS, signature=maybe(TEXTS), **shared),
        "result": st.builds(
            r.ToolResultPart, tool_call_id=NAMES, content=st.lists(text | image, max_size=2).map(tuple), is_error=st.booleans(), **shared
        ),
        "reasoning": st.builds(r.ReasoningPart, text=TEXTS, signature=maybe(TEXTS), redacted=st.booleans(), id=maybe(NAMES), **shared),
    }


def tuples(strategy: st.SearchStrategy[Any], least: int = 0) -> st.SearchStrategy[Any]:
    return st.lists(strategy, min_size=least, max_size=3).map(tuple)


def tools(raw: bool) -> st.SearchStrategy[Any]:
    shared = {"parameters": marks(raw), "cache_control": marks(raw), "extra": extras()}
    function = st.builds(r.FunctionTool, name=NAMES, description=maybe(TEXTS), strict=maybe(st.booleans()), **shared)
    native = NAMES.filter(lambda kind: kind != "function").flatmap(
        lambda kind: JSON.map(lambda value: r.NativeTool(type=kind, raw=Raw(msgspec.json.encode({"type": kind, "x": value}))))
    )
    return function | native


def formats(raw: bool) -> st.SearchStrategy[Any]:
    schema = st.builds(r.JsonSchemaFormat, name=NAMES, schema=marks(raw), description=maybe(TEXTS), strict=maybe(st.booleans()))
    return st.just(r.TextFormat()) | st.just(r.JsonObjectFormat()) | schema


CHOICES = st.builds(r.ToolChoice, mode=st.sampled_from(["auto", "none", "required"])) | NAMES.map(lambda name: r.ToolChoice(mode="named", name=name))
SAMPLINGS = st.builds(
    r.Sampling,
    temperature=maybe(NUMBERS),
    top_p=maybe(NUMBERS),
    top_k=maybe(COUNTS),
    frequency_penalty=maybe(NUMBERS),
    presence_penalty=maybe(NUMBERS),
    seed=maybe(st.integers(-(2**63), 2**63 - 1)),
    logit_bias=maybe(st.dictionaries(NAMES, NUMBERS, max_size=2)),
    logprobs=maybe(st.booleans()),
    top_logprobs=maybe(COUNTS),
    n=maybe(st.integers(1, 5)),
)


def chat_requests(messages: st.SearchStrategy[Any], reasoning: st.SearchStrategy[Any], raw: bool) -> st.SearchStrategy[r.ChatRequest]:
    return st.builds(
        r.ChatRequest,
        model=WORDS,
        messages=tuples(messages, 1),
        tools=tuples(tools(raw)),
        tool_choice=maybe(CHOICES),
        parallel_tool_calls=maybe(st.booleans()),
        response_format=maybe(formats(raw)),
        sampling=SAMPLINGS,
        max_output_tokens=maybe(COUNTS),
        stop=tuples(TEXTS),
        reasoning=maybe(reasoning),
        metadata=st.dictionaries(TEXTS, TEXTS, max_size=2),
        user=maybe(TEXTS),
        stream=st.booleans(),
        include_usage=st.booleans(),
        extra=extras(),
    )


def any_requests(raw: bool) -> st.SearchStrategy[r.ChatRequest]:
    parts = st.one_of(*part_kinds(raw).values())
    messages = st.builds(
        r.Message, role=st.sampled_from(["system", "developer", "user", "assistant", "tool"]), parts=tuples(parts), name=maybe(NAMES), extra=extras()
    )
    reasoning = st.builds(r.Reasoning, effort=maybe(NAMES), budget_tokens=maybe(COUNTS), summary=maybe(NAMES))
    return chat_requests(messages, reasoning, raw)


REASONS: dict[FinishReason, str] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "unknown": "novel",
}
FINISHES = st.builds(Finish, st.sampled_from([*REASONS, "paused"]), maybe(NAMES), maybe(TEXTS))


def usages(raw: bool) -> st.SearchStrategy[Usage]:
    counts = {name: maybe(COUNTS) for name in msgspec.structs.asdict(Usage()) if name not in ("source", "raw", "service_tier")}
    return st.builds(Usage, **counts, source=st.sampled_from(["provider", "estimated"]), raw=marks(raw))


def any_events(raw: bool) -> st.SearchStrategy[ev.Event]:
    where: dict[str, st.SearchStrategy[Any]] = {"choice": st.integers(0, 3), "part": st.integers(0, 3)}
    return st.one_of(
        st.builds(ev.Started, id=TEXTS, model=TEXTS, created_s=COUNTS, extra=extras()),
        st.builds(ev.TextDelta, text=TEXTS, logprobs=marks(raw), **where),
        st.builds(ev.RefusalDelta, text=TEXTS, logprobs=marks(raw), **where),
        st.builds(ev.ReasoningDelta, text=TEXTS, **where),
        st.builds(ev.ReasoningSignature, signature=TEXTS, redacted=st.booleans(), **where),
        st.builds(ev.ToolCallStarted, id=TEXTS, name=TEXTS, **where),
        st.builds(ev.ToolCallDelta, arguments=TEXTS, **where),
        st.builds(ev.AudioDelta, audio=RAWS, **where),
        st.builds(ev.Annotated, annotation=RAWS, **where),
        st.builds(ev.Finished, finish=FINISHES, choice=st.integers(0, 3)),
        st.builds(ev.UsageReported, usage=usages(raw)),
        st.just(ev.Ended()),
    )


CALLS = st.builds(
    Call,
    request_id=NAMES,
    dialect=st.just("openai_chat"),
    model=WORDS,
    stream=st.booleans(),
    include_usage=st.booleans(),
    choices=st.integers(1, 5),
    body=st.binary(max_size=20),
    fields=st.dictionaries(TEXTS, RAWS, max_size=3),
)
