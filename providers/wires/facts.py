"""What a provider can do, as its documentation says; a row of the registry holds it, encoders read it."""

from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec.structs import replace

from contract import requests as r
from providers.wires.effort import WORDS
from providers.wires.losses import Losses


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Capabilities of the provider as a whole: a model of it may have fewer, and then the provider itself refuses.

    `reasoning_field`: how an OpenAI-like chat provider takes earlier reasoning back; None: it does not.
    `top_k`: of an OpenAI-like chat provider, whose format has no such field.
    `renames`: top-level fields of the wire's own format that this provider calls otherwise.
    `prefill`: goes on from an assistant's message that stands last; `prefill_with`: the top-level fields by which an OpenAI-like chat provider
    is told to; `prefill_repeats`: its answer begins with that message's text again.
    """

    tools: bool = True
    parallel_tools: bool = True
    json_schema: bool = True
    images: bool = True
    audio: bool = False
    files: bool = False
    reasoning: bool = True
    prefill: bool = False
    prefill_with: Mapping[str, bool] = {}
    prefill_repeats: bool = False
    logprobs: bool = False
    n: bool = False
    seed: bool = False
    top_k: bool = False
    reasoning_field: Literal["reasoning_content", "reasoning"] | None = None
    renames: Mapping[str, str] = {}


def honoured(request: r.ChatRequest, facts: Facts, losses: Losses) -> r.ChatRequest:
    """The request without what the provider cannot do at all; each thing taken out is in `losses`."""
    changes: dict[str, object] = {}
    if request.tools and not facts.tools:
        losses.lose("tools")
        changes |= {"tools": (), "tool_choice": None, "parallel_tool_calls": None}
    elif request.parallel_tool_calls is not None and not facts.parallel_tools:
        if not request.parallel_tool_calls:  # that they may be parallel asks for nothing
            losses.lose("parallel_tool_calls")
        changes["parallel_tool_calls"] = None
    if isinstance(request.response_format, r.JsonSchemaFormat) and not facts.json_schema:
        losses.lose("response_format")
        changes["response_format"] = None
    if (asked := request.reasoning) is not None and asked.effort != "none" and (not facts.reasoning or asked.effort not in WORDS):
        losses.lose("reasoning")
        changes["reasoning"] = None
    if request.messages and request.messages[-1].role == "assistant" and not facts.prefill:
        losses.lose("messages.prefill")
    sampling = _sampling(request.sampling, facts, losses)
    if sampling is not request.sampling:
        changes["sampling"] = sampling
    lacking = {kind: name for kind, (can, name) in _media(facts).items() if not can}
    if not lacking.keys().isdisjoint({part.__class__ for message in request.messages for part in message.parts}):
        changes["messages"] = tuple([_message(message, lacking, losses) for message in request.messages])
    return replace(request, **changes) if changes else request


def _sampling(sampling: r.Sampling, facts: Facts, losses: Losses) -> r.Sampling:
    changes: dict[str, object] = {}
    if sampling.n is not None and sampling.n > 1 and not facts.n:
        losses.lose("n")
        changes["n"] = None
    if sampling.seed is not None and not facts.seed:
        losses.lose("seed")
        changes["seed"] = None
    if (sampling.logprobs or sampling.top_logprobs) and not facts.logprobs:
        losses.lose("logprobs")
        changes |= {"logprobs": None, "top_logprobs": None}
    return replace(sampling, **changes) if changes else sampling


def _media(facts: Facts) -> dict[type[r.Part], tuple[bool, str]]:
    """The kinds of content that not every provider takes: whether this one does, and the name of its loss."""
    return {
        r.ImagePart: (facts.images, "messages.image"),
        r.AudioPart: (facts.audio, "messages.audio"),
        r.FilePart: (facts.files, "messages.file"),
    }


def _message(message: r.Message, lacking: Mapping[type[r.Part], str], losses: Losses) -> r.Message:
    for part in message.parts:
        if part.__class__ in lacking:
            losses.lose(lacking[part.__class__])
    return replace(message, parts=tuple([part for part in message.parts if part.__class__ not in lacking]))
